"""``python -m benchmarks.growth``: how a server's cost grows with its kernels; writes growth.json for the docs.

Real kernels first, then simulated launchers, where the machine could not run so many kernels. At each number: one more
launch, the event loop's lag as a client sees it, memory, open files, and idling.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from .figures import percentile, quartiles, rounded
from .many import AT_ONCE, LIST, SETTLE, start
from .processes import proportional_memory, share
from .servers import Kernel, Server, elyra, install
from .simulated import kernelspec, raise_file_limit, simulation

RESULTS = Path(__file__).parent / "growth.json"
REAL, SIMULATED = (1, 10, 50), (1, 10, 100, 1000)
PAUSE = 0.01
LAUNCHES = 7
REAL_KERNEL = 70 * 2**20
"""What a real kernel and its launcher take, about."""


def measure(kinds: dict[str, tuple[int, ...]], directory: Path, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield one row for each kind of kernels and each number of them, with and without their websockets."""
    raise_file_limit()
    for name, counts in kinds.items():
        place = directory / name
        with simulation(place / "simulation") as pipe:
            paths = kernelspec(place / "kernels", pipe)
            paths["JUPYTER_PATH"] += os.pathsep + os.environ.get("JUPYTER_PATH", "")
            with elyra(place / "server", LIST, **paths) as server:
                yield from grow(name, counts, server, seconds)


def grow(name: str, counts: tuple[int, ...], server: Server, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield the rows of one kind of kernels, as a server gets more and more of them."""
    running = 0
    sockets: list[Kernel] = []
    yield row(name, 0, 0, server, seconds)
    for count in counts:
        if name != "simulated" and (count - running) * REAL_KERNEL > psutil.virtual_memory().available / 2:
            print(f"no memory for {count} real kernels", file=sys.stderr)
            return
        start(server, count - running, name)
        running = count
        yield row(name, count, len(sockets), server, seconds)
    # At the end, each kernel gets the websocket of a notebook.
    ids = [each["id"] for each in server.session.get(f"{server.url}/api/kernels").json()]
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            sockets.extend(pool.map(lambda each: Kernel(server, each), ids))
        yield row(name, running, len(sockets), server, seconds)
    except Exception as error:  # noqa: BLE001 - whatever breaks first is what this is for
        yield {"kernels": running, "kind": name, "broke": f"{type(error).__name__}: {error}"[:300]}


def row(name: str, kernels: int, sockets: int, server: Server, seconds: float) -> dict[str, Any]:
    """Return what a server with so many kernels costs, and one launch more."""
    threading.Event().wait(min(SETTLE, 3 * seconds))
    process = psutil.Process(server.process.pid)
    idle = share(process, seconds)
    lags = []
    for _ in range(int(seconds / PAUSE / 4)):
        lags.append(server.get() * 1000)
        threading.Event().wait(PAUSE)
    lists = [server.get("/api/kernels") * 1000 for _ in range(10)]
    values = {
        "kind": name,
        "kernels": kernels,
        "websockets": sockets,
        "memory_MiB": round(proportional_memory(process.pid), 1),
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "idle_percent": round(idle, 3),
        "get_api_ms": rounded(lags),
        "get_api_p99_ms": round(percentile(lags, 99), 3),
        "get_kernels_ms": rounded(lists),
    }
    # Afterwards: it leaves something to do behind.
    launches = [server.first_reply(name) for _ in range(LAUNCHES if seconds > 1 else 1)]
    return {**values, "launch_s": rounded(launches), "launch_spread_s": quartiles(launches)}


def main() -> None:
    """Measure, and write the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few kernels: shows that it runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to write (%(default)s)")
    arguments = parser.parse_args()
    kinds = {"simulated": (5,)} if arguments.quick else {"python_local": REAL, "simulated": SIMULATED}
    rows = []
    with tempfile.TemporaryDirectory(prefix="elyra-bench-") as directory:
        os.environ.update(install(Path(directory), "python_local"))
        for each in measure(kinds, Path(directory), 0.3 if arguments.quick else 10.0):
            print(each, flush=True)
            rows.append(each)
            arguments.results.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
