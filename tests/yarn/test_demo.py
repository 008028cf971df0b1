"""`make demo` as its user sees it, and the YARN it starts."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from waiting import PATIENCE, until

from demo import ROOT
from demo.yarn import Yarn, YarnError

TOKEN = "a-token-of-the-test"


@pytest.fixture
def demo(tmp_path):
    """Start demonstrations whose temporary files are all in one directory."""
    started = []

    def start(*options, **variables):
        environ = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1", **variables}
        command = [sys.executable, "-m", "demo", *options]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert_nothing_left(tmp_path)


def assert_nothing_left(directory, limit=PATIENCE):
    """No process of a demonstration runs, and its directory is gone."""
    needle = str(directory / "elyra-yarn-")
    deadline = time.monotonic() + limit
    while True:
        processes = [each.pid for each in psutil.process_iter() if uses(each, needle)]
        files = list(directory.iterdir())
        if not processes and not files:
            return
        assert time.monotonic() < deadline, (processes, files)
        time.sleep(0.1)


def uses(process, needle):
    try:
        return needle in " ".join(process.cmdline()) or needle in process.cwd()
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def test_two_demonstrations_side_by_side_both_work(demo):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8888))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which is as good
        # One of them asks for a token, which no output shows.
        started = demo("--once"), demo("--once", KG_AUTH_TOKEN=TOKEN)
        outputs = [process.communicate(timeout=540)[0] for process in started]
    for output in outputs:
        lines = output.splitlines()
        assert re.fullmatch(r"demo: ok application_\d+_\d+ yarn cluster", lines[-1]), output
        assert "9592 primes below 100000" in output
        assert "jupyter lab --gateway-url=http://127.0.0.1:" in output
        assert "FINISHED, SUCCEEDED" in output
        assert TOKEN not in output


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_a_demonstration_that_is_stopped_leaves_nothing(demo, signum):
    process = demo()
    for line in process.stdout:
        if "POST /api/kernels" in line:
            break
    process.send_signal(signum)
    rest = process.communicate(timeout=300)[0]
    if signum == signal.SIGINT:
        assert process.returncode == 0, rest
        assert "Nothing is left." in rest


def test_a_demonstration_whose_server_is_killed_says_so_and_leaves_nothing(demo, tmp_path):
    """In the middle of a launch, whose spark-submit would go on by itself."""
    process = demo()
    for line in process.stdout:
        if "POST /api/kernels" in line:
            break
    submission = until(lambda: running(tmp_path, "org.apache.spark.deploy.SparkSubmit", "launch_ipykernel.py"))
    (server,) = running(tmp_path, "jupyter", "elyra", "--port")
    server.kill()
    rest = process.communicate(timeout=300)[0]
    assert process.returncode == 1
    assert "The demonstration failed." in rest
    assert "Nothing is left." in rest
    _, alive = psutil.wait_procs(submission, timeout=PATIENCE)
    assert not alive


def running(directory, *words):
    """Return the processes of a demonstration with these words in their command lines."""
    needle = str(directory / "elyra-yarn-")
    found = [each for each in psutil.process_iter(["cmdline"]) if uses(each, needle)]
    return [each for each in found if all(word in " ".join(each.info["cmdline"] or ()) for word in words)]


def test_a_yarn_without_java_says_so(monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(YarnError, match="No java in JAVA_HOME=/nowhere"):
        Yarn().start()


def test_a_yarn_without_jars_says_so(tmp_path):
    with pytest.raises(YarnError, match="make hadoop"):
        Yarn(tmp_path).start()


def test_a_daemon_that_fails_shows_its_log(tmp_path):
    jar = tmp_path / "hadoop-yarn-server-nodemanager-0.jar"
    jar.touch()
    yarn = Yarn(tmp_path)
    with pytest.raises(YarnError, match="ended with code") as info:
        yarn.start()
    assert "manager" in str(info.value)
    assert not Path(yarn.directory).exists()
