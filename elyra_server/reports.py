"""What a launcher says about its kernel's connection, looked at before anybody believes it.

With impersonation, or on a host of somebody else's, a launcher is in other hands than the server. What it reports must
not lead the server, and with it the kernel's user, to what is only the server's: its loopback, its files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from elyra_server.addresses import is_same_address, is_this_host
from elyra_server.errors import LaunchError

SCHEME = "hmac-"
UNSPECIFIED = ("", "0.0.0.0", "::", "*")


def check_report(info: dict[str, Any], peer: str) -> None:
    """Refuse connection info that a kernel cannot have; may ask the resolver, so it belongs into a thread.

    Parameters
    ----------
    info : dict
        The report's.
    peer : str
        The address from which the launcher called; empty where that is not known.

    Raises
    ------
    LaunchError
        The text says what is wrong with it.
    """
    transport, ip, scheme = (str(info.get(name, "")) for name in ("transport", "ip", "signature_scheme"))
    if transport != "tcp":
        raise LaunchError(f"The launcher reports a kernel with the transport {transport[:40]!r}; it has to be tcp.")
    if not scheme.startswith(SCHEME):
        raise LaunchError(
            f"The launcher reports a kernel with the signature scheme {scheme[:40]!r}; hmac-sha256 is one."
        )
    if not peer or is_this_host(peer):
        return
    if ip in UNSPECIFIED or is_this_host(ip):
        raise LaunchError(
            f"The launcher called from {peer}, but says that its kernel listens at {ip[:100] or 'no address'}, "
            "which is this server. Let the kernel report the address of its own host."
        )


def check_place(info: dict[str, Any], places: Iterable[str]) -> None:
    """Refuse connection info that leads to another host than the launcher's.

    Parameters
    ----------
    info : dict
        The report's.
    places : iterable of str
        The addresses that its host is known by.

    Raises
    ------
    LaunchError
        The text says where it leads to.
    """
    known = [place for place in places if place]
    if not any(is_same_address(str(info["ip"]), place) for place in known):
        raise LaunchError(
            f"The launcher says that its kernel listens at {str(info['ip'])[:100]}, but its host is "
            f"{' or '.join(known)}. Let the kernel report the address from which its launcher calls, or set "
            "ELYRA_ENABLE_TUNNELING=True."
        )


def check_key(info: dict[str, Any]) -> None:
    """Refuse a kernel whose messages anybody could make.

    Raises
    ------
    LaunchError
        If there is no key.
    """
    if not info.get("key"):
        raise LaunchError("The launcher reports a kernel without a key: anybody could send it messages.")
