"""What a connection to a host is worth after an outage, and many at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import paramiko
import pytest
from waiting import until

from elyra_server.addresses import LOOPBACK
from elyra_server.ssh import tunnels
from elyra_server.ssh.command import RemoteCommand
from elyra_server.ssh.connections import Connection
from elyra_server.ssh.errors import HostError
from elyra_server.ssh.login import Login
from elyra_server.ssh.pack import Pack
from elyra_server.ssh.session import Session
from elyra_server.ssh.target import Target
from elyra_server.ssh.tunnels import MAX_STREAMS, Forward, Tunnel

MAX_SESSIONS = 10


@pytest.fixture
def target(hosts, tmp_path, w1):
    """Alice on a host, whom nobody else is."""
    hosts.write_client(tmp_path)
    home = tmp_path / ".ssh"
    keys, known = (home / "id_ed25519",), (home / "known_hosts",)
    return Target("w1", w1.address, w1.port, "alice", keys, use_agent=False, known_hosts=known)


@contextlib.contextmanager
def logged_in(target):
    login = Login(target)
    try:
        yield login.run()
    finally:
        login.give_up()


def test_sessions_that_are_there_too_late_are_closed(target, w1):
    """sshd allows only so many at a time."""
    with logged_in(target) as transport:
        transport.open_session(timeout=20).close()
        w1.run("pkill", "-STOP", "-f", "sshd: alice")
        try:
            for _ in range(MAX_SESSIONS + 2):
                with pytest.raises(paramiko.SSHException, match="Timeout opening channel"):
                    transport.open_session(timeout=0.2)
        finally:
            w1.run("pkill", "-CONT", "-f", "sshd: alice")
        sessions = [until(lambda: session(transport)) for _ in range(MAX_SESSIONS)]
        sessions[0].exec_command("echo hello")
        assert sessions[0].recv(100) == b"hello\n"


@pytest.fixture
async def connection(target):
    connection = Connection.acquire(target)
    await connection.transport()
    yield connection
    connection.release()
    await Connection.close_all()


async def test_a_host_that_falls_silent_while_it_is_asked_for_a_port_is_logged_in_to_anew(connection, w1):
    transport, before = await connection.transport(), w1.logins()
    w1.run("pkill", "-STOP", "-f", "sshd: alice")
    try:
        with pytest.raises(HostError, match="it does not answer any more"):
            await connection.ask(transport.request_port_forward, LOOPBACK, 0)
        await asyncio.to_thread(until, lambda: w1.logins() > before)
        await connection.ask((await connection.transport()).request_port_forward, LOOPBACK, 0)
    finally:
        w1.run("pkill", "-CONT", "-f", "sshd: alice", check=False)


def session(transport):
    """Return a new session, None as long as sshd allows no more."""
    try:
        return transport.open_session(timeout=20)
    except paramiko.ChannelException:
        return None


def test_a_host_that_is_shy_of_many_logins_takes_them_all(target, w1):
    """As sshd is by default, from the tenth on. Here they are of as many users, which have no connection in common."""
    logins = [Login(replace(target, name=f"w{number}", login_limit=30.0)) for number in range(12)]
    try:
        with w1.configured("MaxStartups 3:50:10"), ThreadPoolExecutor(len(logins)) as pool:
            transports = list(pool.map(Login.run, logins))
        assert all(transport.is_authenticated() for transport in transports)
    finally:
        for login in logins:
            login.give_up()


def test_a_host_that_always_hangs_up_may_be_busy():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        hung_up = []

        def hang_up():
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()
                    hung_up.append(1)

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(
            HostError, match="where many log in at the same time, MaxStartups in its sshd_config"
        ) as error:
            Login(Target("127.0.0.1", "127.0.0.1", port, "alice")).run()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert len(hung_up) > 1
    assert not error.value.lasting  # the next launch may be lucky


def test_a_login_that_is_given_up_while_its_name_is_resolved(target, monkeypatch, w1):
    """Nobody would close what it opens after that."""
    resolve, asked, known = socket.getaddrinfo, threading.Event(), threading.Event()

    def late(*args, **options):
        asked.set()
        assert known.wait(20)
        return resolve(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    before, login = w1.logins(), Login(replace(target, login_limit=30.0))
    with ThreadPoolExecutor() as pool:
        result = pool.submit(login.run)
        assert asked.wait(20)
        login.give_up()
        known.set()
        with pytest.raises(HostError, match="no login within"):
            result.result()
    assert w1.logins() == before


class Reached:
    """A connection of which nothing is used."""

    target = "root@w1, port 22"
    silent = False

    def __init__(self):
        self.starts = self.orders = asyncio.Semaphore(1)

    async def transport(self):
        return None


async def test_a_server_that_is_out_of_threads_blames_no_host(monkeypatch):
    def fail(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Session, "start", fail)
    command = RemoteCommand(Reached(), "python3")
    with pytest.raises(HostError, match="This server cannot start kernels by ssh now: can't start new thread") as error:
        await command.start({"kernel_id": "k", "relay": ""}, Pack((), b""))
    assert not error.value.lasting
    command.directory = "/tmp/elyra-landing-1"
    assert await command.gone() is None


@pytest.fixture
def lacking(monkeypatch):
    """Let no thread of some names be started in this process, as long as a block lasts; have those that were tried."""

    @contextlib.contextmanager
    def without(*names):
        tried = []
        really = threading.Thread.start

        def start(thread):
            if thread.name in names:
                tried.append(thread.name)
                raise RuntimeError("can't start new thread")
            really(thread)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            yield tried

    return without


@pytest.mark.parametrize("name", ["elyra ssh tunnel", "elyra ssh tunnel back"])
async def test_a_kernel_can_be_reached_once_there_are_threads_again(connection, lacking, name, w1):
    forward = Forward(connection, LOOPBACK, [w1.port], "", 0)

    def greeting():
        with socket.create_connection((LOOPBACK, forward.ports[0]), 20) as sock:
            return sock.recv(4)

    try:
        with lacking(name):
            assert await asyncio.to_thread(greeting) == b""
        assert await asyncio.to_thread(greeting) == b"SSH-"
    finally:
        forward.close()


CALL = "import socket, sys; print(socket.create_connection(('127.0.0.1', sys.argv[1]), 20).recv(5).decode())"


@pytest.fixture
async def called(connection, w1):
    """Return what is heard on a host from this server's listener, through ssh."""

    async def greet(_, writer):
        writer.write(b"hello")
        writer.close()
        await writer.wait_closed()

    tunnel, ports = Tunnel(connection), []
    async with await asyncio.start_server(greet, LOOPBACK, 0) as listener:

        async def call():
            if not ports:
                address = await tunnel.open(listener.sockets[0].getsockname()[1])
                ports.append(address.rpartition(":")[2])
            return (await asyncio.to_thread(w1.run, sys.executable, "-c", CALL, *ports)).strip()

        yield call
        await tunnel.close()


@pytest.mark.parametrize("name", ["elyra ssh tunnel", "elyra ssh tunnel back"])
async def test_a_launcher_that_calls_while_there_is_no_thread_ends_no_connection(called, lacking, name, w1):
    assert await called() == "hello"
    before = w1.logins()
    with lacking(name):
        assert await called() == ""
    assert await called() == "hello"
    assert w1.logins() == before


async def test_a_way_for_launchers_is_made_again_also_after_there_was_no_thread(called, lacking, w1):
    with lacking("elyra Thread.join") as tried:
        assert await called() == "hello"
        await asyncio.to_thread(until, lambda: len(tried) > 1)
    before = w1.logins()
    w1.run("pkill", "-KILL", "-f", "sshd: alice")
    await asyncio.to_thread(until, lambda: w1.logins() > before and w1.forwards() == 1)
    assert await called() == "hello"


async def test_a_kernel_has_only_so_many_connections_through_ssh(monkeypatch):
    """Each takes two threads of the server; whoever is one too many is told so at once."""
    monkeypatch.setattr(tunnels, "OPEN_LIMIT", 300)
    over = asyncio.Event()

    class Slow(Reached):
        async def transport(self):
            await over.wait()
            raise HostError("It was not there in time.")

    forward = Forward(Slow(), "127.0.0.1", [9], "", 0)
    try:
        with contextlib.ExitStack() as stack:

            def connect():
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", forward.ports[0])))
                sock.settimeout(0.01)
                return sock

            socks = [connect() for _ in range(MAX_STREAMS + 3)]
            for sock in socks[-3:]:
                sock.settimeout(20)
                assert await asyncio.to_thread(sock.recv, 1) == b""
            for sock in socks[:-3]:
                with pytest.raises(TimeoutError):
                    sock.recv(1)
    finally:
        forward.close()
        over.set()
    await asyncio.to_thread(
        until, lambda: not [each for each in threading.enumerate() if each.name == "elyra ssh tunnel"]
    )
