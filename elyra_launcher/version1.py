"""Version 1 of the protocol: what Enterprise Gateway and gateway_provisioners speak.

The connection info goes to the server in one encrypted payload; orders come back on
a port of ours, which anybody on the network can reach. So it is bound no wider than
the kernel is, takes little, and survives whatever it gets. RSA and AES are pycryptodome's,
which their workers have; it is imported while the kernel starts.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from contextlib import suppress

from . import protocol
from .channel import Channel
from .connection import bind_address, bound_socket, source_address
from .dial import format_address
from .errors import LauncherError, RequestError, UnreachableError, UsageError
from .eventloop import READ

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Any

    from .arguments import Address, Options
    from .channel import Owner
    from .eventloop import Loop

SEND_LIMIT = 10.0
SEND_PAUSE = 0.5
"""Seconds for which the server is tried, and between two tries."""

ORDER_BYTES = 4096
ORDER_LIMIT = 5.0
"""Bytes and seconds that one connection has for its order."""

ORDERS_AT_ONCE = 32

SHUTDOWN_GRACE = 4.0


class Version1(Channel):
    """A server that is told once, and gives its orders on a port of the worker.

    Parameters
    ----------
    loop : Loop
        Where it waits.
    owner : Owner
        Who carries out orders.
    options : Options
        With the server's addresses and its RSA key.
    """

    def __init__(self, loop: Loop, owner: Owner, options: Options) -> None:
        super().__init__(loop, owner)
        self._options = options
        self._listener: socket.socket | None = None
        self._orders: dict[int, socket.socket] = {}

    def start(self) -> None:
        """Listen for orders; the server is there as far as one can know.

        Raises
        ------
        LauncherError
            If the payload cannot be made or no port is free.
        """
        self._encrypt({})  # a key of another kind is found out now
        ip = bind_address(self._options)
        self._listener = bound_socket(ip, self._options.port_range, self._options.port_retries)
        self._listener.listen(ORDERS_AT_ONCE)
        self._listener.setblocking(False)
        self._loop.watch(self._listener.fileno(), READ, self._accept)
        super().start()

    def connection(self, info: dict[str, Any], restart: int) -> None:
        """Send the connection info; once, since ports stay the same."""
        if restart or self._listener is None:
            return
        payload = self._encrypt({**info, "comm_port": self._listener.getsockname()[1]})
        self._send(payload, time.monotonic() + SEND_LIMIT)

    def close(self) -> None:
        for sock in [*self._orders.values(), *([self._listener] if self._listener else [])]:
            self._loop.unwatch(sock.fileno())
            sock.close()
        self._orders.clear()
        self._listener = None

    def local_address(self) -> str:
        return source_address(*self._options.addresses[0])

    def _encrypt(self, info: dict[str, Any]) -> bytes:
        return encrypt(info, self._options.public_key)

    def _send(self, payload: bytes, deadline: float) -> None:
        addresses = self._options.addresses
        self._loop.in_thread(lambda: send(payload, addresses), lambda problems: self._sent(payload, deadline, problems))

    def _sent(self, payload: bytes, deadline: float, problems: dict[str, str]) -> None:
        if problems and time.monotonic() + SEND_PAUSE < deadline:
            self._loop.call_later(SEND_PAUSE, lambda: self._send(payload, deadline))
        elif problems:
            text = "; ".join(f"{address}: {problem}" for address, problem in problems.items())
            self._owner.gave_up(UnreachableError(f"the server cannot be reached: {text}"))

    # -- orders

    def _accept(self) -> None:
        with suppress(OSError):
            sock, _ = self._listener.accept()  # type: ignore[union-attr]
            if len(self._orders) >= ORDERS_AT_ONCE:
                sock.close()
                return
            sock.setblocking(False)
            number = sock.fileno()
            received = bytearray()
            self._orders[number] = sock
            self._loop.watch(number, READ, lambda: self._read(sock, received))
            self._loop.call_later(ORDER_LIMIT, lambda: self._hang_up(sock))

    def _read(self, sock: socket.socket, received: bytearray) -> None:
        try:
            data = sock.recv(ORDER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        received.extend(data)
        if not data or len(received) > ORDER_BYTES:
            self._hang_up(sock)
            with suppress(ValueError, RecursionError, RequestError):
                self._obey(json.loads(received.decode("utf-8")))

    def _obey(self, order: Any) -> None:
        if not isinstance(order, dict):
            return
        if order.get("shutdown"):
            self._owner.request(protocol.SHUTDOWN, {"grace": SHUTDOWN_GRACE})
        elif order.get("signum") == 2:
            self._owner.request(protocol.INTERRUPT, {})
        elif "signum" in order:
            self._owner.request(protocol.SIGNAL, order)

    def _hang_up(self, sock: socket.socket) -> None:
        number = sock.fileno()
        if self._orders.get(number) is sock:
            del self._orders[number]
            self._loop.unwatch(number)
            sock.close()


def encrypt(info: dict[str, Any], public_key: str) -> bytes:
    """Return the payload of version 1.

    Raises
    ------
    LauncherError
        If pycryptodome is not there.
    UsageError
        If the key is not an RSA key.
    """
    try:
        from Cryptodome.Cipher import AES, PKCS1_v1_5
        from Cryptodome.PublicKey import RSA
    except ImportError:
        try:
            from Crypto.Cipher import AES, PKCS1_v1_5
            from Crypto.PublicKey import RSA
        except ImportError:
            raise LauncherError(
                "this server's protocol needs pycryptodomex on the worker: pip install pycryptodomex"
            ) from None
    try:
        key = RSA.import_key(base64.b64decode(public_key, validate=True))
    except (ValueError, IndexError, TypeError) as error:
        raise UsageError(
            "--public-key is neither sha256:<fingerprint> nor an RSA public key in base64 without its armour"
        ) from error
    secret = os.urandom(16)
    text = json.dumps(info).encode()
    padding = 16 - len(text) % 16
    payload = {
        "version": 1,
        "key": base64.b64encode(PKCS1_v1_5.new(key).encrypt(secret)).decode(),
        "conn_info": base64.b64encode(
            AES.new(secret, AES.MODE_ECB).encrypt(text + bytes([padding]) * padding)
        ).decode(),
    }
    return base64.b64encode(json.dumps(payload).encode())


def send(payload: bytes, addresses: list[Address]) -> dict[str, str]:
    """Send a payload once to the first address that takes it; blocks.

    Returns
    -------
    dict of str to str
        What happened at each address; empty if one took it.
    """
    problems = {}
    for address in addresses:
        try:
            with socket.create_connection(address, 4.0) as sock:
                sock.sendall(payload)
            return {}
        except OSError as error:
            problems[format_address(address)] = error.strerror or str(error)
    return problems
