"""Which keys of a host are accepted, without a host: what ssh itself would do with the same known_hosts file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import paramiko
import pytest

from elyra_server.ssh.errors import HostError
from elyra_server.ssh.hostkeys import check_host_key
from elyra_server.ssh.target import ACCEPT_NEW, STRICT, Target

KEY, OTHER = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()
OTHER_KIND = paramiko.RSAKey.generate(2048)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "ssh" / "known_hosts"


@pytest.fixture
def known(file):
    """Write known_hosts lines: each a name and a key."""
    file.parent.mkdir()

    def write(*lines, end="\n"):
        file.write_text("\n".join(line(*each) for each in lines) + end)

    return write


def line(name, key):
    return f"{name} {key.get_name()} {key.get_base64()}"


def target(file, checking=STRICT, hostname="node1", port=22, **more):
    return Target(hostname, hostname, port, "alice", known_hosts=(file,), checking=checking, **more)


def refusal(*args):
    with pytest.raises(HostError) as caught:
        check_host_key(*args)
    return str(caught.value)


def accept(message):
    """Run the command that a refusal names."""
    command = message.partition("as this server's user: ")[2].partition("   (or")[0]
    subprocess.run(command, shell=True, check=True, capture_output=True)


@pytest.mark.parametrize("checking", [STRICT, ACCEPT_NEW])
@pytest.mark.parametrize("new", [OTHER, OTHER_KIND])
def test_a_key_of_any_kind_in_place_of_the_known_one_is_a_changed_one(file, known, checking, new):
    known(("node1", KEY))
    message = refusal(target(file, checking), new)
    assert "its host key has CHANGED" in message
    assert file.read_text() == line("node1", KEY) + "\n"
    accept(message)
    check_host_key(target(file), new)
    assert "CHANGED" in refusal(target(file), KEY)


@pytest.mark.parametrize("port", [22, 2222])
def test_the_command_accepts_the_key_that_was_shown(file, port):
    """It asks nobody, so it works behind other hosts, too; the directory need not be there."""
    there = target(file, port=port)
    message = refusal(there, KEY)
    assert "is not known" in message
    assert "keyscan" not in message
    accept(message)
    check_host_key(there, KEY)
    assert "CHANGED" in refusal(there, OTHER)


def test_keys_are_added_behind_a_line_without_an_end(file, known):
    known(("node2", OTHER), end="")
    check_host_key(target(file, ACCEPT_NEW), KEY)
    check_host_key(target(file), KEY)
    check_host_key(target(file, hostname="node2"), OTHER)
    known(("node2", OTHER), end="")
    accept(refusal(target(file), KEY))
    check_host_key(target(file), KEY)
    check_host_key(target(file, hostname="node2"), OTHER)


def test_the_first_key_makes_a_private_file(file):
    check_host_key(target(file, ACCEPT_NEW), KEY)
    assert file.read_text() == line("node1", KEY) + "\n"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_the_name_alone_vouches_for_a_host_at_another_port(file, known):
    known(("node1", KEY))
    check_host_key(target(file, port=2222), KEY)
    # But another sshd there is another host.
    assert "is not known" in refusal(target(file, port=2222), OTHER)
    check_host_key(target(file, ACCEPT_NEW, port=2222), OTHER)
    assert "CHANGED" in refusal(target(file, port=2222), KEY)
    known(("node1", KEY), ("[node1]:2222", OTHER))
    assert "CHANGED" in refusal(target(file, port=2222), KEY)


def test_a_revoked_key_is_refused_at_any_port(file, known):
    known(("@revoked node1", KEY))
    assert "is revoked" in refusal(target(file, ACCEPT_NEW, port=2222), KEY)


@pytest.mark.parametrize(("name", "port"), [("Node1.Example", 22), ("Node1.Example", 2222)])
def test_names_have_no_case_hashed_or_not(file, known, name, port):
    written = name if port == 22 else f"[{name}]:{port}"
    known((written, KEY))
    check_host_key(target(file, hostname=name.upper(), port=port), KEY)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert file.read_text().startswith("|1|")
    check_host_key(target(file, hostname=name.upper(), port=port), KEY)


def test_lines_that_are_no_keys_do_no_harm(file, known):
    known(("node1", KEY))
    with file.open("a", encoding="utf-8") as end:
        end.write("node1 ssh-ed25519 schlüssel\n|1|xyz ssh-rsa AAAA\nnode1\n")
    check_host_key(target(file), KEY)


def test_paths_with_blanks_survive_the_shell(tmp_path):
    there = target(Path(tmp_path, "a b", "known hosts"))
    accept(refusal(there, KEY))
    check_host_key(there, KEY)
