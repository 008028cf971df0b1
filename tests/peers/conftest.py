"""Virtual environments of the other servers, made when they are missing."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="session")
def enterprise_gateway():
    """Return the ``bin`` directory of an environment with Enterprise Gateway."""
    build = Path(os.environ.get("ELYRA_BUILD_DIR") or ROOT / ".build")
    directory = build / "eg-venv"
    requirements = HERE / "enterprise-gateway.txt"
    # Written last: an environment whose making was broken off is made again.
    stamp = directory / "complete"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
        pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--requirement", str(requirements)], check=True)
        stamp.write_text(wanted)
    return directory / "bin"
