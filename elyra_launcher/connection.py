"""The connection file: where it is, what is in it, and which ports it names.

A kernel that binds for itself gets zeros and fills in what it got, so that nobody
can take a port in between. For the others, and in a port range, ports are picked
here: bound all at once, given back, and named in the file.
"""

from __future__ import annotations

import os

from .errors import ConnectionFileError

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping

    from .arguments import Options

LOOPBACK = "127.0.0.1"

PREFIX = "elyra-kernel-"
"""What private directories are called, and then this host's name: several may share TMPDIR."""

ABANDONED_AGE = 60.0
"""Seconds after which a directory that nobody holds locked was left by a launcher that was killed."""

PORTS = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")


class ConnectionFile:
    """The connection file of one kernel, on this machine.

    Parameters
    ----------
    named : str
        The path that was asked for; it may be one that makes no sense here.
    environ : mapping of str to str
        Tells where private directories are made.

    Attributes
    ----------
    path : str
        Where the file is.
    info : dict
        What is in it.
    adopted : bool
        Whether the file was there already, with its ports, and is not ours to remove.

    Raises
    ------
    ConnectionFileError
        If there is something else at that path, or the directory cannot be made.
    """

    def __init__(self, named: str, environ: Mapping[str, str]) -> None:
        self.info: dict[str, Any] = {}
        self.adopted = False
        self._directory = ""
        self._lock = -1
        self._base = ""
        name = os.path.basename(named) or "kernel.json"
        self.path = os.path.abspath(named or name)
        if named and os.path.exists(self.path):
            self._adopt()
        elif not named or not _is_private(os.path.dirname(self.path)):
            # YARN clears away a container's directory whatever becomes of its processes.
            in_container = "CONTAINER_ID" in environ
            self._base = os.path.abspath(os.getcwd() if in_container else environ.get("TMPDIR") or "/tmp")
            self._directory = _private_directory(self._base)
            self._lock = _lock(self._directory)
            self.path = os.path.join(self._directory, name)

    @property
    def has_ports(self) -> bool:
        """Whether every port is known."""
        return all(self.info.get(name) for name in PORTS)

    def fill(self, ip: str, kernel_name: str) -> None:
        """Make the content, with a new key and no ports yet."""
        self.info = {
            **dict.fromkeys(PORTS, 0),
            "ip": ip,
            "key": os.urandom(32).hex(),
            "transport": "tcp",
            "signature_scheme": "hmac-sha256",
            "kernel_name": kernel_name,
        }

    def write(self) -> None:
        """Write the file anew, readable for its owner only."""
        try:
            temporary = self.path + ".new"
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(to_json(self.info))
            os.replace(temporary, self.path)
        except OSError as error:
            raise ConnectionFileError(f"the connection file {self.path} cannot be written: {error.strerror}") from error

    def pick_ports(self, port_range: tuple[int, int] | None, retries: int) -> None:
        """Choose free ports.

        Raises
        ------
        ConnectionFileError
            If the range has not enough of them.
        """
        self.info.update(zip(PORTS, free_ports(self.info["ip"], len(PORTS), port_range, retries)))

    def ports_taken(self) -> bool:
        """Whether somebody else holds one of the ports, while the kernel does not run."""
        return not all(is_free(self.info["ip"], self.info[name]) for name in PORTS)

    def remove(self) -> None:
        """Remove the file, and the directory if it was made for it."""
        if self.adopted:
            return
        if self._directory:
            _remove_directory(self._directory)
        else:
            for name in (self.path, self.path + ".new"):
                _remove(os.unlink, name)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove_abandoned(self) -> None:
        """Remove what launchers of this user on this host left that were killed."""
        if not self._directory:
            return
        import time

        before = time.time() - ABANDONED_AGE
        try:
            with os.scandir(self._base) as entries:
                for entry in entries:
                    if entry.name.startswith(_prefix()) and entry.path != self._directory:
                        status = entry.stat(follow_symlinks=False)
                        if status.st_uid == os.getuid() and status.st_mtime < before:
                            _remove_unlocked(entry.path)
        except OSError:
            return  # nobody's task but the next one's

    def _adopt(self) -> None:
        import json

        try:
            with open(self.path, encoding="utf-8") as file:
                self.info = json.load(file)
            self.adopted = self.has_ports
        except (OSError, ValueError, AttributeError):
            self.adopted = False
        if not self.adopted:
            raise ConnectionFileError(
                f"{self.path} exists and is not the connection file of a kernel: name a file that does not exist yet"
            )


def to_json(info: Mapping[str, Any]) -> str:
    """Return a flat object of numbers and texts as JSON.

    Importing `json` takes a third of the time until the kernel is started.
    """

    def literal(value: object) -> str:
        if isinstance(value, int):
            return str(value)
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "{\n " + ",\n ".join(f"{literal(name)}: {literal(value)}" for name, value in info.items()) + "\n}\n"


def _remove(how: Callable[[str], object], path: str) -> None:
    try:
        how(path)
    except OSError:
        return  # never made, or the kernel's user put something of theirs there


def _remove_directory(directory: str) -> None:
    try:
        names = os.listdir(directory)
    except OSError:
        return  # somebody was faster
    for name in names:
        _remove(os.unlink, os.path.join(directory, name))
    _remove(os.rmdir, directory)


def _lock(directory: str) -> int:
    """Hold a directory locked for as long as this process lives; return the descriptor, -1 if it cannot be."""
    import fcntl

    descriptor = -1
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another, or a file system without locks
        if descriptor >= 0:
            os.close(descriptor)
        return -1
    return descriptor


def _remove_unlocked(directory: str) -> None:
    descriptor = _lock(directory)
    if descriptor >= 0:
        _remove_directory(directory)
        os.close(descriptor)


def _is_private(directory: str) -> bool:
    try:
        status = os.stat(directory)
    except OSError:
        return False
    return status.st_uid == os.getuid() and not status.st_mode & 0o077 and os.access(directory, os.W_OK)


def _prefix() -> str:
    return f"{PREFIX}{os.uname().nodename}-"


def _private_directory(base: str) -> str:
    directory = os.path.join(base, _prefix() + os.urandom(8).hex())
    try:
        os.mkdir(directory, 0o700)
    except OSError as error:
        raise ConnectionFileError(
            f"no private directory for the connection file can be made in {base} ({error.strerror}); "
            "set TMPDIR to a directory that is writable here"
        ) from error
    return directory


def free_ports(ip: str, count: int, port_range: tuple[int, int] | None, retries: int) -> list[int]:
    """Return ports that were free a moment ago.

    Parameters
    ----------
    ip : str
        The address that they have to be free at.
    count : int
        How many.
    port_range : (int, int) or None
        Where to look; None leaves it to the system.
    retries : int
        How many ports of the range are tried for each.

    Raises
    ------
    ConnectionFileError
        If so many tries found none.
    """
    held: list[Any] = []
    try:
        for _ in range(count):
            held.append(bound_socket(ip, port_range, retries))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def bound_socket(ip: str, port_range: tuple[int, int] | None, retries: int) -> Any:
    """Return a socket that listens at a port of the range, or at any.

    Raises
    ------
    ConnectionFileError
        If there is none.
    """
    bound = _bind_in_range(ip, port_range, retries) if port_range else _bind(ip, 0)
    if bound is None and port_range:
        raise ConnectionFileError(
            f"no free port on {ip} between {port_range[0]} and {port_range[1]} after {retries} tries: "
            "widen --port-range or raise MAX_PORT_RANGE_RETRIES"
        )
    if bound is None:
        raise ConnectionFileError(f"no free port on {ip}")
    return bound


def is_free(ip: str, port: int) -> bool:
    """Whether a port can be bound."""
    bound = _bind(ip, port)
    if bound is not None:
        bound.close()
    return bound is not None


def _bind_in_range(ip: str, port_range: tuple[int, int], retries: int) -> Any:
    low, high = port_range
    for _ in range(retries):
        bound = _bind(ip, low + int.from_bytes(os.urandom(4), "big") % (high - low + 1))
        if bound is not None:
            return bound
    return None


def _bind(ip: str, port: int) -> Any:
    """Return a socket bound like the kernel's will be, or None."""
    import socket

    bound = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
    try:
        # As ZeroMQ does: connections that just ended do not keep a port.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((ip, port))
        bound.listen(1)
    except OSError:
        bound.close()
        return None
    return bound


def bind_address(options: Options) -> str:
    """Return the address of this machine that the kernel binds to, no wider than needed.

    It is the one from which this machine speaks to the server. Where that depends
    on which of the server's addresses will answer, the kernel is bound to all; also for
    servers of version 1, which find out by themselves at which address a worker is.
    """
    found = {source_address(*address) for address in options.addresses} or {LOOPBACK}
    if len(found) > 1 or (options.protocol_version == 1 and found != {LOOPBACK}):
        return "0.0.0.0"
    # Neither kernels nor their clients speak IPv6; the server finds a way to the loopback of this machine, or says so.
    return LOOPBACK if ":" in min(found) else found.pop()


RESOLVE_LIMIT = 3.0
"""Seconds that a name server has, before the kernel is bound to all addresses and started."""


def _resolve(host: str, port: int) -> Any:
    """Return the first address of a name, like `socket.getaddrinfo`, but soon.

    Raises
    ------
    OSError
        If it has none, or the answer takes too long.
    """
    import socket

    kind = socket.SOCK_DGRAM
    try:
        return socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)[0]
    except OSError:
        pass  # a name
    from threading import Thread

    found: list[Any] = []

    def look() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=kind))
        except OSError:
            return

    thread = Thread(target=look, daemon=True)
    thread.start()
    thread.join(RESOLVE_LIMIT)
    if not found:
        raise OSError(f"{host} cannot be resolved")
    return found[0]


def source_address(host: str, port: int) -> str:
    """Return the address from which this machine speaks to another."""
    if host == "localhost" or host.startswith("127."):
        return LOOPBACK
    import socket

    try:
        family, kind, _, _, address = _resolve(host, port)
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # sends nothing: a datagram socket only chooses its route
            return str(probe.getsockname()[0])
    except OSError:
        return "0.0.0.0"
