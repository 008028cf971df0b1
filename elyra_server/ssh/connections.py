"""One connection per host, shared by all launches there.

A connection is made when it is first needed and again after it broke. It stays as
long as there are kernels on the host, and shortly after. Its state belongs to the
service's loop; whatever of paramiko may block runs in threads.
"""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar

import paramiko

from elyra_server.service import in_thread
from elyra_server.ssh.login import LIMIT, Login
from elyra_server.ssh.target import Target

IDLE = 10.0
"""Seconds for which a connection stays without a kernel on its host."""

SESSIONS = 8
"""Launches at a time over one connection; sshd's MaxSessions is 10 by default."""

log = logging.getLogger("elyra.ssh")


class Connection:
    """A host, as far as it can be reached; use `acquire` and `release`.

    Attributes
    ----------
    target : Target
        Where it is.
    sessions : asyncio.Semaphore
        To be held while a command runs there.
    """

    _all: ClassVar[dict[Target, Connection]] = {}

    def __init__(self, target: Target) -> None:
        self.target = target
        self.sessions = asyncio.Semaphore(SESSIONS)
        self._users = 0
        self._transport: paramiko.Transport | None = None
        self._login: Login | None = None
        self._connecting = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None

    @classmethod
    def acquire(cls, target: Target) -> Connection:
        """Return the connection to a host, for a kernel; it may not be open yet."""
        connection = cls._all.setdefault(target, cls(target))
        connection._users += 1
        if connection._idle is not None:
            connection._idle.cancel()
            connection._idle = None
        return connection

    def release(self) -> None:
        """Note that a kernel is over."""
        self._users -= 1
        if self._users == 0:
            self._idle = asyncio.get_running_loop().call_later(IDLE, self._drop)

    @classmethod
    async def close_all(cls) -> None:
        """Close all connections, at the end of the process."""
        for connection in list(cls._all.values()):
            await connection._close()
        cls._all.clear()

    @property
    def open(self) -> bool:
        """Whether it can be used without logging in."""
        return self._transport is not None and self._transport.is_active()

    async def transport(self) -> paramiko.Transport:
        """Return the connection, logged in.

        Raises
        ------
        HostError
            If that is not possible now.
        """
        async with self._connecting:
            if self._transport is not None and self._transport.is_active():
                return self._transport
            await self._close()
            login = self._login = Login(self.target)
            try:
                self._transport = await asyncio.wait_for(in_thread(login.run), LIMIT)
            except asyncio.TimeoutError as error:
                raise login.too_late() from error
            finally:
                if self._transport is None:
                    await self._close()
            log.info("Connected to host %s", self.target)
            return self._transport

    async def local_address(self) -> str:
        """Return the address of this server that the host sees; empty where something is in between."""
        transport = await self.transport()
        if self.target.jump is not None or self.target.proxy_command:
            return ""
        return str(transport.sock.getsockname()[0])

    def _drop(self) -> None:
        """Close the connection, which nobody needs any more."""
        self._idle = None
        if Connection._all.get(self.target) is self:
            del Connection._all[self.target]
        task = asyncio.get_running_loop().create_task(self._close())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _close(self) -> None:
        """Close it, and what it goes through."""
        self._transport = None
        login, self._login = self._login, None
        if login is not None:
            await in_thread(login.give_up)
