"""The addresses at which launchers reach this server, and the ports there."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import ipaddress
import socket
import struct
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from elyra_server.errors import LaunchError
from elyra_server.settings import split_list

LOOPBACK = "127.0.0.1"

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Documentation addresses (RFC 5737, RFC 3849): asking for a route there sends nothing.
PROBES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))

_resolved_here: set[str] = set()

RESOLVER_LIMIT = 1.0
"""Seconds that a launch waits for the resolver, where it can go on without its answer."""

NAME_KEPT = 60.0
"""Seconds for which the addresses of this host's name are remembered."""

_named: tuple[float, list[str]] | None = None

# Of linux/rtnetlink.h and linux/netlink.h.
RTM_NEWROUTE, RTM_GETROUTE, NLM_F_REQUEST, RTA_DST, RTN_LOCAL = 24, 26, 1, 1, 2


def advertised_addresses(configured: str, prohibited: Iterable[str], first: str = "") -> list[str]:
    """Return the addresses to tell launchers on other hosts, the best first.

    Parameters
    ----------
    configured : str
        What the operator wants them to be.
    prohibited : iterable of str
        Patterns of addresses that are not told.
    first : str
        The address from which the launcher's host is reached, if that is known. It is left out where it is
        none for others: of a port of this host that leads there, for example.

    Raises
    ------
    LaunchError
        If there is none that may be used.
    """
    names = split_list(configured)
    if names:
        return names
    patterns = tuple(prohibited)
    known = [*([first] if _is_usable(first) else []), *_routed_addresses(), *_named_addresses()]
    found = [
        address
        for address in dict.fromkeys(known)
        if not any(fnmatch.fnmatch(address, pattern) for pattern in patterns)
    ]
    if not found:
        raise LaunchError(
            "This host has no address that launchers on other hosts could reach. "
            "Set ELYRA_RESPONSE_IP to one, or relax ELYRA_PROHIBITED_LOCAL_IPS."
        )
    return found


def bind(address: str, port: int, retries: int, backlog: int) -> socket.socket:
    """Return a socket that listens at an address, at the first free port.

    Raises
    ------
    LaunchError
        If no port is free, or the address is not one of this host.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for number in range(port, min(port + retries, 65535) + 1):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, number))
            sock.listen(backlog)
        except OSError as error:
            sock.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                continue
            raise LaunchError(
                f"The server cannot listen for launchers at {address}: {error.strerror}. "
                "Set ELYRA_RESPONSE_IP to an address of this host, or ELYRA_RESPONSE_ADDR_ANY=True behind NAT."
            ) from error
        sock.setblocking(False)
        return sock
    raise LaunchError(
        f"No port from {port} to {port + retries} is free for launchers at {address}. "
        "Set ELYRA_RESPONSE_PORT or ELYRA_RESPONSE_PORT_RETRIES."
    )


def look_up_own_name() -> None:
    """Ask the resolver for the addresses of this host's name, if that was not done lately; blocks.

    `advertised_addresses` does so itself only where nobody did before.
    """
    global _named
    if _named is not None and time.monotonic() - _named[0] < NAME_KEPT:
        return
    try:
        infos = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        infos = []
    _named = time.monotonic(), [address for info in infos if _is_usable(address := str(info[4][0]))]


def do_with_known_name() -> None:
    """Let `advertised_addresses` not ask for this host's name, also where nothing is known of it yet."""
    global _named
    _named = _named or (float("-inf"), [])


def address_towards(url: str) -> str:
    """Return this host's address on the route to a URL's host, "" if it is none for others; may ask the resolver."""
    parts = urlsplit(url)
    with contextlib.suppress(OSError, ValueError):
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM)
        address = _source(found[0][0], found[0][4])
        return address if _is_usable(address) else ""
    return ""


def is_this_host(name: str) -> bool:
    """Say whether a name or an address is this host; may ask the resolver."""
    known = is_known_as_this_host(name)
    if known is None:
        known = _resolves_here(name)
        # Only names of this host are kept: others a client may make up without end.
        (_resolved_here.add if known else _resolved_here.discard)(name)
    return known


def is_known_as_this_host(name: str) -> bool | None:
    """Say the same where that takes no resolver, None where it does."""
    if name in ("localhost", LOOPBACK, "::1", socket.gethostname()):
        return True
    return None if _parse(name) is None else _is_own(name)


def was_this_host(name: str) -> bool:
    """Say what the resolver said of a name the last time, for when it takes too long now."""
    return name in _resolved_here


def _resolves_here(name: str) -> bool:
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(name, None)}
    except (OSError, ValueError):  # the latter for what cannot be a name
        return False
    return any(_is_own(address) for address in found)


def is_same_address(one: str, other: str) -> bool:
    """Say whether two texts are the same address; of IPv4 there are some in IPv6."""
    address = _parse(one)
    return address is not None and address == _parse(other)


def is_ipv4_elsewhere(ip: str) -> bool:
    """Say whether a kernel's address leads to another host by itself."""
    return ":" not in ip and not ip.startswith("127.")


def _is_own(text: str) -> bool:
    """Say whether an address is one of this host's."""
    address = _parse(text)
    if address is None or address.is_loopback or address.is_unspecified:
        return address is not None
    try:
        return _is_routed_here(address)
    except OSError:  # a sandbox without netlink
        return _can_be_bound(address)


def _is_routed_here(address: IPAddress) -> bool:
    """Ask the system whether packets to an address stay here; see rtnetlink(7)."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    packed = address.packed
    question = struct.pack("=BB10xHH", family, len(packed) * 8, 4 + len(packed), RTA_DST) + packed
    header = struct.pack("=IHHII", 16 + len(question), RTM_GETROUTE, NLM_F_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.send(header + question)
        kind, route_type = struct.unpack_from("=4xH17xB", sock.recv(4096))
    return bool(kind == RTM_NEWROUTE and route_type == RTN_LOCAL)


def _can_be_bound(address: IPAddress) -> bool:
    """Say whether a socket can have an address: mostly only own ones, but any with net.ipv4.ip_nonlocal_bind."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((str(address), 0))
        return True
    return False


def _parse(text: str) -> IPAddress | None:
    """Return an address without its zone, and the one of IPv4 that is meant by one of IPv6."""
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _routed_addresses() -> list[str]:
    """Return the addresses that packets to elsewhere would leave from."""
    result = []
    for family, target in PROBES:
        with contextlib.suppress(OSError):  # no route
            result.append(_source(family, (target, 9)))
    return [address for address in result if _is_usable(address)]


def _source(family: int, target: Any) -> str:
    """Return the address that packets to a target would leave from; sends nothing."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(target)
        return str(probe.getsockname()[0])


def _named_addresses() -> list[str]:
    """Return the addresses that this host's own name stands for."""
    if _named is None:
        look_up_own_name()
    assert _named is not None
    return _named[1]


def _is_usable(address: str) -> bool:
    parsed = _parse(address)
    return parsed is not None and not (parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified)
