"""A kernel on a real YARN, beside a bare spark-submit of ipykernel on the same cluster."""

import threading
import time
from collections.abc import Iterator

import requests

from .bare import IPYKERNEL, submitted
from .bare import first_reply as bare_first_reply
from .figures import Figure, figure, interleaved
from .servers import Kernel, Server

NAME = "spark_python_yarn_cluster"

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
    yield first_reply(runs, server, spark_options)
    kernel = server.start_kernel(NAME)
    yield from restarts(runs, kernel)
    yield interrupts(20 if runs >= 7 else 3, kernel)
    yield from deletes(runs, server, endpoint, kernel)


def first_reply(runs: int, server: Server, spark_options: list[str]) -> Figure:
    """POST until the kernel's first reply, beside a bare spark-submit until the first reply of its ipykernel."""
    bare = submitted(IPYKERNEL, *spark_options)
    values, floors = interleaved(runs, lambda: server.first_reply(NAME), lambda: bare_first_reply(bare, True))
    return figure("YARN cluster POST to first reply", "s", values, floors, 1.1)


def restarts(runs: int, kernel: Kernel) -> Iterator[Figure]:
    """POST restart, with a live Spark: until the kernel's first reply, and until Spark's next result."""
    application = kernel.value("sc.applicationId")
    replies, results = [], []
    for _ in range(runs):
        kernel.value("spark.range(10).count()")
        start = time.perf_counter()
        kernel.post("restart")
        kernel.execute("1")
        replies.append(time.perf_counter() - start)
        kernel.value("spark.range(10).count()")
        results.append(time.perf_counter() - start)
        if kernel.value("sc.applicationId") != application:
            raise RuntimeError("the restart made a new application")
    yield figure("restart in place on YARN, live Spark, to first reply", "s", replies, None, 2.0)
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
        ends.append(_until_succeeded(f"{endpoint}/apps/{application}", start))
    yield figure("DELETE of a YARN kernel, to its answer", "s", answers, None, 1.0)
    yield figure("DELETE of a YARN kernel, to SUCCEEDED", "s", ends, None, 3.0)


def _until_succeeded(url: str, start: float) -> float:
    while True:
        application = requests.get(url, timeout=10).json()["app"]
        if application["state"] in ("FINISHED", "FAILED", "KILLED"):
            if application["finalStatus"] != "SUCCEEDED":
                raise RuntimeError(f"{application['finalStatus']}: {application['diagnostics']}")
            return time.perf_counter() - start
        threading.Event().wait(0.05)
