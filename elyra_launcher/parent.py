"""Notice the death of the process that started this one."""

from __future__ import annotations

import os

from .eventloop import READ

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Callable

    from .eventloop import Loop

LOOK_INTERVAL = 1.0
"""Seconds between two looks, where the system cannot tell of a process's end."""


class ParentWatch:
    """Call back when the parent process is gone.

    The signal that Linux can send then is not used: it comes already when the parent's
    *thread* ends that started this process, and a JVM's does.

    Parameters
    ----------
    loop : Loop
        Where it is waited for.
    died : callable
        Called once.
    """

    def __init__(self, loop: Loop, died: Callable[[], object]) -> None:
        self._loop = loop
        self._died = died
        self._parent = os.getppid()
        self._descriptor = -1
        if self._parent == 1:  # nobody's child, or that of a container's first process
            return
        try:
            self._descriptor = os.pidfd_open(self._parent)
        except (AttributeError, OSError):  # before Python 3.9 and Linux 5.3
            loop.call_later(LOOK_INTERVAL, self._look)
            return
        loop.watch(self._descriptor, READ, self._tell)
        if os.getppid() != self._parent:  # it died before it was watched
            loop.call_later(0, self._tell)

    def close(self) -> None:
        """Stop watching."""
        if self._descriptor >= 0:
            self._loop.unwatch(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _look(self) -> None:
        if os.getppid() != self._parent:
            self._died()
        else:
            self._loop.call_later(LOOK_INTERVAL, self._look)

    def _tell(self) -> None:
        if self._descriptor >= 0:
            self.close()
            self._died()
