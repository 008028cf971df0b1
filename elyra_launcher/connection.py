"""The connection file: where it is, what is in it, and which ports it names.

A kernel that binds for itself gets zeros and fills in what it got, so that nobody
can take a port in between. For the others, and in a port range, ports are picked
here: bound all at once, given back, and named in the file.
"""

from __future__ import annotations

import os

from .errors import ConnectionFileError
from .private import PrivateDirectory, remove_abandoned, remove_if_there

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Any, Mapping

    from .arguments import Options

LOOPBACK = "127.0.0.1"

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
        self._directory: PrivateDirectory | None = None
        # YARN clears away a container's directory whatever becomes of its processes.
        self._base = os.path.abspath(os.getcwd() if "CONTAINER_ID" in environ else environ.get("TMPDIR") or "/tmp")
        name = os.path.basename(named) or "kernel.json"
        self.path = os.path.abspath(named or name)
        if named and os.path.exists(self.path):
            self._adopt()
        elif not named or not _is_private(os.path.dirname(self.path)):
            self._directory = PrivateDirectory(self._base)
            self.path = os.path.join(self._directory.path, name)

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
        if self._directory is not None:
            self._directory.remove()
        else:
            for name in (self.path, self.path + ".new"):
                remove_if_there(os.unlink, name)

    def remove_abandoned(self) -> None:
        """Remove what launchers that were killed left where this one makes private directories."""
        remove_abandoned(self._base)

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


def _is_private(directory: str) -> bool:
    try:
        status = os.stat(directory)
    except OSError:
        return False
    return status.st_uid == os.getuid() and not status.st_mode & 0o077 and os.access(directory, os.W_OK)


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
