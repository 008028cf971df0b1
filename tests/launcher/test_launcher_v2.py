"""A launch from end to end: a real ipykernel, a real TLS link, a fake server at its end."""

import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest
from launching import TINY_KERNEL, Client, server_arguments, shut_down
from waiting import until

PORTS = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")


def connection_file_of(launch):
    return next(path for path in launch.files() if path.suffix == ".json")


def test_a_kernel_is_reported_and_runs_cells(server, launch):
    started = launch()
    reported = server.wait_for("connection")
    connection = reported["connection"]
    assert reported["restart"] == 0
    assert all(connection[name] > 1024 for name in PORTS)
    assert connection["ip"] == "127.0.0.1"
    hello = server.of("hello")[0]
    assert hello["state"] == "starting"
    assert hello["kernel_id"] == connection["kernel_id"]
    assert hello["pid"] == started.process.pid
    assert connection["pid"] == connection["pgid"] == started.kernels()[0].pid
    with Client(connection) as client:
        assert client.run("6 * 7") == ("ok", "42")
        assert client.run("import os; os.environ['KERNEL_ID']") == ("ok", repr(connection["kernel_id"]))
    shut_down(server, started)


def test_a_kernel_collects_garbage(server, launch):
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        client.run("import gc, weakref\nclass Own: pass\na = Own(); a.itself = a; seen = weakref.ref(a)\ndel a")
        client.run("made = [[] for _ in range(10 ** 6)]")
        assert client.run("gc.isenabled(), seen()") == ("ok", "(True, None)")
    shut_down(server, started)


def test_the_connection_file_is_private_and_true(server, launch):
    started = launch()
    connection = server.wait_for("connection")["connection"]
    path = connection_file_of(started)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o777 == 0o700
    content = json.loads(path.read_text())
    assert {name: content[name] for name in (*PORTS, "key")} == {name: connection[name] for name in (*PORTS, "key")}
    shut_down(server, started)


def test_no_secret_is_left_where_others_can_see_it(server, launch):
    ticket = server.ticket
    started = launch()
    connection = server.wait_for("connection")["connection"]
    with Client(connection) as client:
        names = "sorted(n for n in os.environ if n.startswith('ELYRA_') and n != 'ELYRA_KERNEL_MARK')"
        assert client.run(f"import os; {names}") == ("ok", "[]")
    for process in started.processes():
        assert not {ticket, connection["key"]} & set(" ".join(process.cmdline()).split())
    shut_down(server, started)
    assert ticket not in started.text
    assert connection["key"] not in started.text


@pytest.mark.parametrize("there", [True, False], ids=["the worker has it", "only the client has it"])
def test_a_kernel_runs_where_the_notebook_is_if_the_worker_has_that_directory(server, launch, tmp_path, there):
    wanted = tmp_path / "notebooks of ann"
    if there:
        wanted.mkdir()
    started = launch(KERNEL_WORKING_DIR=str(wanted))
    with Client(server.wait_for("connection")["connection"]) as client:
        status, directory = client.run("import os; os.getcwd()")
        assert (status, directory == repr(str(wanted))) == ("ok", there)
    shut_down(server, started)


def test_an_interrupt_ends_a_busy_loop(server, launch):
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        request = client.send("print('busy', flush=True)\nwhile True: pass")
        client.await_stream("busy")
        assert server.request("interrupt")["result"] == {}
        assert client.result(request) == ("error", "KeyboardInterrupt")
        assert client.run("1 + 1") == ("ok", "2")
    shut_down(server, started)


def test_signals_reach_the_kernel_and_zero_only_asks(server, launch):
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        client.run("import signal; got = []; signal.signal(signal.SIGUSR1, lambda *a: got.append(1))")
        assert server.request("signal", {"signum": 0})["result"] == {"alive": True}
        assert server.request("signal", {"signum": int(signal.SIGUSR1)})["result"] == {"alive": True}
        assert client.run("got") == ("ok", "[1]")
    for nonsense in ({}, {"signum": "9"}, {"signum": 65}, {"signum": -1}, {"signum": True}):
        assert server.request("signal", nonsense)["error"]["code"] == -32602
    assert server.request("format_disk")["error"]["code"] == -32601
    shut_down(server, started)


@pytest.mark.parametrize("now", [True, False])
def test_a_restart_keeps_ports_and_key(server, launch, now):
    started = launch()
    first = server.wait_for("connection")["connection"]
    with Client(first) as client:
        client.run("x = 1")
        assert server.request("restart", {"now": now})["result"] == {}
        second = server.wait_for("connection", 2)
        assert second["restart"] == 1
        assert {**second["connection"], "pid": 0, "pgid": 0} == {**first, "pid": 0, "pgid": 0}
        assert second["connection"]["pid"] != first["pid"]
    with Client(second["connection"]) as client:
        assert client.run("x") == ("error", "NameError")
    assert server.of("exit") == []
    shut_down(server, started)


def test_a_crash_is_reported_with_its_signal_and_the_launcher_follows(server, launch):
    started = launch()
    connection = server.wait_for("connection")["connection"]
    with Client(connection) as client:
        client.run("import sys; print('last words', file=sys.__stderr__, flush=True)")
        killed = time.monotonic()
        os.kill(connection["pid"], signal.SIGKILL)
        report = server.wait_for("exit")
        assert started.wait() == 128 + signal.SIGKILL
    assert time.monotonic() - killed < 10  # half a second where nobody else keeps the machine busy
    assert (report["code"], report["signal"], report["requested"]) == (None, signal.SIGKILL, False)
    assert "last words" in report["output"]


def test_a_crashed_kernel_is_restarted_where_the_server_wants_it(server, launch):
    server.on_exit = {"action": "hold", "seconds": 20}
    started = launch()
    first = server.wait_for("connection")["connection"]
    os.kill(first["pid"], signal.SIGSEGV)
    assert server.wait_for("exit")["signal"] == signal.SIGSEGV
    assert server.request("restart", {"now": True})["result"] == {}
    second = server.wait_for("connection", 2)["connection"]
    assert [second[name] for name in PORTS] == [first[name] for name in PORTS]
    with Client(second) as client:
        assert client.run("1") == ("ok", "1")
    shut_down(server, started)


@pytest.mark.parametrize("answer", [{"action": "hold", "seconds": 0.01}, {"action": "end"}], ids=["hold", "end"])
def test_a_restart_that_comes_before_the_answer_to_the_end_is_for_good(server, launch, answer):
    server.on_exit = None
    started = launch()
    os.kill(server.wait_for("connection")["connection"]["pid"], signal.SIGKILL)
    server.wait_for("exit")
    assert server.request("restart", {"now": True})["result"] == {}
    server.answer_exit(answer)
    with Client(server.wait_for("connection", 2)["connection"]) as client:
        assert client.run("1") == ("ok", "1")
    server.on_exit = {"action": "end"}
    shut_down(server, started)


def test_a_server_that_is_slow_to_answer_the_end_can_still_restart(server, launch):
    server.on_exit = None
    started = launch()
    os.kill(server.wait_for("connection")["connection"]["pid"], signal.SIGKILL)
    server.wait_for("exit")
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(1)
    server.answer_exit({"action": "hold", "seconds": 20})
    server.request("restart", {"now": True})
    server.wait_for("connection", 2)
    server.on_exit = {"action": "end"}
    shut_down(server, started)


def test_a_restart_after_a_link_that_broke_meanwhile_is_for_good(server, launch):
    server.on_exit = {"action": "hold", "seconds": 6}
    started = launch()
    os.kill(server.wait_for("connection")["connection"]["pid"], signal.SIGKILL)
    server.wait_for("exit")
    server.cut()
    server.wait_for("exit", 2)
    server.request("restart", {"now": True})
    server.wait_for("connection", 2)
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(6.5)
    shut_down(server, started)


def test_a_held_launcher_ends_when_no_order_comes(server, launch):
    server.on_exit = {"action": "hold", "seconds": 0.2}
    started = launch()
    os.kill(server.wait_for("connection")["connection"]["pid"], signal.SIGKILL)
    assert started.wait() == 128 + signal.SIGKILL


@pytest.mark.parametrize(("code", "expected"), [("import os; os._exit(7)", 7), ("quit()", 0)])
def test_the_kernels_own_exit_code_is_reported_and_passed_on(server, launch, code, expected):
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        client.send(code)
        assert started.wait() == expected
    report = server.wait_for("exit")
    assert (report["code"], report["signal"]) == (expected, None)


def test_a_kernel_that_does_not_start_is_reported_with_its_words(server, launch):
    started = launch("--IPKernelApp.kernel_class=no.such.Kernel")
    report = server.wait_for("exit")
    assert started.wait() == report["code"] != 0
    assert "listened" in report["reason"]
    assert any("no.such" in line for line in report["output"])


def test_a_command_that_does_not_exist_is_reported_as_the_launchers_failure(server, launch):
    started = launch("--", "/no/such/kernel", "{connection_file}")
    problem = server.wait_for("error")
    assert started.wait() == 70
    assert problem["code"] == "command"
    assert "/no/such/kernel" in problem["message"]


def test_a_shutdown_lets_the_kernel_end_by_itself_first(server, launch):
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        client.run("import atexit, os; atexit.register(lambda: os.write(2, b'said goodbye\\n'))")
        server.request("shutdown", {"now": False, "grace": 60})
        client.shut_down()
        assert started.wait() == 0
    assert "said goodbye" in started.text
    assert server.wait_for("exit")["requested"] is True


def test_a_shutdown_ends_a_kernel_that_ignores_it(server, launch):
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        client.run("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
        server.request("shutdown", {"now": False, "grace": 0.4})
        assert started.wait() == 0
    assert server.wait_for("exit")["signal"] == signal.SIGKILL


def test_ports_come_from_the_range(server, launch):
    started = launch("--port-range", "41000..42500")
    connection = server.wait_for("connection")["connection"]
    assert all(41000 <= connection[name] <= 42500 for name in PORTS)
    with Client(connection) as client:
        assert client.run("1") == ("ok", "1")
    shut_down(server, started)


def test_an_exhausted_port_range_is_a_clear_error(server, launch):
    started = launch("--port-range", "43210..43213", MIN_PORT_RANGE_SIZE="3")
    problem = server.wait_for("error")
    assert started.wait() == 73
    assert problem["code"] == "ports"
    assert "between 43210 and 43213" in problem["message"]
    assert "--port-range" in problem["message"]


def test_a_lost_race_for_a_port_is_run_again(server, launch, tmp_path):
    thief = tmp_path / "thief.py"
    thief.write_text(
        "import json, os, socket, sys\n"
        "marker = sys.argv[1] + '.stolen'\n"
        "if not os.path.exists(marker):\n"
        "    open(marker, 'w').close()\n"
        "    sys.exit('zmq.error.ZMQError: Address already in use')\n"
        "os.execv(sys.executable, [sys.executable, sys.argv[2], sys.argv[1], '60', '0'])\n"
    )
    kernel = tmp_path / "tiny.py"
    kernel.write_text(TINY_KERNEL)
    started = launch("--", sys.executable, str(thief), "{connection_file}", str(kernel))
    server.wait_for("connection")
    assert "Address already in use" in started.text
    assert server.of("exit") == []
    shut_down(server, started)


def test_a_generic_kernel_is_reported_when_it_listens(server, launch, tiny_kernel):
    started = launch(*tiny_kernel())
    connection = server.wait_for("connection")["connection"]
    assert connection["pid"] == started.kernels()[0].pid
    shut_down(server, started)


def test_an_interrupt_right_after_the_report_does_no_harm(server, launch):
    started = launch()
    connection = server.wait_for("connection")["connection"]
    for _ in range(5):
        server.request("interrupt")
    with Client(connection) as client:
        assert client.run("1 + 1") == ("ok", "2")
    shut_down(server, started)


# A Python kernel whose second start waits for the test, as one that a busy machine is slow to start.
SLOW_TO_RESTART = """
import os, sys
from elyra_launcher import PythonKernel, launch

WAIT = 'mkdir first 2>/dev/null || { echo waiting; read go <gate; }; exec "$@"'

class SlowToRestart(PythonKernel):
    def command(self):
        return ["sh", "-c", WAIT, "sh", *super().command()]

sys.exit(launch(kernel=SlowToRestart))
"""


def test_an_interrupt_while_a_kernel_restarts_does_no_harm(server, start, tmp_path):
    os.mkfifo(tmp_path / "gate")
    started = start(*server_arguments(server), program=("-c", SLOW_TO_RESTART), ELYRA_LAUNCH_TICKET=server.ticket)
    server.wait_for("connection")
    server.request("restart", {"now": True})
    until(lambda: "waiting" in started.text)
    assert server.request("interrupt")["result"] == {}
    gate = os.open(tmp_path / "gate", os.O_RDWR)  # does not wait for a reader, which may be dead
    os.write(gate, b"go\n")
    with Client(server.wait_for("connection", 2)["connection"]) as client:
        assert client.run("1 + 1") == ("ok", "2")
        request = client.send("print('busy', flush=True)\nwhile True: pass")
        client.await_stream("busy")
        server.request("interrupt")
        assert client.result(request) == ("error", "KeyboardInterrupt")
    os.close(gate)
    assert server.of("exit") == []
    shut_down(server, started)


def test_a_restarted_kernel_is_interrupted_as_soon_as_clients_reach_it(server, launch, tmp_path):
    kernel = tmp_path / "kernel.py"
    # With a channel less than at first, for which the launcher waits a while before it reports the kernel.
    channels = '("shell_port",) if os.path.exists("restarted") else ('
    kernel.write_text(
        "import os, signal\nsignal.signal(signal.SIGINT, lambda *_: os._exit(5))\n"
        + TINY_KERNEL.replace("in (", f"in {channels}", 1)
    )
    started = launch("--", sys.executable, str(kernel), "{connection_file}", "60", "0")
    server.wait_for("connection")
    (tmp_path / "restarted").touch()
    server.request("restart", {"now": True})
    until(lambda: started.text.count("tiny kernel") == 2)
    server.request("interrupt")
    assert server.wait_for("exit")["code"] == 5
    assert len(server.of("connection")) == 1
    assert started.wait() == 5
