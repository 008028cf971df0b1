"""The launcher as it travels: for workers on which nothing is installed.

Once per server process the installed package `elyra_launcher` is packed into a zip
for submissions to a cluster, and linked into a directory of its own for launches on
this host (where a zip would be compiled anew each time). Both lie in a private
directory, with the tickets of launches; it goes when the process ends, by the guardian
if that was killed, or, if both were, when the next one of this user starts.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path

import elyra_launcher
from elyra_server.guardian import Guardian

PACKAGE = "elyra_launcher"
SOURCES = (".py", ".R")
PREFIX = "elyra-server-"
LOCK = "lock"
"""A file that the process which owns the directory holds locked as long as it lives."""

_guard = threading.Lock()
_directory: Path | None = None
_owner = 0


def private_directory() -> Path:
    """Return a directory that only this user can read and that goes with this process."""
    global _directory, _owner
    with _guard:
        if _directory is None or _owner != os.getpid():
            _remove_abandoned(Path(tempfile.gettempdir()))
            _directory = Path(tempfile.mkdtemp(prefix=PREFIX))  # 0700
            _owner = os.getpid()
            Guardian.instance().guard_file(_directory)
            fcntl.flock(os.open(_directory / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600), fcntl.LOCK_EX)
            atexit.register(_remove, _directory, _owner)
        return _directory


def remove_private_directory() -> None:
    """Remove it now; a later launch makes a new one."""
    global _directory
    with _guard:
        if _directory is not None:
            _remove(_directory, _owner)
            _directory = None


def launcher_directory() -> Path:
    """Return a directory with the launcher's package and nothing else, for `sys.path`."""
    place = private_directory() / "launcher"
    link = place / PACKAGE
    with _guard:
        if not link.exists():
            place.mkdir(mode=0o700, exist_ok=True)
            link.symlink_to(_source(), target_is_directory=True)
    return place


def launcher_zip() -> Path:
    """Return a zip with the launcher's package, for a submission."""
    path = private_directory() / f"{PACKAGE}.zip"
    with _guard:
        if not path.exists():
            partial = path.with_suffix(".partial")
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in sorted(_source().rglob("*")):
                    if file.suffix in SOURCES:
                        archive.write(file, Path(PACKAGE) / file.relative_to(_source()))
            partial.rename(path)
    return path


def directory_for_spark() -> Path:
    """Make a directory for what Spark keeps on this host during one launch, and return it."""
    return Path(tempfile.mkdtemp(prefix="spark-", dir=private_directory()))


def early_script() -> Path:
    """Return the script that starts a launcher with its container."""
    return _source() / "early.sh"


def write_ticket(kernel_id: str, ticket: str, variables: Mapping[str, str]) -> Path:
    """Write what a launcher in a container has to know to a private file, and return it.

    Parameters
    ----------
    kernel_id : str
        The kernel.
    ticket : str
        Its launch's ticket: the first line.
    variables : mapping
        The environment of the kernel beside what the cluster gives it: the second line, as JSON.
    """
    # Each launch has a file of its own: when a kernel is started again, the end of the launch before may not be over.
    path = private_directory() / f"ticket-{kernel_id}-{secrets.token_hex(4)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{ticket}\n{json.dumps(dict(variables))}\n")
    return path


def _source() -> Path:
    return Path(elyra_launcher.__path__[0]).resolve()


def _remove(directory: Path, owner: int) -> None:
    if owner == os.getpid():  # not in a forked child
        shutil.rmtree(directory, ignore_errors=True)
        Guardian.instance().release_file(directory)


def _remove_abandoned(parent: Path) -> None:
    """Remove what processes of this user left that were killed."""
    for directory in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.getuid():
                    shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(descriptor)
