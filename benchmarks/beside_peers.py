"""``python -m benchmarks.beside_peers``: beside the real Enterprise Gateway 3.3 and gateway_provisioners 0.5.

Elyra, the two others and the floor without any server, in turn in the same run; writes peers.json.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import requests
import websocket

from . import bare, peers
from .figures import Figure, figure, write
from .messages import sequential
from .on_yarn import NAME, until_over
from .servers import Kernel, Server, elyra, install
from .yarn import cluster

RESULTS = Path(__file__).parent / "peers.json"
OURS, FLOOR = "Elyra", "floor"

Life = Callable[[], dict[str, float | str]]
"""Lives a kernel's life and returns what each of its acts took, or why it could not be."""

ACTS = {
    "POST to first reply": ("s", 1.15),
    "execute round trip": ("ms", 1.5),
    "interrupt of a busy cell to its reply": ("s", 0.1),
    "POST restart to first reply": ("s", 2.0),
    "DELETE to its answer": ("s", 1.0),
    "DELETE until YARN says it is over": ("s", 3.0),
}


def compare(where: str, runs: int, lives: dict[str, Life]) -> Iterator[Figure]:
    """Yield the figures of lives that are lived in turn; what failed once in a life is told instead of its figure."""
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in lives}
    problems: dict[str, dict[str, str]] = {name: {} for name in lives}
    for number in range(runs + (runs > 1)):
        for name, live in lives.items():
            lived = live()
            print(f"run {number}, {name}: {lived}", flush=True)
            for act, value in lived.items():
                if isinstance(value, str):
                    problems[name][act] = value
                elif number or runs == 1:  # the first is not counted: files are read and caches filled
                    taken[name].setdefault(act, []).append(value)
    for act, (unit, target) in ACTS.items():
        if act not in taken[OURS]:
            continue
        others = {
            name: problems[name].get(act) or taken[name].get(act) or "it did not come so far"
            for name in lives
            if name not in (OURS, FLOOR)
        }
        yield figure(f"{where}, {act}", unit, taken[OURS][act], taken[FLOOR].get(act), target, others)


def life(server: Server, spec: str, endpoint: str = "") -> dict[str, float | str]:
    """Return what each act in the life of a kernel takes on a server; on YARN its end counts too."""
    taken: dict[str, float | str] = {}
    start = time.perf_counter()
    try:
        kernel = server.start_kernel(spec)
        kernel.first_reply()
    except (RuntimeError, OSError, websocket.WebSocketException) as error:
        return dict.fromkeys(ACTS, _in_short(error))
    taken["POST to first reply"] = time.perf_counter() - start
    application = running(endpoint) if endpoint else ""
    for act, play in (
        ("execute round trip", lambda kernel: sequential(kernel, 50)),
        ("interrupt of a busy cell to its reply", interrupt),
        ("POST restart to first reply", restart),
    ):
        try:
            taken[act] = play(kernel)
        except (RuntimeError, OSError, KeyError, websocket.WebSocketException) as error:
            taken[act] = _in_short(error)
    if endpoint:
        application = running(endpoint) or application
    start = time.perf_counter()
    try:
        taken["DELETE to its answer"] = kernel.close()
        if application:
            until_over(f"{endpoint}/apps/{application}")
            taken["DELETE until YARN says it is over"] = time.perf_counter() - start
    except (RuntimeError, OSError) as error:
        taken["DELETE to its answer"] = _in_short(error)
    return taken


def running(endpoint: str) -> str:
    """Return the application that runs; one at a time does here."""
    apps = (requests.get(f"{endpoint}/apps?states=ACCEPTED,RUNNING", timeout=10).json()["apps"] or {}).get("app", [])
    return str(apps[-1]["id"]) if apps else ""


def bare_life(command: Callable[[Path, Path], list[str]], writes_file: bool) -> dict[str, float | str]:
    """Return what those acts take that a kernel without a server has."""
    with bare.Bare(command, writes_file) as kernel:
        return {"POST to first reply": kernel.seconds, "execute round trip": sequential(kernel, 50)}


def _in_short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def measure_local(runs: int, directory: Path) -> Iterator[Figure]:
    """Local kernels, each server's own way to start one by a launcher on this host."""
    os.environ.update(install(directory, "python_local"))
    with ExitStack() as stack:
        ours = stack.enter_context(elyra(directory / "elyra"))
        others = _others(stack, directory)
        yield from compare(
            "local kernel",
            runs,
            {
                OURS: lambda: life(ours, "python_local"),
                **{name: lambda server=server: life(server, peers.LOCAL) for name, server in others.items()},
                FLOOR: lambda: bare_life(bare.local_ipykernel, False),
            },
        )


def measure_yarn(runs: int, directory: Path) -> Iterator[Figure]:
    """Kernels in YARN's cluster mode, with each one's own kernelspec and launcher."""
    with cluster(directory, NAME) as (ours, options, endpoint), ExitStack() as stack:
        others = _others(stack, directory)
        submit = bare.submitted(bare.IPYKERNEL, *options)
        spec = peers.ON_YARN
        yield from compare(
            "YARN cluster, Python",
            runs,
            {
                OURS: lambda: life(ours, NAME, endpoint),
                **{name: lambda server=server: life(server, spec, endpoint) for name, server in others.items()},
                FLOOR: lambda: bare_life(submit, True),
            },
        )


def _others(stack: ExitStack, directory: Path) -> dict[str, Server]:
    return {
        "Enterprise Gateway": stack.enter_context(peers.EnterpriseGateway(directory / "eg")),
        "gateway_provisioners": stack.enter_context(peers.GatewayProvisioners(directory / "gp")),
    }


def interrupt(kernel: Kernel) -> float:
    """Return the seconds from an interrupt to the reply of the busy cell."""
    replied = kernel.busy("print('busy', flush=True)\nwhile True: pass")
    start = time.perf_counter()
    kernel.post("interrupt")
    replied()
    return time.perf_counter() - start


def restart(kernel: Kernel) -> float:
    """Return the seconds from a restart to the reply of a cell in a new websocket."""
    start = time.perf_counter()
    kernel.post("restart")
    Kernel(kernel.server, kernel.id).execute("1")
    return time.perf_counter() - start


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside_peers", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=["local", "yarn", []], help="what to measure; both by default")
    parser.add_argument("--runs", type=int, default=5, help="runs of which the median counts (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to write (%(default)s)")
    arguments = parser.parse_args()
    suites = {"local": measure_local, "yarn": measure_yarn}
    for suite in arguments.suites or suites:
        with tempfile.TemporaryDirectory(prefix="elyra-bench-") as directory:
            for each in suites[suite](arguments.runs, Path(directory)):
                print(f"{each.name}: {each.value:g} {each.unit}, floor {each.floor}, {each.peers}", flush=True)
                write([each], arguments.results)


if __name__ == "__main__":
    main()
