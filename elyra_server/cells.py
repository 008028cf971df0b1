"""Which cell a kernel runs, as far as a websocket has seen, and whether an interrupt ended it.

No signal ends native code that does not look for signals. The user of such a cell has to be told, as the button alone
does not say that it was pressed in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

PATIENCE = 5.0
"""Seconds that a cell has to end after an interrupt before its user is told that it does not."""

UNANSWERED = (
    f"The cell does not answer the interrupt, now for {PATIENCE:g} s: it is in native code, or it cleans up. "
    "If it goes on, restart the kernel, which ends it."
)

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

    def see(self, frames: Sequence[Any]) -> None:
        """Note a message of the iopub channel: its frames, without those in front of the signature."""
        header = bytes(frames[HEADER])
        if b'"execute_input"' in header:
            self.parent = self._unpack(frames[PARENT])
        elif self.parent is not None and b'"status"' in header and b'"idle"' in bytes(frames[CONTENT]):
            ended = self._unpack(frames[PARENT]).get("msg_id")
            if ended == self.parent.get("msg_id"):
                self.parent = None

    def forget(self) -> None:
        """Note that the kernel is gone, and its cell with it."""
        self.parent = None
