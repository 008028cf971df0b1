"""All tests side by side, with pytests that only say what happens to them."""

import os
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
if __name__ == "__main__":
    matrix = sys.argv[1].endswith("matrix")
    try:
        print("the matrix begins" if matrix else "the others begin", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print("the matrix ends" if matrix else "the others end", flush=True)
        sys.exit(2)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_both_lanes_which_are_waited_for_and_reported(tmp_path, signum):
    (tmp_path / "pytest.py").write_text(FAKE_PYTEST)
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{SCRIPT.parents[1]}", "ELYRA_BUILD_DIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, str(SCRIPT)], env=environ, stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if line == "the others begin\n":
                break
        deadline = time.monotonic() + 60
        while "the matrix begins" not in (tmp_path / "matrix.log").read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signum)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert rest.split("\n") == ["the others end", "", "the matrix begins", "the matrix ends", ""]
    assert process.returncode == 2
