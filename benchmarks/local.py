"""The launcher and the server on this machine, without a cluster."""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from elyra_launcher import protocol
from elyra_server.certificate import make_certificate

from . import ends
from .bare import managed_first_reply
from .figures import Figure, figure, interleaved
from .processes import proportional_memory, share, supervisor_of
from .servers import Server, elyra, jupyter_server


def measure(runs: int, directory: Path) -> Iterator[Figure]:
    """Yield the figures, as they come."""
    yield launcher_start(runs)
    with elyra(directory / "elyra") as ours, jupyter_server(directory / "plain") as plain:
        yield from first_replies(runs, ours, plain)
        with elyra(directory / "empty") as empty:
            yield api_with_kernels(runs, ours, empty)
        yield supervisor_memory(ours)
        yield from ends.measure(runs, ours)
    with elyra(directory / "idle") as ours:
        yield idle_server(20 if runs > 1 else 2, 30.0 if runs > 1 else 1.0, ours)


def launcher_start(runs: int) -> Figure:
    """The launcher until its server has the connection info; the floor: ipykernel until its ports are bound."""
    with tempfile.TemporaryDirectory() as directory:
        values, floors = interleaved(runs, lambda: _launch(Path(directory)), lambda: _bare_kernel(Path(directory)))
    return figure("launcher exec to connection info sent", "s", values, floors, 1.05)


def _launch(directory: Path) -> float:
    certificate = make_certificate()
    ticket = secrets.token_hex(32)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [
            *(sys.executable, "-m", "elyra_launcher", str(directory / f"kernel-{secrets.token_hex(4)}.json")),
            *("--RemoteProcessProxy.response-address", f"127.0.0.1:{listener.getsockname()[1]}"),
            *("--RemoteProcessProxy.public-key", certificate.fingerprint),
            *("--RemoteProcessProxy.kernel-id", "00000000-0000-4000-8000-000000000000"),
        ]
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, "ELYRA_LAUNCH_TICKET": ticket},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        connection, _ = listener.accept()
        with certificate.context.wrap_socket(connection, server_side=True) as link:
            _until_connection_info(link)
            seconds = time.perf_counter() - start
    process.terminate()
    process.wait(10)
    return seconds


def _until_connection_info(link: socket.socket) -> None:
    with link.makefile("rwb") as stream:
        for line in stream:
            message = json.loads(line)
            if message["method"] == protocol.HELLO:
                result = {"resume": secrets.token_hex(32), "lease": 60, "ping": 20}
                stream.write(protocol.encode(protocol.result(message["id"], result)))
                stream.flush()
            elif message["method"] == protocol.CONNECTION:
                return
    raise RuntimeError("the launcher ended without connection info")


def _bare_kernel(directory: Path) -> float:
    path = directory / f"bare-{secrets.token_hex(4)}.json"
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "ipykernel_launcher", "-f", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (path.exists() and path.stat().st_size):  # it writes the file when its ports are bound
        time.sleep(0.001)
    seconds = time.perf_counter() - start
    process.kill()
    process.wait()
    path.unlink(missing_ok=True)
    return seconds


def first_replies(runs: int, ours: Server, plain: Server) -> Iterator[Figure]:
    """POST of `python_local` until the kernel's first reply.

    Beside a plain jupyter_server with the same ipykernel, and beside a KernelManager without any server.
    """
    values, plains, managers = interleaved(
        runs, lambda: ours.first_reply("python_local"), lambda: plain.first_reply("python3"), managed_first_reply
    )
    yield figure("POST to first reply, python_local", "s", values, plains, 1.1)
    yield figure("POST to first reply, python_local, beside a KernelManager alone", "s", values, managers, 1.15)


def api_with_kernels(runs: int, server: Server, empty: Server) -> Figure:
    """GET /api with a few kernels running, beside the same of a server with none."""
    count = 5 if runs > 1 else 2

    def gets(server: Server) -> float:
        return sum(server.get() for _ in range(100)) / 100 * 1000

    kernels = [server.start_kernel("python_local") for _ in range(count)]
    for kernel in kernels:
        kernel.first_reply()
    values, floors = interleaved(runs, lambda: gets(server), lambda: gets(empty))
    for kernel in kernels:
        kernel.close()
    return figure(f"GET /api with {count} kernels", "ms", values, floors, 1.1)


def supervisor_memory(server: Server) -> Figure:
    """The proportional memory of a launcher that supervises a kernel."""
    kernel = server.start_kernel("python_local")
    kernel.first_reply()
    value = proportional_memory(supervisor_of(kernel.id))
    kernel.close()
    return figure("supervisor's proportional memory", "MiB", [value], None, 10)


def idle_server(kernels: int, seconds: float, server: Server) -> Figure:
    """The share of one core that the server takes while its kernels do nothing."""
    running = [server.start_kernel("python_local") for _ in range(kernels)]
    for kernel in running:
        kernel.first_reply()
    threading.Event().wait(min(3.0, seconds))  # what the starts left to do is done
    value = share(server.process, seconds)
    for kernel in running:
        kernel.close()
    return figure(f"server idle with {kernels} kernels", "%", [value], None, 1.0)
