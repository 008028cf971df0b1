"""The launcher's one connection to the server: version 2 of the protocol.

It is dialled when the launch begins and kept. When it breaks it is dialled again,
with growing pauses, for as long as the server's lease says; what was not sent yet
is sent then. The supervisor sees requests, and the end of the lease.
"""

from __future__ import annotations

import os
import ssl
import time
from contextlib import suppress

from . import protocol
from .channel import Channel
from .dial import MISMATCH, Dialer
from .errors import RejectedError, RequestError, UnreachableError
from .eventloop import READ, WRITE

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Any, Callable

    from .arguments import Address
    from .channel import Owner
    from .eventloop import Loop, Timer

FIRST_DIAL_LIMIT = 10.0
"""Seconds for which a server that was never reached is tried."""

EXIT_ANSWER_LIMIT = 12.0
"""Seconds that the server has to say what comes after the kernel's end."""

GOODBYE_LIMIT = 0.3
"""Seconds for what nobody waits for: the answer to an end that is for good, and the last bytes."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0

READ_SIZE = 65536


class Link(Channel):
    """The kept connection.

    Parameters
    ----------
    loop : Loop
        Where it waits.
    owner : Owner
        Who answers requests and learns how the link fares.
    addresses : list of (str, int)
        The server's.
    fingerprint : str
        Of the server's certificate.
    ticket : str
        The proof of the first ``hello``.
    """

    def __init__(self, loop: Loop, owner: Owner, addresses: list[Address], fingerprint: str, ticket: str) -> None:
        super().__init__(loop, owner)
        self._addresses = addresses
        self._fingerprint = fingerprint
        # With the same nonce the ticket may be shown again, should the answer get lost; to others it is spent.
        self._proof = {"ticket": ticket, "nonce": os.urandom(16).hex()}
        self._lease = protocol.LEASE
        self._ping = protocol.PING
        self._deadline = 0.0
        self._pause = FIRST_PAUSE
        self._dialer: Dialer | None = None
        self._sock: ssl.SSLSocket | None = None
        self._lines = protocol.LineReader()
        self._unsent = b""
        self._waiting: list[protocol.Message] = []
        self._answers: dict[int, Callable[[protocol.Message | None], None]] = {}
        self._number = 0
        self._silence: Timer | None = None
        self._retry: Timer | None = None

    # -- what the supervisor calls

    def start(self) -> None:
        """Dial for the first time."""
        self._deadline = time.monotonic() + FIRST_DIAL_LIMIT
        self._dial()

    def phase(self, name: str, detail: str = "") -> None:
        self._notify(protocol.PHASE, {"phase": name, "detail": protocol.fitting(detail, protocol.DETAIL_LIMIT)})

    def connection(self, info: dict[str, Any], restart: int) -> None:
        self._notify(protocol.CONNECTION, {"connection": info, "restart": restart})

    def error(self, code: str, message: str, output: list[str]) -> None:
        self._notify(protocol.ERROR, {"code": code, "message": protocol.fitting(message), "output": output})

    def exit(self, report: dict[str, Any], answered: Callable[[dict[str, Any]], None], *, final: bool) -> None:
        """Report the kernel's end; without an answer in time the launcher ends too.

        Where the link breaks meanwhile there is no answer: the end is to be told again.
        """
        self._number += 1
        number = self._number
        limit = GOODBYE_LIMIT if final else EXIT_ANSWER_LIMIT
        timer = self._loop.call_later(limit, lambda: answer(None))

        def answer(value: protocol.Message | None) -> None:
            if self._answers.pop(number, None) is not None:
                timer.cancel()
                answered(value or {"action": protocol.ACTION_END})

        self._answers[number] = answer
        told = {**report, "reason": protocol.fitting(report["reason"])}
        self._send(protocol.request(number, protocol.EXIT, told))

    def local_address(self) -> str:
        """Return the address from which the server was reached."""
        return str(self._sock.getsockname()[0]) if self._sock is not None else ""

    def close(self) -> None:
        """Send what is left, say goodbye and let go."""
        for timer in (self._retry, self._silence):
            if timer is not None:
                timer.cancel()
        if self._dialer is not None:
            self._dialer.give_up()
        if self._sock is None:
            return
        sock, self._sock = self._sock, None
        self._loop.unwatch(sock.fileno())
        with suppress(OSError):
            sock.settimeout(GOODBYE_LIMIT)
            if self._unsent:
                sock.sendall(self._unsent)
            sock.setblocking(False)
            # Bytes that nobody reads would make the system cut off what we sent.
            with suppress(ssl.SSLWantReadError):
                while sock.recv(READ_SIZE):
                    pass
            with suppress(ssl.SSLWantReadError):
                sock.unwrap()
        sock.close()

    # -- dialling

    def _dial(self) -> None:
        self._dialer = Dialer(self._loop, self._addresses, self._fingerprint, self._reached, self._not_reached)
        self._dialer.start()

    def _not_reached(self, problems: dict[str, str]) -> None:
        self._dialer = None
        text = "; ".join(f"{address}: {problem}" for address, problem in problems.items())
        # A server that was there before may be back with its certificate in a moment.
        if "ticket" in self._proof and all(problem == MISMATCH for problem in problems.values()):
            self._owner.gave_up(RejectedError(f"the server is not the one that was announced: {text}"))
        elif time.monotonic() + self._pause > self._deadline:
            self._owner.gave_up(UnreachableError(f"the server cannot be reached: {text}"))
        else:
            self._redial()

    def _redial(self) -> None:
        """Dial again after a pause; the jitter keeps a thousand launchers apart."""
        pause = self._pause * (0.5 + os.urandom(1)[0] / 256)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._retry = self._loop.call_later(pause, self._dial)

    def _reached(self, sock: ssl.SSLSocket) -> None:
        self._dialer = None
        self._sock = sock
        self._lines = protocol.LineReader()
        self._unsent = protocol.encode(
            protocol.request(0, protocol.HELLO, {"version": protocol.VERSION, **self._proof, **self._owner.hello()})
        )
        self._answers[0] = self._accepted
        self._silence = self._loop.call_later(protocol.HELLO_TIMEOUT, lambda: self._lost("no answer to hello"))
        self._loop.watch(sock.fileno(), READ, self._serve)
        self._flush()

    def _accepted(self, answer: protocol.Message | None) -> None:
        token = answer.get("resume") if answer else None
        if not isinstance(token, str):
            self._lost("hello was answered with nonsense")
            return
        self._proof = {"resume": token}
        self._lease = _seconds(answer, "lease", self._lease)
        self._ping = _seconds(answer, "ping", self._ping)
        self._pause = FIRST_PAUSE
        self.established = True
        self._heard()
        waiting, self._waiting = self._waiting, []
        self._owner.linked()
        for message in waiting:
            self._send(message)

    def _lost(self, reason: str) -> None:
        """Note that the connection broke and dial again."""
        if self._sock is None:
            return
        self._loop.unwatch(self._sock.fileno())
        self._sock.close()
        self._sock = None
        if self._silence is not None:
            self._silence.cancel()
        self._answers.clear()
        if self.established:
            self.established = False
            self._deadline = time.monotonic() + self._lease
        self._owner.lost(reason)
        if time.monotonic() > self._deadline:
            self._owner.gave_up(UnreachableError(f"the connection to the server was lost: {reason}"))
        else:
            self._redial()

    # -- messages

    def _notify(self, method: str, params: dict[str, Any]) -> None:
        self._send(protocol.notification(method, params))

    def _send(self, message: protocol.Message) -> None:
        if not self.established:
            self._waiting.append(message)
            return
        self._unsent += protocol.encode(message)
        self._flush()

    def _serve(self) -> None:
        """Read what is there, then write what is left."""
        sock = self._sock
        try:
            while sock is not None and sock is self._sock:
                data = sock.recv(READ_SIZE)
                if not data:
                    self._lost("the server closed it")
                    return
                self._heard()
                for message in self._lines.feed(data):
                    self._receive(message)
                    if sock is not self._sock:
                        return
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except (OSError, protocol.ProtocolError) as error:
            self._lost(str(error))
            return
        self._flush()

    def _flush(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            while self._unsent:
                self._unsent = self._unsent[sock.send(self._unsent) :]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError as error:
            # Not at once: whoever sends is in the middle of something.
            reason = str(error)
            self._loop.call_later(0, lambda: self._lost(reason) if self._sock is sock else None)
            return
        self._loop.watch(sock.fileno(), READ | WRITE if self._unsent else READ, self._serve)

    def _heard(self) -> None:
        if self.established and self._silence is not None:
            self._silence.cancel()
            seconds = protocol.SILENCE * self._ping
            self._silence = self._loop.call_later(seconds, lambda: self._lost(f"silent for {seconds:g} s"))

    def _receive(self, message: protocol.Message) -> None:
        number = message.get("id")
        if "method" not in message:
            self._answered(number, message)
            return
        try:
            if not self.established:
                raise RequestError(protocol.INVALID_REQUEST, "hello was not answered yet")
            value = (
                {}
                if message["method"] == protocol.PING_METHOD
                else self._owner.request(message["method"], message["params"])
            )
            answer = protocol.result(number or 0, value)
        except RequestError as error:
            answer = protocol.error(number, error.code, protocol.fitting(str(error)))
        if number is not None and self.established:
            self._send(answer)

    def _answered(self, number: Any, message: protocol.Message) -> None:
        if number == 0 and "error" in message:
            problem = message["error"].get("message", "no reason given")
            self._owner.gave_up(RejectedError(f"the server rejected this launcher: {problem}"))
            return
        answer = self._answers.get(number) if isinstance(number, int) else None
        if answer is not None:
            if number == 0:
                del self._answers[0]
            value = message.get("result")
            answer(value if isinstance(value, dict) else None)


def _seconds(answer: protocol.Message | None, name: str, default: float) -> float:
    value = (answer or {}).get(name)
    return float(value) if isinstance(value, (int, float)) and value > 0 else default
