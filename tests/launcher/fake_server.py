"""A fake of the server: a real TLS listener that speaks protocol version 2 and does as a test says.

The real server has tests of its own; here it must also lie, be silent and hang up.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import secrets
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from elyra_launcher import protocol


def make_certificate(directory: Path) -> Path:
    """Write a self-signed P-256 certificate with its key; return the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake server")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = directory / "certificate.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(encoding))
    return path


class FakeServer:
    """Listen on a loopback port and keep what launchers say.

    Parameters
    ----------
    certificate : Path
        Certificate and key.
    lease, ping : float
        What the answer to ``hello`` says, in seconds.
    """

    def __init__(self, certificate: Path, *, lease: float = 30.0, ping: float = 20.0) -> None:
        self.lease, self.ping = lease, ping
        self.ticket = secrets.token_hex(32)
        self.resume = ""
        self.accepts = True
        self.loses_answers = 0
        self.nonce = ""
        self.on_exit: dict[str, Any] | None = {"action": "end"}  # None: no answer
        self.received: list[protocol.Message] = []
        self.raw = b""
        self.arrived: list[float] = []
        self._answers: dict[int, protocol.Message] = {}
        self._changed = threading.Condition()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._certificate = certificate
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._number = 0
        self._sock: ssl.SSLSocket | None = None
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def fingerprint(self) -> str:
        text = self._certificate.read_text()
        pem = text[text.index("-----BEGIN CERTIFICATE") :]
        return "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()

    def wait_for(self, method: str, count: int = 1, timeout: float = 30.0) -> dict[str, Any]:
        """Return the parameters of the `count`-th message of a method."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.of(method)) >= count, timeout):
                raise AssertionError(f"no {method} number {count} within {timeout} s; got {self.received}")
            return self.of(method)[count - 1]

    def of(self, method: str) -> list[dict[str, Any]]:
        """Return the parameters of all messages of a method so far."""
        return [each["params"] for each in self.received if each.get("method") == method]

    def request(self, method: str, params: dict[str, Any] | None = None) -> protocol.Message:
        """Ask the launcher for something and return its whole answer."""
        self._number += 1
        number = self._number
        self.send(protocol.encode(protocol.request(number, method, params)))
        with self._changed:
            assert self._changed.wait_for(lambda: number in self._answers, 10), f"no answer to {method}"
            return self._answers[number]

    def answer_exit(self, value: dict[str, Any]) -> None:
        """Answer the last report of an end, late."""
        numbers = [each["id"] for each in self.received if each.get("method") == protocol.EXIT]
        self.send(protocol.encode(protocol.result(numbers[-1], value)))

    def send(self, data: bytes) -> None:
        """Send bytes as they are; a launcher may hang up in the middle of them."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._sock is not None, 10), "nobody is connected"
            sock = self._sock
        assert sock is not None
        with contextlib.suppress(OSError):
            sock.sendall(data)

    def cut(self) -> None:
        """Break the connection."""
        with self._changed:
            sock, self._sock = self._sock, None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def stop_listening(self) -> None:
        """Refuse new connections from now on, until `listen_again`."""
        # close() alone would leave the thread in accept() holding the port.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def listen_again(self) -> None:
        """Take new connections at the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._threads.append(threading.Thread(target=self._accept, daemon=True))
        self._threads[-1].start()

    def close(self) -> None:
        self.stop_listening()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(plain,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as sock:
            lines = protocol.LineReader()
            while data := sock.recv(65536):
                self.raw += data
                for message in lines.feed(data):
                    self._receive(sock, message)
        with self._changed:
            if self._sock is not None and self._sock.fileno() == -1:
                self._sock = None

    def _receive(self, sock: ssl.SSLSocket, message: protocol.Message) -> None:
        number = message.get("id")
        answer = None
        if message.get("method") == protocol.HELLO:
            answer = self._greet(number, message["params"])
        elif message.get("method") == protocol.EXIT and self.on_exit is not None:
            answer = protocol.result(number, self.on_exit)
        if message.get("method") == protocol.HELLO and self.loses_answers:
            self.loses_answers -= 1
            raise ConnectionAbortedError("the answer got lost")
        if answer is not None:
            sock.sendall(protocol.encode(answer))
        with self._changed:
            if message.get("method") == protocol.HELLO and "result" in (answer or {}):
                self._sock = sock
            if "method" in message:
                self.received.append(message)
                self.arrived.append(time.monotonic())
            elif isinstance(number, int):
                self._answers[number] = message
            self._changed.notify_all()

    def _greet(self, number: Any, params: dict[str, Any]) -> protocol.Message:
        again = self.nonce and params.get("nonce") == self.nonce
        known = params.get("ticket") == self.ticket or (self.resume and params.get("resume") == self.resume)
        if not (known or again) or not self.accepts:
            return protocol.error(number, protocol.REJECTED, "the ticket is not valid")
        self.ticket = ""
        self.nonce = params.get("nonce", "")
        self.resume = secrets.token_hex(16)
        return protocol.result(number, {"resume": self.resume, "lease": self.lease, "ping": self.ping})
