"""Who may start kernels.

KERNEL_USERNAME is whatever a client says, so by itself it proves nothing, and a
kernel runs as the server's user whatever it says. It is checked where it decides
something: when impersonation is on (the kernel then runs as that user), or when the
operator, or a kernelspec, lists authorized users. A server that does neither serves
everybody its front end lets in; that root is an unauthorized user by default does
not lock out the demo of somebody who is root.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from elyra_server.environment import default_username
from elyra_server.errors import KernelSpecError, UserNotAuthorizedError
from elyra_server.kerberos import user_of_cache
from elyra_server.settings import Settings, split_list


def check_user(settings: Settings, config: Mapping[str, Any], username: str, by_login: bool = False) -> None:
    """Let a user pass, or say why not.

    Parameters
    ----------
    settings : Settings
        The operator's lists.
    config : mapping
        The kernelspec's: its ``authorized_users`` replace the operator's, its
        ``unauthorized_users`` add to them.
    username : str
        KERNEL_USERNAME.
    by_login : bool
        Whether the kernel runs as whoever the server logs in as on another host. Otherwise the server may act for the
        user in a cluster (spark-submit's ``--proxy-user``), where it is itself known by its Kerberos ticket.

    Raises
    ------
    UserNotAuthorizedError
        If the user may not.
    """
    authorized = _names(config, "authorized_users") or settings.authorized_users
    if not (authorized or settings.impersonation_enabled):
        return
    unauthorized = {*settings.unauthorized_users, *_names(config, "unauthorized_users")}
    if username in unauthorized or _plain(username) in map(_plain, unauthorized):
        raise UserNotAuthorizedError(f"User {username!r} is not authorized to start kernels here (unauthorized_users).")
    if settings.impersonation_enabled and username not in authorized and _plain(username) in _own_names(by_login):
        raise UserNotAuthorizedError(
            f"User {username!r} is the server's own, whose kernels could read what is the server's; name it in "
            "authorized_users if that is wanted."
        )
    if authorized and username not in authorized:
        raise UserNotAuthorizedError(f"User {username!r} is not among the authorized users of this kernelspec.")


def _own_names(by_login: bool) -> set[str]:
    """Return as whom the server is known: on its host, and by its Kerberos ticket in a cluster."""
    ticket = "" if by_login else user_of_cache(os.environ)
    return {_plain(name) for name in (default_username(), ticket) if name}


def _plain(username: str) -> str:
    """Return what is the same account where names have realms and no case."""
    return username.partition("@")[0].partition("/")[0].casefold()


def _names(config: Mapping[str, Any], name: str) -> list[str]:
    value = config.get(name) or []
    if isinstance(value, str):
        return split_list(value)
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return list(value)
    raise KernelSpecError(f"process_proxy: {name} is neither a list of names nor a comma-separated text.")
