"""The launcher alone, with kernels that nobody here wrote: bash_kernel and Deno's."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from launching import Client, shut_down

DENO = shutil.which("deno", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
BASH = [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"]

KERNELS = {
    # Nothing that bash is about to fork while it is told to end: it may miss that one, here as elsewhere.
    "bash": (BASH, "echo $((6 * 7))", "echo begun; while :; do :; done"),
    "deno": (
        [DENO, "jupyter", "--kernel", "--conn", "{connection_file}"],
        "6 * 7",
        "console.log('begun'); while (true) {}",
    ),
}


@pytest.fixture(params=sorted(KERNELS))
def kernel(request):
    return KERNELS[request.param]


def test_start_execute_restart_and_shutdown(server, launch, kernel):
    command, cell, _ = kernel
    started = launch("--", *command)
    first = server.wait_for("connection")["connection"]
    with Client(first) as client:
        assert "42" in client.answer(cell)
    assert server.request("restart", {"now": False})["result"] == {}
    second = server.wait_for("connection", 2)["connection"]
    assert (second["shell_port"], second["key"]) == (first["shell_port"], first["key"])
    with Client(second) as client:
        assert "42" in client.answer(cell)
        server.request("shutdown", {"now": False, "grace": 20})
        client.shut_down()
        assert started.wait() == 0
    assert server.wait_for("exit")["requested"] is True


def test_a_kernel_that_takes_signals_is_interrupted_by_one(server, launch):
    started = launch("--", *BASH)
    with Client(server.wait_for("connection")["connection"]) as client:
        request = client.start("echo begun; while :; do :; done")
        client.await_stream("begun")
        assert server.request("interrupt")["result"] == {}
        client.result(request)
        assert client.run("echo and on") == ("ok", "and on\n")
    shut_down(server, started)


def test_a_busy_kernel_that_is_killed_is_reported_and_leaves_nothing(server, launch, kernel):
    command, _, busy = kernel
    started = launch("--", *command)
    connection = server.wait_for("connection")["connection"]
    with Client(connection) as client:
        client.start(busy)
        client.await_stream("begun")
        os.kill(connection["pid"], signal.SIGKILL)
        assert server.wait_for("exit")["signal"] == signal.SIGKILL
    assert started.wait() == 128 + signal.SIGKILL


def test_a_killed_launcher_takes_a_busy_kernel_along(server, launch, kernel):
    command, _, busy = kernel
    started = launch("--", *command)
    with Client(server.wait_for("connection")["connection"]) as client:
        client.start(busy)
        client.await_stream("begun")
        started.was_killed = True
        started.process.kill()
        assert started.gone()
    started.wait()
