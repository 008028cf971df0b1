"""What a connection to a host is worth after an outage, and many at once."""

from __future__ import annotations

import contextlib

import paramiko
import pytest

from elyra_server.ssh.login import Login
from elyra_server.ssh.target import Target

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
        w1.run("pkill", "-STOP", "-f", "sshd: alice")
        try:
            for _ in range(MAX_SESSIONS + 2):
                with pytest.raises(paramiko.SSHException, match="Timeout opening channel"):
                    transport.open_session(timeout=0.2)
        finally:
            w1.run("pkill", "-CONT", "-f", "sshd: alice")
        sessions = [transport.open_session(timeout=20) for _ in range(MAX_SESSIONS)]
        sessions[0].exec_command("echo hello")
        assert sessions[0].recv(100) == b"hello\n"
