"""A server without a cluster, for R kernels on this host, with a stand-in for SparkR where a test wants one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from client import Kernel, RequestError

from demo.server import Server

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def r_library(tmp_path_factory):
    """A library of R packages with the stand-in for SparkR."""
    library = tmp_path_factory.mktemp("library")
    command = ["R", "CMD", "INSTALL", "--no-docs", f"--library={library}", str(HERE / "SparkR")]
    subprocess.run(command, check=True, capture_output=True, timeout=180, cwd=library)
    return library


@pytest.fixture(scope="session")
def r_server(tmp_path_factory, r_library):
    """The server with ``ir_local``, ``spark_R_local``, and ``sparkr``, which is the latter with the stand-in."""
    directory = tmp_path_factory.mktemp("server")
    for name in ("data", "runtime", "config", "tmp"):
        (directory / name).mkdir(mode=0o700)
    server = Server(directory, {"ELYRA_KERNEL_LAUNCH_TIMEOUT": "150", "SPARK_LOCAL_IP": "127.0.0.1"})
    options = ("--user", f"--python={sys.executable}")
    server.install("ir_local", "spark_R_local", *options)
    server.install("spark_R_local", "--kernel-name=sparkr", *options)
    change_spec(server, "sparkr", lambda spec: spec["env"].update(R_LIBS=str(r_library)))
    with server:
        yield server
    assert list((directory / "tmp").iterdir()) == []


def change_spec(server, name, change):
    """Change an installed kernel.json by a function."""
    path = server.directory / "data" / "kernels" / name / "kernel.json"
    spec = json.loads(path.read_text())
    change(spec)
    path.write_text(json.dumps(spec))


@pytest.fixture
def start(r_server):
    """Start kernels that end with the test."""
    kernels = []

    def start_kernel(name, **env):
        kernels.append(Kernel(r_server, name, **env))
        return kernels[-1]

    yield start_kernel
    for kernel in kernels:
        try:
            kernel.delete()
        except RequestError as error:
            assert error.status == 404


@pytest.fixture(scope="module")
def ir(r_server):
    """A kernel without Spark, for the tests that leave it as it was."""
    kernel = Kernel(r_server, "ir_local", KERNEL_GREETING="grüß dich, 世界")
    yield kernel
    kernel.delete()


@pytest.fixture(scope="module")
def sparkr(r_server):
    """A kernel with a live context and the stand-in for SparkR, and short names for what a test calls."""
    kernel = Kernel(r_server, "sparkr")
    kernel.value(NAMES + "invisible(count('select 1'))", 240)
    yield kernel
    kernel.delete()


NAMES = """
java <- SparkR::sparkR.callJMethod
query <- function(text) java(spark, "sql", text)
count <- function(text) java(query(text), "count")
active <- function() length(java(java(java(sc, "sc"), "statusTracker"), "getActiveJobIds"))
say_it_runs <- function() { cat("it runs\\n"); flush.console() }
hours <- function() {
  job <- query("select sum(id * id % 7) from range(0, 10000000000000, 1, 4)")
  say_it_runs()
  java(job, "collectAsList")
}
facts <- function() {
  context <- java(sc, "sc")
  cat(java(context, "applicationId"), java(context, "master"), java(context, "deployMode"))
}
"""
