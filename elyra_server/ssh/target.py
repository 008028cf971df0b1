"""Where and as whom a host is logged in to: what the operator set, and what ``~/.ssh/config`` says."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import paramiko

from elyra_server.environment import default_username
from elyra_server.errors import InvalidRequestError
from elyra_server.kerberos import principal_of_cache
from elyra_server.settings import Settings, split_list
from elyra_server.ssh.config import fill_tokens, look_up, read_config
from elyra_server.ssh.errors import HostError

CONFIG = "~/.ssh/config"
KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
USER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,254}\Z")

STRICT, ACCEPT_NEW, OFF = "yes", "accept-new", "no"
CHECKING = {"yes": STRICT, "ask": STRICT, "true": STRICT, "accept-new": ACCEPT_NEW, "no": OFF, "off": OFF, "false": OFF}


@dataclass(frozen=True)
class Target:
    """One way to log in to one host; equal targets share a connection.

    Attributes
    ----------
    name : str
        The host as the operator wrote it.
    hostname, port, user : str, int, str
        Where it is, and who logs in.
    key_files : tuple of Path
        Private keys to offer, as far as they exist.
    use_agent : bool
        Whether to offer also those keys of the agent that none of the files names.
    jump : Target or None
        The host through which this one is reached.
    proxy_command : str
        A command that stands for the network connection.
    known_hosts : tuple of Path
        Files that vouch for its key; new keys go to the first.
    key_name : str
        The name that it has there.
    checking : str
        What becomes of other keys: ``yes`` refuses them, ``accept-new`` only changed ones, ``no`` none.
    password : str
        For a login without keys.
    gss : bool
        Whether to log in by Kerberos.
    gss_name : str
        The host's name in its principal, ``host/...``.
    gss_delegates : bool
        Whether the host gets the ticket, to use it there.
    login_limit : float
        Seconds from the first packet to the login.
    """

    name: str
    hostname: str
    port: int
    user: str
    key_files: tuple[Path, ...] = ()
    use_agent: bool = True
    jump: Target | None = None
    proxy_command: str = ""
    known_hosts: tuple[Path, ...] = ()
    key_name: str = ""
    checking: str = STRICT
    password: str = field(default="", repr=False)
    gss: bool = False
    gss_name: str = ""
    gss_delegates: bool = False
    login_limit: float = 4.5

    def __str__(self) -> str:
        where = self.hostname if self.hostname == self.name else f"{self.name} = {self.hostname}"
        return f"{self.user}@{where}, port {self.port}"


def find_target(name: str, settings: Settings, user: str = "") -> Target:
    """Return how to log in to a host.

    Parameters
    ----------
    name : str
        The host, as in ``remote_hosts``.
    settings : Settings
        The operator's.
    user : str
        The one to log in as, above what settings and ``~/.ssh/config`` say.

    Raises
    ------
    InvalidRequestError
        If that is the name of nobody.
    HostError
        If what the operator set cannot be used.
    """
    if user and not USER_NAME.match(user):
        raise InvalidRequestError(f"KERNEL_USERNAME={user!r} is not the name of a user that can log in to a host.")
    if settings.remote_user and not USER_NAME.match(settings.remote_user):
        raise HostError(f"ELYRA_REMOTE_USER={settings.remote_user!r} is not the name of a user.", lasting=False)
    file = Path(CONFIG).expanduser()
    try:
        target = _target(name, read_config(file), settings, user or settings.remote_user)
    except ImportError as error:
        raise HostError(f"{file} cannot be used for the host {name}: Match exec is not supported.") from error
    except (OSError, paramiko.SSHException, LookupError, ValueError) as error:
        raise HostError(f"{file} cannot be used for the host {name}: {error}") from error
    if not user:
        return target
    # The password is that of one user, and not of whoever a client names. And so is the ticket: who is logged in by it
    # as somebody else must not get it.
    own = principal_of_cache(os.environ) == (target.user,)
    return replace(target, password="", gss_delegates=target.gss_delegates and own)


def _target(
    name: str, config: Sequence[str], settings: Settings, user: str = "", port: int = 0, depth: int = 0
) -> Target:
    if depth > 8:
        raise ValueError("its ProxyJump goes in a circle")
    known = {**({"User": user} if user else {}), **({"Port": port} if port else {})}
    options = look_up(name, config, known, {"User": default_username(), "Port": 22 if depth else settings.ssh_port})
    user, hostname = options["user"], options["hostname"]
    if not USER_NAME.match(user):
        raise ValueError(f"{user!r} is not the name of a user")
    if not options["port"].isdecimal():
        raise ValueError(f"Port {options['port']!r} is not a number")
    tokens = {"h": hostname, "n": name, "p": options["port"], "r": user}
    jump, command = (fill_tokens(text, **tokens) for text in _way(options))
    named = tuple(Path(file).expanduser() for file in options.get("identityfile", ()))
    return Target(
        name=name,
        hostname=hostname,
        port=int(options["port"]),
        user=user,
        key_files=named or tuple(Path("~/.ssh").expanduser() / key for key in KEYS),
        use_agent=not _is_set(options, "identitiesonly"),
        jump=_jump(jump, config, settings, depth) if jump else None,
        proxy_command=command,
        known_hosts=_known_hosts(options),
        key_name=options.get("hostkeyalias", ""),
        checking=_checking(options, settings),
        password="" if depth else settings.remote_pwd,
        gss=settings.remote_gss_ssh or _is_set(options, "gssapiauthentication"),
        gss_name=options.get("gssapiserveridentity") or _gss_name(hostname, name),
        gss_delegates=_is_set(options, "gssapidelegatecredentials"),
        login_limit=settings.ssh_login_limit,
    )


def _way(options: Any) -> tuple[str, str]:
    """Return ProxyJump and ProxyCommand, of which the one that comes first in the file counts."""
    first = next((name for name in options if name in ("proxyjump", "proxycommand")), "")
    value = options.get(first) or "none"  # paramiko makes None of some
    if value.lower() == "none":
        return "", ""
    return (value, "") if first == "proxyjump" else ("", value)


def _is_set(options: Any, name: str) -> bool:
    return options.get(name, "no").lower() in ("yes", "true")


def _gss_name(hostname: str, name: str) -> str:
    """Return what a host is called, if there is more than its address: principals have names."""
    return next((each for each in (hostname, name) if not _is_address(each)), hostname)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _jump(text: str, config: Sequence[str], settings: Settings, depth: int) -> Target:
    """Return the last of a list of hosts to jump through, which is reached through the others."""
    jump: Target | None = None
    for each in split_list(text):
        user, _, place = each.removeprefix("ssh://").rpartition("@")
        match = re.fullmatch(r"(\[[^\]]+\]|[^:]+|[^:]*:[^:]*:.*)(?::(\d+))?", place)
        host, port = (match[1].strip("[]"), int(match[2] or 0)) if match else (place, 0)
        # User and password of the settings are for the kernels' hosts alone.
        found = _target(host, config, settings, user, port, depth + 1)
        jump = found if jump is None else _through(found, jump)
    if jump is None:
        raise ValueError(f"ProxyJump {text!r} names no host")
    return jump


def _through(target: Target, jump: Target) -> Target:
    return replace(target, jump=jump, proxy_command="")


def _known_hosts(options: Any) -> tuple[Path, ...]:
    own = options.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2").split()
    everybody = options.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2").split()
    return tuple(Path(file.strip('"')).expanduser() for file in own + everybody if file != "none")


def _checking(options: Any, settings: Settings) -> str:
    text = settings.ssh_host_key_checking or options.get("stricthostkeychecking", STRICT)
    if text.lower() not in CHECKING:
        raise ValueError(f"{text!r} is no way to check host keys: use yes, accept-new or no")
    return CHECKING[text.lower()]
