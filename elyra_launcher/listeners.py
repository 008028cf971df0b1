"""Whose a port is: whether it is the kernel that listens where the kernel should.

A port that was free a moment ago may be another's when the kernel binds it. One that answers is
not yet the kernel's; on Linux the system tells which process has it. What cannot be found out
counts as the kernel's: it may run where this process sees little of it.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Iterator, Sequence

LISTEN = "0A"
ANY = ("0.0.0.0", "::")

KERNEL, STRANGER = "kernel", "stranger"


def answers(ip: str, port: int) -> bool:
    """Whether something accepts connections there; at this machine itself that shows at once."""
    import socket

    try:
        socket.create_connection((ip, port), 0.2).close()
    except OSError:
        return False
    return True


def stolen_ports(ip: str, ports: Sequence[int], kernel: int, kernel_id: str) -> list[int]:
    """Return which of a kernel's ports belong to others, while the rest of them is the kernel's.

    A kernel all of whose ports are others' lives elsewhere, in a container for instance: nobody
    loses five ports at once.

    Parameters
    ----------
    ip : str
        The address that the kernel was told to bind.
    ports : sequence of int
        Its ports, all of which answer.
    kernel : int
        Its process, which leads its session.
    kernel_id : str
        What its processes have in their environment as ``KERNEL_ID``; may be empty.
    """
    sockets = _sockets(ip, ports)
    # Another user's processes cannot be looked into, but the system says that it is another user's.
    owners = {port: STRANGER for port, users in sockets.items() if os.getuid() not in users.values()}
    for process in [kernel, *_processes()]:
        held = set(_sockets_of(process))
        for port in sockets:
            if owners.get(port) != KERNEL and not held.isdisjoint(sockets[port]):
                owners[port] = KERNEL if _belongs(process, kernel, kernel_id) else STRANGER
        if all(owners.get(port) == KERNEL for port in ports):
            return []
    if KERNEL not in owners.values():
        return []
    return [port for port in ports if owners.get(port) == STRANGER]


def _belongs(process: int, kernel: int, kernel_id: str) -> bool:
    """Whether a process is the kernel's, as far as one can see."""
    mark = f"KERNEL_ID={kernel_id}".encode()
    if kernel_id and mark in _read(f"/proc/{process}/environ").split(b"\0"):
        return True
    ours = {kernel, *_ancestors(os.getpid())}  # a kernel may live in the JVM that started this launcher
    return process in ours or kernel in _ancestors(process) or _stat(process)[3:4] == [str(kernel)]


def _ancestors(process: int) -> Iterator[int]:
    while process > 1:
        fields = _stat(process)
        process = int(fields[1]) if len(fields) > 1 else 0
        yield process


def _stat(process: int) -> list[str]:
    """Return state, parent, group, session and so on; nothing of a process that is gone."""
    return _read(f"/proc/{process}/stat").decode("utf-8", "replace").rpartition(")")[2].split()


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []


def _sockets_of(process: int) -> Iterator[str]:
    directory = f"/proc/{process}/fd"
    try:
        names = os.listdir(directory)
    except OSError:
        return  # gone, or another user's
    for name in names:
        try:
            target = os.readlink(f"{directory}/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[8:-1]


def _sockets(ip: str, ports: Sequence[int]) -> dict[int, dict[str, int]]:
    """Return the sockets that listen at each port, at this address or at all: their numbers, and whose they are."""
    found: dict[int, dict[str, int]] = {}
    wanted = {f"{port:04X}": port for port in ports}
    addresses = None if ip in ANY else {_hexadecimal(each) for each in (ip, *ANY)}
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        for line in _read(table).decode("ascii", "replace").splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            # An IPv4 address in the table of IPv6 is the end of a longer one.
            near = addresses is None or address in addresses or address[24:] in addresses
            if fields[3] == LISTEN and port in wanted and near:
                found.setdefault(wanted[port], {})[fields[9]] = int(fields[7])
    return found


def _hexadecimal(ip: str) -> str:
    """Return an address as the system's tables have it: in words of this machine's byte order."""
    import socket
    import sys

    data = socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
    words = (data[start : start + 4] for start in range(0, len(data), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
