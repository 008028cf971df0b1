"""The private directory of a server process: whose it is, and when it goes."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from elyra_server import shipping
print(shipping.private_directory(), flush=True)
shipping.launcher_zip()
sys.stdin.read()
if sys.argv[1] == "killed":
    os.kill(os.getpid(), 9)
"""


def start(temporary: Path, end: str) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, end],
        env={"TMPDIR": str(temporary), "PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.mark.parametrize("end", ["ordinary", "killed"])
def test_the_directory_goes_with_its_process_or_when_the_next_one_starts(tmp_path: Path, end: str) -> None:
    process, directory = start(tmp_path, end)
    assert directory.stat().st_mode & 0o777 == 0o700
    process.communicate()
    assert directory.exists() == (end == "killed")
    following, other = start(tmp_path, "ordinary")
    try:
        assert not directory.exists()
        assert other.exists()
    finally:
        following.communicate()
    assert list(tmp_path.iterdir()) == []


def test_the_directory_of_a_process_that_lives_stays(tmp_path: Path) -> None:
    first, directory = start(tmp_path, "ordinary")
    second, _ = start(tmp_path, "ordinary")
    second.communicate()
    assert directory.exists()
    first.communicate()
