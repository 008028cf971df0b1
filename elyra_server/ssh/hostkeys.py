"""Whether a host is the one that it was: what becomes of the key that it shows."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

import paramiko

from elyra_server.ssh.errors import HostError
from elyra_server.ssh.knownhosts import (
    REVOKED,
    KnownKey,
    ends_a_line,
    fingerprint,
    known_keys,
    lookup_name,
    remember,
)
from elyra_server.ssh.target import ACCEPT_NEW, OFF, Target

log = logging.getLogger("elyra.ssh")


def prefer_known_keys(transport: paramiko.Transport, target: Target) -> None:
    """Ask the host for a key of a kind that is known, if there is one."""
    kinds = {key.kind for key in (*_known(target), *_known_without_port(target)) if key.marker != REVOKED}
    if "ssh-rsa" in kinds:
        kinds |= {"rsa-sha2-512", "rsa-sha2-256"}
    options = transport.get_security_options()
    options.key_types = sorted(options.key_types, key=lambda kind: kind not in kinds)


def check_host_key(target: Target, key: paramiko.PKey) -> None:
    """Refuse a host that is not the one it was, or is not known.

    Raises
    ------
    HostError
        With the command that accepts the key.
    """
    blob = key.asbytes()
    known, others = _known(target), _known_without_port(target)
    if any(each.marker == REVOKED and each.key == blob for each in (*known, *others)):
        raise HostError(f"Host {target}: its key {fingerprint(blob)} is revoked in known_hosts.")
    plain = [each for each in known if not each.marker]
    if target.checking == OFF or any(each.key == blob for each in plain):
        return
    # What is known of the name without the port can vouch for a key, but cannot say that it changed.
    if not plain and any(each.key == blob and not each.marker for each in others):
        return
    if not plain and target.checking == ACCEPT_NEW:
        _remember(target, key)
        return
    shown = f"{_kind(key)} {fingerprint(blob)}"
    if plain:
        name = shlex.quote(_known_name(target))
        files = dict.fromkeys(each.file for each in plain)
        forget = "".join(f"ssh-keygen -f {shlex.quote(str(file))} -R {name} && " for file in files)
        raise HostError(
            f"Host {target}: its host key has CHANGED; it is {shown} now, and {plain[0].file} line {plain[0].line} has "
            f"another. Somebody may be in between, or the host was installed anew. If so, accept it, as this server's "
            f"user: {forget}{_accept(target, key)}"
        )
    raise HostError(
        f"Host {target}: its host key is not known; it is {shown}. If that is right, accept it, as this server's user: "
        f"{_accept(target, key)}   (or set ELYRA_SSH_HOST_KEY_CHECKING=accept-new)"
    )


def _kind(key: paramiko.PKey) -> str:
    return str(key.get_name()).removeprefix("ssh-").partition("-")[0].upper()


def _accept(target: Target, key: paramiko.PKey) -> str:
    """Return the command that accepts a key: this one, and not whichever the host shows when it runs."""
    default = Path("~/.ssh/known_hosts").expanduser()
    path = next(iter(target.known_hosts), default)
    file = shlex.quote(str(path))
    line = shlex.quote(f"{_known_name(target)} {key.get_name()} {key.get_base64()}")
    directory = "" if path.parent.is_dir() else f"mkdir -m 700 {shlex.quote(str(path.parent))} && "
    return f"{directory}{'' if ends_a_line(path) else f'echo >> {file} && '}echo {line} >> {file}"


def _known_name(target: Target) -> str:
    return target.key_name or lookup_name(target.hostname, target.port)


def _known(target: Target) -> list[KnownKey]:
    return known_keys(_known_name(target), target.known_hosts)


def _known_without_port(target: Target) -> list[KnownKey]:
    """Return what is known of a host's name, where that is not all of what it is looked up by."""
    if target.key_name or target.port == 22:
        return []
    return known_keys(lookup_name(target.hostname, 22), target.known_hosts)


def _remember(target: Target, key: paramiko.PKey) -> None:
    if not target.known_hosts:
        return
    file = target.known_hosts[0]
    try:
        remember(file, _known_name(target), key.get_name(), key.asbytes())
    except OSError as error:
        log.warning("The key of host %s cannot be added to %s: %s", target, file, error)
