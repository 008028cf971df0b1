"""Virtual environments of the other servers, below the build directory, made when they are missing."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENTERPRISE_GATEWAY = ROOT / "tests" / "peers" / "enterprise-gateway.txt"
GATEWAY_PROVISIONERS = Path(__file__).parent / "gateway-provisioners.txt"


def environment(name: str, requirements: Path) -> Path:
    """Return the ``bin`` directory of the environment `name` with these requirements."""
    directory = build() / name
    # Written last: an environment whose making was broken off is made again.
    stamp = directory / "complete"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
        pip(directory / "bin", "install", "--requirement", str(requirements))
        stamp.write_text(wanted)
    return directory / "bin"


def enterprise_gateway_sources() -> Path:
    """Return the sources of Enterprise Gateway: its kernelspecs and launchers are in no package on PyPI but these."""
    directory = build() / "eg-sources"
    place = directory / "jupyter_enterprise_gateway-3.3.0"
    if not (place / "etc").is_dir():
        programs = environment("eg-venv", ENTERPRISE_GATEWAY)
        options = ("--no-deps", "--no-binary", "jupyter_enterprise_gateway", "--dest", str(directory))
        pip(programs, "download", *options, "jupyter_enterprise_gateway==3.3.0")
        with tarfile.open(directory / f"{place.name}.tar.gz") as archive:
            archive.extractall(directory, filter="data")
    return place


def pip(programs: Path, command: str, *arguments: str) -> None:
    """Run an environment's pip."""
    subprocess.run([str(programs / "python"), "-m", "pip", command, "--quiet", *arguments], check=True)


def build() -> Path:
    """Return the directory for what is installed, as the Makefile says."""
    return Path(os.environ.get("ELYRA_BUILD_DIR") or ROOT / ".build")
