"""Scala and R beside bare starts of their kernels, and the interrupts of all languages beside a direct signal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .bare import IRKERNEL, Bare, local_ipykernel, submitted, toree
from .bare import first_reply as bare_first_reply
from .figures import Figure, figure, interleaved
from .servers import Kernel, Server

#: A cell of each language that says when it runs, and does not end.
BUSY = {
    "python_local": "print('busy', flush=True)\nwhile True: pass",
    "ir_local": "cat('busy\\n'); flush.console(); while (TRUE) {}",
    "spark_scala_local": 'println("busy"); while (true) { Thread.sleep(1) }',
}

#: What a kernel runs first. Toree by itself hangs when it is interrupted before it used Spark.
FIRST = {"spark_scala_local": "println(spark.range(1).count())"}

NAMES = (*BUSY, "spark_scala_yarn_cluster", "spark_R_yarn_cluster")

LOCAL_MASTER = ("--master", "local[2]")


def assembly() -> str:
    """Return the jar of Toree, as PyPI's package has it."""
    from importlib.util import find_spec

    spec = find_spec("toree")
    assert spec is not None and spec.origin is not None
    return str(next(Path(spec.origin).parent.glob("lib/toree-assembly-*.jar")))


def measure(runs: int, server: Server, spark_options: list[str]) -> Iterator[Figure]:
    """Yield the figures, as they come.

    Parameters
    ----------
    runs : int
        How often each is measured.
    server : Server
        A running `jupyter elyra` with the kernelspecs `NAMES`.
    spark_options : list of str
        What the bare spark-submit on YARN gets, the same as the kernelspecs'.
    """
    for label, name, command in (
        ("Toree", "spark_scala_yarn_cluster", toree(assembly(), *spark_options)),
        ("R", "spark_R_yarn_cluster", submitted(IRKERNEL, *spark_options)),
    ):
        values, floors = interleaved(
            runs, lambda name=name: server.first_reply(name), lambda command=command: bare_first_reply(command)
        )
        yield figure(f"YARN cluster POST to first reply, {label}", "s", values, floors, 1.03)
        if label == "R":
            yield figure(
                f"YARN cluster POST to first reply, {label}, faster than spark-submit", "s", values, floors, 0.4
            )
    yield r_restart(runs, server)
    for name, command in bare_kernels().items():
        yield interrupts(runs, server, name, command)


def r_restart(runs: int, server: Server) -> Figure:
    """POST restart of an R kernel on YARN until its first reply."""
    kernel = server.start_kernel("spark_R_yarn_cluster")
    kernel.execute("1")
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        kernel.post("restart")
        kernel.execute("1")
        seconds.append(time.perf_counter() - start)
    kernel.close()
    return figure("restart in place on YARN, R, to first reply", "s", seconds, None, 3.0)


def bare_kernels() -> dict[str, Callable[[Path, Path], list[str]]]:
    """Return what starts the kernel of each local kernelspec without Elyra."""
    return {
        "python_local": local_ipykernel,
        "ir_local": lambda directory, path: ["Rscript", "-e", "IRkernel::main(commandArgs(TRUE)[1])", str(path)],
        "spark_scala_local": toree(assembly(), *LOCAL_MASTER),
    }


def interrupts(runs: int, server: Server, name: str, command: Callable[[Path, Path], list[str]]) -> Figure:
    """How much later than after a direct signal an interrupted cell is answered."""
    kernel = server.start_kernel(name)
    signum = signal.SIGUSR2 if "scala" in name else signal.SIGINT
    with Bare(command) as bare:
        if name in FIRST:
            kernel.execute(FIRST[name])  # what Toree prints may come after its reply
            bare.busy(FIRST[name])()
        values, floors = interleaved(
            runs,
            lambda: _seconds_to_reply(kernel, BUSY[name], lambda: kernel.post("interrupt")),
            lambda: _seconds_to_reply(bare, BUSY[name], lambda: os.killpg(bare.process.pid, signum)),
        )
    kernel.close()
    later = [(value - floor) * 1000 for value, floor in zip(values, floors, strict=True)]
    return figure(f"interrupt to reply, {name}, later than by a direct signal", "ms", later, None, 20)


def _seconds_to_reply(kernel: Kernel | Bare, code: str, interrupt: Callable[[], object]) -> float:
    replied = kernel.busy(code)
    start = time.perf_counter()
    interrupt()
    replied()
    return time.perf_counter() - start
