"""A kernel of the matrix under observation: what Spark, YARN and the system say of it."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from client import Kernel, RequestError, Result
from places import CLUSTER, Cell

OVER = ("FINISHED", "FAILED", "KILLED")
RUNS = "it runs"


class Facts(NamedTuple):
    """What Spark says of itself in a kernel."""

    application: str
    master: str
    mode: str
    ui: str


class Subject(Kernel):
    """A kernel that was started for a cell of the matrix.

    Parameters
    ----------
    server, yarn
        The fixtures.
    cell : Cell
        Its language and place.
    directory : Path
        An empty one, for Spark's event log, which is there as soon as Spark is.
    options : str
        More options of spark-submit.
    env : str
        More variables of the request.
    """

    def __init__(self, server: Any, yarn: Any, cell: Cell, directory: Path, options: str = "", **env: str) -> None:
        self.yarn = yarn
        self.cell = cell
        self.language = cell.language
        self.events = directory
        self.known: set[str] = set()  # applications whose name is not the kernel's id
        options = f"--conf spark.eventLog.enabled=true --conf spark.eventLog.dir={directory.as_uri()} {options}"
        super().__init__(server, cell.kernelspec, KERNEL_EXTRA_SPARK_OPTS=options.strip(), **env)

    # -- Spark and YARN

    @property
    def uses_spark(self) -> bool:
        """Whether there is, or was, a SparkContext."""
        return any(self.events.iterdir())

    def facts(self) -> Facts:
        """Return what Spark says of itself."""
        found = Facts(*self.value(self.language.facts, text="http").split()[-4:])
        self.known.add(found.application)
        return found

    def jobs(self, facts: Facts, status: str) -> list[dict[str, Any]]:
        """Return Spark's jobs with a status, from its REST API."""
        url = f"{facts.ui}/api/v1/applications/{facts.application}/jobs?status={status}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=30) as response:
            found: list[dict[str, Any]] = json.load(response)
        return found

    def applications(self) -> list[dict[str, Any]]:
        """Return YARN's reports of the kernel's applications, the oldest first."""
        reports = self.yarn.applications()
        names = {self.id, *self.known}
        mine = [each for each in reports if self.id in each["applicationTags"] or names & {each["id"], each["name"]}]
        return sorted(mine, key=lambda report: str(report["id"]))

    # -- interrupts

    def start_cell(self, code: str) -> str:
        """Start a cell that prints "it runs", wait until it did, and return the request's id."""
        request = self.begin(code)
        said = ""
        while RUNS not in said:
            message = self.receive(60)
            if message["parent_header"].get("msg_id") == request:
                assert message["header"]["msg_type"] != "execute_reply", message["content"]
                said += message["content"].get("text", "")
        return request

    def interrupted(self, code: str, when: Callable[[], Any] | None = None) -> Result:
        """Run a cell, interrupt it when a condition holds, by default when it printed "it runs"; return its result."""
        request = self.start_cell(code) if when is None else self.begin(code)
        if when is not None:
            eventually(when, "what is to be interrupted")
        self.interrupt()
        return self.result_of(request, 60)

    def answer_to_interrupt(self, request: str) -> str:
        """Return what a cell's user is shown after an interrupt: that it ended, or that it does not answer."""
        said = ""
        while "does not answer" not in said:
            message = self.receive(30)
            if message["parent_header"].get("msg_id") == request:
                said += message["content"].get("text", "")
                if message["header"]["msg_type"] == "execute_reply":
                    assert message["content"]["status"] == self.language.interrupted[0]
                    break
        return said

    # -- the end

    def kill_process(self, pid: str) -> None:
        """Kill the kernel's process, as nobody else does."""
        process = psutil.Process(int(pid))
        assert process in self.processes()
        process.kill()

    def end_from_outside(self) -> None:
        """End all of it, as YARN's administrator does, or the host's."""
        if self.cell.place is CLUSTER:
            self.yarn.kill(self.applications()[-1]["id"])
            return
        (command,) = (each for each in self.processes() if each.ppid() == self.server.process.pid)
        command.terminate()

    def processes(self) -> set[psutil.Process]:
        """Return the processes that belong to the kernel: launcher, kernel, drivers, executors."""
        words = [self.id, *(report["id"] for report in self.applications())]
        return {each for each in psutil.process_iter() if mentions(each, words)}

    def check_nothing_left(self) -> None:
        """See that no process, file or running application of it is there, once it is not in the list any more."""
        with suppress(RequestError):
            self.delete()
        eventually(lambda: all(each["state"] in OVER for each in self.applications()), "the end of its applications")
        eventually(lambda: not self.processes(), "the end of its processes", self.processes)
        runtime, staging = self.server.directory / "runtime", self.yarn.directory / "staging"
        files = [*runtime.glob(f"*{self.id}*")]
        files += [file for report in self.applications() for file in staging.rglob(report["id"])]
        assert not files, files

    def ends(self) -> list[str]:
        """Return what YARN says of how its applications ended."""
        eventually(lambda: all(each["state"] in OVER for each in self.applications()), "the end of its applications")
        return [each["finalStatus"] for each in self.applications()]


def mentions(process: psutil.Process, words: list[str]) -> bool:
    """Whether a process's command line, directory or environment has one of some words."""
    try:
        texts = [*process.cmdline(), process.cwd(), *process.environ().values()]
        return process.status() != psutil.STATUS_ZOMBIE and any(word in text for word in words for text in texts)
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return False


def eventually(
    condition: Callable[[], Any], what: str, found: Callable[[], Any] = lambda: "nothing", limit: float = 180
) -> None:
    """Return when a condition holds of which nobody tells."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come; there is: {found()}"
        time.sleep(0.05)
