"""Logins that fail without a host, and the commands that stand for a network."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from pathlib import Path

import paramiko
import pytest
from waiting import until

from elyra_server.ssh.errors import HostError
from elyra_server.ssh.keyfiles import public_key
from elyra_server.ssh.login import Login
from elyra_server.ssh.proxycommand import ProxyCommand
from elyra_server.ssh.target import Target


def refusal(target):
    with pytest.raises(HostError) as caught:
        Login(target).run()
    assert str(caught.value).startswith(f"Host {target}: ")
    return str(caught.value)


def by_command(command):
    return Target("node1", "node1", 22, "alice", proxy_command=command)


@pytest.mark.parametrize(
    "error",
    [EOFError(), OSError(24, "Too many open files"), paramiko.SSHException("No existing session"), KeyError("x")],
)
def test_whatever_goes_wrong_is_an_error_of_that_host(monkeypatch, error):
    """Only then the launch goes on to the next host, and leaves nothing here."""

    def fail(*_):
        raise error

    monkeypatch.setattr("elyra_server.ssh.login.check_host_key", fail)
    monkeypatch.setattr(Login, "_connect", lambda *_: None)
    monkeypatch.setattr(Login, "_handshake", lambda *_: paramiko.Transport.__new__(paramiko.Transport))
    monkeypatch.setattr(paramiko.Transport, "get_remote_server_key", lambda _: None)
    with pytest.raises(
        HostError, match=r"^Host alice@node1, port 22: the login failed \(.+\); node1 has hung"
    ) as caught:
        Login(Target("node1", "node1", 22, "alice")).run()
    assert caught.value.__cause__ is error


def test_an_address_of_a_family_that_this_host_does_not_have(monkeypatch):
    """As those of IPv6 where it is switched off; the other addresses are tried all the same."""
    none = 12  # DECnet, gone from Linux
    found = [(family, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9)) for family in (none, socket.AF_INET)]
    found[0] = (*found[0][:4], ("fd00::1", 9))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    message = refusal(Target("node1", "node1", 9, "alice"))
    assert "fd00::1 cannot be reached (Address family not supported by protocol)" in message
    assert "127.0.0.1 refuses the connection" in message


def test_a_server_that_hangs_up_is_told_in_words():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]

        def hang_up():
            with server.accept()[0] as connection:
                connection.sendall(b"SSH-2.0-Nothing\r\n")
                connection.recv(1000)

        thread = threading.Thread(target=hang_up)
        thread.start()
        message = refusal(Target("127.0.0.1", "127.0.0.1", port, "alice"))
        thread.join()
    assert "there is no ssh server that this server can talk to (" in message
    assert "()" not in message


@pytest.mark.parametrize("shell", ["", "/bin/sh"])
def test_a_command_is_run_by_the_shell(monkeypatch, tmp_path, shell):
    """Variables, quotes and pipes are the shell's, and what is said on its way is not taken for the host's words."""
    monkeypatch.setenv("SHELL", shell)
    monkeypatch.setenv("WORD", "cat")
    file = tmp_path / "a file"
    file.write_text("hello\n")
    command = ProxyCommand(f"$WORD '{file}' - 2>/dev/null | cat; echo over >&2")
    assert command.sock.recv(6) == b"hello\n"
    command.sock.sendall(b"you\n")
    assert command.sock.recv(4) == b"you\n"
    command.close()


def test_a_command_goes_with_its_children(tmp_path):
    command = ProxyCommand(f"sh -c 'trap \"\" TERM; sleep 1000 & echo $! > {tmp_path}/pid; echo ready; wait'")
    assert command.sock.recv(100) == b"ready\n"
    pid = int((tmp_path / "pid").read_text())
    command.close()
    until(lambda: not running(pid))


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_command_that_fails_tells_its_last_words():
    before = threading.active_count()
    message = refusal(by_command("echo no route to the gate >&2; exit 7"))
    assert "its ProxyCommand in ~/.ssh/config does not reach it: it ended with exit code" in message
    assert "no route to the gate" in message
    until(lambda: threading.active_count() <= before)


def test_a_command_that_does_not_exist():
    message = refusal(by_command("/no/such/command %h"))
    assert "it ended with exit code 127; its last lines:\n" in message
    assert "/no/such/command" in message


def test_without_a_shell(monkeypatch):
    monkeypatch.setenv("SHELL", "/no/such/shell")
    assert "its ProxyCommand in ~/.ssh/config cannot be run: " in refusal(by_command("true"))


@pytest.mark.parametrize("options", [["-t", "ed25519"], ["-t", "rsa", "-m", "PEM"], ["-t", "ecdsa"]])
def test_the_public_part_of_a_key_with_a_passphrase(tmp_path, options):
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", *options, "-N", "secret words", "-f", str(path)], check=True)
    beside = path.with_name("key.pub")
    blob = public_key(path)
    assert blob == public_key(beside) == paramiko.Message(blob).asbytes() != b""
    beside.unlink()
    assert public_key(path) == (b"" if "PEM" in options else blob)
    assert public_key(tmp_path / "none") == b""
