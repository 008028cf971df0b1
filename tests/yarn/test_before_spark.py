"""Kernels that start with their container, before Spark's driver: what a user sees until that is there, or fails.

The driver is a real one. A script that stands for its `java` holds it back until the test lets it go.
"""

import json
import shutil
from pathlib import Path

import psutil
import pytest

JAVA = """#!/bin/bash
while [[ ! -e {gate} ]]; do sleep 0.05; done
grep -q go {gate} || exit 1
exec {java} "$@"
"""
WAITING = "Waiting for Spark's driver"
LAUNCHER = "elyra_launcher.early"


class Driver:
    """The driver of one kernelspec's kernels, which starts when it is let go."""

    def __init__(self, directory):
        self._gate = directory / "gate"
        java = directory / "home" / "bin" / "java"
        java.parent.mkdir(parents=True)
        java.write_text(JAVA.format(gate=self._gate, java=Path(shutil.which("java")).resolve()))
        java.chmod(0o755)
        variables = {"JAVA_HOME": directory / "home", "ELYRA_SPARK_PATIENCE": 0.2}
        self.option = "".join(f" --conf spark.yarn.appMasterEnv.{name}={value}" for name, value in variables.items())

    def let_go(self):
        self._gate.write_text("go")

    def fail(self):
        self._gate.write_text("fail")


@pytest.fixture
def driver(tmp_path):
    return Driver(tmp_path)


@pytest.fixture
def held_back(driver, add_kernelspec):
    """Install kernelspecs whose driver is held back."""

    def add(base):
        def change(spec):
            spec["env"]["SPARK_OPTS"] += driver.option

        add_kernelspec(f"held-{base.lower()}", change, base=base)
        return f"held-{base.lower()}"

    return add


@pytest.fixture
def kernel(held_back, start):
    return start(held_back("spark_python_yarn_cluster"))


def launcher_of(kernel):
    """Return the process of a kernel's launcher."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if LAUNCHER in words and process.environ().get("KERNEL_ID", kernel.id) == kernel.id:
            return process
    raise AssertionError("there is no launcher that was early")


def test_a_cell_runs_before_there_is_a_driver_and_one_with_spark_waits_and_says_so(kernel, driver, yarn):
    assert kernel.value("x = 20; x + 1") == "21"
    application = yarn.application_of(kernel.id)
    assert application["state"] == "ACCEPTED"
    result = kernel.execute("print(spark.range(x).count(), sc.applicationId)", on_output=lambda text: driver.let_go())
    assert result.text.startswith(WAITING)
    assert result.text.split("\n")[1] == f"20 {application['id']}"
    assert kernel.value("sc.getConf().get('spark.submit.deployMode')") == "'cluster'"
    kernel.restart()
    assert kernel.value("print(spark.range(5).count(), sc.applicationId)") == f"5 {application['id']}"


def test_code_that_makes_its_own_session_waits_as_well(kernel, driver, yarn):
    code = "from pyspark.sql import SparkSession\nprint(SparkSession.builder.getOrCreate().sparkContext.applicationId)"
    result = kernel.execute(code, on_output=lambda text: driver.let_go())
    assert result.text.split("\n")[1] == yarn.application_of(kernel.id)["id"]


def test_waiting_for_spark_can_be_interrupted(kernel, driver):
    result = kernel.execute("spark", on_output=lambda text: kernel.interrupt())
    assert result.error == "KeyboardInterrupt"
    assert kernel.value("1 + 1") == "2"
    driver.let_go()
    assert kernel.value("spark.range(3).count()").endswith("3")


def test_a_restart_before_the_driver_is_there_is_one_in_place(kernel, driver, yarn):
    kernel.value("x = 1")
    kernel.restart()
    assert kernel.execute("x").error == "NameError"
    driver.let_go()
    assert kernel.value("sc.applicationId").endswith(f"'{yarn.application_of(kernel.id)['id']}'")


def test_a_kernel_deleted_before_its_driver_is_there_ends_well(kernel, driver, yarn):
    assert kernel.delete() < 15
    driver.let_go()
    assert yarn.end_of(kernel.id, limit=90) == ("FINISHED", "SUCCEEDED")


def test_a_driver_that_fails_is_the_reason_of_a_dead_kernel(kernel, driver, yarn):
    assert kernel.value("1 + 1") == "2"
    driver.fail()
    kernel.wait_for_state("dead")
    assert yarn.end_of(kernel.id)[0] == "FAILED"
    assert "Spark driver" in kernel.get()["reason"]


def test_a_launcher_that_is_killed_takes_its_application_along(kernel, driver, yarn):
    assert kernel.value("1 + 1") == "2"
    launcher_of(kernel).kill()
    driver.let_go()
    kernel.wait_for_state("dead")
    assert yarn.end_of(kernel.id)[0] in ("FAILED", "KILLED")
    assert "launcher" in json.dumps(kernel.get())


def test_a_kernelspec_may_leave_the_start_to_spark(start, add_kernelspec, yarn):
    add_kernelspec("late", lambda spec: spec["process_proxy"]["config"].update(start_before_spark=False))
    kernel = start("late")
    assert kernel.value("import os; 'PYSPARK_GATEWAY_PORT' in os.environ") == "True"
    kernel.delete()
    assert yarn.end_of(kernel.id) == ("FINISHED", "SUCCEEDED")


def test_in_r_a_cell_that_names_spark_waits_and_can_be_interrupted(held_back, driver, start, yarn):
    kernel = start(held_back("spark_R_yarn_cluster"))
    assert kernel.value("cat(20 + 1)").endswith("21")  # after the word on SparkR
    assert yarn.application_of(kernel.id)["state"] == "ACCEPTED"
    port = "cat(nzchar(Sys.getenv('EXISTING_SPARKR_BACKEND_PORT')))"
    interrupted = kernel.execute(port, on_output=lambda text: kernel.interrupt())
    assert interrupted.text.startswith(WAITING) and interrupted.status == "abort"
    assert kernel.value("cat(1)") == "1"
    result = kernel.execute(port, on_output=lambda text: driver.let_go())
    assert result.text.endswith("TRUE")
    kernel.delete()
    assert yarn.end_of(kernel.id) == ("FINISHED", "SUCCEEDED")
