"""A kernel on a real YARN, beside a bare spark-submit of ipykernel on the same cluster."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests

from .bare import EAGER_IPYKERNEL, IPYKERNEL, Bare, local_ipykernel, submitted
from .bare import first_reply as bare_first_reply
from .figures import Figure, figure, interleaved
from .servers import Kernel, Server

NAME = "spark_python_yarn_cluster"

SESSION = "from pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()"
COUNT = "assert spark.range(1000).count() == 1000"

SLOW_JOB = "__import__('time').sleep(1) or x"


def measure(runs: int, server: Server, spark_options: list[str], endpoint: str) -> Iterator[Figure]:
    """Yield the figures, as they come.

    Parameters
    ----------
    runs : int
        How often each is measured.
    server : Server
        A running `jupyter elyra` with the kernelspec `spark_python_yarn_cluster`.
    spark_options : list of str
        What the bare spark-submit gets, the same as the kernelspec's.
    endpoint : str
        The ResourceManager's REST API, ``http://host:port/ws/v1/cluster``.
    """
    yield from first_reply(runs, server, spark_options)
    yield from first_results(min(runs, 5), server, spark_options)
    kernel = server.start_kernel(NAME)
    yield from restarts(runs, kernel)
    yield interrupts(20 if runs > 1 else 3, kernel)
    yield from deletes(runs, server, endpoint, kernel)


def first_reply(runs: int, server: Server, spark_options: list[str]) -> Iterator[Figure]:
    """POST until the kernel's first reply, beside a bare spark-submit until the first reply of its ipykernel."""
    bare = submitted(IPYKERNEL, *spark_options)
    values, floors = interleaved(runs, lambda: server.first_reply(NAME), lambda: bare_first_reply(bare, True))
    yield figure("YARN cluster POST to first reply", "s", values, floors, 1.03)
    yield figure("YARN cluster POST to first reply, Python, faster than spark-submit", "s", values, floors, 0.4)


def first_results(runs: int, server: Server, spark_options: list[str]) -> Iterator[Figure]:
    """POST until Spark's first result, beside the same in an ipykernel that a bare spark-submit started."""
    for mode, script, code in (
        ("lazy", IPYKERNEL, f"{SESSION}\n{COUNT}"),
        ("eager", EAGER_IPYKERNEL, COUNT),
    ):
        bare = submitted(script, *spark_options)
        values, floors = interleaved(
            runs,
            lambda mode=mode: result_of_post(server, mode),
            lambda bare=bare, code=code: result_of_bare(bare, code),
        )
        yield figure(f"first Spark result on YARN, {mode}", "s", values, floors, 1.0)


def result_of_post(server: Server, mode: str) -> float:
    """Return the seconds from a POST to the first result of Spark."""
    start = time.perf_counter()
    kernel = server.start_kernel(NAME, KERNEL_SPARK_CONTEXT_INIT_MODE=mode)
    _must_be_ok(kernel.execute(COUNT))
    seconds = time.perf_counter() - start
    kernel.close()
    return seconds


def result_of_bare(command: Callable[[Path, Path], list[str]], code: str) -> float:
    """Return the seconds from a bare spark-submit to the first result of Spark in its kernel."""
    start = time.perf_counter()
    with Bare(command, writes_file=True) as kernel:
        number = kernel.begin(code)
        while (message := kernel.receive())["parent_header"].get("msg_id") != number or (
            message["header"]["msg_type"] != "execute_reply"
        ):
            pass
        _must_be_ok(message["content"])
        return time.perf_counter() - start


def _must_be_ok(reply: dict[str, Any]) -> None:
    if reply["status"] != "ok":
        raise RuntimeError(f"{reply.get('ename')}: {reply.get('evalue')}")


def restarts(runs: int, kernel: Kernel) -> Iterator[Figure]:
    """POST restart, with a live Spark: until the kernel's first reply, and until Spark's next result."""
    application = kernel.value("sc.applicationId")
    replies, results, starts = [], [], []
    for _ in range(runs):
        starts.append(bare_first_reply(local_ipykernel))
        kernel.value("spark.range(10).count()")
        start = time.perf_counter()
        kernel.post("restart")
        kernel.execute("1")
        replies.append(time.perf_counter() - start)
        kernel.value("spark.range(10).count()")
        results.append(time.perf_counter() - start)
        if kernel.value("sc.applicationId") != application:
            raise RuntimeError("the restart made a new application")
    later = [reply - start for reply, start in zip(replies, starts, strict=True)]
    yield figure("restart in place on YARN, live Spark, to first reply", "s", replies, None, 2.0)
    yield figure("restart in place on YARN, live Spark, later than a bare ipykernel's start", "s", later, None, 1.0)
    yield figure("restart in place on YARN, live Spark, to Spark's next result", "s", results, None, 4.0)


def interrupts(count: int, kernel: Kernel) -> Figure:
    """How many interrupts of a running Spark job do not end cell and job within a second, or spoil the next cell."""
    web_ui = kernel.value("sc.uiWebUrl").strip("'")
    application = kernel.value("sc.applicationId").strip("'")
    jobs = f"{web_ui}/api/v1/applications/{application}/jobs?status=running"
    missed = 0
    for _ in range(count):
        code = f"sc.parallelize(range(60), 60).map(lambda x: {SLOW_JOB}).count()"
        number = kernel.request("execute_request", {"code": code, "silent": False})
        while not requests.get(jobs, timeout=10).json():
            time.sleep(0.02)
        start = time.perf_counter()
        kernel.post("interrupt")
        status = kernel.reply(number)["status"]
        left = requests.get(jobs, timeout=10).json()
        seconds = time.perf_counter() - start
        works = kernel.value("spark.range(10).count()") == "10"
        missed += not (status != "ok" and not left and seconds < 1.0 and works)
    return figure(f"interrupts of a Spark job, of {count}, that take over 1 s or fail", "interrupts", [missed], None, 0)


def deletes(runs: int, server: Server, endpoint: str, first: Kernel) -> Iterator[Figure]:
    """DELETE of a kernel with a live Spark: until its answer, and until YARN says SUCCEEDED."""
    answers, ends = [], []
    kernel = first
    for number in range(min(runs, 3)):
        kernel = first if number == 0 else server.start_kernel(NAME)
        application = kernel.value("sc.applicationId").strip("'")
        start = time.perf_counter()
        answers.append(kernel.close())
        status = until_over(f"{endpoint}/apps/{application}")
        ends.append(time.perf_counter() - start)
        if status != "SUCCEEDED":
            raise RuntimeError(f"application {application} ended as {status}")
    yield figure("DELETE of a YARN kernel, to its answer", "s", answers, None, 1.0)
    yield figure("DELETE of a YARN kernel, to SUCCEEDED", "s", ends, None, 3.0)


def until_over(url: str) -> str:
    """Return an application's final status, once it is over."""
    while True:
        application = requests.get(url, timeout=10).json()["app"]
        if application["state"] in ("FINISHED", "FAILED", "KILLED"):
            return str(application["finalStatus"])
        threading.Event().wait(0.05)
