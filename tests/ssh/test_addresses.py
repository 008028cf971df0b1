"""Which addresses are this host's, and which are told to launchers elsewhere."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest

from elyra_server import addresses
from elyra_server.addresses import advertised_addresses, is_known_as_this_host, is_this_host, was_this_host
from elyra_server.listener import Listener
from elyra_server.settings import Settings

NETWORK = """
set -e
ip link set lo up
ip link add v0 type veth peer name v1
ip link set v0 up
ip link set v1 up
ip address add 10.1.2.3/24 dev v0
ip address add 10.1.2.4/24 dev v0
ip address add fd00:e1::3/64 dev v0 nodad
ip route add default via 10.1.2.1
sysctl -qw net.ipv4.ip_nonlocal_bind=1 net.ipv6.ip_nonlocal_bind=1
"""
ASK = "import sys; from elyra_server.addresses import is_this_host as own; print(*filter(own, sys.argv[1:]))"
OWN = ["10.1.2.3", "10.1.2.4", "fd00:e1::3", "::ffff:10.1.2.4", "::1", "127.0.0.7", "0.0.0.0", "0", "::"]
OTHERS = ["10.1.2.5", "192.0.2.1", "fd00:e1::4", "2001:db8::1", "::ffff:10.1.2.5"]


def test_addresses_of_this_host():
    """All of an interface's, and no others, even where sockets can be bound to any, as on hosts with a floating one."""
    script = f'{NETWORK}\nexec "$@"'
    command = ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, "-c", ASK, *OWN, *OTHERS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == OWN


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a..b", "x" * 70, "a\0b", "[::1"])
def test_what_cannot_be_a_name_is_no_host(name):
    assert not is_this_host(name)


@pytest.mark.parametrize("first", ["127.0.0.1", "::1", "fe80::1", "0.0.0.0", "proxy", ""])
def test_an_address_that_is_none_for_others_is_not_told(first):
    assert first not in advertised_addresses("", [], first)


async def test_the_resolver_holds_up_nobody(monkeypatch):
    """It is asked in a thread, and not at each launch."""
    monkeypatch.setattr(addresses, "_named", None)
    look_up, threads = socket.getaddrinfo, []

    def remember(*args, **options):
        threads.append(threading.current_thread())
        return look_up(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", remember)
    listener = Listener(Settings(response_ip=""))
    try:
        told = {await listener.remote_response_address() for _ in range(3)}
    finally:
        await listener.close()
    assert len(told) == len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_a_launch_here_does_not_go_by_ssh_because_the_resolver_is_slow(monkeypatch):
    """As on a host whose processor is busy with many launches at once."""

    def slow(*_):
        raise AssertionError("the resolver was asked")

    monkeypatch.setattr(addresses.socket, "getaddrinfo", slow)
    for name in ("localhost", "127.0.0.1", "::1", socket.gethostname()):
        assert is_known_as_this_host(name) is True
    assert is_known_as_this_host("192.0.2.1") is False
    assert is_known_as_this_host("host.example") is None


def test_what_the_resolver_said_is_known_when_it_is_slow_later(monkeypatch):
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", ("127.0.0.1", 0))])
    assert not was_this_host("known.example")
    assert is_this_host("known.example")
    assert was_this_host("known.example")
