"""A real YARN and a real `jupyter elyra`, once for all tests that want them; kernels as a user starts them.

A plugin of pytest's, made known by `conftest`: tests/yarn, tests/r, tests/scala and tests/matrix share them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from client import Kernel, RequestError
from waiting import PATIENCE, until

from demo import BUILD, spark_home
from demo.server import Server
from demo.yarn import Yarn
from elyra_server.install import known_kernelspecs

CLUSTER = "spark_python_yarn_cluster"
OVER = ("FINISHED", "FAILED", "KILLED")
LAUNCH_LIMIT = 150  # seconds


class Questions:
    """What tests ask a YARN."""

    def application_of(self, kernel_id):
        """Return the application of a kernel, None if there never was one."""
        tagged = [each for each in self.applications() if kernel_id in each["applicationTags"]]
        assert len(tagged) <= 1
        return tagged[0] if tagged else None

    def wait_for(self, application_id, *states, limit=PATIENCE):
        """Return an application's report once it is in one of these states."""
        deadline = time.monotonic() + limit
        while (report := self.application(application_id))["state"] not in states:
            assert time.monotonic() < deadline, report
            time.sleep(0.1)  # YARN tells nobody
        return report

    def end_of(self, kernel_id, limit=PATIENCE):
        """Return state and final status of a kernel's application, once it is over."""
        report = self.wait_for(self.application_of(kernel_id)["id"], *OVER, limit=limit)
        return report["state"], report["finalStatus"]


class Cluster(Questions, Yarn):
    """The YARN of the tests."""

    def _settings(self):
        # As YARN is by itself: who takes more memory than was asked for is killed.
        return {
            **super()._settings(),
            "yarn.nodemanager.pmem-check-enabled": "true",
            "yarn.nodemanager.resource.memory.enforced": "false",  # by control groups, which it would rely on
            "yarn.nodemanager.container-monitor.interval-ms": 500,
        }


@pytest.fixture(scope="session")
def yarn():
    with Cluster(heartbeat=0.25) as cluster:
        with (cluster.conf_dir / "spark-defaults.conf").open("a") as file:
            file.write("spark.driver.memory 1g\n")  # Spark's own default; Toree is killed with half of it
            # Who compares what a cell gives wants no word on Spark's driver in it, however long that takes.
            file.write("spark.yarn.appMasterEnv.ELYRA_SPARK_PATIENCE 600\n")
        yield cluster
    assert not cluster.directory.exists()


@pytest.fixture(scope="session")
def server(yarn):
    """The server, as an operator starts it, with all kernelspecs; it leaves nothing when it is stopped."""
    environ = {**yarn.environ, "ELYRA_KERNEL_LAUNCH_TIMEOUT": str(LAUNCH_LIMIT)}
    server = Server(yarn.server_directory, environ)
    server.install(*known_kernelspecs(), "--user", f"--python={sys.executable}", "--local-jars")
    with server:
        process = psutil.Process(server.process.pid)
        yield server
        code = server.stop()
    assert code == 0, server.log_tail()
    assert not process.is_running()
    check_nothing_left(yarn, server)


def warm_submitters(server):
    """Return how many warm submitters a server has been told are ready, so far."""
    return server.log_file.read_text().count("A warm submitter is ready")


def counting_spark(home, calls):
    """Make the tests' Spark at another place, with a spark-submit that adds a line to a file for each call."""
    (home / "bin").mkdir(parents=True)
    for name in ("jars", "python", "bin/load-spark-env.sh", "bin/spark-class", "bin/find-spark-home"):
        (home / name).symlink_to(spark_home() / name)
    submit = home / "bin" / "spark-submit"
    submit.write_text(f'#!/bin/sh\necho called >>{calls}\nexec {spark_home()}/bin/spark-submit "$@"\n')
    submit.chmod(0o755)
    return home


def check_nothing_left(yarn, server):
    """No application runs, no container, and no file of a kernel or a launch is there."""
    for application in yarn.applications():
        yarn.wait_for(application["id"], *OVER)
    until(lambda: not processes_in(yarn.directory / "node"), "the end of all containers")
    assert list((server.directory / "tmp").iterdir()) == []
    assert list((server.directory / "runtime").glob("kernel-*")) == []
    assert list((yarn.directory / "staging").rglob("application_*")) == []


def processes_in(directory):
    """Return the command lines of the processes that run in a directory."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        if (process.info["cwd"] or "").startswith(str(directory)):
            found.append(process.info["cmdline"])
    return found


@pytest.fixture
def start(server):
    """Start kernels that end with the test."""
    kernels = []

    def start_kernel(name=CLUSTER, **env):
        kernels.append(Kernel(server, name, **env))
        return kernels[-1]

    yield start_kernel
    for kernel in kernels:
        try:
            kernel.delete()
        except RequestError as error:
            assert error.status == 404


@pytest.fixture
def add_kernelspec(server):
    """Install a kernelspec of the server's under another name, changed by a function."""
    directory = Path(server.environ["JUPYTER_DATA_DIR"]) / "kernels"

    def add(name, change, base=CLUSTER, options=()):
        server.install(base, "--user", "--replace", f"--kernel-name={name}", f"--python={sys.executable}", *options)
        path = directory / name / "kernel.json"
        spec = json.loads(path.read_text())
        change(spec)
        path.write_text(json.dumps(spec))
        return directory / name

    return add


@pytest.fixture(scope="session")
def old_ipykernel():
    """The Python of a virtual environment with ipykernel 6, as older workers have it."""
    directory = BUILD / "venv-ipykernel6"
    python = directory / "bin" / "python"
    stamp = directory / "complete"
    if not stamp.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "ipykernel>=6.29,<7"], check=True)
        stamp.touch()
    return python
