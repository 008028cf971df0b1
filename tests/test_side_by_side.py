"""All tests side by side, with pytests that only say what happens to them."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("side_by_side.py")

FAKE_PYTEST = """
import sys, time
class ExitCode:
    NO_TESTS_COLLECTED = 5
    INTERRUPTED = 2
if __name__ == "__main__":
    name = sys.argv[1].rpartition("/")[2]
    if name == sys.argv[-1]:  # as if the options asked for none of it
        sys.exit(5)
    try:
        print(f"{name} was begun", flush=True)
        if "quick" not in sys.argv:
            time.sleep(600)
    except KeyboardInterrupt:
        print(f"{name} was ended", flush=True)
        sys.exit(2)
"""


@pytest.fixture
def start(tmp_path):
    """Start the script with a pytest that is none."""
    started = []

    def run(*options):
        (tmp_path / "pytest.py").write_text(FAKE_PYTEST)
        environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{SCRIPT.parents[1]}", "ELYRA_BUILD_DIR": str(tmp_path)}
        command = [sys.executable, str(SCRIPT), *options]
        started.append(subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_that_runs_which_is_waited_for_and_reported(start, tmp_path, signum):
    process = start()
    deadline = time.monotonic() + 60
    begun = ["matrix", "server", "ssh"]
    for name, file in zip(begun, ("matrix.log", "server.log", "hosts.log"), strict=True):
        while f"{name} was begun" not in text_of(tmp_path / file):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    process.send_signal(signum)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    for name in begun:
        assert f"{name} was begun\n{name} was ended\n" in output
    assert output.count("was begun") == 3


def test_all_parts_are_run_also_where_one_has_none_of_the_tests_asked_for(start, tmp_path):
    process = start("quick")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    for name in ("matrix", "server", "yarn", "r", "ssh", "tests"):
        assert f"{name} was begun" in output
    process = start("quick", "yarn")
    output, _ = process.communicate(timeout=60)
    assert re.search(r"cluster: \d+ s, code 5", output)
    assert process.returncode == 0


def text_of(file):
    return file.read_text() if file.exists() else ""
