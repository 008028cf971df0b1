"""A server with many kernels, which are simulated: what a request, a kernel and doing nothing cost it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from .figures import Figure, figure, interleaved
from .processes import proportional_memory, share
from .servers import Server, elyra
from .simulated import kernelspec, raise_file_limit, simulation

NAME = "simulated"
LIST = "--JupyterWebsocketPersonality.list_kernels=True"
AT_ONCE = 16
SETTLE = 3.0
"""Seconds after which what the starts left to do is done."""


def measure(runs: int, directory: Path) -> Iterator[Figure]:
    """Yield the figures, as they come."""
    few, many = (20, 200) if runs > 1 else (3, 12)
    raise_file_limit()
    with ExitStack() as stack:
        pipe = stack.enter_context(simulation(directory / "simulation"))
        paths = kernelspec(directory / "kernels", pipe)
        servers = {
            count: stack.enter_context(elyra(directory / f"with-{count}", LIST, **paths)) for count in (0, few, many)
        }
        start(servers[few], few)
        start(servers[many], few)
        settle = SETTLE if runs > 1 else 0.3
        yield memory(servers[many], many - few, settle)
        threading.Event().wait(settle)
        for path in ("/api", "/api/kernels"):
            yield from gets(runs, path, servers)
        yield idle(30.0 if runs > 1 else 1.0, servers[many], many)


def start(server: Server, count: int, name: str = NAME, at_once: int = AT_ONCE) -> list[float]:
    """Start simulated kernels, some at once, and return the seconds that each POST took."""

    def one(_: int) -> float:
        begin = time.perf_counter()
        answer = server.post_kernel(name)
        if answer.status_code != 201:
            raise RuntimeError(f"POST /api/kernels: {answer.status_code} {answer.text}")
        return time.perf_counter() - begin

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, range(count)))


def memory(server: Server, more: int, settle: float) -> Figure:
    """What the server's own process grows by with each kernel, beyond the first ones."""
    threading.Event().wait(settle)
    before = proportional_memory(server.process.pid)
    start(server, more)
    threading.Event().wait(settle)
    each = (proportional_memory(server.process.pid) - before) / more
    return figure("server memory per kernel (simulated)", "MiB", [each], None, 0.5)


def gets(runs: int, path: str, servers: dict[int, Server]) -> Iterator[Figure]:
    """GET of a path with some kernels, and with many, beside the same with none."""

    def some(server: Server) -> float:
        return sum(server.get(path) for _ in range(50)) / 50 * 1000

    floors, *columns = interleaved(runs, *(lambda server=server: some(server) for server in servers.values()))
    for count, values in zip(list(servers)[1:], columns, strict=True):
        yield figure(f"GET {path} with {count} kernels (simulated)", "ms", values, floors, 1.1)


def idle(seconds: float, server: Server, kernels: int) -> Figure:
    """The share of one core that the server takes while its kernels do nothing."""
    values = [share(server.process, seconds / 3) for _ in range(3)]
    return figure(f"server idle with {kernels} kernels (simulated)", "%", values, None, 0.5)
