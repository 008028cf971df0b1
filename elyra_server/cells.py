"""Which cell a kernel runs, as far as a websocket has seen: whether an interrupt ends it, whether its end got lost.

No signal ends native code that does not look for signals. The user of such a cell has to be told, as the button alone
does not say that it was pressed in vain. And ZeroMQ drops what a kernel publishes faster than it is taken, the end of a
cell too, which would then seem to run for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

PATIENCE = 5.0
"""Seconds that a cell has to end after an interrupt before its user is told that it does not."""

UNANSWERED = (
    f"The cell does not answer the interrupt, now for {PATIENCE:g} s: it is in native code, or it cleans up. "
    "If it goes on, restart the kernel, which ends it."
)

LOST = 10.0
"""Seconds of silence after a cell was answered until its end counts as lost."""

FLOOD = 1000
"""Messages of a cell from which on ZeroMQ may have dropped some. Fewer come in the end, however late the network is."""

HEADER, PARENT, CONTENT = 1, 2, 4  # frames of a message, the signature being the first


class CellWatch:
    """Follows the cells of a kernel by what it publishes.

    Parameters
    ----------
    unpack : callable
        What makes a dictionary of a frame.
    """

    def __init__(self, unpack: Callable[[Any], dict[str, Any]]) -> None:
        self._unpack = unpack
        self.parent: dict[str, Any] | None = None
        self._answered: Any = b""
        self._heard = 0.0
        self._count = 0

    def see_answer(self, frames: Sequence[Any]) -> bool:
        """Note a message of the shell channel; return whether it answers a cell."""
        if b'"execute_reply"' not in bytes(frames[HEADER]):
            return False
        self._answered = frames[PARENT]
        return True

    @property
    def waits(self) -> bool:
        """Whether the cell published a lot and was answered, but has not ended."""
        if self.parent is None or not self._answered or self._count < FLOOD:
            return False
        return bool(self._unpack(self._answered).get("msg_id") == self.parent.get("msg_id"))

    @property
    def silence(self) -> float:
        """The seconds since something was heard on the iopub channel."""
        return time.monotonic() - self._heard

    def see(self, frames: Sequence[Any]) -> None:
        """Note a message of the iopub channel: its frames, without those in front of the signature."""
        self._heard = time.monotonic()
        self._count += 1
        header = bytes(frames[HEADER])
        if b'"execute_input"' in header:
            self._count = 0
            self.parent = self._unpack(frames[PARENT])
        elif self.parent is not None and b'"status"' in header and b'"idle"' in bytes(frames[CONTENT]):
            ended = self._unpack(frames[PARENT]).get("msg_id")
            if ended == self.parent.get("msg_id"):
                self.parent = None

    def forget(self) -> None:
        """Note that the kernel is gone, and its cell with it."""
        self.parent = None
