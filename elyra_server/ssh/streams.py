"""The server's end of a stream to a kernel's port, which outlives the connection that carries it.

The other end is `elyra_launcher.relay`. Two threads serve a stream, as many as a plain forward needs: one takes
what a client sends, the other one what the kernel does, and sees to the next connection when one broke.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Callable
from typing import Any

import paramiko

from elyra_launcher.relay import (
    ACK,
    ACK_AFTER,
    AGAIN,
    CHUNK,
    DATA,
    END,
    FRAME,
    LIMIT,
    NEW,
    WELCOME,
    Frames,
    Kept,
    data_frame,
    frame,
    hello,
)

ANSWER_LIMIT = 5.0
PAUSE = 0.5

BROKEN = (OSError, EOFError, paramiko.SSHException)


class NoWayError(Exception):
    """There is no way to the kernel now."""


class Stream:
    """One client's connection to one port of a kernel.

    Parameters
    ----------
    sock : socket
        The client's.
    open_channel : callable
        Returns a new channel to the relay, or raises `NoWayError`.
    token : str
        What the relay wants to see.
    goal : (str, int)
        The kernel's address and port.
    closed : threading.Event
        Set when the kernel is over; `sock` is shut down then.
    """

    def __init__(
        self,
        sock: socket.socket,
        open_channel: Callable[[], Any],
        token: str,
        goal: tuple[str, int],
        closed: threading.Event,
    ) -> None:
        self._sock = sock
        self._open_channel = open_channel
        self._token = token
        self._goal = goal
        self._closed = closed
        self._name = secrets.token_hex(16)
        self._state = NEW
        self._channel: Any = None
        self._kept = Kept()
        self._came = self._told = 0
        self._ended = False  # by the client
        self._over = False
        # Held by who writes to the channel: a thread that must not wait for it goes on without.
        self._writing = threading.Lock()
        self._room = threading.Condition()

    def run(self) -> None:
        """Carry everything both ways, until one of the ends is over; blocks.

        Raises
        ------
        NoWayError
            If the kernel could not be reached for the first time.
        RuntimeError
            If there is no thread left.
        """
        self._sock.settimeout(None)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._attach()
        back = threading.Thread(target=self._take, name="elyra ssh tunnel back", daemon=True)
        try:
            back.start()
        except RuntimeError:
            self._send(frame(END))
            self._close_channel()
            raise
        while not self._over:
            self._give()
            while not self._over and not self._closed.is_set():
                try:
                    self._attach()
                    break
                except NoWayError:
                    self._closed.wait(PAUSE)
            self._over = self._over or self._closed.is_set()
        close(self._sock)
        self._close_channel()
        with self._room:
            self._room.notify_all()
        back.join()
        self._sock.close()

    def _attach(self) -> None:
        """Get the next channel, and say there what did not come through the last one."""
        channel = self._open_channel()
        try:
            channel.settimeout(ANSWER_LIMIT)
            channel.sendall(hello(self._token, self._state, self._name, self._came, *self._goal))
            came = self._welcome(channel)
        except BROKEN as error:
            channel.close()
            raise NoWayError(f"its relay did not answer: {error}") from error
        with self._writing, contextlib.suppress(*BROKEN):
            if came is None:
                channel.close()
                if self._state == NEW:
                    raise NoWayError("it does not take the connection")
                self._over = True  # the other end knows nothing of it any more
                return
            channel.settimeout(None)
            self._state, self._channel = AGAIN, channel
            self._forget(came)
            for piece in self._kept.since(came):
                channel.sendall(data_frame(piece))
            if self._ended:
                channel.sendall(frame(END))

    def _welcome(self, channel: Any) -> int | None:
        """Return how much the relay has of the stream; None if there is no such stream."""
        answer = b""
        while len(answer) < FRAME.size:
            data = channel.recv(FRAME.size - len(answer))
            if not data:
                raise EOFError("it was closed")
            answer += data
        kind, number = FRAME.unpack(answer)
        return int(number) if kind == WELCOME else None

    def _give(self) -> None:
        """Give the client what the kernel sends, as long as the channel lasts."""
        channel, frames = self._channel, Frames()
        try:
            while not self._over and channel is not None and (data := channel.recv(CHUNK)):
                for kind, number, content in frames.feed(data):
                    self._receive(kind, number, content)
        except (*BROKEN, ValueError):
            return
        finally:
            self._close_channel()

    def _receive(self, kind: int, number: int, content: bytes) -> None:
        if kind == DATA:
            self._came += len(content)
            with contextlib.suppress(OSError):  # a client that is gone: the other thread sees that
                self._sock.sendall(content)
            if self._came - self._told >= ACK_AFTER and self._writing.acquire(blocking=False):
                try:
                    self._send(b"")
                finally:
                    self._writing.release()
        elif kind == ACK:
            self._forget(number)
        elif kind == END:
            if not self._ended:
                with self._writing:
                    self._send(frame(END))
            self._over = True

    def _take(self) -> None:
        """Take what the client sends, until it is gone."""
        with contextlib.suppress(OSError):
            while data := self._sock.recv(CHUNK):
                with self._room:
                    while len(self._kept) > LIMIT and not self._over:
                        self._room.wait()
                with self._writing:
                    with self._room:
                        self._kept.put(data)
                    self._send(data_frame(data))
        if self._closed.is_set():  # the kernel is over: nobody answers
            self._over = True
            self._close_channel()
            return
        with self._writing:
            self._ended = True
            self._send(frame(END))

    def _send(self, content: bytes) -> None:
        """Write to the channel, if there is one, and what the relay should know of beside; `_writing` is held."""
        if self._came - self._told >= ACK_AFTER:
            self._told = self._came
            content += frame(ACK, self._came)
        if self._channel is not None and content:
            with contextlib.suppress(*BROKEN):
                self._channel.sendall(content)

    def _forget(self, count: int) -> None:
        with self._room:
            self._kept.came(count)
            self._room.notify_all()

    def _close_channel(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            with contextlib.suppress(*BROKEN):
                channel.close()


def close(sock: socket.socket) -> None:
    """End a connection, also for who waits in another thread to read from it."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
