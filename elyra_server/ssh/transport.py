"""paramiko's connection, but for a channel that was opened too late.

paramiko forgets a channel for which nobody waits any more, and takes no notice when the host opens it after all: it
would stay until the end of the connection, and sshd allows only so many.
"""

from __future__ import annotations

from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_OPEN_SUCCESS, cMSG_CHANNEL_CLOSE


class Transport(paramiko.Transport):
    """A connection that closes such channels."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        table: dict[int, Any] = self._handler_table  # type: ignore[has-type]
        self._handler_table = {**table, MSG_CHANNEL_OPEN_SUCCESS: self._opened}

    def _opened(self, *args: Any) -> None:
        message = args[-1]  # versions before 3.4 give themselves first
        ours, theirs = message.get_int(), message.get_int()
        message.rewind()
        if self._channels.get(ours) is not None:
            self._parse_channel_open_success(message)
            return
        self.channel_events.pop(ours, None)
        close = paramiko.Message()
        close.add_byte(cMSG_CHANNEL_CLOSE)
        close.add_int(theirs)
        self._send_message(close)
