"""One connection per host, shared by all launches there.

A connection is made when it is first needed and again after it broke. It stays as
long as there are kernels on the host, and shortly after. A host that does not answer
is logged in to again and again meanwhile: after an outage TCP may sleep for as long as that
lasted, so the first login that succeeds takes the connection's place. Its state belongs to the
service's loop; whatever of paramiko may block runs in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, NamedTuple, TypeVar

import paramiko

from elyra_server.service import in_thread
from elyra_server.ssh.errors import HostError, WantError
from elyra_server.ssh.login import Login
from elyra_server.ssh.session import ANSWER_LIMIT, Session
from elyra_server.ssh.target import Target

T = TypeVar("T")

IDLE = 10.0
"""Seconds for which a connection stays without a kernel on its host."""

STARTS, ORDERS, LISTENERS = 3, 2, 5
"""How many sessions a connection has at a time: for launches that begin, for questions and ends, and for the output of
launches that are not decided. sshd's MaxSessions is 10 by default."""

PULSE = 2.0
"""Seconds between two questions to a host whether it is there."""

SILENT = 5.0
"""Seconds without an answer after which it is logged in to anew."""

BROKEN = (paramiko.SSHException, OSError, EOFError)

LOOK = 0.5
NEXT_LOGIN = 0.5

RETURNS = (5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0, 60.0)
"""Pauses between the attempts to end on a host what was left there: a dead connection, or a launch."""

log = logging.getLogger("elyra.ssh")


class Sshd(NamedTuple):
    """The process of sshd that a connection has on its host, which has this Python to end it."""

    python: str
    pid: int
    begin: int


class Pulse(threading.Thread):
    """Asks a host again and again whether it is there.

    Parameters
    ----------
    transport : paramiko.Transport
        The connection to it.
    asking : threading.Lock
        Held by whoever waits for an answer, since paramiko cannot tell answers apart.
    """

    def __init__(self, transport: paramiko.Transport, asking: threading.Lock) -> None:
        super().__init__(name="elyra ssh pulse", daemon=True)
        self._transport = transport
        self._asking = asking
        self._asked = 0.0
        self._over = threading.Event()

    @property
    def silence(self) -> float:
        """The seconds for which the host owes an answer."""
        asked = self._asked
        return time.monotonic() - asked if asked else 0.0

    def run(self) -> None:
        while not self._over.wait(PULSE) and self._transport.is_active():
            self._asked = time.monotonic()  # an answer that is owed to somebody else is silence as well
            with self._asking:
                self._asked = time.monotonic()
                with contextlib.suppress(*BROKEN):
                    # Whatever the answer is: also a refusal is one.
                    self._transport.global_request("keepalive@openssh.com", wait=True)
                self._asked = 0.0

    def stop(self) -> None:
        """Ask no more."""
        self._over.set()


class Connection:
    """A host, as far as it can be reached; use `acquire` and `release`.

    Attributes
    ----------
    target : Target
        Where it is.
    starts, orders : asyncio.Semaphore
        To be held while a launch begins there, and while something else is asked.
    """

    _all: ClassVar[dict[Target, Connection]] = {}
    _left: ClassVar[dict[Target, list[Sshd]]] = {}
    """The sshd of connections whose end the host was not told: it may wait for them for hours."""
    _tasks: ClassVar[set[asyncio.Task[None]]] = set()

    def __init__(self, target: Target) -> None:
        self.target = target
        self.starts, self.orders = asyncio.Semaphore(STARTS), asyncio.Semaphore(ORDERS)
        self._listeners: list[Session] = []
        self._users = 0
        self._transport: paramiko.Transport | None = None
        self._login: Login | None = None
        self._connecting = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._asking = threading.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._awake = asyncio.Event()
        self._awake.set()
        self._problem = ""
        self._failure: tuple[HostError | None, float] = None, 0.0
        # What has to go when this connection gets a successor.
        self._sshd = Sshd("", 0, 0)

    @classmethod
    def acquire(cls, target: Target) -> Connection:
        """Return the connection to a host, for a kernel; it may not be open yet."""
        connection = cls._all.setdefault(target, cls(target))
        connection._hold()
        return connection

    def _hold(self) -> None:
        self._users += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def release(self) -> None:
        """Note that a kernel is over."""
        self._users -= 1
        if self._users == 0:
            self._idle = asyncio.get_running_loop().call_later(IDLE, self._drop)

    @classmethod
    async def close_all(cls) -> None:
        """Close all connections, at the end of the process."""
        tasks = list(cls._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        cls._left.clear()
        for connection in list(cls._all.values()):
            await connection._close()
        cls._all.clear()

    @property
    def open(self) -> bool:
        """Whether it can be used without logging in."""
        return self._transport is not None and self._transport.is_active()

    @property
    def answers(self) -> bool:
        """Whether the host can be asked something at once, as far as is known."""
        return self.open and not self.silent

    @property
    def silent(self) -> bool:
        """Whether the host does not answer, though there is a connection to it."""
        return self.open and not self._awake.is_set()

    async def transport(self) -> paramiko.Transport:
        """Return the connection, logged in.

        Raises
        ------
        HostError
            If that is not possible now.
        """
        if self.silent:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._awake.wait(), self.target.login_limit)
            if self.silent:
                raise HostError(self._problem or f"Host {self.target}: it does not answer.")
        asked = time.monotonic()
        async with self._connecting:
            if not self.open:
                failure, failed = self._failure
                if failure is not None and failed >= asked:  # the attempt that all of these waited for
                    raise HostError(str(failure), lasting=failure.lasting, of_user=failure.of_user)
                await self._close()
                self._login = Login(self.target)
                try:
                    await self._use(await self._log_in(self._login))
                except HostError as error:
                    self._failure = error, time.monotonic()
                    raise
                finally:
                    if self._transport is None:
                        await self._close()
            assert self._transport is not None
            return self._transport

    async def ask(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function of paramiko that waits for the host's answer to a global request.

        Raises
        ------
        HostError
            If there is none in time, or no thread to wait for it.
        """

        def run() -> T:
            with self._asking:
                return function(*args)

        try:
            return await asyncio.wait_for(in_thread(run), ANSWER_LIMIT)
        except asyncio.TimeoutError as error:
            raise HostError(f"Host {self.target}: it does not answer any more. Check the network between.") from error
        except RuntimeError as error:
            raise WantError(error) from error

    def serves(self, transport: Any, python: str, sshd: Any) -> None:
        """Note which process of sshd a connection has on the host."""
        if transport is self._transport and isinstance(sshd, list) and len(sshd) == 2:
            self._sshd = Sshd(python, int(sshd[0]), int(sshd[1]))

    async def listen(self, session: Session) -> None:
        """Keep a session for the output of a launch that began; one that is too many takes the place of the oldest."""
        self._listeners = [each for each in self._listeners if each.is_alive()]
        self._listeners.append(session)
        while len(self._listeners) > LISTENERS:
            await in_thread(self._listeners.pop(0).close)

    async def local_address(self) -> str:
        """Return the address of this server that the host sees; empty where something is in between."""
        transport = await self.transport()
        return str(transport.sock.getsockname()[0]) if self._direct else ""

    @property
    def address(self) -> str:
        """The host's address; empty where it is not known: something is in between, or there is no connection now."""
        if self._transport is None or not self._direct:
            return ""
        try:
            return str(self._transport.sock.getpeername()[0])
        except OSError:
            return ""

    @property
    def _direct(self) -> bool:
        return self.target.jump is None and not self.target.proxy_command

    def _drop(self) -> None:
        """Close the connection, which nobody needs any more."""
        self._idle = None
        if Connection._all.get(self.target) is self:
            del Connection._all[self.target]
        self._spawn(self._part())

    def persist(self, attempt: Callable[[], Awaitable[bool]]) -> None:
        """Attempt something again and again until it succeeds, as the host may not answer now; nobody waits for it."""
        self._hold()
        self._spawn(self._persist(attempt))

    async def _persist(self, attempt: Callable[[], Awaitable[bool]]) -> None:
        try:
            for pause in (0.0, *RETURNS):
                await asyncio.sleep(pause)
                if await attempt():
                    return
        finally:
            self.release()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _part(self) -> None:
        """Close the connection, and see that the host does so, too: what it is told during an outage may not arrive."""
        told = await self._hears()
        await self._close()
        if told or not self._sshd.pid:
            return
        Connection._left.setdefault(self.target, []).append(self._sshd)
        for pause in RETURNS:
            await asyncio.sleep(pause)
            if self.target not in Connection._left:
                return  # a launch came first
            connection = Connection.acquire(self.target)
            try:
                await connection.transport()  # which ends what was left there
            except HostError as error:
                log.debug("%s", error)
            finally:
                connection.release()
        Connection._left.pop(self.target, None)

    async def _hears(self) -> bool:
        """Return whether the host learns of the end of the connection, or knows of it."""
        transport = self._transport
        if transport is None or self.silent:
            return False
        if transport.is_active():
            try:
                await self.ask(transport.global_request, "keepalive@openssh.com", None, True)
            except (HostError, *BROKEN):
                return False
        return transport.is_active() or isinstance(transport.get_exception(), EOFError)

    def _uses(self, transport: Any) -> bool:
        return self.open and self._transport is transport

    async def _log_in(self, login: Login) -> paramiko.Transport:
        try:
            return await asyncio.wait_for(in_thread(login.run), self.target.login_limit)
        except asyncio.TimeoutError as error:
            raise login.too_late() from error
        except RuntimeError as error:
            raise WantError(error) from error

    async def _use(self, transport: paramiko.Transport) -> None:
        """Let a new connection be this one's, once nothing is left on the host of the one before."""
        await self._succeed(transport)
        self._transport = transport
        if self._watching is not None and self._watching is not asyncio.current_task():
            self._watching.cancel()
        self._watching = asyncio.get_running_loop().create_task(self._watch(transport))
        log.info("Connected to host %s", self.target)

    async def _succeed(self, transport: paramiko.Transport) -> None:
        """End the sshd of connections before: it may learn late that nobody is there, and has our ports."""
        before, self._sshd = [*Connection._left.pop(self.target, []), self._sshd], Sshd("", 0, 0)
        for sshd in before:
            if not sshd.pid:
                continue
            news = await self._end_sshd(transport, sshd)
            if not news.get("gone"):
                log.warning("Host %s: an ssh connection that is dead may be left there for a while.", self.target)
            own = news.get("sshd")
            if isinstance(own, list) and len(own) == 2:
                self._sshd = Sshd(sshd.python, int(own[0]), int(own[1]))

    async def _end_sshd(self, transport: paramiko.Transport, sshd: Sshd) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[dict[str, Any]] = loop.create_future()

        def settle(news: dict[str, Any]) -> None:
            if not answer.done():
                answer.set_result(news)

        session = Session(
            transport,
            sshd.python,
            {"order": "succeed", "sshd": [sshd.pid, sshd.begin]},
            b"",
            lambda news: _call(loop, settle, news),
            lambda line: None,
            lambda outcome: _call(loop, settle, {}),
        )
        try:
            session.start()
            return await asyncio.wait_for(answer, ANSWER_LIMIT)
        except (asyncio.TimeoutError, RuntimeError):
            return {}
        finally:
            await in_thread(session.close)

    async def _watch(self, transport: paramiko.Transport) -> None:
        """See that the host answers, as long as this is the connection to it."""
        pulse = Pulse(transport, self._asking)
        pulse.start()
        try:
            while self._uses(transport):
                await asyncio.sleep(LOOK)
                if pulse.silence > SILENT:
                    self._awake.clear()
                    await self._renew(transport, pulse)
        finally:
            pulse.stop()
            self._awake.set()

    async def _renew(self, transport: paramiko.Transport, pulse: Pulse) -> None:
        """Log in again and again, until that succeeds or the host answers after all."""
        log.warning("Host %s has not answered for %.0f s; until it does, it is tried anew.", self.target, pulse.silence)
        while self._uses(transport) and pulse.silence:
            login = Login(self.target)
            try:
                new = await self._log_in(login)
                async with self._connecting:
                    if not (self._uses(transport) and pulse.silence):
                        break
                    old, self._login = self._login, login
                    login = old or login
                    await self._use(new)
            except HostError as error:
                self._problem = str(error)
                await asyncio.sleep(NEXT_LOGIN)
            finally:
                # What did not succeed, or is succeeded.
                if login is not self._login:
                    await in_thread(login.give_up)
        self._problem = ""
        self._awake.set()

    async def _close(self) -> None:
        """Close it, and what it goes through."""
        self._transport = None
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
        login, self._login = self._login, None
        if login is not None:
            await in_thread(login.give_up)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *args: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
        loop.call_soon_threadsafe(function, *args)
