"""Log in to a host: network, host key, proof of who we are; every failure with its own words.

All of this blocks, so it runs in threads, and has to be over within a limit.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, TypeVar, cast

import paramiko

from elyra_server.ssh import kerberos
from elyra_server.ssh.errors import HostError
from elyra_server.ssh.hostkeys import check_host_key, prefer_known_keys
from elyra_server.ssh.keyfiles import public_key
from elyra_server.ssh.knownhosts import fingerprint
from elyra_server.ssh.proxycommand import ProxyCommand
from elyra_server.ssh.target import Target
from elyra_server.ssh.transport import Transport

T = TypeVar("T")

SHARE = 2 / 3
"""Of the time for a login: what it may take until the host greets."""

UNFINISHED = 4
"""How many logins to a host there are at a time: sshd hangs up when there are many (MaxStartups)."""

PAUSE = (0.2, 0.5)
"""Seconds before the next try where a host hung up."""

DEAD_AFTER = 90.0
"""Seconds without an answer after which a connection is broken: longer than an outage that it should outlive."""

TCP_RTO_MAX_MS = 44
"""Since Linux 6.15: how long the system waits at most before it sends again. Not in `socket` yet."""

MAX_RETRY_PAUSE = 4000

EXPECTED = (OSError, EOFError, paramiko.SSHException)
"""What paramiko and the network raise; anything else is a mistake, here or there."""

# What paramiko says of its own accord is said again in our errors, with the host.
PARAMIKO_LOG = "elyra.ssh.paramiko"
logging.getLogger(PARAMIKO_LOG).setLevel(logging.CRITICAL)

_turns: dict[tuple[str, int], threading.BoundedSemaphore] = {}

log = logging.getLogger("elyra.ssh")


class HungUpError(HostError):
    """A host hung up before its greeting; it may have been busy."""


class Login:
    """One attempt to log in.

    Attributes
    ----------
    phase : str
        What it does just now, for the message when it takes too long.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.phase = "has not begun"
        self._limit = target.login_limit
        self._deadline = time.monotonic() + self._limit
        self._given_up = threading.Event()
        self._opened: list[Any] = []
        self._command: ProxyCommand | None = None

    def run(self) -> paramiko.Transport:
        """Return an open connection; blocks.

        Raises
        ------
        HostError
            The text is the cause, and what to do.
        """
        try:
            transport = self._log_in(self.target)
            if self._given_up.is_set():
                raise self.too_late()
            return transport
        except BaseException as error:
            self.give_up()
            if isinstance(error, HostError) or not isinstance(error, Exception):
                raise
            # Whatever it is, it is this host's failure, and the next one may do.
            log.warning("Host %s: the login failed.", self.target, exc_info=not isinstance(error, EXPECTED))
            raise HostError(f"Host {self.target}: the login failed ({describe(error)}); {self.phase}.") from error

    def give_up(self) -> None:
        """Close what was opened, and what will be; whoever still waits for it fails."""
        self._given_up.set()
        for each in reversed(self._opened):
            with contextlib.suppress(OSError, EOFError):
                each.close()

    def too_late(self) -> HostError:
        """Return the error for an attempt that took too long."""
        return HostError(
            f"Host {self.target}: no login within {self._limit:g} s; {self.phase}. Check that the host is up, and that "
            "nothing between holds up ssh. Where it is just slow, raise ELYRA_SSH_LOGIN_LIMIT."
        )

    def _left(self) -> float:
        return max(self._deadline - time.monotonic(), 0.05)

    def _keep(self, opened: T) -> T:
        """Note what was opened; it is closed with the rest, or at once if that was closed meanwhile."""
        self._opened.append(opened)
        if self._given_up.is_set():
            raise self.too_late()
        return opened

    def _log_in(self, target: Target) -> paramiko.Transport:
        way = self._log_in(target.jump) if target.jump is not None and not target.proxy_command else None
        with self._turn(target):
            transport = self._greeted(target, way)
            self.phase = f"{target.hostname} has hung up before the login"
            check_host_key(target, transport.get_remote_server_key())
            self.phase = f"{target.hostname} does not answer to the login as {target.user}"
            transport.auth_timeout = self._left()
            authenticate(transport, target)
        return transport

    @contextlib.contextmanager
    def _turn(self, target: Target) -> Iterator[None]:
        """Wait until few others are about to log in to that host."""
        self.phase = f"many others log in to {target.hostname}, which takes long"
        turn = _turns.setdefault((target.hostname, target.port), threading.BoundedSemaphore(UNFINISHED))
        if not turn.acquire(timeout=self._left()):
            raise self.too_late()
        try:
            yield
        finally:
            turn.release()

    def _greeted(self, target: Target, way: paramiko.Transport | None) -> paramiko.Transport:
        """Return a connection to a host that greeted; one that hangs up may have been busy, and is tried again."""
        while True:
            try:
                return self._handshake(target, self._connect(target, way))
            except HungUpError:
                if self._left() < (1 - SHARE) * self._limit or self._given_up.wait(random.uniform(*PAUSE)):
                    raise

    # -- the network

    def _connect(self, target: Target, way: paramiko.Transport | None) -> Any:
        if target.proxy_command:
            return self._connect_by_command(target)
        if way is not None:
            return self._connect_through(target, way)
        self.phase = f"the name {target.hostname} is not resolved"
        try:
            found = socket.getaddrinfo(target.hostname, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise HostError(
                f"Host {target}: its name cannot be resolved ({getattr(error, 'strerror', None) or error}). "
                "Check remote_hosts, ELYRA_REMOTE_HOSTS, or HostName in ~/.ssh/config."
            ) from error
        self.phase = f"{target.hostname} does not answer"
        problems = {}
        deadline = min(time.monotonic() + SHARE * self._limit, self._deadline)
        for number, (family, kind, protocol, _, address) in enumerate(found):
            # What is left is shared by the addresses that are left.
            seconds = max((deadline - time.monotonic()) / (len(found) - number), 0.1)
            try:
                sock = self._keep(socket.socket(family, kind, protocol))
                sock.settimeout(seconds)
                sock.connect(address)
            except OSError as error:
                problems[str(address[0])] = error
            else:
                sock.settimeout(None)
                tune(sock)
                return sock
        raise HostError(f"Host {target}: ssh has no way to it: {describe_network_errors(problems)}")

    def _connect_by_command(self, target: Target) -> socket.socket:
        self.phase = f"the ProxyCommand for {target.name} has not connected"
        try:
            self._command = ProxyCommand(target.proxy_command)
        except OSError as error:
            raise HostError(
                f"Host {target}: its ProxyCommand in ~/.ssh/config cannot be run: {describe(error)}."
            ) from error
        return self._keep(self._command).sock

    def _connect_through(self, target: Target, way: paramiko.Transport) -> Any:
        assert target.jump is not None
        self.phase = f"{target.jump.hostname} has not reached {target.hostname}"
        try:
            place, limit = (target.hostname, target.port), SHARE * self._limit
            return way.open_channel("direct-tcpip", place, ("127.0.0.1", 0), timeout=limit)
        except EXPECTED as error:
            raise HostError(
                f"Host {target}: it cannot be reached through {target.jump} ({describe(error)}). "
                "Check ProxyJump in ~/.ssh/config."
            ) from error

    def _handshake(self, target: Target, sock: Any) -> paramiko.Transport:
        self.phase = f"{target.hostname} is connected, but sends no ssh greeting"
        transport: Any = None
        try:
            transport = self._keep(Transport(sock))
            transport.set_log_channel(PARAMIKO_LOG)
            transport.daemon = True
            transport.banner_timeout = transport.handshake_timeout = self._left()
            prefer_known_keys(transport, target)
            transport.start_client(timeout=self._left())
            if not transport.initial_kex_done:  # that call just returns when its time is over
                raise self.too_late()
        except EXPECTED as error:
            if self._given_up.is_set():
                raise self.too_late() from error
            end = self._command.describe_end() if self._command is not None and target.proxy_command else ""
            if end:
                raise HostError(f"Host {target}: its ProxyCommand in ~/.ssh/config does not reach it: {end}") from error
            if transport is not None and not transport.remote_version and time.monotonic() < self._deadline:
                transport.close()
                raise HungUpError(
                    f"Host {target}: there is no ssh server that this server can talk to (it hung up without a word). "
                    "Check the port (ELYRA_SSH_PORT, Port in ~/.ssh/config), and where many log in at the same time, "
                    "MaxStartups in its sshd_config.",
                    lasting=False,
                ) from error
            raise HostError(
                f"Host {target}: there is no ssh server that this server can talk to ({describe(error)}). "
                "Check the port (ELYRA_SSH_PORT, Port in ~/.ssh/config)."
            ) from error
        return cast(paramiko.Transport, transport)


def describe(error: BaseException) -> str:
    """Return the text of an error, also of one that has none."""
    text = getattr(error, "strerror", None) or str(error)
    return text.rstrip(".") or ("it hung up" if isinstance(error, EOFError) else type(error).__name__)


def tune(sock: socket.socket) -> None:
    """Let a connection outlive an outage, but not a dead host, and recover soon."""
    options = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", -1), 15),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", -1), 5),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", -1), int(DEAD_AFTER * 1000)),
        (socket.IPPROTO_TCP, TCP_RTO_MAX_MS, MAX_RETRY_PAUSE),
    ]
    for level, name, value in options:
        with contextlib.suppress(OSError):
            sock.setsockopt(level, name, value)


def describe_network_errors(problems: dict[str, OSError]) -> str:
    """Return why none of a host's addresses could be connected, and what to do."""
    texts = [f"{address} {describe_network_error(error)}" for address, error in problems.items()]
    advice = "Check that the host is up, and the network and firewalls between."
    if any(error.errno == errno.ECONNREFUSED for error in problems.values()):
        advice = "Check that sshd runs there, and its port (ELYRA_SSH_PORT, Port in ~/.ssh/config)."
    return f"{'; '.join(texts)}. {advice}"


def describe_network_error(error: OSError) -> str:
    """Return what an address does that cannot be connected."""
    if isinstance(error, TimeoutError) or error.errno in (errno.ETIMEDOUT, errno.EAGAIN):
        return "does not answer"
    if error.errno == errno.ECONNREFUSED:
        return "refuses the connection"
    return f"cannot be reached ({error.strerror or error})"


# -- who we are


def authenticate(transport: paramiko.Transport, target: Target) -> None:
    """Prove who we are, by whatever the host accepts.

    Raises
    ------
    HostError
        With what was tried.
    """
    tried: list[str] = []
    accepted: list[str] = []
    no_ticket: kerberos.KerberosError | None = None
    for description, attempt in _proofs(transport, target, tried):
        try:
            accepted = list(attempt() or [])
            if transport.is_authenticated():
                if no_ticket is not None:
                    log.info("Host %s: logged in with %s, not by Kerberos: %s", target, description, no_ticket)
                return
        except kerberos.KerberosError as error:
            no_ticket = error
            continue
        except paramiko.BadAuthenticationType as error:
            accepted = list(error.allowed_types)
            description = f"not the {description}, which it does not accept"
        except paramiko.AuthenticationException as error:
            if "timeout" in str(error).lower():
                raise HostError(f"Host {target}: it did not answer to the login in time.") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            tried.append(f"{description} (the host hung up: {str(error) or 'no reason given'})")
            break
        tried.append(description)
    if no_ticket is not None and not tried:
        raise HostError(f"Host {target}: no login by Kerberos: {no_ticket}", lasting=no_ticket.lasting)
    refusal = f"no login by Kerberos: {no_ticket} Tried as well" if no_ticket else "it refused the login. Tried"
    if not accepted and transport.is_active():
        accepted = _accepted(transport, target)
    offers = f" It accepts {', '.join(sorted(accepted))}." if accepted else ""
    raise HostError(
        f"Host {target}: {refusal}: {'; '.join(tried) or 'nothing, there is no key and no password'}.{offers} Put the "
        f"public key into ~/.ssh/authorized_keys of {target.user} there (ssh-copy-id), name the right user "
        "(ELYRA_REMOTE_USER) or key (IdentityFile in ~/.ssh/config), or, where nobody is impersonated, set "
        "ELYRA_REMOTE_PWD.",
        lasting=no_ticket is None or no_ticket.lasting,
        of_user=True,
    )


def _accepted(transport: paramiko.Transport, target: Target) -> list[str]:
    """Ask a host that refused everything what it would have liked."""
    try:
        transport.auth_none(target.user)
    except paramiko.BadAuthenticationType as error:
        return list(error.allowed_types)
    except (paramiko.SSHException, EOFError, OSError):
        return []
    return []


def _proofs(transport: Any, target: Target, tried: list[str]) -> Any:
    user = target.user
    if target.gss:
        yield "Kerberos", lambda: kerberos.log_in(transport, target)
    public = {file: public_key(file) for file in target.key_files}
    # Those that files name go first, since hosts allow only some attempts.
    keys = sorted(_agent_keys(), key=lambda key: key.asbytes() not in public.values())
    if not target.use_agent:
        keys = [key for key in keys if key.asbytes() in public.values()]
    for key in keys:
        yield f"key {fingerprint(key.asbytes())} of the agent", lambda key=key: transport.auth_publickey(user, key)
    in_agent = {key.asbytes() for key in keys}
    for file in target.key_files:
        if not file.exists() or public[file] in in_agent:
            continue
        try:
            key = paramiko.PKey.from_path(file)
        except (paramiko.PasswordRequiredException, TypeError):  # the latter from cryptography
            tried.append(f"not {file}, which has a passphrase: load it into an agent")
        except (paramiko.SSHException, OSError, ValueError, paramiko.UnknownKeyType) as error:
            tried.append(f"not {file}, which cannot be read ({error})")
        else:
            yield f"key {file}", lambda key=key: transport.auth_publickey(user, key)
    if target.password:
        yield "password", lambda: transport.auth_password(user, target.password)


def _agent_keys() -> list[Any]:
    if not os.environ.get("SSH_AUTH_SOCK"):
        return []
    try:
        return list(paramiko.Agent().get_keys())
    except EXPECTED:  # an agent that is gone
        return []


__all__ = ["Login", "authenticate"]
