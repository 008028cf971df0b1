"""The addresses at which launchers reach this server, and the ports there."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from elyra_server.errors import LaunchError
from elyra_server.settings import split_list

LOOPBACK = "127.0.0.1"

# Documentation addresses (RFC 5737, RFC 3849): asking for a route there sends nothing.
PROBES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def advertised_addresses(configured: str, prohibited: Iterable[str], first: str = "") -> list[str]:
    """Return the addresses to tell launchers on other hosts, the best first.

    Parameters
    ----------
    configured : str
        What the operator wants them to be.
    prohibited : iterable of str
        Patterns of addresses that are not told.
    first : str
        The address from which the launcher's host is reached, if that is known.

    Raises
    ------
    LaunchError
        If there is none that may be used.
    """
    names = split_list(configured)
    if names:
        return names
    patterns = tuple(prohibited)
    found = [
        address
        for address in dict.fromkeys([*([first] if first else []), *_routed_addresses(), *_named_addresses()])
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
    if name in ("localhost", LOOPBACK, "::1", socket.gethostname()):
        return True
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(name, None)}
    except OSError:
        return False
    return any(_is_own(address) for address in addresses)


def is_ipv4_elsewhere(ip: str) -> bool:
    """Say whether a kernel's address leads to another host by itself."""
    return ":" not in ip and not ip.startswith("127.")


def _is_own(address: str) -> bool:
    """Say whether an address is one of this host's: only those can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        return True
    return False


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
    try:
        infos = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [address for info in infos if _is_usable(address := str(info[4][0]))]


def _is_usable(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified)
