"""Kernels on another host by ssh, beside the ssh command that starts a bare ipykernel on the same host."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import zmq
from jupyter_client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

from demo.hosts import Host, Hosts

from .figures import Figure, figure, interleaved
from .servers import Server

NAME = "python_distributed"
LIMIT = 60.0
PORTS = range(23000, 32000, 5)
"""Below the ports that the system hands out itself."""


def measure(runs: int, server: Server, hosts: Hosts, home: Path) -> Iterator[Figure]:
    """Yield the figures, as they come; the server's hosts are `hosts`, and `home` has the keys."""
    host = hosts.all[0]
    ports = iter(PORTS)
    values, floors = interleaved(
        runs, lambda: server.first_reply(NAME), lambda: bare_first_reply(host, home, next(ports))
    )
    logins = host.logins()
    yield figure("POST to first reply by ssh", "s", values, floors, 1.1)
    for _ in range(runs):
        server.first_reply(NAME)
    yield figure("ssh logins of launches after the first", "", [host.logins() - logins], None, 0)


def bare_first_reply(host: Host, home: Path, port: int) -> float:
    """Return the seconds from ``ssh HOST python -m ipykernel_launcher`` to the kernel's first reply."""
    path = host.directory / f"bare-{port}.json"
    names = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")
    write_connection_file(str(path), ip=host.address, **{name: port + i for i, name in enumerate(names)})
    kernel = [sys.executable, "-m", "ipykernel_launcher", "-f", str(path)]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*ssh(host, home), *kernel],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    await_port(host.address, port, process)
    context = zmq.Context()
    client = BlockingKernelClient(connection_file=str(path), context=context)
    client.load_connection_file()
    client.start_channels(hb=False)
    try:
        client.kernel_info(reply=True, timeout=LIMIT)
        seconds = time.perf_counter() - start
        client.shutdown(reply=False)
        process.wait(LIMIT)
    finally:
        process.kill()
        client.stop_channels()
        context.destroy(linger=0)
        path.unlink(missing_ok=True)
    return seconds


def await_port(address: str, port: int, process: "subprocess.Popen[bytes]") -> None:
    """Return when something listens there; looking every 2 ms flatters the floor against ZeroMQ's own waits."""
    while process.poll() is None:
        with socket.socket() as sock:
            if sock.connect_ex((address, port)) == 0:
                return
        time.sleep(0.002)
    raise RuntimeError(f"ssh ended with {process.returncode}")


def ssh(host: Host, home: Path) -> list[str]:
    """Return the command that logs in as the server does, without one of the user's own files."""
    files = home / ".ssh"
    known = f"UserKnownHostsFile={files / 'known_hosts'}"
    return ["ssh", "-F", str(files / "config"), "-i", str(files / "id_ed25519"), "-o", known, f"root@{host.name}"]
