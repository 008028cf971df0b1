"""What a message costs on its way through the server, beside a plain jupyter_server and beside direct ZeroMQ."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .bare import Bare, local_ipykernel
from .figures import Figure, figure, interleaved
from .servers import Kernel, elyra, jupyter_server

PRINTS = "for i in range({0}): print(i, flush=True)"
OUTPUT = "import sys\nfor _ in range({0}): sys.stdout.write('x' * 1_000_000); sys.stdout.flush()"

NO_LIMIT = "--ZMQChannelsWebsocketConnection.limit_rate=False"
"""By itself jupyter_server drops what is more than 1 MB, or 1000 messages, per second."""

Measure = Callable[[Kernel | Bare], float]


def measure(runs: int, directory: Path) -> Iterator[Figure]:
    """Yield the figures, as they come."""
    full = runs > 1
    with ExitStack() as stack:
        bare = stack.enter_context(Bare(local_ipykernel))
        servers = elyra(directory / "elyra"), jupyter_server(directory / "plain", NO_LIMIT)
        ours, plain = (stack.enter_context(each) for each in servers)
        kernels = ours.start_kernel("python_local"), plain.start_kernel("python3"), bare
        for name, unit, each in measures(*((100, 2000, 100, 1000) if full else (10, 50, 1, 20))):
            times = runs if "MB" not in name else min(runs, 5)
            values, plains, directs = interleaved(times, *(lambda each=each, kernel=k: each(kernel) for k in kernels))
            yield figure(name, unit, values, plains, 1.0)
            yield figure(f"{name}, beside direct ZMQ", unit, values, directs, 1.5)
        for kernel in kernels[:2]:
            kernel.close()


def measures(trips: int, prints: int, megabytes: int, executes: int) -> Iterator[tuple[str, str, Measure]]:
    """Yield what is measured: its name, its unit, and what gives one value of it."""
    yield "execute round trip", "ms", lambda kernel: sequential(kernel, trips)
    yield f"{prints} flushed prints", "s", lambda kernel: output(kernel, PRINTS.format(prints), prints)
    yield f"{megabytes} MB of output", "s", lambda kernel: output(kernel, OUTPUT.format(megabytes), megabytes * 10**6)
    yield f"{executes} small executes at once", "s", lambda kernel: pipelined(kernel, executes)


def sequential(kernel: Kernel | Bare, count: int) -> float:
    """Return the milliseconds of one request to its reply, one after another."""
    start = time.perf_counter()
    for _ in range(count):
        number = kernel.begin("1")
        while not _is(kernel.receive(), "execute_reply", number):
            pass
    return (time.perf_counter() - start) / count * 1000


def pipelined(kernel: Kernel | Bare, count: int) -> float:
    """Return the seconds that many requests take which are sent without waiting for replies."""
    start = time.perf_counter()
    waiting = {kernel.begin("1") for _ in range(count)}
    while waiting:
        message = kernel.receive()
        if message["header"]["msg_type"] == "execute_reply":
            waiting.discard(message["parent_header"]["msg_id"])
    return time.perf_counter() - start


def output(kernel: Kernel | Bare, code: str, expected: int) -> float:
    """Return the seconds from a request to the end of its output, none of which may be missing."""
    start = time.perf_counter()
    number = kernel.begin(code)
    text: list[str] = []
    replied = idle = False
    while not (replied and idle):
        message = kernel.receive()
        if message["header"]["msg_type"] == "stream" and message["parent_header"]["msg_id"] == number:
            text.append(message["content"]["text"])
        replied = replied or _is(message, "execute_reply", number)
        idle = idle or (_is(message, "status", number) and message["content"]["execution_state"] == "idle")
    seconds = time.perf_counter() - start
    whole = "".join(text)
    found = whole.count("\n") or len(whole)
    if found != expected:
        raise RuntimeError(f"of {expected} lines or bytes {found} came through {type(kernel).__name__}")
    return seconds


def _is(message: dict[str, Any], kind: str, number: str) -> bool:
    return message["header"]["msg_type"] == kind and message["parent_header"].get("msg_id") == number
