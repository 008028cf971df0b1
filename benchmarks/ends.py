"""How a local kernel ends: through the server, beside a signal or a message straight to a bare ipykernel."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator

import psutil

from .bare import Bare, local_ipykernel
from .figures import Figure, figure, interleaved
from .processes import supervisor_of
from .servers import Server

LIMIT = 30.0


def measure(runs: int, server: Server) -> Iterator[Figure]:
    """Yield how much later than without Elyra it is, as the figures come."""
    answers, ends, requests, signals, messages = interleaved(
        runs, lambda: deleted(server), lambda: delete_seen(server), lambda: told(server), terminated, bare_told
    )
    for name, values, floors in (
        ("DELETE of python_local, to its answer, later than by SIGTERM", answers, signals),
        ("DELETE of python_local, to its answer, later than by a shutdown_request", answers, messages),
        ("DELETE of python_local, to the end of its processes, later than by a shutdown_request", ends, messages),
        ("shutdown_request to python_local, to its process's end, later than to a bare one", requests, messages),
    ):
        later = [(value - floor) * 1000 for value, floor in zip(values, floors, strict=True)]
        yield figure(name, "ms", later, None, 100)


def deleted(server: Server) -> float:
    """Return the seconds that a DELETE takes."""
    kernel = server.start_kernel("python_local")
    kernel.first_reply()
    return kernel.close()


def delete_seen(server: Server) -> float:
    """Return the seconds from a DELETE to the end of the kernel and of its launcher."""
    kernel = server.start_kernel("python_local")
    kernel.first_reply()
    launcher = psutil.Process(supervisor_of(kernel.id))
    pids = [launcher.pid, *(each.pid for each in launcher.children())]
    return seconds_to_end(pids, kernel.close)


def told(server: Server) -> float:
    """Return the seconds from a shutdown_request through the websocket to the end of the kernel's process."""
    kernel = server.start_kernel("python_local")
    kernel.first_reply()
    (process,) = psutil.Process(supervisor_of(kernel.id)).children()
    seconds = seconds_to_end([process.pid], lambda: kernel.request("shutdown_request", {"restart": False}, "control"))
    kernel.close()
    return seconds


def terminated() -> float:
    """Return the seconds from a SIGTERM to a bare ipykernel to its end."""
    with Bare(local_ipykernel) as kernel:
        return seconds_to_end([kernel.process.pid], lambda: os.kill(kernel.process.pid, signal.SIGTERM))


def bare_told() -> float:
    """Return the seconds from a shutdown_request to a bare ipykernel to its end."""
    with Bare(local_ipykernel) as kernel:
        return seconds_to_end([kernel.process.pid], lambda: kernel.client.shutdown(reply=False))


def seconds_to_end(pids: list[int], order: Callable[[], object]) -> float:
    """Return the seconds from an order to the end of all these processes."""
    descriptors = [os.pidfd_open(pid) for pid in pids]
    try:
        start = time.perf_counter()
        order()
        for each in descriptors:
            if not select.select([each], [], [], LIMIT)[0]:
                raise RuntimeError(f"a process of a kernel did not end within {LIMIT:g} s")
        return time.perf_counter() - start
    finally:
        for each in descriptors:
            os.close(each)
