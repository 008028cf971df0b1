"""Streams to a kernel's ports that outlive the connections which carry them.

A server that reaches a host only by ssh goes through this process there. Each end of a stream keeps what it sent
until the other end says that it came. When the ssh connection breaks, or a new one is there before the old one woke
up from an outage, the server comes back with the stream's name and both ends go on where they were. This module has
the relay, a process of the keeper's, and what the server's end shares with it.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import struct
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, NoReturn

FRAME = struct.Struct("!BQ")
DATA, ACK, END, WELCOME = range(4)
"""Kinds of frames: that many bytes follow; that many came until now; it is over; the same as ACK, as the answer to
the first line."""

NEW, AGAIN = "new", "again"

CHUNK = 65536
ACK_AFTER = CHUNK
"""Bytes after which the other end is told that they came."""

LIMIT = 32 << 20
"""Bytes that are kept of a stream before its source has to wait."""

WAITING = 1 << 20
"""Bytes that wait for a connection that does not keep up before nothing more is read for it."""

FORGOTTEN = 900.0
"""Seconds without a carrier after which a stream is nobody's."""

CONNECT_LIMIT = 2.0
HELLO_LIMIT = 10.0
MAX_STRANGERS = 64
LOOK = 2.0
"""Seconds between two looks at what no event tells, such as the keeper's end."""


class Kept:
    """What was sent and did not come yet, as far as is known.

    Attributes
    ----------
    begin, end : int
        Which bytes of the stream these are.
    """

    def __init__(self) -> None:
        self.begin = self.end = 0
        self._bytes = bytearray()

    def put(self, data: bytes) -> None:
        self._bytes += data
        self.end += len(data)

    def came(self, count: int) -> None:
        """Forget the bytes before `count`."""
        if count > self.begin:
            del self._bytes[: count - self.begin]
            self.begin = min(count, self.end)

    def since(self, count: int) -> Iterator[bytes]:
        """Yield what is kept from `count` on, in pieces."""
        begin = max(count - self.begin, 0)
        content = bytes(self._bytes[begin:])
        for place in range(0, len(content), CHUNK):
            yield content[place : place + CHUNK]

    def __len__(self) -> int:
        return len(self._bytes)


class Frames:
    """Reads frames out of bytes as they come."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield kind, number and data of each frame that is complete.

        Raises
        ------
        ValueError
            If these are no frames.
        """
        self._bytes += data
        while len(self._bytes) >= FRAME.size:
            kind, number = FRAME.unpack_from(self._bytes)
            if kind > WELCOME or (kind == DATA and number > CHUNK):
                raise ValueError("these are no frames")
            size = FRAME.size + (number if kind == DATA else 0)
            if len(self._bytes) < size:
                return
            content = bytes(self._bytes[FRAME.size : size])
            del self._bytes[:size]
            yield kind, number, content


def frame(kind: int, number: int = 0) -> bytes:
    """Return a frame without data."""
    return FRAME.pack(kind, number)


def data_frame(data: bytes) -> bytes:
    """Return a frame of data, of at most CHUNK bytes."""
    return FRAME.pack(DATA, len(data)) + data


def hello(token: str, state: str, name: str, came: int, ip: str, port: int) -> bytes:
    """Return the first line of a carrier: the proof, the stream, what of it came, and where it goes if it is new."""
    return f"{token} {state} {name} {came} {ip} {port}\n".encode()


class Stream:
    """One stream at the relay: from a kernel's port to the carrier that it has now."""

    def __init__(self, relay: Relay, name: str, kernel: socket.socket) -> None:
        self.idle_since = 0.0
        self._relay = relay
        self._name = name
        self._kernel: socket.socket | None = kernel
        self._carrier: socket.socket | None = None
        self._kept = Kept()
        self._frames = Frames()
        self._to_kernel = bytearray()
        self._to_carrier = bytearray()
        self._came = self._told = 0
        self._ended = False  # by the server
        kernel.setblocking(False)

    def attach(self, carrier: socket.socket, came: int, rest: bytes) -> None:
        """Go on over a new carrier, whose server has `came` bytes."""
        self._detach()
        self._carrier = carrier
        self._frames = Frames()
        self._kept.came(came)
        self._told = self._came
        self._to_carrier = bytearray(frame(WELCOME, self._came))
        for piece in self._kept.since(came):
            self._to_carrier += data_frame(piece)
        if self._kernel is None:
            self._to_carrier += frame(END)
        if rest:
            self._take(rest)
        self._watch()

    def close(self) -> None:
        """Forget the stream."""
        self._detach()
        self._close_kernel()
        self._relay.forget(self._name)

    def _detach(self) -> None:
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            self._relay.watch(carrier, 0)
            carrier.close()
        self.idle_since = time.monotonic()

    def _close_kernel(self) -> None:
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            self._relay.watch(kernel, 0)
            kernel.close()

    def _watch(self) -> None:
        """Wait for what can go on now."""
        read, write = selectors.EVENT_READ, selectors.EVENT_WRITE
        if self._kernel is not None:
            room = len(self._kept) < LIMIT and len(self._to_carrier) < WAITING
            wanted = (read if room and not self._ended else 0) | (write if self._to_kernel else 0)
            self._relay.watch(self._kernel, wanted, self._serve_kernel)
        if self._carrier is not None:
            wanted = (read if len(self._to_kernel) < WAITING else 0) | (write if self._to_carrier else 0)
            self._relay.watch(self._carrier, wanted, self._serve_carrier)

    def _serve_kernel(self, events: int) -> None:
        kernel = self._kernel
        if kernel is None:
            return
        try:
            if events & selectors.EVENT_WRITE:
                del self._to_kernel[: kernel.send(self._to_kernel[:CHUNK])]
            data = kernel.recv(CHUNK) if events & selectors.EVENT_READ else None
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        if data:
            self._kept.put(data)
            if self._carrier is not None:
                self._to_carrier += data_frame(data)
        if data == b"" or (self._ended and not self._to_kernel):
            self._kernel_over()
        self._flush()

    def _kernel_over(self) -> None:
        self._close_kernel()
        self._to_kernel.clear()
        if self._carrier is not None:
            self._to_carrier += frame(END)

    def _serve_carrier(self, events: int) -> None:
        carrier = self._carrier
        if carrier is None:
            return
        if events & selectors.EVENT_READ:
            try:
                data = carrier.recv(CHUNK)
                if not data:
                    raise ConnectionResetError
                self._take(data)
            except BlockingIOError:
                pass
            except (OSError, ValueError):
                self._detach()
                if self._ended and self._kernel is None:
                    self.close()
                    return
        self._flush()

    def _take(self, data: bytes) -> None:
        for kind, number, content in self._frames.feed(data):
            if kind == DATA:
                self._came += len(content)
                if self._kernel is not None:
                    self._to_kernel += content
            elif kind == ACK:
                self._kept.came(number)
            elif kind == END:
                self._server_over()
        if self._came - self._told >= ACK_AFTER:
            self._told = self._came
            self._to_carrier += frame(ACK, self._came)

    def _server_over(self) -> None:
        """Note that nothing more comes from the server, and answer when all of it is at the kernel."""
        self._ended = True
        if self._kernel is not None and not self._to_kernel:
            self._kernel_over()

    def _flush(self) -> None:
        """Send what can be sent at once."""
        if self._kernel is not None and self._to_kernel:
            with suppress(BlockingIOError, OSError):
                del self._to_kernel[: self._kernel.send(self._to_kernel[:CHUNK])]
            if self._ended and not self._to_kernel:
                self._kernel_over()
        if self._carrier is not None and self._to_carrier:
            try:
                del self._to_carrier[: self._carrier.send(self._to_carrier[: 4 * CHUNK])]
            except BlockingIOError:
                pass
            except OSError:
                self._detach()
        if self._ended and self._kernel is None and not self._to_carrier and self._carrier is not None:
            self.close()  # both ends said so
        else:
            self._watch()


class Relay:
    """All streams of one kernel.

    Parameters
    ----------
    listener : socket
        Where carriers come in.
    token : str
        What they have to show.
    """

    def __init__(self, listener: socket.socket, token: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._watched: dict[socket.socket, int] = {}
        self._listener = listener
        self._token = token.encode()
        self._streams: dict[str, Stream] = {}
        self._strangers: dict[socket.socket, tuple[float, bytearray]] = {}
        self._parent = os.getppid()
        listener.setblocking(False)
        self.watch(listener, selectors.EVENT_READ, self._accept)

    def run(self) -> None:
        """Relay until the keeper is gone."""
        look = time.monotonic() + LOOK
        while os.getppid() == self._parent:
            for key, events in self._selector.select(max(look - time.monotonic(), 0.0)):
                if key.fileobj in self._watched:  # else it was closed by what came before
                    key.data(events)
            if time.monotonic() >= look:
                look = time.monotonic() + LOOK
                self._look()

    def watch(self, sock: socket.socket, events: int, callback: Callable[[int], None] | None = None) -> None:
        """Call back when something can be done; with 0 never more."""
        before = self._watched.get(sock, 0)
        if events == before:
            return
        if not events:
            del self._watched[sock]
            self._selector.unregister(sock)
        elif before:
            self._watched[sock] = events
            self._selector.modify(sock, events, callback)
        else:
            self._watched[sock] = events
            self._selector.register(sock, events, callback)

    def forget(self, name: str) -> None:
        """Drop a stream that is over."""
        self._streams.pop(name, None)

    def _look(self) -> None:
        now = time.monotonic()
        for sock, (since, _) in list(self._strangers.items()):
            if now - since > HELLO_LIMIT:
                self._drop(sock)
        for stream in list(self._streams.values()):
            if stream.idle_since and now - stream.idle_since > FORGOTTEN:
                stream.close()

    def _accept(self, _: int) -> None:
        with suppress(OSError):
            sock, _address = self._listener.accept()
            sock.setblocking(False)
            while len(self._strangers) >= MAX_STRANGERS:
                self._drop(next(iter(self._strangers)))
            self._strangers[sock] = (time.monotonic(), bytearray())
            self.watch(sock, selectors.EVENT_READ, lambda _: self._greet(sock))

    def _drop(self, sock: socket.socket) -> None:
        del self._strangers[sock]
        self.watch(sock, 0)
        sock.close()

    def _greet(self, sock: socket.socket) -> None:
        """Read a carrier's first line."""
        content = self._strangers[sock][1]
        try:
            data = sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        content += data
        line, found, rest = bytes(content).partition(b"\n")
        if not found and data and len(content) < 1000:
            return
        if not found or not self._welcome(sock, line.decode("utf-8", "replace").split(), rest):
            self._drop(sock)

    def _welcome(self, sock: socket.socket, words: list[str], rest: bytes) -> bool:
        from hmac import compare_digest

        if len(words) != 6 or not compare_digest(words[0].encode(), self._token):
            return False
        _, state, name, came, ip, port = words
        if not (came.isdigit() and port.isdigit()):
            return False
        stream = self._streams.get(name) or (self._connect(name, ip, int(port)) if state == NEW else None)
        if stream is None:
            with suppress(OSError):
                sock.send(frame(END))
            return False
        del self._strangers[sock]
        self.watch(sock, 0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            stream.attach(sock, int(came), rest)
        except ValueError:
            stream.close()
        else:
            stream.idle_since = 0.0
        return True

    def _connect(self, name: str, ip: str, port: int) -> Stream | None:
        """Return a new stream, if the kernel takes it."""
        try:
            kernel = socket.create_connection((ip, port), CONNECT_LIMIT)
        except OSError:
            return None
        kernel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = self._streams[name] = Stream(self, name, kernel)
        return stream


def run(listener: socket.socket, token: str) -> NoReturn:
    """Be the relay, in a process that the keeper forked."""
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    # The lock above all: it says that the keeper lives.
    os.closerange(3, listener.fileno())
    os.closerange(listener.fileno() + 1, 256)
    try:
        Relay(listener, token).run()
    finally:
        os._exit(0)


def listen() -> Any:
    """Return a socket for carriers, on this host's loopback."""
    return socket.create_server(("127.0.0.1", 0), backlog=64)
