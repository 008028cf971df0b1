"""Logging in: what the operator set and ``~/.ssh`` says; and every way to fail, with its own words."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from client import Kernel
from front import Front, nothing_left, started_when_back

from demo import ROOT
from demo.hosts import PASSWORD

NAME = "import os; print(os.uname().nodename, os.environ['USER'])"


@pytest.fixture
def alias(server):
    """Give a host another name, with options of ~/.ssh/config, and a kernelspec of that name."""
    file = server.home / ".ssh" / "config"
    before = file.read_text()

    def add(name, host, **options):
        options = {"HostName": getattr(host, "address", host), **options}
        lines = "".join(f"  {option} {value}\n" for option, value in options.items())
        file.write_text(f"Host {name}\n{lines}{file.read_text()}")
        server.add(name, remote_hosts=name)

    yield add
    file.write_text(before)


def key(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def test_a_host_that_is_not_known_is_refused_with_the_command_that_accepts_it(server, alias, start, w1, tmp_path):
    known = tmp_path / "known_hosts"
    alias("stranger", w1, UserKnownHostsFile=known, GlobalKnownHostsFile="none")
    error, _ = server.fail("stranger")
    assert error.status == 500
    assert "its host key is not known; it is ED25519 SHA256:" in error.message
    command = error.message.partition("as this server's user: ")[2].partition("   (or")[0]
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert start("stranger").value(NAME) == "w1 root"


def test_a_host_whose_key_changed_is_refused_with_the_command_that_accepts_it(server, alias, start, w1, w2, tmp_path):
    known = tmp_path / "known_hosts"
    known.write_text(f"{w1.address} {w2.host_key}\n")
    alias("changed", w1, UserKnownHostsFile=known, GlobalKnownHostsFile="none")
    error, _ = server.fail("changed")
    assert "its host key has CHANGED" in error.message
    assert f"{known} line 1 has another" in error.message
    command = error.message.partition("as this server's user: ")[2]
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert start("changed").value(NAME) == "w1 root"


def test_new_keys_are_accepted_where_the_operator_says_so_and_changed_ones_are_not(
    server, alias, start, w1, w2, tmp_path
):
    known = tmp_path / "known_hosts"
    options = {"UserKnownHostsFile": known, "GlobalKnownHostsFile": "none", "StrictHostKeyChecking": "accept-new"}
    alias("new", w1, **options)
    start("new")
    assert known.read_text().split()[:2] == [w1.address, "ssh-ed25519"]
    known.write_text(f"{w1.address} {w2.host_key}\n")
    alias("newer", w1, **options)
    error, _ = server.fail("newer")
    assert "CHANGED" in error.message


def test_known_hosts_may_be_hashed_or_patterns(alias, start, w1, w2, tmp_path):
    known = tmp_path / "known_hosts"
    known.write_text(f"{w1.address} {w1.host_key}\n!10.0.0.1,10.*.{w2.address.split('.', 2)[2]} {w2.host_key}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
    assert w1.address not in known.read_text()
    for name, host in (("hashed", w1), ("pattern", w2)):
        alias(name, host, UserKnownHostsFile=known, GlobalKnownHostsFile="none")
        assert start(name).value(NAME) == f"{host.name} root"


def test_a_wrong_key(server, alias, w1, tmp_path):
    alias("wrong", w1, IdentityFile=key(tmp_path / "other"), IdentitiesOnly="yes")
    error, _ = server.fail("wrong")
    assert f"it refused the login. Tried: key {tmp_path}/other. It accepts password, publickey." in error.message
    assert error.reason == "Kernel launch failed"


def test_kerberos_that_is_not_there_is_no_obstacle_to_keys(server, alias, start, w1, tmp_path):
    """Many have it in ~/.ssh/config for other hosts. Without a key that does, both are told."""
    alias("tickets", w1, GSSAPIAuthentication="yes")
    assert start("tickets").value(NAME) == "w1 root"
    alias("nothing", w1, GSSAPIAuthentication="yes", IdentityFile=key(tmp_path / "other"), IdentitiesOnly="yes")
    error, _ = server.fail("nothing")
    assert "no login by Kerberos: " in error.message
    assert f"Tried as well: key {tmp_path}/other. It accepts password, publickey. Put the public key" in error.message


def test_a_key_with_a_passphrase(server, alias, w1, tmp_path):
    path = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret words", "-f", str(path)], check=True)
    alias("locked", w1, IdentityFile=path, IdentitiesOnly="yes")
    error, _ = server.fail("locked")
    assert "which has a passphrase: load it into an agent" in error.message


def test_a_host_that_refuses_the_connection(server, alias, w1):
    alias("refused", w1, Port=9)
    error, _ = server.fail("refused")
    assert f"{w1.address} refuses the connection. Check that sshd runs there, and its port" in error.message


def test_a_host_that_does_not_answer(server, alias, w2):
    alias("silent", w2, Port=2222)
    w2.filter()
    try:
        error, seconds = server.fail("silent")
    finally:
        w2.unfilter()
    assert f"{w2.address} does not answer. Check that the host is up" in error.message
    assert seconds < 15  # and not what TCP takes


def test_a_port_that_is_not_ssh(server, alias):
    alias("http", "127.0.0.2", Port=server.url.rpartition(":")[2])
    server_port = server.url.rpartition(":")[2]
    error, _ = server.fail("http")
    assert "127.0.0.2" in error.message
    assert server_port in error.message


def test_a_host_that_does_not_exist(server):
    server.add("nowhere", remote_hosts="no-such-host.invalid")
    error, _ = server.fail("nowhere")
    assert "no-such-host.invalid, port 22: its name cannot be resolved" in error.message


def test_a_resolver_that_hangs_holds_up_no_launch(hosts, tmp_path, w1):
    """Asked whether the host is this one, and for this host's own name."""
    (tmp_path / "sitecustomize.py").write_text(
        "import socket, time\n"
        "resolve = socket.getaddrinfo\n"
        "def hang(host, *args, **options):\n"
        "    if host in ('slow', socket.gethostname()): time.sleep(60)\n"
        "    return resolve(host, *args, **options)\n"
        "socket.getaddrinfo = hang\n"
    )
    with Front(tmp_path, hosts, PYTHONPATH=f"{tmp_path}:{ROOT}") as server:
        config = server.home / ".ssh" / "config"
        config.write_text(f"Host slow\n  HostName {w1.address}\n{config.read_text()}")
        server.add("slow", remote_hosts="slow")
        begin = time.monotonic()
        kernel = Kernel(server, "slow")
        assert time.monotonic() - begin < 30  # and not a minute for each
        assert kernel.value(NAME) == "w1 root"
        kernel.delete()


def test_a_full_disk(server, start, w1):
    w1.run("dd", "if=/dev/zero", "of=/tmp/full", "bs=1M", check=False)
    w1.run("dd", "if=/dev/zero", "of=/tmp/fuller", "bs=1", check=False)
    error, _ = server.fail("w1")
    w1.run("rm", "/tmp/full", "/tmp/fuller")
    assert "/tmp cannot take the launcher's files: No space left on device" in error.message
    assert nothing_left(w1)
    assert start("w1").value(NAME) == "w1 root"


def test_a_shell_that_greets_does_no_harm(alias, start, server, hosts, w1):
    authorize(server, w1)
    alias("greeting", w1, User="carol")
    assert start("greeting").value(NAME) == "w1 carol"


def test_a_shell_that_refuses(server, alias, w1):
    authorize(server, w1)
    alias("nologin", w1, User="bob")
    error, _ = server.fail("nologin")
    assert "the shell of bob did not start" in error.message
    assert "This account is currently not available." in error.message


def test_a_host_without_python(server):
    def change(spec):
        spec["env"]["PYSPARK_PYTHON"] = "/opt/none/bin/python3"

    server.add("nopython", change=change, remote_hosts="w1")
    error, _ = server.fail("nopython")
    assert "there is no /opt/none/bin/python3. Install Python 3.8 or later there" in error.message


def test_a_host_with_an_old_python(server, w1):
    old = w1.directory / "python3.6"
    pretend = "import sys; sys.version_info = (3, 6, 9)\n"
    old.write_text(f'#!/bin/sh\nfor code; do :; done\nexec {sys.executable} -c "{pretend}$code"\n')
    old.chmod(0o755)

    def change(spec):
        spec["env"]["PYSPARK_PYTHON"] = str(old)

    server.add("oldpython", change=change, remote_hosts="w1")
    error, _ = server.fail("oldpython")
    assert "Python 3.6 is too old: 3.8 or later is needed. Install a newer one there" in error.message


def test_a_kernel_that_cannot_start_tells_its_last_words(server, w1):
    def change(spec):
        spec["env"]["LAUNCH_OPTS"] = "--kernel-class-name no.such.Kernel"

    server.add("broken", change=change, remote_hosts="w1")
    error, _ = server.fail("broken")
    assert "no.such.Kernel" in error.message or "No module named 'no'" in error.message
    assert nothing_left(w1)


def test_a_launch_command_that_fails(server, w1):
    def change(spec):
        spec["argv"] = ["sh", "-c", "echo licence server not reachable >&2; exit 3", *spec["argv"][1:]]

    server.add("fails", change=change, remote_hosts="w1")
    error, _ = server.fail("fails")
    assert "the launch command ended with exit code 3 before the kernel was ready" in error.message
    assert "licence server not reachable" in error.message
    assert nothing_left(w1)


def test_a_log_that_cannot_be_written_is_named(hosts, tmp_path):
    with Front(tmp_path, hosts, ELYRA_PROXY_LAUNCH_LOG="/proc/launch.log") as server:
        server.add("w1", remote_hosts="w1")
        error, _ = server.fail("w1")
    assert "the launch log /proc/launch.log cannot be written" in error.message


def test_through_another_host(alias, start, w1):
    # This server's own loopback is another one: sshd there has no such key.
    alias("inner", "127.0.0.1", ProxyJump="w1", HostKeyAlias=w1.address)
    before = w1.logins()
    assert start("inner").value(NAME) == "w1 root"
    assert w1.logins() == before + 2


def test_through_a_host_that_cannot_reach_it(server, alias, w1):
    alias("beyond", "127.0.0.1", Port=9, ProxyJump="w1", HostKeyAlias="beyond")
    error, _ = server.fail("beyond")
    assert f"it cannot be reached through root@w1 = {w1.address}" in error.message


def test_a_host_that_fails_is_passed_over_and_tried_again_later(server, start, w1, w2):
    server.add("pair", remote_hosts="w1,w2")
    w1.cut()
    try:
        first, second = start("pair"), start("pair")
        assert {first.value(NAME), second.value(NAME)} == {"w2 root"}
    finally:
        w1.restore()
    error, _ = server.fail("pair", KERNEL_REMOTE_HOST="w3")
    assert error.status == 400 and "not one of this kernelspec's hosts" in error.message
    # Who asks for it by name gets it, and from then on it is as good as the other.
    assert started_when_back(start, "pair", KERNEL_REMOTE_HOST="w1").value(NAME) == "w1 root"
    assert {start("pair").value(NAME) for _ in range(2)} == {"w1 root", "w2 root"}


def test_when_all_hosts_fail_each_says_why(server, alias, w1, w2):
    alias("one", w1, Port=9)
    alias("two", w2, Port=10)
    server.add("none", remote_hosts="one,two")
    error, _ = server.fail("none")
    assert "No host could take the kernel." in error.message
    assert f"{w1.address} refuses" in error.message
    assert f"{w2.address} refuses" in error.message


def test_by_a_command(server, alias, start, w1):
    """The shell runs it, as for ssh, with what is in place of the tokens."""
    command = "bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3' $NO_OPTIONS 2>/dev/null"
    alias("command", w1, ProxyCommand=command)
    assert start("command").value(NAME) == "w1 root"
    alias("failing", w1, ProxyCommand="cat /no/way/to/%h >/dev/null")
    error, _ = server.fail("failing")
    assert "its ProxyCommand in ~/.ssh/config does not reach it: it ended with exit code 1" in error.message
    assert f"/no/way/to/{w1.address}" in error.message


def test_by_password(hosts, tmp_path, w1):
    with Front(tmp_path, hosts, ELYRA_REMOTE_PWD=PASSWORD) as server:
        (server.home / ".ssh" / "id_ed25519").unlink()
        file = server.home / ".ssh" / "config"
        for name in ("alice", "mallory"):
            server.add(name, remote_hosts=name)
            file.write_text(f"{file.read_text()}Host {name}\n  HostName {w1.address}\n  User {name}\n")
        kernel = Kernel(server, "alice")
        assert kernel.value(NAME) == "w1 alice"
        assert PASSWORD not in kernel.value("import os; print(os.environ)")
        kernel.delete()
        assert nothing_left(w1)
        error, _ = server.fail("mallory")
        assert "mallory@mallory" in error.message
        assert "Tried: password" in error.message
        assert PASSWORD not in error.message
        assert server.stop() == 0
        assert PASSWORD not in server.log_file.read_text()


@pytest.fixture(scope="module")
def other(hosts, tmp_path_factory):
    """A server that logs in as the kernel's user, by an agent."""
    directory = tmp_path_factory.mktemp("other")
    (directory / "home").mkdir()
    with agent(directory) as socket:
        variables = {
            "ELYRA_REMOTE_PWD": PASSWORD,
            "ELYRA_IMPERSONATION_ENABLED": "True",
            "ELYRA_UNAUTHORIZED_USERS": "nobody",
            "ELYRA_SSH_HOST_KEY_CHECKING": "accept-new",
            "SSH_AUTH_SOCK": socket,
        }
        with Front(directory, hosts, **variables) as server:
            (server.home / ".ssh" / "id_ed25519").unlink()
            for name in ("w1", "w2"):
                server.add(name, remote_hosts=name)
            yield server
            assert server.stop() == 0


@contextlib.contextmanager
def agent(directory):
    path = str(directory / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        while not Path(path).exists():
            assert process.poll() is None
        yield path
    finally:
        process.terminate()
        process.wait()


def test_by_an_agent_as_the_kernel_s_user(other, w2, tmp_path):
    """Also by a key that has a passphrase in its file, as the only one of the agent's that is allowed."""
    path = key(tmp_path / "agents")
    with (w2.directory / "authorized_keys").open("a") as file:
        file.write((tmp_path / "agents.pub").read_text())
    environ = {**os.environ, "SSH_AUTH_SOCK": other.environ["SSH_AUTH_SOCK"]}
    subprocess.run(["ssh-add", "-q", str(key(tmp_path / "another")), str(path)], env=environ, check=True)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret words", "-f", str(path)], check=True)
    options = f"Host w2\n  IdentitiesOnly yes\n  IdentityFile {path}\n"
    config = other.home / ".ssh" / "config"
    config.write_text(options + config.read_text())
    kernel = Kernel(other, "w2", KERNEL_USERNAME="alice")
    assert kernel.value(NAME) == "w2 alice"
    assert kernel.value("import os; print(os.getcwd(), os.getuid())") == f"{w2.directory}/alice 7001"
    kernel.delete()
    assert nothing_left(w2)
    digest = subprocess.run(["ssh-keygen", "-l", "-f", str(path)], capture_output=True, text=True, check=True).stdout
    assert digest.split()[1] in (w2.directory / "sshd.log").read_text()


def test_the_password_is_not_offered_for_the_kernel_s_user(other):
    """It would let a client in as whoever has the same one."""
    error, _ = other.fail("w1", KERNEL_USERNAME="alice")
    assert "it refused the login. Tried: " in error.message
    assert "It accepts password, publickey." in error.message
    assert "password" not in error.message.partition("Tried: ")[2].partition(" It accepts")[0].replace(
        "no password", ""
    )


def test_a_kernel_s_user_who_cannot_be_one(other):
    error, _ = other.fail("w1", KERNEL_USERNAME="a b")
    assert (error.status, error.reason) == (400, "Invalid request")
    assert "KERNEL_USERNAME='a b' is not the name of a user" in error.message


def authorize(server, host):
    """Let the server's user in as any user of a host; all of them share authorized_keys."""
    assert (server.home / ".ssh" / "id_ed25519.pub").read_text() in (host.directory / "authorized_keys").read_text()
