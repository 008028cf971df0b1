"""``python -m benchmarks.beside_peers``: beside the real Enterprise Gateway 3.3 and gateway_provisioners 0.5.

Elyra, the two others and the floor without any server, in turn in the same run; writes peers.json.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import requests

from . import bare, peers
from .figures import Figure, figure, write
from .messages import sequential
from .on_yarn import NAME, until_over
from .servers import Kernel, Server, elyra, install
from .yarn import cluster

RESULTS = Path(__file__).parent / "peers.json"
OURS, FLOOR = "Elyra", "floor"

Measures = dict[str, Callable[[], float]]


class Rows:
    """Runs of some measures in turn; who fails once is not asked again, and its row says why."""

    def __init__(self, runs: int, measures: Measures) -> None:
        self.values: dict[str, list[float]] = {name: [] for name in measures}
        self.problems: dict[str, str] = {}
        for number in range(runs + (runs > 1)):
            for name, each in measures.items():
                if name in self.problems:
                    continue
                try:
                    value = each()
                except Exception as error:
                    if name in (OURS, FLOOR):
                        raise
                    self.problems[name] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                    continue
                if number or runs == 1:  # the first is not counted: files are read and caches filled
                    self.values[name].append(value)

    def figure(self, name: str, unit: str, target: float) -> Figure:
        """Return the figure, with the peers beside it."""
        others = {
            peer: self.problems.get(peer) or values for peer, values in self.values.items() if peer not in (OURS, FLOOR)
        }
        return figure(name, unit, self.values[OURS], self.values.get(FLOOR), target, others)


def measure_local(runs: int, directory: Path) -> Iterator[Figure]:
    """Local kernels, each server's own way to start one by a launcher on this host."""
    os.environ.update(install(directory, "python_local"))
    with ExitStack() as stack:
        servers = {
            OURS: (stack.enter_context(elyra(directory / "elyra")), "python_local"),
            "Enterprise Gateway": (stack.enter_context(peers.EnterpriseGateway(directory / "eg")), peers.LOCAL),
            "gateway_provisioners": (stack.enter_context(peers.GatewayProvisioners(directory / "gp")), peers.LOCAL),
        }
        starts: Measures = {
            name: lambda server=server, spec=spec: server.first_reply(spec) for name, (server, spec) in servers.items()
        }
        yield Rows(runs, {**starts, FLOOR: bare.managed_first_reply}).figure(
            "POST to first reply, a local kernel", "s", 1.15
        )
        kernels = {name: server.start_kernel(spec) for name, (server, spec) in servers.items()}
        direct = stack.enter_context(bare.Bare(bare.local_ipykernel))
        trips: Measures = {name: lambda kernel=kernel: sequential(kernel, 50) for name, kernel in kernels.items()}
        yield Rows(runs, {**trips, FLOOR: lambda: sequential(direct, 50)}).figure("execute round trip", "ms", 1.5)
        for kernel in kernels.values():
            kernel.close()
        ends: Measures = {
            name: lambda server=server, spec=spec: _close(server, spec) for name, (server, spec) in servers.items()
        }
        yield Rows(min(runs, 3), ends).figure("DELETE of a local kernel, to its answer", "s", 0.1)


def _close(server: Server, spec: str) -> float:
    kernel = server.start_kernel(spec)
    kernel.first_reply()
    return kernel.close()


def measure_yarn(runs: int, directory: Path) -> Iterator[Figure]:
    """Kernels in YARN's cluster mode, with each one's own kernelspec and launcher."""
    with cluster(directory, NAME) as (ours, options, endpoint), ExitStack() as stack:
        servers = {
            OURS: (ours, NAME),
            "Enterprise Gateway": (stack.enter_context(peers.EnterpriseGateway(directory / "eg")), peers.ON_YARN),
            "gateway_provisioners": (stack.enter_context(peers.GatewayProvisioners(directory / "gp")), peers.ON_YARN),
        }
        submit = bare.submitted(bare.IPYKERNEL, *options)
        starts: Measures = {
            name: lambda server=server, spec=spec: server.first_reply(spec) for name, (server, spec) in servers.items()
        }
        yield Rows(runs, {**starts, FLOOR: lambda: bare.first_reply(submit, True)}).figure(
            "YARN cluster POST to first reply, Python", "s", 1.03
        )
        for name, unit, target, act in (
            ("YARN cluster, execute round trip", "ms", 1.5, lambda kernel: sequential(kernel, 50)),
            ("YARN cluster, interrupt of a busy cell to its reply", "s", 0.02, interrupt),
            ("YARN cluster, POST restart to first reply", "s", 2.0, restart),
            ("YARN cluster, DELETE to its answer", "s", 1.0, Kernel.close),
            ("YARN cluster, DELETE until YARN says it is over", "s", 3.0, lambda kernel: end(kernel, endpoint)),
        ):
            once: Measures = {
                each: lambda server=server, spec=spec, act=act: with_kernel(server, spec, act)
                for each, (server, spec) in servers.items()
            }
            yield Rows(1 if runs == 1 else 2, once).figure(name, unit, target)


def with_kernel(server: Server, spec: str, act: Callable[[Kernel], float]) -> float:
    """Return what an act with a new kernel takes."""
    kernel = server.start_kernel(spec)
    kernel.first_reply()
    try:
        return act(kernel)
    finally:
        if act is not Kernel.close:
            with contextlib.suppress(requests.RequestException):  # it is gone already
                kernel.close()


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


def end(kernel: Kernel, endpoint: str) -> float:
    """Return the seconds from a DELETE until YARN says that the application is over."""
    running = requests.get(f"{endpoint}/apps?states=RUNNING", timeout=10).json()["apps"]["app"]
    (application,) = [each["id"] for each in running]
    start = time.perf_counter()
    kernel.close()
    until_over(f"{endpoint}/apps/{application}")
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
