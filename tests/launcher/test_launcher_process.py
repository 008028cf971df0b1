"""The launcher as a process: how it ends, what it leaves, where it runs, what it takes."""

import ast
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest
from launching import ROOT, Client, server_arguments, shut_down


def start_of_a_python():
    """Return the seconds that it takes here and now, to compare with."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", "import ssl"], check=True)
    return time.monotonic() - begin


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_signals_to_the_launcher_end_both(server, launch, signum, code):
    started = launch()
    server.wait_for("connection")
    sent = time.monotonic()
    started.process.send_signal(signum)
    assert started.wait() == code
    assert time.monotonic() - sent < 10
    assert "SIG" in server.wait_for("error")["message"]


def test_a_kernel_is_interrupted_though_its_launcher_was_started_in_the_background(server, launch, tiny_kernel):
    """As by ``early.sh``: such a program ignores interrupts, and so does all that it starts."""
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); from elyra_launcher import launch; "
    started = launch(*tiny_kernel(), program=("-c", code + "sys.exit(launch(sys.argv[1:]))"))
    server.wait_for("connection")
    started.process.send_signal(signal.SIGINT)
    assert server.request("signal", {"signum": 0})["result"] == {"alive": True}
    assert server.request("interrupt")["result"] == {}
    assert server.wait_for("exit")["signal"] == signal.SIGINT
    assert server.of("error") == []
    assert started.wait() == 128 + signal.SIGINT


def test_a_signal_that_comes_with_the_kernel_s_start_ends_both(launch):
    command = "kill -TERM $PPID; sleep 600"
    started = launch("--", "/bin/sh", "-c", command, "{connection_file}")
    assert started.wait() == 143
    assert started.gone()
    assert not [file for file in started.files() if file.suffix == ".json"]


def test_a_stubborn_kernel_ends_with_its_launcher_as_quickly_as_yarn_wants_it(server, launch):
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        client.run("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    sent = time.monotonic()
    started.process.terminate()
    assert started.wait() == 143
    assert time.monotonic() - sent < 3 + 10 * start_of_a_python()  # a fifth of a second on a quiet machine


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


def test_what_a_kernel_started_in_a_session_of_its_own_ends_with_it(server, launch):
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        code = "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True); 1"
        assert client.run(code) == ("ok", "1")
    assert any("sleep" in each.cmdline() for each in started.kernels())
    shut_down(server, started)
    assert started.gone()


def test_the_launcher_ends_with_its_parent(server, start):
    command = [sys.executable, "-m", "elyra_launcher", *server_arguments(server)]
    code = f"import subprocess; subprocess.Popen({command!r}).wait()"
    parent = start(program=("-c", code), ELYRA_LAUNCH_TICKET=server.ticket)
    server.wait_for("connection")
    parent.process.kill()
    parent.process.wait()
    assert parent.gone()
    assert "is gone" in server.wait_for("error")["message"]


def test_the_kernels_output_passes_through_though_nobody_reads_it(server, tmp_path, start):
    command = [sys.executable, "-m", "elyra_launcher", *server_arguments(server)]
    code = f"import subprocess; p = subprocess.Popen({command!r}, stdout=subprocess.PIPE); p.wait()"
    parent = start(program=("-c", code), ELYRA_LAUNCH_TICKET=server.ticket)
    with Client(server.wait_for("connection")["connection"]) as client:
        assert client.run("import os; n = [os.write(1, b'x' * 4096) for _ in range(1000)]; len(n)") == ("ok", "1000")
    server.request("shutdown", {"now": True})
    assert parent.wait() == 0


def test_what_the_kernel_started_ends_with_it(server, launch):
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        client.run("import subprocess; p = subprocess.Popen(['sleep', '1000'])")
        client.send("import os; os._exit(0)")
        assert started.wait() == 0
    assert started.gone()


def test_what_a_kernel_does_not_need_is_imported_after_its_start():
    code = "import sys, elyra_launcher.main; print(*{'json', 'ssl', 'socket', 'subprocess'}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port-range", "1..x"], "--port-range is '1..x'"),
        (["--port-range", "²..5"], "--port-range is '²..5'"),
        (["--", "no-placeholder"], "no {connection_file}"),
        (["--kernel-class-name"], "--kernel-class-name needs a value"),
    ],
)
def test_arguments_that_make_no_launch_are_told_to_the_server(server, launch, arguments, words):
    started = launch(*arguments)
    problem = server.wait_for("error")
    assert (started.wait(), problem["code"]) == (64, "usage")
    assert words in problem["message"]
    assert words in started.text
    assert "Traceback" not in started.text


def test_what_a_killed_launcher_left_is_removed_by_the_next_one(server, make_server, start, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    options = {"TMPDIR": str(shared), "ELYRA_LAUNCH_TICKET": server.ticket}
    killed = start(*server_arguments(server), **options)
    with Client(server.wait_for("connection")["connection"]) as client:
        client.run("1")
    killed.was_killed = True
    killed.process.kill()
    assert killed.gone()
    killed.wait()
    (left,) = shared.iterdir()
    os.utime(left, (0, 0))
    others = [make_server(), make_server()]
    started = []
    for each in others:
        options["ELYRA_LAUNCH_TICKET"] = each.ticket
        started.append(start(*server_arguments(each), **options))
        each.wait_for("connection")
        each.request("signal", {"signum": 0})
        # What belongs to a launcher that lives stays, however old it is.
        assert not left.exists()
        assert len(list(shared.iterdir())) == len(started)
        os.utime(next(shared.iterdir()), (0, 0))
    for each, launcher in zip(others, started, strict=True):
        shut_down(each, launcher)
    assert list(shared.iterdir()) == []


def test_without_a_server_a_kernel_is_supervised(start, tiny_kernel):
    started = start("mine.json", *tiny_kernel(0.2, 5))
    assert started.wait() == 5


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


def oldest_python():
    """Return the oldest interpreter from 3.8 on that this machine has."""
    found = sorted(
        (tuple(map(int, path.parts[-3].split(".")[:2])), str(path))
        for path in (Path.home() / ".pyenv" / "versions").glob("3.*.*/bin/python")
    )
    return next((path for version, path in found if version >= (3, 8)), sys.executable)


@pytest.mark.parametrize("path", sorted((ROOT / "elyra_launcher").glob("*.py")), ids=lambda path: path.name)
def test_every_module_has_the_syntax_of_python_3_8(path):
    ast.parse(path.read_text(), feature_version=(3, 8))


# Is imported in the process that talks to Spark's JVM only, where py4j is.
NEEDS_PY4J = {"toree_interrupts", "toree_jvm"}
MODULES = {path.stem for path in (ROOT / "elyra_launcher").glob("[!_]*.py")}


@pytest.mark.parametrize("module", sorted(MODULES - NEEDS_PY4J))
def test_every_module_is_imported_by_the_oldest_python(module):
    command = [
        oldest_python(),
        "-I",
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import elyra_launcher.{module}",
    ]
    subprocess.run(command, check=True)


def test_a_generic_kernel_on_the_oldest_python_for_launchers(server, launch, tiny_kernel):
    python = oldest_python()
    started = launch(*tiny_kernel(60, 3, python), python=python)
    server.wait_for("connection")
    server.request("signal", {"signum": int(signal.SIGUSR1)})
    assert started.wait() == 3
    assert server.wait_for("exit")["code"] == 3
    assert "tiny kernel on Python 3." in started.text
