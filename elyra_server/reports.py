"""What a launcher says about its kernel's connection, looked at before anybody believes it.

With impersonation, or on a host of somebody else's, a launcher is in other hands than the server. What it reports must
not lead the server, and with it the kernel's user, to what is only the server's: its loopback, its files.
"""

from __future__ import annotations

from typing import Any

from elyra_server.addresses import is_this_host
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


def check_key(info: dict[str, Any]) -> None:
    """Refuse a kernel whose messages anybody could make.

    Raises
    ------
    LaunchError
        If there is no key.
    """
    if not info.get("key"):
        raise LaunchError("The launcher reports a kernel without a key: anybody could send it messages.")
