"""What a connection to a host is worth after an outage, and many at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import paramiko
import pytest
from waiting import until

from elyra_server.addresses import LOOPBACK
from elyra_server.ssh.command import RemoteCommand
from elyra_server.ssh.connections import Connection
from elyra_server.ssh.errors import HostError
from elyra_server.ssh.login import Login
from elyra_server.ssh.pack import Pack
from elyra_server.ssh.session import Session
from elyra_server.ssh.target import Target
from elyra_server.ssh.tunnels import MAX_STREAMS, Forward

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


async def test_a_host_that_falls_silent_while_it_is_asked_for_a_port_is_logged_in_to_anew(target, w1):
    connection = Connection.acquire(target)
    try:
        transport = await connection.transport()
        before = w1.logins()
        w1.run("pkill", "-STOP", "-f", "sshd: alice")
        with pytest.raises(HostError, match="it does not answer any more"):
            await connection.ask(transport.request_port_forward, LOOPBACK, 0)
        await asyncio.to_thread(until, lambda: w1.logins() > before)
        await connection.ask((await connection.transport()).request_port_forward, LOOPBACK, 0)
    finally:
        w1.run("pkill", "-CONT", "-f", "sshd: alice", check=False)
        connection.release()
        await Connection.close_all()


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


async def test_a_kernel_has_only_so_many_connections_through_ssh():
    """Each takes two threads of the server; whoever is one too many is told so at once."""
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
