"""Spark in a kernel process, with a local master: the real pyspark, no cluster. The cluster's turn is tests/yarn."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

REPOSITORY = Path(__file__).parents[2]

KERNEL = """
import sys
from ipykernel.kernelapp import IPKernelApp
from elyra_launcher.spark_session import install

app = IPKernelApp.instance()
app.initialize(["-f", sys.argv[1]])
install(app, sys.argv[2])
app.start()
"""


class Kernel:
    """A kernel process with Spark's names in it, and what its cells said."""

    def __init__(self, directory: Path, mode: str, **environ: str) -> None:
        path, _ = write_connection_file(str(directory / "kernel.json"))
        self.process = subprocess.Popen(
            [sys.executable, "-c", KERNEL, path, mode],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "SPARK_LOCAL_IP": "127.0.0.1", **environ},
            cwd=directory,
            start_new_session=True,
        )
        self.client = BlockingKernelClient(connection_file=path)
        self.client.load_connection_file()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code: str) -> str:
        """Return what a cell printed, its result and its error, in this order, as text."""
        said: list[str] = []

        def hear(message: dict) -> None:
            content = message["content"]
            if message["msg_type"] == "stream" and content["name"] == "stdout":
                said.append(content["text"])
            elif message["msg_type"] == "execute_result":
                said.append(content["data"]["text/plain"])
            elif message["msg_type"] == "error":
                said.append(f"{content['ename']}: {content['evalue']}")

        self.client.execute_interactive(code, timeout=120, output_hook=hear)
        return "".join(said)

    def close(self) -> None:
        """End kernel and Spark, which then removes its directories in /tmp."""
        with contextlib.suppress(TimeoutError, queue.Empty):
            self.client.shutdown(reply=True, timeout=10)  # a request without its reply may be lost with its channel
        self.client.stop_channels()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait(30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def lazy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path_factory.mktemp("lazy"), "lazy")
    yield kernel
    kernel.close()


def test_a_kernel_that_does_not_use_spark_does_not_load_it(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "lazy")
    try:
        assert kernel.run("import sys; 'pyspark' in sys.modules, 'py4j' in sys.modules") == "(False, False)"
    finally:
        kernel.close()


def test_the_names_are_the_real_objects_on_first_use(lazy: Kernel) -> None:
    assert lazy.run("type(spark).__module__, type(sc).__name__") == "('pyspark.sql.session', 'SparkContext')"
    assert lazy.run("spark.range(1000).count()") == "1000"
    assert lazy.run("sqlContext.sql('select 6 * 7').collect()[0][0]") == "42"
    assert lazy.run("spark.sparkContext is sc") == "True"


def test_a_name_that_the_user_gave_a_value_is_left_alone(lazy: Kernel) -> None:
    assert lazy.run("keep = sc; sc = 3; sc") == "3"
    assert lazy.run("sc") == "3"
    lazy.run("sc = keep; del keep")


def test_a_name_in_a_timed_cell_is_found(lazy: Kernel) -> None:
    lazy.run("del spark")
    assert lazy.run("%%time\nprint(spark.range(5).count())").startswith("5\n")


INTERRUPT_WHEN_A_JOB_RUNS = """
import os, signal, threading, time

def interrupt_when_a_job_runs():
    while not sc.statusTracker().getActiveJobsIds():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt_when_a_job_runs).start()
"""

JOB = "sc.parallelize(range(100), 100).map(lambda x: time.sleep(1) or x)"


@pytest.mark.parametrize("attempt", range(5))
@pytest.mark.parametrize(
    "cell",
    [
        f"{JOB}.count()",
        f"{JOB}.foreach(print)",
        "spark.range(0, 10**13, 1, 4).selectExpr('sum(id * id % 7)').collect()",
        f"from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor(1).submit({JOB}.count).result()",
    ],
    ids=["count", "foreach", "sql", "in a thread of the cell"],
)
def test_an_interrupt_ends_the_cell_and_its_job_and_the_next_cell_works(lazy: Kernel, cell: str, attempt: int) -> None:
    assert lazy.run(INTERRUPT_WHEN_A_JOB_RUNS + cell) == "KeyboardInterrupt: "
    assert lazy.run("list(sc.statusTracker().getActiveJobsIds())") == "[]"
    assert lazy.run("spark.range(10).count()") == "10"


def test_an_interrupt_while_spark_starts_does_not_spoil_it(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "lazy")
    try:
        kernel.run("import os, signal, threading\nthreading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT)).start()")
        assert kernel.run("spark.range(3).count()") == "KeyboardInterrupt: "
        assert kernel.run("spark.range(3).count()") == "3"
    finally:
        kernel.close()


def test_an_eager_kernel_answers_while_spark_starts_and_has_the_names(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "eager")
    try:
        assert kernel.run("'spark' in globals()") == "False"
        assert kernel.run("spark.range(4).count()") == "4"
        assert kernel.run("'sqlContext' in globals()") == "True"
    finally:
        kernel.close()


def test_a_kernel_without_spark_names_leaves_them_to_the_user(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "none")
    try:
        assert kernel.run("spark") == "NameError: name 'spark' is not defined"
    finally:
        kernel.close()


def test_the_cell_shows_sparks_own_error_and_the_kernel_lives(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "lazy", PYSPARK_SUBMIT_ARGS="--master nonsense pyspark-shell")
    try:
        assert "Master must" in kernel.run("spark") or "JAVA_GATEWAY_EXITED" in kernel.run("spark")
        assert kernel.run("1 + 1") == "2"
    finally:
        kernel.close()
