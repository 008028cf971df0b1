"""A launch command on another host: started through ssh, and on its own from then on.

What runs there is `elyra_launcher.landing`. The session stays open until the launch
is decided, so that output comes and its last lines can be quoted; then the host is
asked again only when there is a reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from elyra_launcher.landing import PLACE, PREFIX
from elyra_server.launchers import quote_lines
from elyra_server.processes import KEPT_LINES, describe_end
from elyra_server.service import in_thread_within
from elyra_server.ssh.connections import Connection
from elyra_server.ssh.errors import HostError, OutdatedError, SilenceError, WantError
from elyra_server.ssh.pack import LAUNCHER, Pack
from elyra_server.ssh.session import Session

ARRIVAL_LIMIT = 20.0
"""Seconds from the order to the launcher's process; a worker may be busy with other kernels."""

END_LIMIT = 15.0

CLOSE_LIMIT = 1.0
"""Seconds for the end of a session; where the host is silent that may take as long as the connection lasts."""

LOOK = 0.5

log = logging.getLogger("elyra.ssh")


class RemoteCommand:
    """A launch command on another host, with what `LocalProcess` offers for one on this host.

    Parameters
    ----------
    connection : Connection
        To the host.
    python : str
        The host's Python, for the landing.
    remaining : float
        Seconds that the launch has left. A quarter of them may go by until it begins on the host, if that is more than
        `ARRIVAL_LIMIT`: with the rest there is time for another host.

    Attributes
    ----------
    directory : str
        Where it is on the host; empty as long as it is not known to be there.
    relay : (str, int)
        The token and the port of its relay; the port is 0 if it has none.
    deaf : asyncio.Event
        Set when neither its output nor its end comes here any more.
    """

    def __init__(self, connection: Connection, python: str, remaining: float = 0.0) -> None:
        self.connection = connection
        self.directory = ""
        self._name = f"{PREFIX}{secrets.token_hex(8)}"
        self.pid = 0
        self.relay = ("", 0)
        self._python = python
        self._arrival_limit = max(ARRIVAL_LIMIT, remaining / 4)
        self._kernel_id = ""
        self._perhaps_there = False
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._arrived: asyncio.Future[None] = self._loop.create_future()
        self._session: Session | None = None
        self.deaf = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether it has not ended, as far as is known here."""
        return not self.ended.done()

    @property
    def waits_for_session(self) -> bool:
        """Whether the host allows no more sessions than there are, so that the launch has not begun."""
        return self._session is not None and self._session.denied

    @property
    def lines(self) -> list[str]:
        """The last lines of its output that came here."""
        return list(self._lines)

    async def start(self, order: dict[str, Any], pack: Pack) -> None:
        """Start the launch command on the host.

        Raises
        ------
        HostError
            If it could not be started; the text is the cause.
        """
        order = {
            **order,
            "order": "launch",
            "name": self._name,
            "files": pack.files,
            "package": f"{PLACE}/{LAUNCHER}",
        }
        self._kernel_id = str(order["kernel_id"])
        self.relay = (order["relay"], 0)
        try:
            await self._hand_over(order, pack)
        except OutdatedError as error:  # perhaps one from before an outage: a new one tells
            log.info("%s", error)
            self._arrived = self._loop.create_future()
            self.deaf.clear()
            await self._hand_over(order, pack)

    async def _hand_over(self, order: dict[str, Any], pack: Pack) -> None:
        """Give the order to the host, and wait until the launch has begun there."""
        transport = await self.connection.transport()
        async with self.connection.starts:
            session = self._session = Session(
                transport,
                self._python,
                order,
                pack.content,
                lambda news: self._call(self._take_news, news, transport),
                lambda line: self._call(self._lines.append, line),
                lambda outcome: self._call(self._session_over, session, outcome),
            )
            try:
                session.start()
            except RuntimeError as error:
                raise WantError(error) from error
            try:
                await self._await_arrival()
            except BaseException:
                unheard = not self._arrived.done()
                try:
                    await self.listen_no_more()
                finally:
                    # Only now it is clear that what was not handed over will not be.
                    self._perhaps_there = self._perhaps_there or (unheard and session.handed_over)
                raise
            await self.connection.listen(session)

    def is_there(self) -> None:
        """Note that it was started: its launcher called in, though the host's word of it did not come."""
        self.directory = self.directory or self._name

    async def _await_arrival(self) -> None:
        deadline = time.monotonic() + self._arrival_limit
        while True:
            if self.waits_for_session:  # for as long as the launch may take
                deadline = time.monotonic() + self._arrival_limit
            done, _ = await asyncio.wait({self._arrived}, timeout=LOOK)
            if done:
                self._arrived.result()
                return
            if self.connection.silent:
                raise SilenceError(
                    f"Host {self.connection.target}: it stopped to answer while the launch was on its way there. "
                    "Check that the host is up, and the network between."
                )
            if time.monotonic() > deadline:
                raise HostError(
                    f"Host {self.connection.target}: nothing was started within {self._arrival_limit:.0f} s, though "
                    f"the login succeeded.{self._quote()}"
                )

    async def listen_no_more(self) -> None:
        """End the session: what goes on from here on, the launcher itself tells."""
        session, self._session = self._session, None
        if session is not None:
            await in_thread_within(CLOSE_LIMIT, None, session.close)

    async def gone(self) -> bool | None:
        """Ask the host whether the launch is over; None if it cannot be asked."""
        if not self.directory:
            return None
        answer = await self._ask({"order": "look", "directory": self.directory})
        if "ended" in answer and not self.ended.done():
            self._lines.clear()
            self._lines.extend(map(str, answer.get("lines", ())))
            self.ended.set_result(int(answer["ended"]))
        gone = answer.get("gone")
        return None if gone is None else bool(gone)

    async def read(self, name: str) -> str:
        """Return what is in a file of the launch.

        Raises
        ------
        HostError
            If it cannot be had.
        """
        answer = await self._ask({"order": "read", "directory": self.directory, "file": name})
        if "content" not in answer:
            why = answer.get("failed", "it cannot be asked")
            raise HostError(f"Host {self.connection.target}: the connection file was not fetched: {why}.")
        return str(answer["content"])

    async def stop(self, patience: float = 5.0) -> None:
        """See it end: by itself within `patience`, then ended."""
        await self._end(patience)

    async def terminate(self, patience: float = 5.0) -> None:
        """End it now, with all that it left; where the host cannot be asked to, the launcher's lease does it."""
        await self._end(0.0)

    async def _end(self, grace: float) -> None:
        await self.listen_no_more()
        if self.ended.done():
            return
        if self.directory:
            await self._order_end(self.directory, grace)
        elif self._perhaps_there and not (self.connection.answers and await self._order_end(self._name, grace)):
            # Whoever gave this launch up makes it at another host meanwhile.
            self.connection.persist(lambda: self._order_end(self._name, grace))
        if not self.ended.done():
            self.ended.set_result(-15)

    async def _order_end(self, directory: str, grace: float) -> bool:
        """Have the host end the launch; return whether it could be asked to."""
        answer = await self._ask({"order": "end", "directory": directory, "grace": grace, "patience": 6.0})
        if answer.get("gone") is False:
            log.error("Host %s: a launch in %s could not be ended.", self.connection.target, directory)
        return bool(answer)

    async def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Return the host's report, empty if there is none."""
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()

        def settle(value: dict[str, Any]) -> None:
            if not answer.done():
                answer.set_result(value)

        async def ask() -> dict[str, Any]:
            transport = await self.connection.transport()
            async with self.connection.orders:
                session = Session(
                    transport,
                    self._python,
                    order,
                    b"",
                    lambda news: self._call(settle, news),
                    lambda line: None,
                    lambda outcome: self._call(settle, {}),
                )
                session.start()
                try:
                    return await answer
                finally:
                    await in_thread_within(CLOSE_LIMIT, None, session.close)

        try:
            return await asyncio.wait_for(ask(), END_LIMIT)
        except (HostError, asyncio.TimeoutError, OSError, RuntimeError) as error:
            why = str(error) or "no answer"
            log.warning("Host %s cannot be asked about a launch: %s", self.connection.target, why)
            return {}

    def _call(self, function: Callable[..., Any], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, *args)

    def _take_news(self, news: dict[str, Any], transport: Any) -> None:
        if "started" in news:
            self.pid, self.directory = int(news["started"]), str(news["directory"])
            self.relay = (self.relay[0], int(news["relay"]))
            self.connection.serves(transport, self._python, news["sshd"])
            log.info("Host %s: process %d has the launch of %s", self.connection.target, self.pid, self._kernel_id)
            self._lines.clear()  # what a shell greets with
            if not self._arrived.done():
                self._arrived.set_result(None)
        elif "failed" in news:
            host = bool(news.get("host"))
            self._fail(f"Host {self.connection.target}: {news['failed']}.", lasting=host)
        elif "ended" in news and not self.ended.done():
            self.ended.set_result(int(news["ended"]))

    def _session_over(self, session: Session, outcome: int | Exception | None) -> None:
        """Note the end of the session; once the launch command was started, the host has to be asked for its end."""
        self.deaf.set()
        target = self.connection.target
        if session.interrupted and not isinstance(outcome, int):
            self._perhaps_there = True
            self._fail(
                f"Host {target}: the connection to it was closed while the launch was on its way there"
                f"{f' ({outcome})' if str(outcome or '') else ''}. Check that the host is up, and the network between.",
                kind=SilenceError,
            )
        elif isinstance(outcome, Exception):
            self._fail(
                f"Host {target}: there is a connection to it, but it does not take the launch "
                f"({str(outcome) or 'it ended'}). Check that the host is up, and the network between.",
                kind=OutdatedError if session.in_vain else HostError,
            )
        elif outcome == 127:
            self._fail(
                f"Host {target}: there is no {self._python}. Install Python 3.8 or later there, or name it in the "
                f"kernelspec (jupyter elyra install --python=FILE, PYSPARK_PYTHON).{self._quote()}",
                lasting=False,
            )
        elif any("is too old: 3.8" in line for line in self.lines):
            self._fail(
                f"Host {target}: {self.lines[-1]}. Install a newer one there, or name one in the kernelspec "
                "(jupyter elyra install --python=FILE, PYSPARK_PYTHON).",
                lasting=False,
            )
        else:
            end = "the connection was closed" if outcome is None else f"it {describe_end(outcome)}"
            self._fail(
                f"Host {target}: the shell of {target.user} did not start {self._python}; {end}.{self._quote()}",
                of_user=True,
            )

    def _fail(
        self, message: str, *, lasting: bool = True, of_user: bool = False, kind: type[HostError] = HostError
    ) -> None:
        if not self._arrived.done():
            self._arrived.set_exception(kind(message, lasting=lasting, of_user=of_user))
            self._arrived.exception()  # the one who waited may be gone

    def _quote(self) -> str:
        return quote_lines(self.lines)
