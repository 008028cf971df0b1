"""What the server knows about one launcher, and what it can ask it for.

A `Launcher` is made when a launch begins and lives until the kernel is over for
good. It holds the launch's ticket, then the link, what was reported over it, and
how the kernel ended. Everything here runs on the service's loop.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from elyra_launcher import protocol
from elyra_server.errors import LaunchError, LinkError, LinkSilentError
from elyra_server.links import Link, lines_of, text_of

HOLD = 20.0
"""Seconds that a launcher whose kernel died waits for the order to restart it."""

GRACE = 3.0
"""Seconds that a kernel has for its own end before its launcher kills it."""

RESTART_TIMEOUT = 60.0

ASKED = 30.0
"""Seconds within which a kernel that its client asked to end for a restart does so."""

KEPT_TOKENS = 8
"""How many of the resume tokens are kept that were given since the last one was shown."""

LINK_PATIENCE = 8.0
"""Seconds for which a request waits for a launcher that lost its link: as long as one takes at most to call again."""

log = logging.getLogger("elyra.launchers")

PORTS = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")


@dataclass(frozen=True)
class KernelEnd:
    """How a kernel ended.

    Attributes
    ----------
    reason : str
        A sentence for the person who used it.
    restartable : bool
        Whether it should be started again without being asked.
    code : int
        What stands for its exit code.
    """

    reason: str
    restartable: bool = False
    code: int = 1


class Launcher:
    """The server's side of one launcher.

    Parameters
    ----------
    kernel_id : str
        Its kernel.
    lease : float
        Seconds after which a launcher that lost the server ends its kernel.
    """

    def __init__(self, kernel_id: str, lease: float) -> None:
        self.kernel_id = kernel_id
        self.lease = lease
        self.ticket: str | None = secrets.token_hex(32)
        self.link: Link | None = None
        self.lost = asyncio.Event()
        self.host = ""
        self.peer = ""
        self.phase = ""
        self.last_lines: deque[str] = deque(maxlen=30)
        self.connection: dict[str, Any] | None = None
        self.restarts = 0
        self.restart_expected = False
        self.restarts_in_place = True
        loop = asyncio.get_running_loop()
        self.reported: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.ended: asyncio.Future[KernelEnd] = loop.create_future()
        self.gone = asyncio.Event()
        self._ending = False
        self._held = False
        self._restart_asked = -ASKED
        self._nonce = ""
        self._lost_at = time.monotonic()
        self._tokens: list[str] = []
        self._lease_timer: asyncio.TimerHandle | None = None

    # -- what the listener calls ------------------------------------------------------------------

    def accept(self, params: protocol.Message) -> bool:
        """Say whether this ``hello`` proves that it comes from this launcher.

        A ticket is good for one use: by whoever showed it first, until it said more than ``hello``. A
        resume token is good until one is shown that was given later. The answer to a ``hello`` may be lost
        with its connection, and to the next one too; and which of them was heard is not known here.
        """
        ticket, token = text_of(params, "ticket"), text_of(params, "resume")
        if ticket:
            return self._accept_ticket(ticket, text_of(params, "nonce", 100))
        known = [_equal(token, each) for each in self._tokens]
        if not token or not any(known):
            return False
        self.ticket = None
        self._tokens = self._tokens[known.index(True) :]
        return True

    def _accept_ticket(self, ticket: str, nonce: str) -> bool:
        if self.ticket is None or not _equal(ticket, self.ticket):
            return False
        if self._tokens and not (self._nonce and _equal(nonce, self._nonce)):
            return False
        self._nonce = nonce
        return True

    def attach(self, params: protocol.Message, peer: str) -> str:
        """Note a new connection, from the address `peer`, and return the token for the one after it."""
        if self.link is not None:
            self.link.close()
        if self._lease_timer is not None:
            self._lease_timer.cancel()
        self.lost.clear()
        self.peer = peer
        self.host = text_of(params, "host", 255) or self.host
        self.restarts_in_place = params.get("restarts_in_place") is not False
        shown, given = self._tokens[:1], self._tokens[1:]
        self._tokens = [*shown, *given[1 - KEPT_TOKENS :], secrets.token_hex(32)]
        return self._tokens[-1]

    def detach(self, link: Link) -> None:
        """Note that a connection ended; the launcher has its lease for a new one."""
        if self.link is not link:
            return
        self.link = None
        self._lost_at = time.monotonic()
        self.lost.set()
        if self.ended.done() and not self._held:
            self.gone.set()
            return
        # One that waits for the order to restart ends before its lease is over.
        seconds = HOLD if self.ended.done() else self.lease + 5
        self._lease_timer = asyncio.get_running_loop().call_later(seconds, self._lease_over)

    def receive(self, method: str, params: protocol.Message) -> protocol.Message:
        """Handle a message of the launcher and return the answer."""
        self.ticket = None  # it got the answer to its ticket
        if method == protocol.PHASE:
            words = text_of(params, "phase", 100), text_of(params, "detail", protocol.DETAIL_LIMIT)
            self.phase = " ".join(filter(None, words))
        elif method == protocol.CONNECTION:
            self._connection(params)
        elif method == protocol.OUTPUT:
            self.last_lines.extend(text_of(params, "text").splitlines())
        elif method == protocol.EXIT:
            return self._exit(params)
        elif method == protocol.ERROR:
            self._error(params)
        return {}

    # -- what process proxies call ----------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether there is a launcher that could restart its kernel in place."""
        over = self._ending or self.gone.is_set() or (self.ended.done() and not self._held)
        return self.restarts_in_place and self.connection is not None and not over

    @property
    def ending(self) -> bool:
        """Whether the kernel was told to end."""
        return self._ending

    @property
    def running(self) -> bool:
        """Whether the kernel runs, as far as the server knows."""
        return self.connection is not None and not self.ended.done()

    def renew_ticket(self) -> str:
        """Return a new ticket, for another try to start the launcher; the old one is worth nothing any more."""
        self.ticket = secrets.token_hex(32)
        self._tokens, self._nonce = [], ""
        return self.ticket

    async def request(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        timeout: float = 10.0,
        patience: float = LINK_PATIENCE,
    ) -> dict[str, Any]:
        """Ask the launcher for something, waiting shortly for a link that is being redialled."""
        deadline = time.monotonic() + patience
        while self.link is None or not self.link.open:
            if self.gone.is_set():
                raise LinkError(f"The launcher was not asked to {method}: it is gone.")
            if time.monotonic() > deadline:
                raise LinkError(
                    f"The launcher was not asked to {method}: there has been no connection to it for "
                    f"{time.monotonic() - self._lost_at:.0f} s. {self._advice()}"
                )
            await asyncio.sleep(0.1)
        try:
            return await self.link.request(method, params, timeout)
        except LinkSilentError as error:
            raise LinkError(f"{error} {self._advice()}") from error

    def _advice(self) -> str:
        host = f"host {self.host}" if self.host else "its host"
        return f"Check {host} and the network between; its kernel goes on, and it calls in when the network is back."

    async def signal(self, signum: int) -> bool:
        """Send the kernel a signal; return whether it was alive."""
        if signum == signal.SIGINT:
            await self.request(protocol.INTERRUPT)
            return True
        return bool((await self.request(protocol.SIGNAL, {"signum": int(signum)})).get("alive", True))

    async def check_restart(self) -> None:
        """See, before a kernel is given up for its next one, that its launcher can be asked for that.

        Raises
        ------
        LinkError
            If not, while the kernel goes on there.
        """
        if not self.running or self._ending or self.gone.is_set():
            return
        try:
            try:
                await self.request(protocol.PING_METHOD)
            except LinkError:
                if self.link is not None and self.link.open:
                    raise
                await self.request(protocol.PING_METHOD)  # over the next link, which may be there soon
        except LinkError as error:
            if not self.gone.is_set():
                raise LinkError(f"The kernel was not restarted. {error}") from error

    async def restart(self, now: bool) -> dict[str, Any]:
        """Let the launcher start its kernel anew on the same ports; return the connection info."""
        self.restart_expected = True
        self._held = True
        if self.reported.done():  # else another restart is under way, and the next report is for both
            self.reported = asyncio.get_running_loop().create_future()
        try:
            await self.request(protocol.RESTART, {"now": now}, RESTART_TIMEOUT)
            self._held = False  # an exit from here on is that of the new kernel
            return await asyncio.wait_for(asyncio.shield(self.reported), RESTART_TIMEOUT)
        except asyncio.TimeoutError as error:
            raise LaunchError(f"The kernel was not ready {RESTART_TIMEOUT:g} s after its restart.") from error
        except LinkError as error:
            raise LaunchError(f"The kernel could not be restarted. {error}") from error
        finally:
            self.restart_expected = False
            self._held = False

    def expect_restart(self) -> None:
        """Note that a client asked the kernel to end, and wants it back; it will end as if by itself."""
        self._restart_asked = time.monotonic()

    async def shutdown(self, now: bool = False) -> None:
        """Ask the launcher to end its kernel and itself; it is gone when `gone` is set."""
        self._ending = True
        if self.gone.is_set() or (self.ended.done() and not self._held):
            return
        self._held = False
        try:
            await self.request(protocol.SHUTDOWN, {"now": now, "grace": 0.0 if now else GRACE}, 3.0, 3.0)
        except LinkError as error:
            log.debug("Kernel %s: %s", self.kernel_id, error)

    def end(self, reason: str, *, restartable: bool = False, code: int = 1) -> None:
        """Note, from elsewhere than the launcher, that the kernel is over."""
        self._finish(KernelEnd(reason, restartable, code))
        if not self.reported.done():
            self._fail(reason)
        self.gone.set()

    def forget(self) -> None:
        """Drop the link; whoever redials is turned away, and ends."""
        if self._lease_timer is not None:
            self._lease_timer.cancel()
        self.ticket, self._tokens = None, []
        if self.link is not None:
            self.link.close()
        if not self.reported.done():
            self.reported.cancel()
        if not self.ended.done():
            self._finish(KernelEnd("The kernel was shut down.", code=0))
        self.gone.set()

    # -- what the launcher reports ----------------------------------------------------------------

    def _connection(self, params: protocol.Message) -> None:
        info = params.get("connection")
        if not isinstance(info, dict) or not all(_is_port(info.get(name)) for name in PORTS):
            raise protocol.ProtocolError("the connection info of a launcher has no ports")
        if not all(isinstance(info.get(name), str) for name in ("ip", "key", "transport", "signature_scheme")):
            raise protocol.ProtocolError("the connection info of a launcher is not complete")
        self.connection = info
        number = params.get("restart")
        self.restarts = number if isinstance(number, int) else self.restarts
        self.phase = ""
        self._held = False
        if self.ended.done():
            self.ended = asyncio.get_running_loop().create_future()
        if not self.reported.done():
            self.reported.set_result(info)

    def _exit(self, params: protocol.Message) -> protocol.Message:
        output = lines_of(params, "output")
        self.last_lines.extend(output)
        code, signum = params.get("code"), params.get("signal")
        crashed = bool(signum) or bool(code)
        reason = describe_exit(code, signum, text_of(params, "reason"), output)
        started = self.connection is not None
        # A kernel that ends while it is replaced is part of the restart.
        if self._held and self.restart_expected:
            return {"action": protocol.ACTION_HOLD, "seconds": RESTART_TIMEOUT}
        wanted = started and not self._ending
        comes_back = wanted and (crashed or time.monotonic() - self._restart_asked < ASKED)
        self._restart_asked = -ASKED
        hold = self.restarts_in_place and (comes_back or (wanted and self.restart_expected))
        self._held = hold
        number = code if isinstance(code, int) else 0
        self._finish(KernelEnd(reason, restartable=comes_back, code=number))
        if not self.reported.done():
            self._fail(f"The kernel ended before it was ready. {reason}")
        if not hold:
            return {"action": protocol.ACTION_END}
        return {"action": protocol.ACTION_HOLD, "seconds": HOLD}

    def _error(self, params: protocol.Message) -> None:
        message = text_of(params, "message") or text_of(params, "code") or "no reason given"
        output = lines_of(params, "output")
        text = f"The launcher ended: {message.rstrip('.')}." + quote_lines(output)
        self.last_lines.extend(output)
        self._held = False
        self._finish(KernelEnd(text))
        if not self.reported.done():
            self._fail(text)

    def _lease_over(self) -> None:
        self._held = False
        self.end(
            f"There was no contact to the launcher{' on ' + self.host if self.host else ''} for {self.lease:g} s; "
            "by then it ended the kernel."
        )

    def _finish(self, end: KernelEnd) -> None:
        if not self.ended.done():
            self.ended.set_result(end)

    def _fail(self, text: str) -> None:
        self.reported.set_exception(LaunchError(text))
        self.reported.exception()  # there may be nobody waiting for it


def describe_exit(code: Any, signum: Any, reason: str, output: list[str]) -> str:
    """Return a sentence on how a process ended, with its last lines."""
    if isinstance(signum, int) and signum:
        try:
            text = f"The kernel was ended by signal {signum} ({signal.Signals(signum).name})."
        except ValueError:
            text = f"The kernel was ended by signal {signum}."
    elif code:
        text = f"The kernel ended with exit code {code}."
    else:
        text = "The kernel ended by itself."
    if reason and reason.rstrip(".") not in text:
        text += f" {reason.rstrip('.')}."
    return text + (quote_lines(output) if code or signum else "")


def quote_lines(lines: list[str]) -> str:
    """Return the last lines of an output as the end of a message."""
    kept = [line for line in lines if line.strip()][-15:]
    return " Its last lines:\n" + "\n".join(kept) if kept else ""


def _equal(given: str, secret: str) -> bool:
    # JSON may hold halves of surrogate pairs, which are no UTF-8.
    return secrets.compare_digest(given.encode("utf-8", "replace"), secret.encode())


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536
