"""A launch from end to end: a real ipykernel, a real TLS link, a fake server at its end."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile

import psutil
import pytest
from launching import ROOT, TINY_KERNEL, Client, server_arguments

from elyra_launcher import protocol

PORTS = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")


@pytest.fixture
def tiny_kernel(tmp_path):
    """The command of a kernel that any Python runs."""
    path = tmp_path / "tiny_kernel.py"
    path.write_text(TINY_KERNEL)

    def command(seconds=60, code=0, python=sys.executable):
        return ["--", python, str(path), "{connection_file}", str(seconds), str(code)]

    return command


def shut_down(server, launch, **options):
    server.request("shutdown", {"now": True, **options})
    assert launch.wait() == 0


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
        names = "sorted(n for n in os.environ if n.startswith('ELYRA_'))"
        assert client.run(f"import os; {names}") == ("ok", "[]")
    for process in started.processes():
        assert not {ticket, connection["key"]} & set(" ".join(process.cmdline()).split())
    shut_down(server, started)
    assert ticket not in started.text
    assert connection["key"] not in started.text


def test_an_interrupt_ends_a_busy_loop(server, launch):
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        request = client.start("while True: pass")
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
    assert time.monotonic() - killed < 0.5
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


def test_a_held_launcher_ends_when_no_order_comes(server, launch):
    server.on_exit = {"action": "hold", "seconds": 0.2}
    started = launch()
    os.kill(server.wait_for("connection")["connection"]["pid"], signal.SIGKILL)
    assert started.wait(5) == 128 + signal.SIGKILL


@pytest.mark.parametrize(("code", "expected"), [("import os; os._exit(7)", 7), ("quit()", 0)])
def test_the_kernels_own_exit_code_is_reported_and_passed_on(server, launch, code, expected):
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        client.start(code)
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
        server.request("shutdown", {"now": False, "grace": 10})
        client._client.shutdown()
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


def test_what_the_kernel_started_ends_with_it(server, launch):
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        client.run("import subprocess; p = subprocess.Popen(['sleep', '1000'])")
        client.start("import os; os._exit(0)")
        assert started.wait() == 0
    assert started.gone()


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\n",
        b"\x00" * 100 + b"\n",
        b"{}\n",
        b'{"jsonrpc": "2.0", "method": 5}\n',
        b"x" * 70000,
        b"[" * 60000 + b"\n",
    ],
)
def test_hostile_lines_end_a_connection_but_no_kernel(server, launch, garbage):
    started = launch()
    pid = server.wait_for("connection")["connection"]["pid"]
    server.send(garbage)
    resumed = server.wait_for("hello", 2)
    assert resumed["state"] == "running"
    assert resumed["connection"]["pid"] == pid
    assert server.request("signal", {"signum": 0})["result"] == {"alive": True}
    shut_down(server, started)


def test_nothing_is_sent_to_a_server_with_another_certificate(server, launch):
    arguments = ["--public-key", "sha256:" + "0" * 64]
    started = launch(*arguments)
    assert started.wait() == 75
    assert server.raw == b""
    assert server.address in started.text
    assert "certificate" in started.text


def test_a_used_ticket_is_rejected(server, start):
    started = start(*server_arguments(server), ELYRA_LAUNCH_TICKET="0" * 64)
    assert started.wait() == 75
    assert "ticket" in started.text


def test_a_launch_without_a_ticket_says_what_is_missing(server, start):
    started = start(*server_arguments(server))
    assert started.wait() == 64
    assert "ELYRA_LAUNCH_TICKET" in started.text


def test_the_ticket_of_a_container_comes_from_a_file(server, start, tmp_path):
    (tmp_path / "elyra-ticket").write_text(server.ticket + "\n")
    started = start(*server_arguments(server), CONTAINER_ID="container_1")
    server.wait_for("connection")
    assert not (tmp_path / "elyra-ticket").exists()
    assert len(list(tmp_path.glob("elyra-kernel-*/kernel-*.json"))) == 1
    shut_down(server, started)
    assert list(tmp_path.glob("elyra-kernel-*")) == []


def test_a_cut_link_is_dialled_again_and_the_kernel_does_not_notice(server, launch):
    started = launch()
    connection = server.wait_for("connection")["connection"]
    with Client(connection) as client:
        client.run("x = 1")
        server.cut()
        resumed = server.wait_for("hello", 2)
        assert "ticket" not in resumed
        assert resumed["connection"] == connection
        assert server.wait_for("connection", 2) == {"connection": connection, "restart": 0}
        assert server.request("interrupt")["result"] == {}
        assert client.run("x") == ("ok", "1")
    shut_down(server, started)


def test_a_silent_link_is_dialled_again(make_server, start):
    server = make_server(ping=0.1)
    started = start(*server_arguments(server), ELYRA_LAUNCH_TICKET=server.ticket)
    server.wait_for("hello", 2)
    server.wait_for("connection")
    server.request("shutdown", {"now": True})
    assert started.wait() == 0


def test_the_kernel_ends_when_the_lease_is_over(make_server, start):
    server = make_server(lease=0.5)
    started = start(*server_arguments(server), ELYRA_LAUNCH_TICKET=server.ticket)
    server.wait_for("connection")
    server.stop_listening()
    server.cut()
    assert started.wait(10) == 69
    assert server.address in started.text


def test_a_server_that_forgot_the_launcher_ends_it(server, launch):
    started = launch()
    server.wait_for("connection")
    server.accepts = False
    server.cut()
    assert started.wait(10) == 75


def test_a_server_that_cannot_be_reached_is_named_with_what_happened(start, make_server):
    gone = make_server()
    gone.stop_listening()
    arguments = [
        *("kernel.json", "--public-key", gone.fingerprint),
        *("--response-address", f"{gone.address},no-such-host.invalid:1"),
    ]
    started = start(*arguments, ELYRA_LAUNCH_TICKET="0" * 64)
    assert started.wait(25) == 69
    assert f"{gone.address}: Connection refused" in started.text
    assert "no-such-host.invalid:1: its name cannot be resolved" in started.text


def test_the_second_address_is_used_where_the_first_does_not_answer(server, make_server, start):
    gone = make_server()
    gone.stop_listening()
    arguments = server_arguments(server)
    arguments[2] = f"{gone.address},{server.address}"
    started = start(*arguments, ELYRA_LAUNCH_TICKET=server.ticket)
    server.wait_for("connection")
    shut_down(server, started)


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


def test_a_generic_kernel_on_the_oldest_python_for_launchers(server, launch, tiny_kernel):
    python = old_python()
    started = launch(*tiny_kernel(0.5, 3, python), python=python)
    server.wait_for("connection")
    assert started.wait() == 3
    assert server.wait_for("exit")["code"] == 3
    assert "tiny kernel on Python 3.8" in started.text


def old_python():
    candidates = sorted((ROOT.home() / ".pyenv" / "versions").glob("3.8.*/bin/python"))
    return str(candidates[-1]) if candidates else "python3.8"


def test_the_launcher_works_from_a_zip(server, start, tmp_path):
    archive = tmp_path / "elyra_launcher.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in (ROOT / "elyra_launcher").glob("*.py"):
            file.write(path, f"elyra_launcher/{path.name}")
    script = tmp_path / "launch.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(archive)!r})\nimport elyra_launcher; sys.exit(elyra_launcher.launch())\n"
    )
    started = start(
        *server_arguments(server), ELYRA_LAUNCH_TICKET=server.ticket, PYTHONPATH="", program=("-I", str(script))
    )
    with Client(server.wait_for("connection")["connection"]) as client:
        assert client.run("import sys; sys.modules['elyra_launcher'].__file__") == (
            "ok",
            repr(f"{archive}/elyra_launcher/__init__.py"),
        )
    shut_down(server, started)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_signals_to_the_launcher_end_both(server, launch, signum, code):
    started = launch()
    server.wait_for("connection")
    sent = time.monotonic()
    started.process.send_signal(signum)
    assert started.wait() == code
    assert time.monotonic() - sent < 1
    assert "SIG" in server.wait_for("error")["message"]


def test_a_stubborn_kernel_ends_with_its_launcher_as_quickly_as_yarn_wants_it(server, launch):
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        client.run("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    sent = time.monotonic()
    started.process.terminate()
    assert started.wait() == 143
    assert time.monotonic() - sent < 0.5


def test_a_killed_launcher_leaves_no_kernel(server, launch):
    started = launch()
    server.wait_for("connection")
    started.was_killed = True
    with Client(server.wait_for("connection")["connection"]) as client:
        client.run("1")
    # It cannot notice anything any more, like one that holds its interpreter's lock.
    started.kernels()[0].suspend()
    started.process.kill()
    assert started.gone()
    started.wait()


def test_a_killed_launcher_leaves_no_generic_kernel(server, launch, tiny_kernel):
    started = launch(*tiny_kernel())
    server.wait_for("connection")
    started.was_killed = True
    started.process.kill()
    assert started.gone()
    started.wait()


def test_the_launcher_ends_with_its_parent(server, start):
    command = [sys.executable, "-m", "elyra_launcher", *server_arguments(server)]
    code = f"import subprocess; subprocess.Popen({command!r}).wait()"
    parent = start(program=("-c", code), ELYRA_LAUNCH_TICKET=server.ticket)
    server.wait_for("connection")
    parent.process.kill()
    parent.process.wait()
    assert parent.gone()
    assert "is gone" in server.wait_for("error")["message"]


def test_without_a_server_a_kernel_is_supervised(start, tiny_kernel):
    started = start("mine.json", *tiny_kernel(0.2, 5))
    assert started.wait() == 5


def test_the_kernels_output_passes_through_though_nobody_reads_it(server, tmp_path, start):
    command = [sys.executable, "-m", "elyra_launcher", *server_arguments(server)]
    code = f"import subprocess; p = subprocess.Popen({command!r}, stdout=subprocess.PIPE); p.wait()"
    parent = start(program=("-c", code), ELYRA_LAUNCH_TICKET=server.ticket)
    with Client(server.wait_for("connection")["connection"]) as client:
        assert client.run("import os; n = [os.write(1, b'x' * 4096) for _ in range(1000)]; len(n)") == ("ok", "1000")
    server.request("shutdown", {"now": True})
    assert parent.wait() == 0


def test_a_supervisor_is_light(server, launch):
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        client.run("1")
        memory = psutil.Process(started.process.pid).memory_full_info().pss
    shut_down(server, started)
    assert memory <= 12 * 2**20


def test_usage_help_and_version_on_the_command_line(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "elyra_launcher", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    assert "usage:" in run("--help").stdout
    assert run("--version").stdout.startswith("elyra_launcher ")
    wrong = run("kernel.json", "--response-address", "nowhere")
    assert wrong.returncode == 64
    assert "HOST:PORT" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_an_interrupt_right_after_the_report_does_no_harm(server, launch):
    started = launch()
    connection = server.wait_for("connection")["connection"]
    for _ in range(5):
        server.request("interrupt")
    with Client(connection) as client:
        assert client.run("1 + 1") == ("ok", "2")
    shut_down(server, started)


def test_a_link_without_pings_for_a_while_stays(make_server, start):
    server = make_server(ping=60)
    started = start(*server_arguments(server), ELYRA_LAUNCH_TICKET=server.ticket)
    server.wait_for("connection")
    # Longer than the time that hello may take to be answered.
    with pytest.raises(AssertionError):
        server.wait_for("hello", 2, timeout=protocol.HELLO_TIMEOUT + 1)
    shut_down(server, started)
