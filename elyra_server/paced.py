"""A kernel's iopub stream that is read every few milliseconds while the kernel floods it.

A message by itself wakes the server, which sends it on and wakes the client: where a loop prints, these take the
processor from the kernel. So once messages come faster than they are worth a wake-up each, what came within a moment is
taken together; as soon as they are few again, each is taken when it comes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, ClassVar

import zmq
from jupyter_client.session import DELIM
from zmq.eventloop.zmqstream import ZMQStream

MOMENT = 0.005
"""Seconds for which a flood is left to gather: too short to be seen."""

SHARE = 0.25
"""Of the time from one message to the next: what taking it may take before that is the pace of a flood."""

WAKING = 0.0001
"""Seconds that taking a message costs at least, in the event loop and ZeroMQ, however little is done with it then."""

RUN = 8
"""Messages of one cell at such a pace that make a flood."""

FEW = 3
"""Messages in a moment with which a flood is over."""

HEADER = 2
"""Which frame it is, counted from the one that ends a message's identities."""

TURN = 0.005
"""Seconds that all floods together have, until others on the event loop have their turn."""

FLUSH = 0.5
"""Seconds that a flush may take: what a dead kernel leaves behind is read in less, a flood that goes on never ends."""

FLUSH_UNREAD = 1000
"""Messages that a flush drops where nobody takes them: as many as ZeroMQ has of a socket by itself."""


def tells_state(message: list[bytes]) -> bool:
    """Return whether a message is one that begins or ends those of a cell."""
    begin = message.index(DELIM) + HEADER if DELIM in message else 0
    return any(b'"status"' in header for header in message[begin : begin + 1])


class PacedStream(ZMQStream):
    """A stream for messages of which there may be a flood; to its users one like any other."""

    _gathering: ClassVar[set[PacedStream]] = set()

    def __init__(self, socket: Any, io_loop: Any = None) -> None:
        self._taker: Callable[..., Any] | None = None
        self._run = 0
        self._taken = 0.0
        self._timer: Any = None
        super().__init__(socket, io_loop)

    def on_recv(self, callback: Callable[..., Any] | None, copy: bool = True) -> None:
        """Register who takes the messages, each a list of frames; None for nobody.

        Parameters
        ----------
        callback : callable or None
            Gets a message.
        copy : bool
            Whether frames are bytes. Only of these a flood can be told from other messages.
        """
        self._wake()
        self._taker, self._run = callback if copy else None, 0
        super().on_recv(self._take if self._taker else callback, copy)

    def flush(self, flag: int = zmq.POLLIN | zmq.POLLOUT, limit: int | None = None) -> int:
        """Have what is there taken, and sent, now.

        It ends after a while, also where the kernel publishes faster than messages are taken: the event loop is not
        the flood's. What is left then is taken as usual.
        """
        if self._taker is None or not flag & zmq.POLLIN:
            return super().flush(flag, limit or FLUSH_UNREAD)
        # Not by ZMQStream's own, which drops what it reads once nobody is registered: while a flood gathers, nobody is.
        taken, _ = self._take_gathered(FLUSH, limit)
        if self._taker is not None and not self.closed():
            self._listen()
            taken += super().flush(flag & zmq.POLLOUT, FLUSH_UNREAD)
        return taken

    def close(self, linger: int | None = None) -> None:
        """Close it; what has gathered is lost, as is what a closed stream has not read."""
        self._wake()
        super().close(linger)

    def _take(self, message: list[Any]) -> Any:
        begin = time.monotonic()
        result = self._taker(message) if self._taker is not None else None
        end = time.monotonic()
        fast = WAKING + end - begin > SHARE * (end - self._taken)
        self._run = self._run + 1 if fast and not tells_state(message) else 0
        self._taken = end
        if self._run >= RUN and self._taker is not None and not self.closed():
            super().on_recv(None)
            self._sleep(MOMENT)
        return result

    def _listen(self) -> None:
        """Take each message when it comes."""
        self._wake()
        self._run = 0
        super().on_recv(self._take)

    def _sleep(self, seconds: float) -> None:
        """Let messages gather."""
        self._wake()
        self._gathering.add(self)
        self._timer = self.io_loop.call_later(seconds, self._go_on)

    def _wake(self) -> None:
        self._gathering.discard(self)
        if self._timer is not None:
            self.io_loop.remove_timeout(self._timer)
            self._timer = None

    def _go_on(self) -> None:
        self._timer = None
        taken, all_taken = self._take_gathered(TURN / max(len(self._gathering), 1))
        if self._taker is None or self.closed() or self.receiving():
            return  # somebody else takes it from here, or nobody
        if not all_taken:
            self._sleep(0)
        elif taken >= FEW:
            self._sleep(MOMENT)
        else:
            self._listen()

    def _take_gathered(self, seconds: float, limit: int | None = None) -> tuple[int, bool]:
        """Have messages taken for so long; return how many there were, and whether these were all."""
        taken, end = 0, time.monotonic() + seconds
        while self._taker is not None and not self.closed() and time.monotonic() < end and taken != (limit or -1):
            try:
                message = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return taken, True
            taken += 1
            with contextlib.suppress(Exception):  # which it has logged
                self._run_callback(self._taker, message)
        return taken, False
