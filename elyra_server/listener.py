"""Where launchers call in: a TLS server for all launches of this process.

Anybody may connect, so a connection that has not proved anything yet is cheap and
short: nothing is allocated for it before its first byte, it has five seconds and
four kilobytes, and when there are too many of them the oldest goes. What a
launcher says after its ``hello`` is between it and its `Launcher`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterable

from elyra_launcher import protocol
from elyra_launcher.dial import notice_outages
from elyra_server.addresses import (
    LOOPBACK,
    RESOLVER_LIMIT,
    advertised_addresses,
    bind,
    do_with_known_name,
    look_up_own_name,
)
from elyra_server.certificate import Certificate, make_certificate
from elyra_server.launchers import Launcher
from elyra_server.links import Link, text_of
from elyra_server.pings import Rounds
from elyra_server.service import Service, in_thread_within
from elyra_server.settings import Settings
from elyra_server.tls import Connection

MAX_UNAUTHENTICATED = 256
"""Connections without a valid ``hello`` at a time; one more ends the oldest."""

BACKLOG = 1024

log = logging.getLogger("elyra.listener")


class Listener:
    """The server for launchers; use `shared`, from the service's loop.

    Parameters
    ----------
    settings : Settings
        Those of the first launch of the process.
    """

    _shared: Listener | None = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._certificate: Certificate = make_certificate()
        self._launchers: dict[str, Launcher] = {}
        self._sockets: dict[str, socket.socket] = {}
        self._accepting: list[asyncio.Task[None]] = []
        # In order of arrival, so that the first is the oldest.
        self._strangers: dict[asyncio.Task[None], None] = {}
        self._peers: set[asyncio.Task[None]] = set()
        self._rounds = Rounds(settings.ping)

    @classmethod
    def shared(cls, settings: Settings) -> Listener:
        """Return the listener of this process, made at its first use."""
        if cls._shared is None:
            cls._shared = cls(settings)
        return cls._shared

    @classmethod
    async def close_shared(cls) -> None:
        """Close the listener of this process, if there is one."""
        if cls._shared is not None:
            listener, cls._shared = cls._shared, None
            await listener.close()

    @property
    def fingerprint(self) -> str:
        """What a launcher pins."""
        return self._certificate.fingerprint

    def register(self, kernel_id: str) -> Launcher:
        """Return the entry of a new launch."""
        launcher = Launcher(kernel_id, self.settings.lease)
        self._launchers[kernel_id] = launcher
        return launcher

    def is_latest(self, launcher: Launcher) -> bool:
        """Return whether there was no other launch of the same kernel since."""
        return self._launchers.get(launcher.kernel_id) is launcher

    def forget(self, launcher: Launcher) -> None:
        """End a launch's entry: nobody can call in for it any more."""
        if self.is_latest(launcher):
            del self._launchers[launcher.kernel_id]
        launcher.forget()

    def response_address(self, local: bool, first: str = "") -> str:
        """Return what a launcher is told to call, and listen there.

        Parameters
        ----------
        local : bool
            Whether the launcher runs on this host; then it is loopback, and a server that
            starts only such kernels opens no other port.
        first : str
            The address of this server from which the launcher's host is reached, if that is known.
        """
        if local:
            return self._listen([LOOPBACK], LOOPBACK)
        names = advertised_addresses(self.settings.response_ip, self.settings.prohibited_local_ips, first)
        if self.settings.response_addr_any:
            port = self._listen(["0.0.0.0"], "0.0.0.0").rpartition(":")[2]
            return ",".join(f"{_literal(name)}:{port}" for name in names)
        return ",".join(self._listen([name], name) for name in names)

    async def remote_response_address(self, first: str = "") -> str:
        """Return `response_address` for a launcher on another host; a resolver that hangs holds up nobody."""
        if not self.settings.response_ip:
            await in_thread_within(RESOLVER_LIMIT, None, look_up_own_name)
            do_with_known_name()
        return self.response_address(local=False, first=first)

    async def close(self) -> None:
        """Stop listening and drop all connections."""
        for task in [*self._accepting, *self._strangers, *self._peers]:
            task.cancel()
        self._rounds.close()
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def _listen(self, names: Iterable[str], shown: str) -> str:
        for name in names:
            if name not in self._sockets:
                sock = bind(name, self.settings.response_port, self.settings.response_port_retries, BACKLOG)
                self._sockets[name] = sock
                self._accepting.append(asyncio.get_running_loop().create_task(self._accept(sock)))
                log.info("Listening for launchers at %s:%s", name, sock.getsockname()[1])
        return f"{_literal(shown)}:{self._sockets[shown].getsockname()[1]}"

    async def _accept(self, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(server)
            except OSError as error:  # out of file descriptors, for example: others go on
                log.warning("A launcher's connection could not be accepted: %s", error)
                await asyncio.sleep(0.2)
                continue
            while len(self._strangers) >= MAX_UNAUTHENTICATED:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                oldest.cancel()
            task = loop.create_task(self._serve(sock, str(address[0])))
            self._strangers[task] = None
            task.add_done_callback(lambda done: self._strangers.pop(done, None))

    async def _serve(self, sock: socket.socket, address: str) -> None:
        sock.setblocking(False)
        notice_outages(sock)
        try:
            launcher, link, early = await asyncio.wait_for(self._greet(sock), protocol.HELLO_TIMEOUT)
        except (OSError, EOFError, asyncio.TimeoutError, protocol.ProtocolError) as error:
            log.debug("A connection from %s was dropped: %s", address, error or "no hello in time")
            return
        task = asyncio.current_task()
        if task is not None:  # no stranger any more
            self._strangers.pop(task, None)
            self._peers.add(task)
            task.add_done_callback(self._peers.discard)
        try:
            self._rounds.add(link)
            await link.run(early)
        except protocol.ProtocolError as error:
            log.warning("Kernel %s: the connection of its launcher was closed: %s", launcher.kernel_id, error)
        finally:
            self._rounds.remove(link)
            launcher.detach(link)

    async def _greet(self, sock: socket.socket) -> tuple[Launcher, Link, list[protocol.Message]]:
        """Take a stranger's ``hello``; what is wrong with it is raised."""
        try:
            await _readable(sock)
            connection = Connection(sock, self._certificate.context)
        except BaseException:
            sock.close()  # from here on it belongs to the connection
            raise
        try:
            await connection.shake_hands()
            hello, lines, early = await _read_hello(connection)
            launcher = self._check(hello)
            if launcher is None:
                connection.write(
                    protocol.encode(protocol.error(hello.get("id"), protocol.REJECTED, "unknown kernel or ticket"))
                )
                await connection.drain()
                connection.close()
                raise protocol.ProtocolError("its ticket is not valid")
        except BaseException:
            connection.abort()
            raise
        link = Link(connection, lines, launcher.receive)
        answer = {
            "resume": launcher.attach(hello["params"], connection.peer),
            "lease": self.settings.lease,
            "ping": self.settings.ping,
        }
        launcher.link = link
        connection.write(protocol.encode(protocol.result(hello["id"], answer)))
        return launcher, link, early

    def _check(self, hello: protocol.Message) -> Launcher | None:
        params = hello["params"]
        if params.get("version") != protocol.VERSION:
            raise protocol.ProtocolError(f"it speaks version {params.get('version')!r}, not {protocol.VERSION}")
        launcher = self._launchers.get(text_of(params, "kernel_id", 100))
        return launcher if launcher is not None and launcher.accept(params) else None


async def _read_hello(
    connection: Connection,
) -> tuple[protocol.Message, protocol.LineReader, list[protocol.Message]]:
    lines = protocol.LineReader(protocol.HELLO_LIMIT)
    messages: list[protocol.Message] = []
    left = protocol.HELLO_LIMIT
    while not messages:
        if left <= 0:  # such as blank lines without end
            raise protocol.ProtocolError(f"it sent {protocol.HELLO_LIMIT} bytes without a hello")
        data = await connection.read(left)
        if not data:
            raise EOFError("it was closed before its hello")
        left -= len(data)
        messages = lines.feed(data)
    lines.limit = protocol.MAX_LINE
    hello = messages[0]
    if hello.get("method") != protocol.HELLO or hello.get("id") is None:
        raise protocol.ProtocolError("its first message is not a hello")
    return hello, lines, messages[1:]


async def _readable(sock: socket.socket) -> None:
    """Wait until there is something to read, without reading or allocating anything."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        loop.remove_reader(sock)
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, wake)
    try:
        await ready
    finally:
        with contextlib.suppress(ValueError):  # the socket was closed meanwhile
            loop.remove_reader(sock)


def _literal(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def current_listener(settings: Settings) -> Listener:
    """Return the listener of this process; from the service's loop only."""
    if asyncio.get_running_loop() is not Service.instance().loop:
        raise RuntimeError("The listener belongs to the service's loop.")
    return Listener.shared(settings)
