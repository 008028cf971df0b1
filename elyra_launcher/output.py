"""The launcher's own standard output and error, where the kernel's go."""

from __future__ import annotations

import os
import select

from .eventloop import WRITE

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from .eventloop import Loop

BACKLOG = 262144
"""Bytes that are held back for a reader who is slow. What exceeds them is lost, so that
nobody's slowness stalls a kernel."""


class Outlet:
    """One of the launcher's own outputs, which may be slow or gone."""

    def __init__(self, loop: Loop, descriptor: int) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._held = b""
        self._watched = False

    def write(self, data: bytes) -> None:
        """Pass data on, now or when the reader is ready."""
        self._held = (self._held + data)[-BACKLOG:]
        self.flush()

    def flush(self) -> None:
        """Write what the reader takes without blocking."""
        try:
            while self._held and select.select([], [self._descriptor], [], 0)[1]:
                # A pipe that is ready takes this many bytes at once.
                sent = os.write(self._descriptor, self._held[:4096])
                self._held = self._held[sent:]
        except BlockingIOError:
            pass  # somebody else filled it
        except (OSError, ValueError):
            self._held = b""  # nobody reads it any more
        self._watch(bool(self._held))

    def _watch(self, wanted: bool) -> None:
        if wanted == self._watched:
            return
        self._watched = wanted
        if not wanted:
            self._loop.unwatch(self._descriptor)
            return
        # Only what can be full can be watched: files never are.
        self._loop.watch(self._descriptor, WRITE, self.flush)
