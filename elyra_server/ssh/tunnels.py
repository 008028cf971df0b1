"""Everything between a kernel and this server through the ssh connection to its host.

A reverse forward, one per host, takes launchers to the listener; each kernel has
local ports that lead to its five channels. Both outlive a connection that breaks: the
local ports stay, and what goes through them goes on through the next connection, from where
it was (see `elyra_server.ssh.streams`); the reverse forward is asked for again, at the port that
launchers know.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import logging
import selectors
import socket
import threading
from typing import Any, ClassVar

import paramiko
from jupyter_client.connect import port_names

from elyra_server.addresses import LOOPBACK
from elyra_server.service import in_thread
from elyra_server.ssh.connections import Connection
from elyra_server.ssh.errors import HostError
from elyra_server.ssh.streams import NoWayError, Stream, close

OPEN_LIMIT = 5.0
"""Seconds in which a connection through the tunnel has to be there."""

NO_ANSWER = (concurrent.futures.TimeoutError, concurrent.futures.CancelledError)
"""There was none in time, or until the end of the process."""

MAX_STREAMS, MAX_LAUNCHERS = 128, 1024
"""How many connections go to one kernel, and come from all launchers of a host, at a time: each has two threads."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
CHUNK = 65536

log = logging.getLogger("elyra.ssh")


class Tunnel:
    """What one kernel needs.

    Parameters
    ----------
    connection : Connection
        To its host.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reverse: ReverseForward | None = None
        self._forward: Forward | None = None

    async def open(self, port: int) -> str:
        """Let the host reach a local port of this server; return the address that it has there.

        Raises
        ------
        HostError
            If the host does not forward ports.
        """
        reverse = ReverseForward.shared(self._connection, port)
        reverse.users += 1
        self._reverse = reverse
        return f"{LOOPBACK}:{await reverse.port()}"

    async def reach(self, info: dict[str, Any], token: str, relay: int) -> dict[str, Any]:
        """Return connection info with which a kernel is reached from here, whatever its own is.

        Parameters
        ----------
        info : dict
            What its launcher reported.
        token, relay : str, int
            What its relay on the host wants to see, and its port, 0 if there is none.
        """
        ports = [int(info[name]) for name in port_names]
        ip = LOOPBACK if ":" in info["ip"] else str(info["ip"])  # then it listens at all of IPv4
        if self._forward is None or self._forward.remote != (ip, ports):
            self._close_forward()
            self._forward = Forward(self._connection, ip, ports, token, relay)
        return {**info, "ip": LOOPBACK, **dict(zip(port_names, self._forward.ports, strict=True))}

    async def close(self) -> None:
        """Close all that was for this kernel, and what is for all if it was the last."""
        self._close_forward()
        reverse, self._reverse = self._reverse, None
        if reverse is not None:
            reverse.users -= 1
            if reverse.users == 0:
                await reverse.close()

    def _close_forward(self) -> None:
        if self._forward is not None:
            self._forward.close()
            self._forward = None


class ReverseForward:
    """The way from one host to the listener; its state belongs to the service's loop."""

    _all: ClassVar[dict[Connection, ReverseForward]] = {}

    def __init__(self, connection: Connection, target: int) -> None:
        self.users = 0
        self._connection = connection
        self._target = target
        self._port = 0
        self._transport: paramiko.Transport | None = None
        self._asking = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None
        self._room = threading.BoundedSemaphore(MAX_LAUNCHERS)

    @classmethod
    def shared(cls, connection: Connection, target: int) -> ReverseForward:
        """Return that of a host, which may not be there yet."""
        return cls._all.setdefault(connection, cls(connection, target))

    async def port(self) -> int:
        """Return the port on the host's loopback."""
        async with self._asking:
            await self._ask()
        if self._keeping is None:
            self._keeping = asyncio.get_running_loop().create_task(self._keep())
        return self._port

    async def close(self) -> None:
        """Give the port back."""
        ReverseForward._all.pop(self._connection, None)
        if self._keeping is not None:
            self._keeping.cancel()
        transport, self._transport = self._transport, None
        if transport is not None and transport.is_active():
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError, HostError):
                await self._connection.ask(transport.cancel_port_forward, LOOPBACK, self._port)

    async def _ask(self) -> None:
        transport = await self._connection.transport()
        if transport is self._transport:
            return
        try:
            ask = self._connection.ask
            self._port = await ask(transport.request_port_forward, LOOPBACK, self._port, self._accept)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise HostError(
                f"Host {self._connection.target}: its sshd forwards no ports, so that there is no way for a tunnel "
                f"({error}). Set AllowTcpForwarding yes in its sshd_config, or ELYRA_ENABLE_TUNNELING=False."
            ) from error
        self._transport = transport

    async def _keep(self) -> None:
        """Ask again whenever the connection was lost."""
        pause = FIRST_PAUSE
        while True:
            try:
                if self._transport is not None:
                    await in_thread(self._transport.join)
                    self._transport = None
                    log.warning("The connection to host %s broke; it is made again.", self._connection.target)
                async with self._asking:
                    await self._ask()
                pause = FIRST_PAUSE
            except (HostError, RuntimeError) as error:
                # Also while the host's old sshd still has the port: it learns late that the connection broke; or while
                # this server has no thread left.
                log.debug("%s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _accept(self, channel: paramiko.Channel, origin: Any, server: Any) -> None:
        """Take a launcher's connection; in paramiko's thread, which must not wait."""

        def connect() -> None:
            try:
                join(socket.create_connection((LOOPBACK, self._target), OPEN_LIMIT), channel)
            except (OSError, RuntimeError) as error:
                log.warning("A launcher's connection could not be taken to the listener: %s", error)
                channel.close()
            finally:
                self._room.release()

        if not self._room.acquire(blocking=False):
            log.warning("Host %s: there are too many connections through its tunnel.", self._connection.target)
            channel.close()
            return
        try:
            threading.Thread(target=connect, name="elyra ssh tunnel", daemon=True).start()
        except RuntimeError as error:
            self._room.release()
            log.warning("A launcher's connection could not be taken to the listener: %s", error)
            channel.close()


class Forward:
    """Local ports that lead to a kernel's.

    Attributes
    ----------
    remote : (str, list of int)
        The kernel's address and ports, as they are on its host.
    ports : list of int
        The local ones, in the same order.
    """

    def __init__(self, connection: Connection, ip: str, ports: list[int], token: str, relay: int) -> None:
        self.remote = (ip, ports)
        self._connection = connection
        self._token, self._relay = token, relay
        self._loop = asyncio.get_running_loop()
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._closed = threading.Event()
        self._open: set[Any] = set()
        try:
            self.ports = [self._listen(port) for port in ports]
        except OSError:
            self._wake.close()
            self._end()
            raise
        threading.Thread(target=self._serve, name="elyra ssh forward", daemon=True).start()

    def close(self) -> None:
        """Close the local ports and what goes through them."""
        self._closed.set()
        self._wake.close()

    def _listen(self, port: int) -> int:
        server = socket.create_server((LOOPBACK, 0))
        server.setblocking(False)
        self._selector.register(server, selectors.EVENT_READ, port)
        return int(server.getsockname()[1])

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    self._end()
                    return
                self._take(key.fileobj, key.data)

    def _take(self, server: Any, port: int) -> None:
        """Take a client's connection; one that cannot be served is closed, and tried again."""
        try:
            sock, _ = server.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._pause(error)
            return
        if len(self._open) >= MAX_STREAMS:
            log.warning("A client's connection to a kernel is one too many: there are %i.", MAX_STREAMS)
            sock.close()
            return
        self._open.add(sock)
        try:
            threading.Thread(target=self._connect, args=(sock, port), name="elyra ssh tunnel", daemon=True).start()
        except RuntimeError as error:
            self._open.discard(sock)
            sock.close()
            self._pause(error)

    def _pause(self, error: Exception) -> None:
        """Wait a little, where this server has no file or thread left."""
        log.warning("A client's connection to a kernel cannot be taken: %s", error)
        self._closed.wait(FIRST_PAUSE)

    def _connect(self, sock: socket.socket, port: int) -> None:
        """Lead a local connection to the kernel; without a way there, close it, and it is tried again."""
        try:
            if self._relay:
                goal = (self.remote[0], port)
                Stream(sock, lambda: self._channel(LOOPBACK, self._relay), self._token, goal, self._closed).run()
            else:
                join(sock, self._channel(self.remote[0], port))
        except NoWayError as error:
            log.debug("No way through host %s to port %s: %s", self._connection.target, port, error)
            sock.close()
        except RuntimeError as error:
            log.warning("A client's connection to a kernel cannot be taken: %s", error)
            sock.close()
        finally:
            self._open.discard(sock)

    def _channel(self, ip: str, port: int) -> paramiko.Channel:
        """Return a channel to a port as the host reaches it; blocks."""
        try:
            waiting = asyncio.run_coroutine_threadsafe(self._connection.transport(), self._loop)
            transport = waiting.result(2 * OPEN_LIMIT)
            return transport.open_channel("direct-tcpip", (ip, port), (LOOPBACK, 0), timeout=OPEN_LIMIT)
        except (HostError, paramiko.SSHException, EOFError, OSError, *NO_ANSWER, RuntimeError) as error:
            raise NoWayError(str(error) or type(error).__name__) from error

    def _end(self) -> None:
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        for sock in list(self._open):
            close(sock)


def join(sock: socket.socket, channel: paramiko.Channel) -> None:
    """Copy both ways until one side ends; blocks.

    Raises
    ------
    RuntimeError
        If there is no thread left for that; both are closed.
    """
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def copy(source: Any, target: Any) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            while data := source.recv(CHUNK):
                target.sendall(data)
        end()

    def end() -> None:
        close(sock)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            channel.close()

    back = threading.Thread(target=copy, args=(channel, sock), name="elyra ssh tunnel back", daemon=True)
    try:
        back.start()
    except RuntimeError:
        end()
        sock.close()
        raise
    copy(sock, channel)
    back.join()
    sock.close()
