"""The server's end of a TLS connection, as light as it can be.

asyncio's own keeps several buffers for each connection, a quarter of a megabyte of them. A server has one connection to
each of its launchers, on which hardly anything is ever said; so here OpenSSL reads and writes the socket itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable


class Connection:
    """A TLS connection that somebody else opened; for one reader at a time.

    Parameters
    ----------
    sock : socket
        The connection, not blocking. It belongs to this object from here on.
    context : ssl.SSLContext
        That of a server.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self._waiter: asyncio.Future[None] | None = None
        self._unsent = b""
        self._closed = False

    @property
    def peer(self) -> str:
        """The address of who is at the other end."""
        try:
            return str(self._sock.getpeername()[0]).removeprefix("::ffff:")
        except OSError:  # it is gone already
            return ""

    @property
    def unsent(self) -> int:
        """How many bytes wait to be sent."""
        return len(self._unsent)

    async def shake_hands(self) -> None:
        """Do the TLS handshake, which takes as long as the peer wants it to."""
        await self._patiently(self._sock.do_handshake)

    async def read(self, size: int) -> bytes:
        """Return what there is, at most `size` bytes; nothing once the connection is closed."""
        if not self._closed and not self._sock.pending():
            # Even if something is there: one peer that never stops must not keep the loop from the others.
            await self._ready(self._loop.add_reader, self._loop.remove_reader)
        return await self._patiently(lambda: self._sock.recv(size))

    def write(self, data: bytes) -> None:
        """Send something, now or when the peer can take it."""
        if not self._closed:
            self._unsent += data
            self._flush()

    async def drain(self) -> None:
        """Return when everything is sent."""
        while self._unsent and not self._closed:
            await self._ready(self._loop.add_writer, self._loop.remove_writer)
            self._flush()

    def close(self) -> None:
        """Say goodbye, and close without waiting for an answer: who does not take part would hold the socket."""
        if not self._closed:
            with contextlib.suppress(OSError):
                self._sock.unwrap()
            self.abort()

    def abort(self) -> None:
        """Close it as it is; who reads gets nothing more."""
        if self._closed:
            return
        self._closed, self._unsent = True, b""
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._wake()

    async def _patiently(self, action: Callable[[], bytes | None]) -> bytes:
        while not self._closed:
            try:
                return action() or b""
            except ssl.SSLWantReadError:
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
            except ssl.SSLWantWriteError:
                await self._ready(self._loop.add_writer, self._loop.remove_writer)
        return b""

    async def _ready(
        self, watch: Callable[[socket.socket, Callable[[], None]], object], forget: Callable[[socket.socket], object]
    ) -> None:
        self._waiter = self._loop.create_future()
        watch(self._sock, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if not self._closed:
                forget(self._sock)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except ssl.SSLWantWriteError:
            self._loop.add_writer(self._sock, self._flush)
            return
        except OSError:  # who reads finds out too
            self.abort()
            return
        self._loop.remove_writer(self._sock)
