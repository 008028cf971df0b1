"""A kernel's messages that wait for their client, which is away, or reads more slowly than the kernel publishes.

They wait in this server's memory, which is all users'. So there is a limit, beyond which the oldest output goes: it is
the end of it that tells how a computation went. What says that a cell began, was answered, failed or ended is no
output, and stays. The client is told, in the cell that it misses output of.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from logging import Logger, LoggerAdapter
from typing import Any, NamedTuple

from jupyter_client.session import DELIM
from tornado.iostream import IOStream

UNSENT = 4 * 1024 * 1024
"""Bytes that may be on their way through a websocket before what follows waits."""

TURN = 0.005
"""Seconds for which waiting messages are sent, until others on the event loop have their turn."""

NOTICE_INTERVAL = 5.0
"""Seconds between two notices while a cell's output goes on being dropped."""

OVERHEAD = 600
"""Bytes that Python takes for a message beside its frames' contents."""

HEADER, PARENT = 2, 3
"""Which frame it is, counted from the one that ends a message's identities."""

NO_OUTPUT = (b'"status"', b'"execute_input"', b'"error"')
"""Types of messages on iopub that stay."""

NOTICE = (
    "{count} messages of output are missing here. They came while no client read them, and the server keeps no more "
    "than {limit} bytes (ELYRA_OUTPUT_BUFFER)."
)


class Waiting(NamedTuple):
    """A message in a backlog."""

    number: int
    size: int
    channel: str
    message: list[bytes]


class Backlog:
    """Messages in their order, up to a limit.

    Stands where Jupyter has a list, for a kernel whose client is away.

    Parameters
    ----------
    limit : int
        Bytes to keep; a single message may be larger.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.missing: dict[bytes, int] = {}
        """How many messages were dropped, by the parent that they had."""
        self._output: deque[Waiting] = deque()
        self._others: deque[Waiting] = deque()
        self._numbers = itertools.count()
        self._size = 0

    def __len__(self) -> int:
        return len(self._output) + len(self._others)

    def __iter__(self) -> Iterator[tuple[str, list[bytes]]]:
        """Take all messages."""
        while self:
            yield self.popleft()

    def append(self, item: tuple[str, list[bytes]]) -> None:
        """Add a channel's message; if need be, drop others for it."""
        channel, message = item
        size = sum(map(len, message)) + OVERHEAD
        queue = self._output if is_output(channel, message) else self._others
        queue.append(Waiting(next(self._numbers), size, channel, message))
        self._size += size
        while self._size > self.limit and len(self) > 1:
            dropped = self._take(self._output or self._others)
            parent = frame(dropped.message, PARENT)
            self.missing[parent] = self.missing.get(parent, 0) + 1

    def popleft(self) -> tuple[str, list[bytes]]:
        """Take the oldest message."""
        queues = [queue for queue in (self._output, self._others) if queue]
        oldest = self._take(min(queues, key=lambda queue: queue[0].number))
        return oldest.channel, oldest.message

    def _take(self, queue: deque[Waiting]) -> Waiting:
        taken = queue.popleft()
        self._size -= taken.size
        return taken


class Outlet:
    """A websocket's end towards its client, with the messages that wait for that to read.

    Parameters
    ----------
    handler : WebSocketHandler
        The websocket, which is open.
    deliver : callable
        Sends a channel's message.
    tell : callable
        Shows a text in the output of a cell, which is the parent that its messages have, as a frame.
    limit : int
        Bytes of messages that may wait.
    log : Logger
    """

    def __init__(
        self,
        handler: Any,
        deliver: Callable[[str, list[bytes]], Any],
        tell: Callable[[str, bytes], Any],
        limit: int,
        log: Logger | LoggerAdapter[Any],
    ) -> None:
        self.log = log
        self._handler, self._deliver, self._tell, self._limit = handler, deliver, tell, limit
        self._wire: IOStream = handler.ws_connection.stream
        self._backlog: Backlog | None = None
        self._task: asyncio.Task[None] | None = None
        self._told = float("-inf")

    @property
    def behind(self) -> bool:
        """Whether messages wait, so that others have to queue up behind them."""
        return self._backlog is not None

    @property
    def clogged(self) -> bool:
        """Whether the client has much to read already."""
        return len(self._wire._write_buffer) > UNSENT

    def begin(self, backlog: Backlog | None = None) -> None:
        """Let messages wait from now on, behind those that do; send them little by little."""
        self._backlog = backlog or Backlog(self._limit)
        self._task = asyncio.ensure_future(self._catch_up())

    def put(self, channel: str, message: list[bytes]) -> None:
        """Let a message wait for its turn."""
        assert self._backlog is not None
        self._backlog.append((channel, message))
        # Two for one: a client that reads catches up, however fast they come.
        self._send()
        self._send()

    def close(self) -> Backlog | None:
        """Send no more; return what still waits."""
        if self._task is not None:
            self._task.cancel()
        backlog, self._backlog = self._backlog, None
        return backlog

    @property
    def _open(self) -> bool:
        connection = self._handler.ws_connection
        return connection is not None and not connection.is_closing() and not self._wire.closed()

    async def _catch_up(self) -> None:
        while self._backlog and self._open:
            if self.clogged:
                await asyncio.wait([self._wire.write(b"")])  # done when all before it is sent
            end = time.monotonic() + TURN
            while time.monotonic() < end and self._send():
                pass
            await asyncio.sleep(0)
        if self._backlog is not None and self._open:
            backlog, self._backlog = self._backlog, None
            for parent in list(backlog.missing):
                self._tell_missing(backlog, parent)

    def _send(self) -> bool:
        """Send the oldest message; return whether there was one, and the client ready for it."""
        backlog = self._backlog
        if not backlog or not self._open or self.clogged:
            return False
        channel, message = backlog.popleft()
        try:
            parent = frame(message, PARENT)
            if parent in backlog.missing and self._is_due(channel, message):
                self._tell_missing(backlog, parent)
            self._deliver(channel, message)
        except Exception:
            # Where none waits, the event loop logs it, and others are sent as well.
            self.log.exception("A message that waited for its client could not be sent.")
        return True

    def _is_due(self, channel: str, message: list[bytes]) -> bool:
        # At the latest before the cell ends: after that its client looks for no output of it.
        return time.monotonic() - self._told > NOTICE_INTERVAL or not is_output(channel, message)

    def _tell_missing(self, backlog: Backlog, parent: bytes) -> None:
        self._told = time.monotonic()
        self._tell(NOTICE.format(count=backlog.missing.pop(parent), limit=backlog.limit), parent)


def frame(message: list[bytes], which: int) -> bytes:
    """Return a frame of a message, empty if it has none."""
    begin = message.index(DELIM) + which if DELIM in message else len(message)
    return b"".join(message[begin : begin + 1])


def is_output(channel: str, message: list[bytes]) -> bool:
    """Return whether a message may be dropped before others."""
    header = frame(message, HEADER)
    return channel == "iopub" and not any(kind in header for kind in NO_OUTPUT)
