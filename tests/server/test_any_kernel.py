"""Kernels that nobody here wrote, by kernelspecs such as a user makes: bash_kernel and Deno's.

Each has to behave as it does without Elyra; what it cannot do it need not learn here.
"""

import os
import shutil
import sys
from pathlib import Path

import psutil
import pytest
from server_harness import FLAGS, LAUNCHER

DENO = shutil.which("deno", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


class Language:
    """What to say to a kernel."""

    def __init__(self, command, mode, busy, define, recall, environment):
        self.command, self.interrupt_mode = command, mode
        self.busy, self.define, self.recall, self.environment = busy, define, recall, environment


LANGUAGES = {
    "bash": Language(
        [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"],
        "signal",
        "echo begun; sleep 1000",
        "x=42",
        "echo it is $x",
        "echo $KERNEL_ID",
    ),
    "deno": Language(
        [DENO, "jupyter", "--kernel", "--conn", "{connection_file}"],
        "message",  # it ends at SIGINT, and its own kernelspec forgets to say so
        "console.log('begun'); while (true) {}",
        "var x = 42",
        "'it is ' + x",
        "Deno.env.get('KERNEL_ID')",
    ),
}


@pytest.fixture(params=sorted(LANGUAGES))
def language(request):
    return LANGUAGES[request.param]


@pytest.fixture
def kernel(server, language):
    """Start a kernel by a kernelspec of a user's making; return its id."""
    argv = [*LAUNCHER, *FLAGS, "--", *language.command]
    server.spec("theirs", argv, language="theirs", interrupt_mode=language.interrupt_mode)
    return server.start("theirs")


def ask(socket, code):
    """Run a cell that gives a text or fails; return the text."""
    number, text, replied, idle, failed = socket.send(code), "", False, False, False
    # Some kernels, such as Deno's, may send the text after their idle.
    while not (replied and idle and (text or failed)):
        message = socket.receive()
        if message["parent_header"].get("msg_id") == number:
            kind, content = message["msg_type"], message["content"]
            text += content["text"] if kind == "stream" else content.get("data", {}).get("text/plain", "")
            failed = failed or content.get("status") == "error"
            replied = replied or kind == "execute_reply"
            idle = idle or content.get("execution_state") == "idle"
    return text


def await_output(socket, text):
    """Wait until a running cell wrote something, perhaps in several messages."""
    written = ""
    while text not in written:
        message = socket.receive()
        written += message["content"]["text"] if message["msg_type"] == "stream" else ""


def test_cells_interrupts_restarts_and_the_end(server, language, kernel):
    socket = server.socket(kernel)
    assert kernel in ask(socket, language.environment)
    socket.run(language.define)
    assert "it is 42" in ask(socket, language.recall)

    busy = socket.send(language.busy)
    await_output(socket, "begun")
    assert server.rest("POST", f"/api/kernels/{kernel}/interrupt")[0] == 204
    socket.result(busy)
    # It is the same kernel still.
    assert "it is 42" in ask(socket, language.recall)

    assert server.rest("POST", f"/api/kernels/{kernel}/restart")[0] == 200
    assert "it is 42" not in ask(socket, language.recall)
    socket.run(language.define)
    assert "it is 42" in ask(socket, language.recall)
    socket.close()
    server.delete(kernel)
    assert server.rest("GET", f"/api/kernels/{kernel}")[0] == 404


def test_a_busy_kernel_ends_when_it_is_deleted(server, language, kernel):
    socket = server.socket(kernel)
    socket.send(language.busy)
    await_output(socket, "begun")
    server.delete(kernel)
    socket.close()


def test_a_killed_kernel_is_started_again(server, language, kernel):
    socket = server.socket(kernel)
    socket.run(language.define)
    word = language.command[1] if language.command[0] == DENO else "bash_kernel"
    launcher = next(each for each in psutil.Process(server.process.pid).children() if each.children())
    victim = next(each for each in launcher.children() if word in each.cmdline())
    victim.kill()
    socket.await_state("restarting")
    assert "it is 42" not in ask(socket, language.recall)
    socket.close()
    server.delete(kernel)
