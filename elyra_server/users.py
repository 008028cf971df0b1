"""Who may start kernels.

KERNEL_USERNAME is whatever a client says, so by itself it proves nothing, and a
kernel runs as the server's user whatever it says. It is checked where it decides
something: when impersonation is on (the kernel then runs as that user), or when the
operator, or a kernelspec, lists authorized users. A server that does neither serves
everybody its front end lets in; that root is an unauthorized user by default does
not lock out the demo of somebody who is root.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elyra_server.environment import default_username
from elyra_server.errors import KernelSpecError, LaunchError, UserNotAuthorizedError
from elyra_server.kerberos import user_of_cache
from elyra_server.kernelspecs import switch
from elyra_server.settings import Settings, split_list


def check_user(settings: Settings, config: Mapping[str, Any], username: str) -> None:
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

    Raises
    ------
    UserNotAuthorizedError
        If the user may not.
    """
    authorized = _authorized(settings, config)
    if not (authorized or settings.impersonation_enabled):
        return
    unauthorized = {*settings.unauthorized_users, *_names(config, "unauthorized_users")}
    if username in unauthorized or _plain(username) in map(_plain, unauthorized):
        raise UserNotAuthorizedError(f"User {username!r} is not authorized to start kernels here (unauthorized_users).")
    _refuse_own(settings, config, username, default_username())
    if authorized and username not in authorized:
        raise UserNotAuthorizedError(f"User {username!r} is not among the authorized users of this kernelspec.")


def check_principal(settings: Settings, config: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """See that nobody is impersonated in a cluster who is the server itself there, by its Kerberos ticket.

    Parameters
    ----------
    settings, config
        As for `check_user`.
    environ : mapping
        The environment of the launch: KERNEL_USERNAME, and with which ticket it logs in.

    Raises
    ------
    UserNotAuthorizedError
        If that is the user of the ticket.
    """
    if settings.impersonation_enabled:
        _refuse_own(settings, config, environ.get("KERNEL_USERNAME", ""), user_of_cache(environ))


def check_own_host(settings: Settings, config: Mapping[str, Any], environ: Mapping[str, str], host: str) -> None:
    """Refuse to run as the server's own user, on its own host, what should run as another.

    Parameters
    ----------
    settings, config
        As for `check_user`.
    environ : mapping
        The environment of the launch.
    host : str
        How the user knows this host.

    Raises
    ------
    LaunchError
        If the launch command does not change the user itself (``impersonates``); the text says what to do.
    UserNotAuthorizedError
        If it does, and would act as the server.
    """
    if not settings.impersonation_enabled or environ.get("KERNEL_USERNAME") == default_username():
        return
    if switch(config, "impersonates"):
        check_principal(settings, config, environ)
        return
    raise LaunchError(
        f"Kernels run as the users they are for (ELYRA_IMPERSONATION_ENABLED), but on {host}, the server's, this one "
        f"would run as {default_username()}. Run it on other hosts by ssh (jupyter elyra install --remote-hosts=...), "
        'or set "impersonates": true in the config of its process_proxy if its command itself changes the user.'
    )


def _refuse_own(settings: Settings, config: Mapping[str, Any], username: str, own: str) -> None:
    if not (own and settings.impersonation_enabled) or username in _authorized(settings, config):
        return
    if _plain(username) == _plain(own):
        raise UserNotAuthorizedError(
            f"User {username!r} is the server's own, whose kernels could read what is the server's; name it in "
            "authorized_users if that is wanted."
        )


def _authorized(settings: Settings, config: Mapping[str, Any]) -> list[str]:
    return _names(config, "authorized_users") or list(settings.authorized_users)


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
