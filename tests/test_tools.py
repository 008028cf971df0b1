"""What make needs, and says if it is not there."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "demo" / "tools.sh"


@pytest.mark.parametrize(
    ("version", "tests", "right"),
    [
        ("1.8.0_392", "", False),
        ("11.0.2", "", True),
        ("17.0.15", "r", True),
        ("21.0.8", "", True),
        ("21.0.8", "r", False),
        ("25", "", False),
    ],
)
def test_a_java_that_does_not_do_is_told_in_one_line(tmp_path, version, tests, right):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    java.chmod(0o755)
    environ = {**os.environ, "JAVA_HOME": str(tmp_path)}
    done = subprocess.run(["sh", SCRIPT, *tests.split()], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is right
    assert done.stderr.count("\n") == (0 if right else 1)
    number = version.removeprefix("1.").partition(".")[0]
    assert right or ("JAVA_HOME" in done.stderr and f"Java {number}:" in done.stderr)
