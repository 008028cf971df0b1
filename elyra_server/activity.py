"""What a kernel's iopub channel says of its state and of when it was last used.

Jupyter's own watch checks and takes apart all that a kernel publishes, a second time beside the websocket. Of the
output of a busy kernel nothing has to be known but that it came.
"""

from __future__ import annotations

import logging
from typing import Any

from jupyter_client.session import DELIM, Session
from jupyter_server._tz import utcnow

HEADER, PARENT = 2, 3
"""Frames of a message, counted from the one that ends its identities."""

STATUS = b'"status"'
"""In the header of each message that tells a state; others with it are only looked at more closely."""

OVER = ("dead", "restarting")
"""States of a kernel that is gone: what it said before may come after that."""

log = logging.getLogger("elyra.activity")


class ActivityWatch:
    """Notes the activity of one kernel.

    Parameters
    ----------
    managers : MappingKernelManager
        Says which types of messages count as use.
    kernel_id : str
        The kernel; its manager gets `last_activity` and `execution_state`.
    """

    def __init__(self, managers: Any, kernel_id: str) -> None:
        self._managers = managers
        self._kernel_id = kernel_id
        self._kernel: Any = managers.get_kernel(kernel_id)
        self._session = Session(config=self._kernel.session.config, key=self._kernel.session.key)

    def start(self) -> None:
        """Listen to the kernel, until `stop_watching_activity`."""
        self._kernel.reason = ""
        self._kernel.last_activity = utcnow()
        self._kernel._activity_stream = self._kernel.connect_iopub()
        self._kernel._activity_stream.on_recv(self.record)

    def record(self, frames: list[bytes]) -> None:
        """Note a message of the iopub channel."""
        begin = frames.index(DELIM)
        header = frames[begin + HEADER]
        if STATUS in header:
            self._record_checked(frames)
        elif self._kernel.execution_state == "busy" or self._counts(header) or self._counts(frames[begin + PARENT]):
            self._note_use()

    def _counts(self, header: bytes) -> bool:
        """Whether a message with this header is, or answers, what a user did."""
        return bool(self._managers.track_message_type(self._session.unpack(header).get("msg_type")))

    def _record_checked(self, frames: list[bytes]) -> None:
        kernel = self._kernel
        message = self._session.deserialize(self._session.feed_identities(frames)[1])
        asked = self._managers.track_message_type((message["parent_header"] or {}).get("msg_type"))
        if asked or self._managers.track_message_type(message["msg_type"]) or kernel.execution_state == "busy":
            self._note_use()
        if message["msg_type"] == "status" and kernel.execution_state not in OVER:
            state = message["content"]["execution_state"]
            if asked:
                kernel.execution_state = state
            elif kernel.execution_state == "starting" and state != "starting":
                # What Jupyter itself asks after a start is no use of a kernel.
                kernel.execution_state = "idle"
            log.debug("Kernel %s says that it is %s: it is %s.", self._kernel_id, state, kernel.execution_state)

    def _note_use(self) -> None:
        self._managers.last_kernel_activity = self._kernel.last_activity = utcnow()
