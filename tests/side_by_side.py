"""Runs all tests in two lanes side by side, which two cores bear: the matrix, and everything else.

``python tests/side_by_side.py [pytest's options]``. The matrix is reported when both are over.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MATRIX = TESTS / "matrix"


def start(arguments, output=None):
    """Start pytest; Ctrl-C reaches it by itself."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments], cwd=TESTS.parent, stdout=output, stderr=output
    )


def wait(process):
    """Return the exit code of a lane, which ends in its own time after Ctrl-C."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def main(options):
    """Run both lanes and return the exit code; that one of them has none of the tests asked for is no failure."""
    with tempfile.TemporaryFile() as report:
        matrix = start([str(MATRIX), *options], report)
        codes = [wait(start([str(TESTS), f"--ignore={MATRIX}", *options])), wait(matrix)]
        report.seek(0)
        sys.stdout.flush()
        os.write(1, b"\n")
        while data := report.read(65536):
            sys.stdout.buffer.write(data)
        sys.stdout.flush()
    empty = pytest.ExitCode.NO_TESTS_COLLECTED
    failed = [code for code in codes if code not in (0, empty)]
    return failed[0] if failed else min(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
