"""Private directories in TMPDIR, locked while their launcher lives: so the next one knows what was left behind."""

from __future__ import annotations

import os

from .errors import ConnectionFileError

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Callable

PREFIX = "elyra-kernel-"
"""What private directories are called, and then this host's name: several may share TMPDIR."""

ABANDONED_AGE = 60.0
"""Seconds after which a directory that nobody holds locked was left by a launcher that was killed."""


class PrivateDirectory:
    """A directory of this user's that goes with its launcher, whatever was put there.

    Parameters
    ----------
    base : str
        Where it is made.

    Attributes
    ----------
    path : str
        Where it is.

    Raises
    ------
    ConnectionFileError
        If it cannot be made.
    """

    def __init__(self, base: str) -> None:
        self.path = os.path.join(base, _prefix() + os.urandom(8).hex())
        try:
            os.mkdir(self.path, 0o700)
        except OSError as error:
            raise ConnectionFileError(
                f"no private directory can be made in {base} ({error.strerror}); "
                "set TMPDIR to a directory that is writable here"
            ) from error
        self._lock = _lock(self.path)

    def remove(self) -> None:
        """Remove it, with all that is in it."""
        _remove_tree(self.path)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def remove_abandoned(base: str) -> None:
    """Remove what launchers of this user on this host left in a directory that were killed."""
    import time

    before = time.time() - ABANDONED_AGE
    try:
        with os.scandir(base) as entries:
            for entry in entries:
                if entry.name.startswith(_prefix()):
                    status = entry.stat(follow_symlinks=False)
                    if status.st_uid == os.getuid() and status.st_mtime < before:
                        _remove_unlocked(entry.path)
    except OSError:
        return  # nobody's task but the next one's


def remove_if_there(how: Callable[[str], object], path: str) -> None:
    """Remove something that may be gone already, or be nothing that can be removed so."""
    try:
        how(path)
    except OSError:
        return


def _prefix() -> str:
    return f"{PREFIX}{os.uname().nodename}-"


def _lock(directory: str) -> int:
    """Hold a directory locked for as long as this process lives; return the descriptor, -1 if it cannot be."""
    import fcntl

    descriptor = -1
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another, or a file system without locks
        if descriptor >= 0:
            os.close(descriptor)
        return -1
    return descriptor


def _remove_unlocked(directory: str) -> None:
    descriptor = _lock(directory)
    if descriptor >= 0:
        _remove_tree(directory)
        os.close(descriptor)


def _remove_tree(directory: str) -> None:
    # shutil would do, but costs a launcher's end more time than all else.
    for place, directories, files in os.walk(directory, topdown=False):
        for path in (os.path.join(place, name) for name in files):
            remove_if_there(os.unlink, path)
        for path in (os.path.join(place, name) for name in directories):
            remove_if_there(os.unlink if os.path.islink(path) else os.rmdir, path)
    remove_if_there(os.rmdir, directory)
