"""The launcher as a library: another kernel class, and a kernel that reports itself."""

import json
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest
from launching import Client, server_arguments, shut_down

import elyra_launcher

IPYKERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]

OWN_KERNEL = """
import sys
from elyra_launcher import PythonKernel, launch

class OwnKernel(PythonKernel):
    def environment(self, environ):
        return {**environ, "OWN": "yes"}

    def command(self):
        return ["env", "WRAPPED=yes", *super().command()]

    def before_start(self):
        print("about to start", self.options.kernel_id, flush=True)

    def interrupt(self, process):
        print("interrupting", flush=True)
        super().interrupt(process)

    def stop(self, process):
        print("stopping", flush=True)
        super().stop(process)

sys.exit(launch(kernel=OwnKernel))
"""

REPORTING = """
import sys, threading
from elyra_launcher import report

ended = threading.Event()
link = report(interrupt=lambda: print("interrupted", flush=True), shutdown=ended.set)
ended.wait(30)
link.close(code=0, reason="asked to")
"""


def test_every_hook_of_a_kernel_class_is_used(server, start, tmp_path):
    script = tmp_path / "own.py"
    script.write_text(OWN_KERNEL)
    started = start(*server_arguments(server), program=(str(script),), ELYRA_LAUNCH_TICKET=server.ticket)
    connection = server.wait_for("connection")["connection"]
    with Client(connection) as client:
        assert client.run("import os; os.environ['OWN'], os.environ['WRAPPED']") == ("ok", "('yes', 'yes')")
    server.request("interrupt")
    server.request("restart", {"now": False})
    server.wait_for("connection", 2)
    server.request("shutdown", {"now": False, "grace": 5})
    assert started.wait() == 0
    assert started.text.count(f"about to start {connection['kernel_id']}") == 2
    assert "interrupting" in started.text
    assert started.text.count("stopping") == 2


def own_kernel(body, base="PythonKernel", before="pass", arguments=""):
    """Return a program with a kernel class of its own."""
    lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
    return (
        f"import os, signal, sys, time\nimport elyra_launcher.hooks\nfrom elyra_launcher import *\n{before}\n"
        f"class OwnKernel({base}):\n{lines}\n\nsys.exit(launch(kernel=OwnKernel{arguments}))\n"
    )


@pytest.fixture
def launch_own(server, start, tmp_path):
    """Launch a kernel class that a test writes."""

    def run(body, *arguments, **options):
        script = tmp_path / "own.py"
        script.write_text(own_kernel(body, **options))
        given = [*server_arguments(server), *arguments]
        return start(*given, program=(str(script),), ELYRA_LAUNCH_TICKET=server.ticket)

    return run


SHORT_LIMIT = "elyra_launcher.hooks.HOOK_LIMIT = 3"


HOOKS = ["preparation", "before_start", "command", "environment", "before_exec"]


@pytest.mark.parametrize("hook", ["__init__", *HOOKS])
def test_a_hook_that_raises_is_named_and_leaves_nothing(server, launch_own, hook):
    started = launch_own(f"def {hook}(self, *args):\n    raise ValueError('no sandbox')")
    problem = server.wait_for("error")
    message = problem["message"]
    assert started.wait() == 70
    assert ("OwnKernel()" if hook == "__init__" else f"OwnKernel.{hook}()") in message
    assert "failed: ValueError('no sandbox')" in message
    assert "Traceback" in started.text + "".join(problem["output"])


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_blocks_is_named_and_leaves_nothing(server, launch_own, hook):
    started = launch_own(f"def {hook}(self, *args):\n    time.sleep(100)", before=SHORT_LIMIT)
    assert f"OwnKernel.{hook}() did not return within 3 s" in server.wait_for("error")["message"]
    assert started.wait() == 70


def test_an_error_that_a_hook_words_itself_is_what_the_user_reads(server, launch_own):
    started = launch_own("def before_exec(self):\n    raise LauncherError('ask for less than 4 GB')")
    assert "ask for less than 4 GB" in server.wait_for("error")["message"]
    assert started.wait() == 70


@pytest.mark.parametrize("filling", ["x", "\N{SNAKE}"])
def test_beginning_and_end_of_a_long_error_are_told(server, launch_own, filling):
    words = f"pip failed: {100000 * filling} there is no such package"
    started = launch_own(f"def before_start(self):\n    raise LauncherError({words!r})")
    message = server.wait_for("error")["message"]
    assert started.wait() == 70
    assert message.startswith(f"pip failed: {filling}")
    assert message.endswith(f"{filling} there is no such package")
    assert len(message) <= 4000  # what the server keeps


def test_what_is_prepared_may_have_a_long_name_and_say_much(server, launch_own, tmp_path):
    (tmp_path / "gate").touch()
    wait = "while test -e gate; do sleep 0.05; done; head -c 9000 /dev/zero; exit 3"
    started = launch_own(f"def preparation(self):\n    yield 100000 * '\N{SNAKE}', ['sh', '-c', {wait!r}]")
    assert server.wait_for("phase")["detail"].startswith("\N{SNAKE}")
    (tmp_path / "gate").unlink()
    assert server.wait_for("error")["message"].endswith("ended with exit code 3")
    assert started.wait() == 70
    assert len(server.of("hello")) == 1


def test_a_hook_that_fails_later_may_say_much(server, launch_own):
    started = launch_own("def interrupt(self, process):\n    raise LauncherError(100000 * 'x' + ' is why')")
    server.wait_for("connection")
    assert server.request("interrupt")["error"]["message"].endswith("x is why")
    shut_down(server, started)


def test_hooks_that_fail_later_cost_no_kernel(server, launch_own):
    hooks = ["interrupt(self, process)", "stop(self, process)", "after_end(self)"]
    started = launch_own("\n".join(f"def {hook}:\n    1 / 0" for hook in hooks))
    connection = server.wait_for("connection")["connection"]
    assert "interrupt() failed: ZeroDivisionError" in server.request("interrupt")["error"]["message"]
    with Client(connection) as client:
        assert client.run("1 + 1") == ("ok", "2")
    server.request("restart", {"now": False})
    server.wait_for("connection", 2)
    server.request("shutdown", {"now": False, "grace": 4})
    assert started.wait() == 0
    assert server.wait_for("exit")["signal"] == signal.SIGTERM
    assert started.text.count("OwnKernel.after_end() failed") == 1


def test_a_kernel_is_prepared_once_while_the_server_knows_what_goes_on(server, launch_own, tmp_path):
    (tmp_path / "gate").touch()
    wait = f"while test -e {tmp_path}/gate; do sleep 0.05; done; echo made $KERNEL_ID"
    body = f"""
def preparation(self):
    yield "the first thing", ["sh", "-c", {wait!r}]
    self.second = "between"
    yield "the second thing", ["echo", self.second]
"""
    started = launch_own(body)
    assert server.wait_for("phase") == {"phase": "preparing", "detail": "the first thing"}
    assert server.of("connection") == []
    (tmp_path / "gate").unlink()
    connection = server.wait_for("connection")["connection"]
    assert server.of("phase")[1:] == [
        {"phase": "preparing", "detail": "the second thing"},
        {"phase": "kernel", "detail": "the kernel's process was started"},
    ]
    server.request("restart", {"now": True})
    server.wait_for("connection", 2)
    shut_down(server, started)
    assert started.text.count(f"made {connection['kernel_id']}") == started.text.count("between") == 1


def test_a_preparation_that_fails_is_told_with_its_last_words(server, launch_own):
    body = """
def preparation(self):
    yield "the sandbox", ["sh", "-c", "echo no space left >&2; exit 3"]
    yield "nothing more", ["sh", "-c", "echo and so on"]
"""
    started = launch_own(body)
    problem = server.wait_for("error")
    assert problem["message"] == "preparing the sandbox ended with exit code 3"
    assert problem["output"] == ["no space left"]
    assert started.wait() == 70
    assert "and so on" not in started.text


@pytest.mark.parametrize("way", ["order", "signal"])
def test_a_preparation_ends_with_its_launch(server, launch_own, way):
    body = """
def preparation(self):
    yield "what takes long", ["sh", "-c", "sleep 100 & wait"]
    yield "nothing more", ["sh", "-c", "echo and so on"]
"""
    started = launch_own(body)
    server.wait_for("phase")
    if way == "order":
        shut_down(server, started)
    else:
        started.process.terminate()
        assert started.wait() == 143
    assert "and so on" not in started.text


@pytest.mark.parametrize(("base", "arguments"), [("PythonKernel", []), ("Kernel", ["--", *IPYKERNEL])])
def test_limits_are_the_kernels_and_not_the_launchers(server, launch_own, base, arguments):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))"
    started = launch_own(f"def before_exec(self):\n    {limit}", *arguments, base=base)
    with Client(server.wait_for("connection")["connection"]) as client:
        code = "import resource; resource.getrlimit(resource.RLIMIT_NOFILE)"
        assert client.run(code) == ("ok", "(200, 200)")
    assert psutil.Process(started.process.pid).rlimit(psutil.RLIMIT_NOFILE)[0] != 200
    shut_down(server, started)


def test_a_launch_in_a_thread_is_refused(start):
    code = "import threading, elyra_launcher as e; t = threading.Thread(target=e.launch, args=(['k.json'],))"
    started = start(program=("-c", f"{code}; t.start(); t.join()"))
    assert started.wait() == 0
    assert "RuntimeError: elyra_launcher.launch() has to be called in the main thread" in started.text


def test_a_kernel_reports_itself_and_is_called_back(server, start, tmp_path):
    script = tmp_path / "reporting.py"
    script.write_text(REPORTING)
    arguments = reported_arguments(server, tmp_path)
    started = start(*arguments, program=(str(script),), ELYRA_LAUNCH_TICKET=server.ticket)
    connection = server.wait_for("connection")["connection"]
    assert connection["shell_port"] == 50000
    assert connection["pid"] == started.process.pid
    hello = server.of("hello")[0]
    assert (hello["state"], hello["restarts_in_place"]) == ("running", False)
    assert server.request("signal", {"signum": 0})["result"] == {"alive": True}
    assert server.request("signal", {"signum": int(signal.SIGINT)})["result"] == {"alive": True}
    assert server.request("restart", {"now": True})["error"]["code"] == -32601
    server.request("shutdown", {"now": False, "grace": 1})
    report = server.wait_for("exit")
    assert (report["code"], report["reason"], report["requested"]) == (0, "asked to", True)
    assert started.wait() == 0
    assert "interrupted" in started.text
    assert Path(arguments[0]).exists()


def test_a_kernel_that_reports_itself_may_say_much_of_its_end(server, start, tmp_path):
    program = ("-c", REPORTING.replace('"asked to"', '100000 * "x" + " is why"'))
    started = start(*reported_arguments(server, tmp_path), program=program, ELYRA_LAUNCH_TICKET=server.ticket)
    server.wait_for("connection")
    server.request("shutdown", {"now": False, "grace": 1})
    assert server.wait_for("exit")["reason"].endswith("x is why")
    assert started.wait() == 0


def test_a_kernel_whose_link_fails_is_told_to_end(server, start, tmp_path):
    failing = "from elyra_launcher.link import Link\ndef fail(*_): raise ValueError('odd')\nLink._receive = fail\n"
    program = ("-c", failing + REPORTING)
    started = start(*reported_arguments(server, tmp_path), program=program, ELYRA_LAUNCH_TICKET=server.ticket)
    assert started.wait(20) == 0
    assert "internal error: ValueError('odd')" in started.text


def reported_arguments(server, directory):
    """Return the arguments of a program that reports a kernel that is there."""
    file = directory / "kernel-there.json"
    info = {f"{name}_port": 50000 + n for n, name in enumerate(("shell", "iopub", "stdin", "hb", "control"))}
    file.write_text(json.dumps({**info, "ip": "127.0.0.1", "key": "k", "transport": "tcp"}))
    return [str(file), "--kernel-id", "there", *server_arguments(server)[1:]]


CALLBACKS = """
import threading
from elyra_launcher import report

closed = threading.Event()

def interrupt():
    raise ValueError("not now")

def shutdown():
    link.close(code=3, reason="closed by its own callback")
    closed.set()
    raise SystemExit(9)

link = report(interrupt=interrupt, shutdown=shutdown)
closed.wait(30)
link.close()
link.close()
"""


def test_callbacks_may_raise_and_close_the_link(server, start, tmp_path):
    script = tmp_path / "reporting.py"
    script.write_text(CALLBACKS)
    arguments = reported_arguments(server, tmp_path)
    started = start(*arguments, program=(str(script),), ELYRA_LAUNCH_TICKET=server.ticket)
    server.wait_for("connection")
    for _ in range(2):
        problem = server.request("interrupt")["error"]
        assert problem["message"] == "interrupt of the kernel failed: ValueError('not now')"
    server.request("shutdown", {"now": False, "grace": 1})
    report = server.wait_for("exit")
    assert (report["code"], report["reason"], report["requested"]) == (3, "closed by its own callback", True)
    assert started.wait() == 0
    assert started.text.count("ValueError: not now") == 2


@pytest.mark.parametrize(
    ("arguments", "ticket", "words"),
    [
        (["--help"], "0", "leave them to the program"),
        (["/no/such.json"], "0", "the connection file of a kernel that is there"),
        (["kernel.json"], "0", "needs --response-address"),
        (None, "", "needs the launch's ticket"),
    ],
)
def test_a_report_that_cannot_be_made_says_why(server, start, tmp_path, arguments, ticket, words):
    there = reported_arguments(server, tmp_path)
    code = "import elyra_launcher as e\ntry:\n    e.report()\nexcept e.LauncherError as error:\n    print(error)"
    given = there if arguments is None else arguments
    started = start(*given, program=("-c", code), **({"ELYRA_LAUNCH_TICKET": ticket} if ticket else {}))
    assert started.wait() == 0
    assert words in started.text
    assert "Traceback" not in started.text


def test_an_existing_connection_file_is_kept_and_its_ports_used(server, start, tmp_path):
    file = tmp_path / "kernel-mine.json"
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
    names = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")
    file.write_text(json.dumps({**{name: port + n for n, name in enumerate(names)}, "ip": "127.0.0.1", "key": "k"}))
    code = "import json, socket, sys, time; i = json.load(open(sys.argv[1])); "
    # A kernel that lacks the other channels is reported too, a little later.
    code += "s = socket.create_server((i['ip'], i['shell_port'])); time.sleep(60)"
    arguments = [str(file), "--kernel-id", "mine", *server_arguments(server)[1:]]
    command = ["--", sys.executable, "-c", code, "{connection_file}"]
    started = start(*arguments, *command, ELYRA_LAUNCH_TICKET=server.ticket)
    assert server.wait_for("connection")["connection"]["shell_port"] == port
    server.request("shutdown", {"now": True})
    assert started.wait() == 0
    assert file.exists()


def test_something_else_at_the_connection_files_path_is_not_touched(server, start, tmp_path):
    file = tmp_path / "kernel-notes.json"
    file.write_text("my notes")
    arguments = [str(file), "--kernel-id", "x", *server_arguments(server)[1:]]
    started = start(*arguments, ELYRA_LAUNCH_TICKET=server.ticket)
    assert server.wait_for("error")["code"] == "ports"
    assert started.wait() == 73
    assert file.read_text() == "my notes"


def test_the_names_of_the_library_are_there_and_explained():
    for name in elyra_launcher.__all__:
        assert getattr(elyra_launcher, name).__doc__
