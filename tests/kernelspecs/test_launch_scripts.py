"""The launch scripts of the kernelspecs: which launcher they take."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[2] / "kernels"
SCRIPTS = sorted(KERNELS.glob("*/scripts/launch_*.py"))

LAUNCHER = """
class RKernel: pass
class ToreeKernel: pass
def launch(kernel=None):
    print({name!r}, kernel.__name__ if kernel else "")
"""


def run(script: Path, place: Path, *launchers: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a launch script where there are these launchers."""
    for name in launchers:
        package = place / name / "elyra_launcher"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(LAUNCHER.format(name=name))
    # Not the one that is installed here.
    command = [sys.executable, "-S", str(script)]
    kept = {name: value for name, value in os.environ.items() if name == "PATH"}
    paths = {name: str(place / value) for name, value in environ.items()}
    return subprocess.run(command, env={**kept, **paths}, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_server_s_own_launcher_comes_before_an_installed_one(script, tmp_path):
    done = run(script, tmp_path, "installed", "own", PYTHONPATH="installed", ELYRA_LAUNCHER_PATH="own")
    assert done.stdout.split()[0] == "own", done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_installed_launcher_or_one_of_a_submission_will_do(script, tmp_path):
    done = run(script, tmp_path, "shipped", PYTHONPATH="shipped")
    assert done.stdout.split()[0] == "shipped", done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_without_a_launcher_the_error_says_what_to_do(script, tmp_path):
    done = run(script, tmp_path)
    assert done.returncode == 1 and "install jupyter_elyra" in done.stderr
