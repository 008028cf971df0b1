"""Runs all tests in two lanes side by side, which two cores bear: the matrix, and everything else.

``python tests/side_by_side.py [pytest's options]``. What the matrix says goes to matrix.log in the build directory,
and is shown when both are over.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo import BUILD
from demo.server import end_with_parent

TESTS = Path(__file__).parent
MATRIX = TESTS / "matrix"
REPORT = BUILD / "matrix.log"

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start(arguments, output=None):
    """Start pytest in a session of its own: a Ctrl-C is passed on to it, and reaches it once."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=TESTS.parent,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=lambda: end_with_parent(signal.SIGINT),
    )


def pass_on(lanes):
    """Let signals that are to end all end the lanes, as Ctrl-C does: then pytest ends what its tests have started."""

    def interrupt(signum, frame):
        for lane in lanes:
            if lane.poll() is None:
                lane.send_signal(signal.SIGINT)

    for signum in SIGNALS:
        signal.signal(signum, interrupt)


def main(options):
    """Run both lanes and return the exit code; that one of them has none of the tests asked for is no failure."""
    BUILD.mkdir(parents=True, exist_ok=True)
    lanes = []
    pass_on(lanes)
    with REPORT.open("wb") as report:
        lanes.append(start([str(MATRIX), *options], report))
    print(f"The matrix runs beside these tests: {REPORT}", flush=True)
    lanes.append(start([str(TESTS), f"--ignore={MATRIX}", *options]))
    codes = [lane.wait() for lane in reversed(lanes)]
    show(REPORT)
    empty = pytest.ExitCode.NO_TESTS_COLLECTED
    failed = [code for code in codes if code not in (0, empty)]
    return failed[0] if failed else min(codes)


def show(report):
    """Write a report to standard output."""
    os.write(1, b"\n")
    with report.open("rb") as file:
        while data := file.read(65536):
            sys.stdout.buffer.write(data)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
