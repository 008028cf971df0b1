"""What ~/.ssh/config and the settings say of a host, compared with what ssh itself makes of the same file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from elyra_server.errors import InvalidRequestError
from elyra_server.settings import Settings
from elyra_server.ssh.errors import HostError
from elyra_server.ssh.target import find_target


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file of ~/.ssh."""
    monkeypatch.setenv("HOME", str(tmp_path))
    directory = tmp_path / ".ssh"

    def write_file(text, name="config"):
        path = directory / name
        path.parent.mkdir(mode=0o700, exist_ok=True, parents=True)
        path.write_text(text.replace("{here}", str(directory)))
        return path

    return write_file


def what_ssh_says(file, name, *options):
    """Return what `ssh -G` prints of the options that matter."""
    command = ["ssh", "-G", "-F", str(file), *options, name]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = dict(line.split(" ", 1) for line in lines if " " in line)
    return found["hostname"], int(found["port"]), found["user"]


def find(name, user="", **settings):
    return find_target(name, Settings(**settings), user)


INCLUDING = """
Include {here}/conf.d/* {here}/none
User general
Host a
  Include {here}/for_a
  Port 2201
Host b
  Port 2202
Match host a,c user special
  Include {here}/for_special
  HostName 10.0.0.9
Include {here}/last
"""
INCLUDED = {
    "conf.d/1": "Host c\n  User special\n",
    "conf.d/2": "Port 2203\nHost d\n  User dora\n",
    "conf.d/.hidden": "User hidden\n",
    "for_a": "HostName 10.0.0.1\nHost b\n  HostName 10.0.0.2\nHost !x a*\n  User anna\nMatch all\n  Port 2204\n",
    "for_special": "Host c\n  HostName 10.0.0.3\nHost *\n",
    "last": "User last\nHost *\n  HostName 10.0.0.4\n",
}


@pytest.mark.parametrize("name", ["a", "b", "c", "d", "e"])
def test_included_files_count_where_they_are_included(write, name):
    file = write(INCLUDING)
    for path, text in INCLUDED.items():
        write(text, path)
    target = find(name)
    assert (target.hostname, target.port, target.user) == what_ssh_says(file, name)


def test_included_files_are_looked_for_below_ssh_s_directory(write):
    write("Include conf.d/*.conf ~/.ssh/other\nInclude missing\n")
    write("Host a\n  HostName 10.0.0.1\n", "conf.d/a.conf")
    write("Host a\n  User anna\n", "other")
    assert (find("a").hostname, find("a").user) == ("10.0.0.1", "anna")


def test_a_file_that_includes_itself_is_named(write):
    file = write("Include config\n")
    with pytest.raises(HostError, match=f"{file} is included by itself"):
        find("a")


def test_the_launch_s_user_and_port_are_in_the_commands(write):
    """As with ssh -l and -p, what is said of the file's user does not count for another one."""
    file = write(
        "Match user alice\n  HostName 10.0.0.7\nHost a\n  User bob\n  HostName 10.0.0.1\n"
        "  ProxyCommand connect --as %r %h:%p # 100%% of %n\n"
    )
    target = find("a", "alice", ssh_port=2222)
    assert (target.hostname, target.user, target.port) == ("10.0.0.7", "alice", 2222)
    assert (target.hostname, target.port, target.user) == what_ssh_says(file, "a", "-l", "alice", "-p", "2222")
    assert target.proxy_command == "connect --as alice 10.0.0.7:2222 # 100% of a"
    assert find("a", remote_user="carol").proxy_command == "connect --as carol 10.0.0.1:22 # 100% of a"


def test_a_token_that_is_not_known_is_named(write):
    write("Host a\n  ProxyCommand nc %z\n")
    with pytest.raises(HostError, match="%z in 'nc %z' is none of %% %h %n %p %r"):
        find("a")


def test_settings_are_for_the_kernels_hosts_and_not_for_those_to_jump_through(write):
    write("Host a\n  ProxyJump gate\n")
    target = find("a", ssh_port=2222, remote_user="kernels", remote_pwd="secret")
    assert (target.user, target.port, target.password) == ("kernels", 2222, "secret")
    assert (target.jump.hostname, target.jump.port, target.jump.password) == ("gate", 22, "")
    assert target.jump.user != "kernels"
    write("Host gate\n  Port 2022\nHost a\n  ProxyJump gate,joe@%n.gate:2023\n")
    last = find("a", ssh_port=2222).jump
    assert (last.hostname, last.port, last.user, last.jump.port) == ("a.gate", 2023, "joe", 2022)


@pytest.mark.parametrize(
    ("first", "second"),
    [("ProxyCommand none", "ProxyJump gate"), ("ProxyJump none", "ProxyCommand nc %h %p")],
)
def test_none_for_a_host_goes_before_what_is_for_all(write, first, second):
    write(f"Host gate\n  ProxyJump none\nHost a\n  {first}\nHost *\n  {second}\n")
    assert (find("a").jump, find("a").proxy_command) == (None, "")
    assert bool(find("b").jump) != bool(find("b").proxy_command)


def test_the_password_is_not_for_users_whom_clients_name(write):
    assert find("a", remote_pwd="secret").password == "secret"
    assert find("a", "alice", remote_pwd="secret").password == ""


def test_names_of_users(write):
    assert find("a", "alice@EXAMPLE.ORG").user == "alice@EXAMPLE.ORG"
    for bad in ("a b", "-oProxyCommand=x", "a\nPort 1", "$(id)"):
        with pytest.raises(InvalidRequestError, match=r"^KERNEL_USERNAME=.* is not the name of a user"):
            find("a", bad)
        with pytest.raises(HostError, match=r"^ELYRA_REMOTE_USER=.* is not the name of a user"):
            find("a", remote_user=bad)
    file = write("User a b\n")
    with pytest.raises(HostError, match=f"^{file} cannot be used for the host a: 'a b' is not the name of a user"):
        find("a")


@pytest.mark.parametrize("line", ["Port abc", "ProxyJump ,", "Host 'x", "StrictHostKeyChecking maybe", "Port"])
def test_a_file_that_cannot_be_used_is_named(write, line):
    file = write(f"{line}\n")
    with pytest.raises(HostError, match=f"^{file} cannot be used for the host a: "):
        find("a")


def test_a_file_that_cannot_be_read_is_named(write):
    file = write("Include {here}/broken\n")
    Path(file.parent, "broken").write_bytes(b"User caf\xe9\n")
    with pytest.raises(HostError, match=f"^{file} cannot be used"):
        find("a")
