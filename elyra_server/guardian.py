"""Sees that nothing is left on this host of a process that is killed.

Who gets SIGKILL can end nothing any more: its spark-submit would go on by itself. So a process of its own,
aftermath.py, is told of each launch command and each private file, and ends and removes those that are left.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

from elyra_server.aftermath import END

SCRIPT = Path(__file__).with_name("aftermath.py")

OWN_VARIABLES = ("LD_LIBRARY_PATH", "PATH")
"""What a Python may need to start at all; all else of the environment may be secret."""

log = logging.getLogger("elyra.guardian")


class Guardian:
    """The guardian of this process, and what it guards.

    Its process starts before the first launch command, and again if it was killed. Where it
    cannot be started, kernels are: they only lose what it is for.
    """

    _instance: Guardian | None = None
    _guard = threading.Lock()

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._guarded: set[bytes] = set()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def instance(cls) -> Guardian:
        """Return the one of this process; a forked child has its own."""
        with cls._guard:
            if cls._instance is None or cls._instance._owner != os.getpid():
                cls._instance = cls()
            return cls._instance

    def begin(self) -> None:
        """See that its process is there, before that of a command: nothing is between the two then."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()

    def guard_process(self, pid: int) -> None:
        """Have a command that leads its process group ended with that group, should this process be killed."""
        self._add(b"%d" % pid)

    def release_process(self, pid: int) -> None:
        """Note that a command ended."""
        self._remove(b"%d" % pid)

    def guard_file(self, path: str | os.PathLike[str]) -> None:
        """Have a file, or a directory with all that is in it, removed, should this process be killed."""
        self._add(_as_note(path))

    def release_file(self, path: str | os.PathLike[str]) -> None:
        """Note that a file was removed, by whomever."""
        self._remove(_as_note(path))

    def _add(self, note: bytes) -> None:
        with self._lock:
            self._guarded.add(note)
            self._tell(b"+" + note)

    def _remove(self, note: bytes) -> None:
        with self._lock:
            if note in self._guarded:
                self._guarded.discard(note)
                self._tell(b"-" + note)

    def _tell(self, note: bytes) -> None:
        """Tell the guardian's process, if there is one; one that was killed is told by the next `begin`."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(note + END)

    def _start(self) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env={name: os.environ[name] for name in OWN_VARIABLES if name in os.environ},
                bufsize=0,
            )
        except OSError as error:
            log.warning("Nothing will see to what is left if this process is killed: %s", error)
            return
        for note in self._guarded:
            self._tell(b"+" + note)


def _as_note(path: str | os.PathLike[str]) -> bytes:
    return os.fsencode(os.path.abspath(path))  # noqa: PTH100 - it has no equal in pathlib
