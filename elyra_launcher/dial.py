"""Reach the server: every address of it, until one shows the right certificate.

Addresses are tried in order, the next one as soon as one failed or hesitates. An
attempt counts only after TLS and the comparison of the certificate; before that
nothing of ours is sent.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import ssl
from contextlib import suppress

from .eventloop import READ, WRITE
from .protocol import FINGERPRINT_PREFIX

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, Sequence

    from .arguments import Address
    from .eventloop import Loop, Timer

    # Gets None, or what went wrong.
    Outcome = Callable[["Attempt", Optional[str]], None]

HESITATION = 0.3
"""Seconds after which the next address is tried beside the one before."""

ATTEMPT_LIMIT = 4.0
"""Seconds that one attempt may take."""

NEXT_LIMIT = 1.5
"""Seconds after which the next of the addresses that a name stands for is tried instead."""

NOTICED_AFTER = 12
"""Seconds after which a connection through which nothing comes back is broken. TCP by itself would try for many
minutes, and after an outage sleep for as long as that lasted; a new connection is there at once."""

MISMATCH = "it answered, but its certificate is not the server's (--public-key)"


def notice_outages(sock: socket.socket) -> None:
    """Let a connection break soon when the network does; for both ends of a link."""
    options = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", -1), NOTICED_AFTER // 2),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", -1), 2),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", -1), NOTICED_AFTER * 1000),
    ]
    for level, name, value in options:
        with suppress(OSError):  # not on every system
            sock.setsockopt(level, name, value)


def format_address(address: Address) -> str:
    """Return an address as a person writes it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Attempt:
    """One address: connect, shake hands, compare the certificate."""

    def __init__(self, loop: Loop, address: Address, fingerprint: str, done: Outcome) -> None:
        self.address = address
        self.sock: Any = None
        self._found: list[Any] = []
        self._loop = loop
        self._fingerprint = fingerprint
        self._done: Outcome | None = done
        self._timer: Timer = loop.call_later(ATTEMPT_LIMIT, self._too_late)

    def start(self) -> None:
        """Resolve the name, in a thread if it is one, and connect."""
        host, port = self.address
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except OSError:
            self._loop.in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), self._resolved)
        else:
            self._resolved(found)

    def give_up(self) -> None:
        """Drop the attempt without a word."""
        self._done = None
        self._timer.cancel()
        self._drop_socket()

    def _drop_socket(self) -> None:
        if self.sock is not None:
            self._loop.unwatch(self.sock.fileno())
            self.sock.close()
            self.sock = None

    def _resolved(self, found: Any) -> None:
        if self._done is None:
            return
        if isinstance(found, OSError) or not found:
            self._failed(f"its name cannot be resolved ({getattr(found, 'strerror', found)})")
            return
        self._found = list(found)
        self._connect()

    def _connect(self) -> None:
        """Connect to the next of the addresses that the name stands for."""
        family, kind, number, _, address = self._found.pop(0)
        self._wait(NEXT_LIMIT if self._found else ATTEMPT_LIMIT)
        try:
            self.sock = socket.socket(family, kind, number)
            self.sock.setblocking(False)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            notice_outages(self.sock)
            code = self.sock.connect_ex(address)
        except OSError as error:  # a family that this machine has not
            code = error.errno or errno.EINVAL
        if code in (0, errno.EINPROGRESS):
            self._loop.watch(self.sock.fileno(), WRITE, self._connected)
        else:
            self._not_connected(os.strerror(code))

    def _not_connected(self, problem: str) -> None:
        if not self._found:
            self._failed(problem)
            return
        self._drop_socket()
        self._connect()

    def _connected(self) -> None:
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._loop.unwatch(self.sock.fileno())
        if code:
            self._not_connected(os.strerror(code))
            return
        plain, self.sock = self.sock, None
        try:
            self.sock = _over_tls(plain)
        except OSError as error:  # a connection that was taken and is reset at once, as some firewalls do
            plain.close()
            self._not_connected(error.strerror or str(error))
            return
        if self._found:  # this is the one
            self._found = []
            self._wait(ATTEMPT_LIMIT)
        self._shake_hands()

    def _shake_hands(self) -> None:
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            self._loop.watch(self.sock.fileno(), READ, self._shake_hands)
            return
        except ssl.SSLWantWriteError:
            self._loop.watch(self.sock.fileno(), WRITE, self._shake_hands)
            return
        except OSError as error:
            self._failed(f"the TLS handshake failed ({getattr(error, 'reason', None) or error.strerror or error})")
            return
        from hmac import compare_digest

        certificate = self.sock.getpeercert(binary_form=True) or b""
        actual = FINGERPRINT_PREFIX + hashlib.sha256(certificate).hexdigest()
        if compare_digest(actual.encode(), self._fingerprint.lower().encode()):
            self._finish(None)
        else:
            self._failed(MISMATCH)

    def _wait(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        if self._found:
            self._not_connected(os.strerror(errno.ETIMEDOUT))
            return
        self._failed(f"no answer within {ATTEMPT_LIMIT:g} s")

    def _failed(self, problem: str) -> None:
        done = self._done
        self.give_up()
        if done is not None:
            done(self, problem)

    def _finish(self, problem: str | None) -> None:
        self._loop.unwatch(self.sock.fileno())
        self._timer.cancel()
        done, self._done = self._done, None
        if done is not None:
            done(self, problem)


def _over_tls(sock: socket.socket) -> ssl.SSLSocket:
    """Return a connected socket as one of TLS, before the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The certificate is pinned instead: no authority and no name vouches for it.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock, do_handshake_on_connect=False)


class Dialer:
    """One round over all addresses.

    Parameters
    ----------
    loop : Loop
        Where it waits.
    addresses : sequence of (str, int)
        The server's, in order.
    fingerprint : str
        ``sha256:`` and the digest of the certificate in hexadecimal.
    reached : callable
        Gets the connected TLS socket.
    failed : callable
        Gets what happened at each address, once all have failed.
    """

    def __init__(
        self,
        loop: Loop,
        addresses: Sequence[Address],
        fingerprint: str,
        reached: Callable[[ssl.SSLSocket], None],
        failed: Callable[[dict[str, str]], None],
    ) -> None:
        self._loop = loop
        self._waiting = list(addresses)
        self._fingerprint = fingerprint
        self._reached = reached
        self._failed = failed
        self._attempts: list[Attempt] = []
        self._problems: dict[str, str] = {}
        self._timer: Timer | None = None

    def start(self) -> None:
        """Try the next address."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._waiting:
            return
        attempt = Attempt(self._loop, self._waiting.pop(0), self._fingerprint, self._done)
        self._attempts.append(attempt)
        self._timer = self._loop.call_later(HESITATION, self.start)
        attempt.start()

    def give_up(self) -> None:
        """Drop everything."""
        self._waiting = []
        if self._timer is not None:
            self._timer.cancel()
        for attempt in self._attempts:
            attempt.give_up()
        self._attempts = []

    def _done(self, attempt: Attempt, problem: str | None) -> None:
        self._attempts.remove(attempt)
        if problem is None:
            self.give_up()
            self._reached(attempt.sock)
            return
        self._problems[format_address(attempt.address)] = problem
        if self._waiting:
            self.start()
        elif not self._attempts:
            self.give_up()
            self._failed(self._problems)
