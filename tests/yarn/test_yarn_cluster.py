"""Kernels in YARN's cluster mode, from the request to the application's end."""

import json
import time

import pytest
from client import Kernel, RequestError, request
from cluster import LAUNCH_LIMIT, warm_submitters
from waiting import until

LONG_JOB = """
import threading, time

def announce():
    while not sc.statusTracker().getActiveJobsIds():
        time.sleep(0.05)
    print("the job runs", flush=True)

threading.Thread(target=announce).start()
sc.parallelize(range(8), 4).map(lambda x: time.sleep(600) or x).sum()
"""
RUNNING_JOBS = "len(sc.statusTracker().getActiveJobsIds())"
COMMAND_LINES = """
import os, psutil

print(os.environ, [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])])  # skips those that end
"""
PORTS = """
from ipykernel.connect import get_connection_info

info = get_connection_info(unpack=True)
print([info[name] for name in sorted(info) if name.endswith("_port")], info["key"])
"""


@pytest.fixture(scope="module")
def kernel(server):
    """One kernel with a Spark that is used, for the tests that leave it usable."""
    kernel = Kernel(server, "spark_python_yarn_cluster")
    yield kernel
    kernel.delete()


def test_a_cell_runs_in_the_application(kernel, yarn):
    application = yarn.application_of(kernel.id)
    assert (
        kernel.value("__import__('os').environ['CONTAINER_ID']")
        .strip("'")
        .startswith(application["id"].replace("application", "container"))
    )
    assert kernel.value("spark.range(1000).count()") == "1000"
    text = kernel.value("print(sc.applicationId, sc.master, sc.getConf().get('spark.submit.deployMode'))")
    assert text == f"{application['id']} yarn cluster"
    assert yarn.application(application["id"])["state"] == "RUNNING"


def test_the_ticket_is_in_no_environment_and_on_no_command_line(kernel):
    text = kernel.value(COMMAND_LINES)
    assert "ELYRA_LAUNCH_TICKET" not in text
    assert "elyra-ticket" not in kernel.value("print(os.listdir())")


@pytest.mark.parametrize("again", range(2))
def test_an_interrupt_stops_the_cell_and_the_job(kernel, again):
    kernel.value("sc.range(4).count()")  # an executor is there
    interrupted = []

    def interrupt(text):
        interrupted.append(time.monotonic())
        kernel.interrupt()

    result = kernel.execute(LONG_JOB, on_output=interrupt)
    assert result.status == "error"
    assert time.monotonic() - interrupted[0] < 60  # and not the 600 s of its tasks
    assert kernel.value(RUNNING_JOBS) == "0"
    assert kernel.value("sc.range(10).count()") == "10"


def test_a_restart_keeps_application_and_ports_on_the_open_websocket(kernel):
    before = kernel.value("import os; x = 1; print(sc.applicationId, os.getpid())"), kernel.value(PORTS)
    kernel.states.clear()
    kernel.restart()
    assert kernel.execute("x").error == "NameError"
    assert "restarting" in kernel.states
    after = kernel.value("import os; print(sc.applicationId, os.getpid())"), kernel.value(PORTS)
    assert after[1] == before[1]
    assert after[0].split()[0] == before[0].split()[0]
    assert after[0].split()[1] != before[0].split()[1]
    assert kernel.value("spark.range(10).count()") == "10"


def test_a_kernel_that_crashes_is_restarted_in_place(kernel):
    application, pid = kernel.value("import os; print(sc.applicationId, os.getpid())").split()
    kernel.states.clear()
    kernel.send("execute_request", {"code": "os.kill(os.getpid(), 9)", "silent": False})
    kernel.wait_for_state("restarting")
    assert kernel.value("import os; print(sc.applicationId)") == application
    assert kernel.value("os.getpid()") != pid
    assert kernel.value("spark.range(10).count()") == "10"


def test_a_kernel_that_is_deleted_ends_its_application_well(start, yarn):
    kernel = start()
    assert kernel.value("spark.range(10).count()") == "10"
    assert kernel.delete() < 5
    assert yarn.end_of(kernel.id) == ("FINISHED", "SUCCEEDED")
    with pytest.raises(RequestError) as info:
        kernel.get()
    assert info.value.status == 404


def test_a_kernel_whose_spark_was_never_used_ends_well_too(start, yarn):
    kernel = start()
    kernel.value("1 + 1")
    kernel.delete()
    assert yarn.end_of(kernel.id) == ("FINISHED", "SUCCEEDED")


def test_a_kernel_that_quits_ends_well_and_says_so(start, yarn):
    kernel = start()
    kernel.send("execute_request", {"code": "quit()", "silent": False})
    kernel.wait_for_state("dead")
    assert yarn.end_of(kernel.id) == ("FINISHED", "SUCCEEDED")
    assert kernel.get()["execution_state"] == "dead"


def test_mode_none_leaves_the_namespace_alone(start, add_kernelspec, yarn):
    add_kernelspec("none", lambda spec: None, options=["--spark-init-mode=none"])
    kernel = start("none")
    assert kernel.execute("spark").error == "NameError"
    code = "from pyspark.sql import SparkSession\nSparkSession.builder.getOrCreate().sparkContext.applicationId"
    assert kernel.value(code).strip("'") == yarn.application_of(kernel.id)["id"]
    kernel.delete()
    assert yarn.end_of(kernel.id) == ("FINISHED", "SUCCEEDED")


def test_mode_eager_has_spark_ready_without_a_cell(start, yarn):
    kernel = start(KERNEL_SPARK_CONTEXT_INIT_MODE="eager")
    # YARN says RUNNING when the application has its context, and this kernel was asked for nothing.
    yarn.wait_for(yarn.application_of(kernel.id)["id"], "RUNNING")
    assert kernel.value("spark.range(10).count()") == "10"


def test_a_bad_spark_option_is_answered_at_once_in_sparks_words(start):
    begin = time.monotonic()
    with pytest.raises(RequestError) as info:
        start(KERNEL_EXTRA_SPARK_OPTS="--no-such-option")
    assert time.monotonic() - begin < LAUNCH_LIMIT / 2
    assert info.value.status == 500
    assert "--no-such-option" in info.value.message


def test_a_missing_spark_is_answered_with_what_to_do(start, add_kernelspec):
    add_kernelspec("no-spark", lambda spec: spec["env"].update(SPARK_HOME="/nowhere"))
    with pytest.raises(RequestError) as info:
        start("no-spark")
    assert "/nowhere/bin/spark-submit" in info.value.message


def test_an_application_killed_by_yarn_leaves_a_dead_kernel_with_the_reason(start, yarn):
    kernel = start()
    kernel.value("spark.range(10).count()")
    application = yarn.application_of(kernel.id)["id"]
    yarn.kill(application)
    kernel.wait_for_state("dead")
    model = kernel.get()
    assert model["execution_state"] == "dead"
    assert [each["id"] for each in yarn.applications() if kernel.id in each["applicationTags"]] == [application]
    assert any(word in json.dumps(model) for word in ("KILLED", "killed"))


def test_a_launch_that_is_given_up_leaves_no_application(server, yarn, start):
    until(lambda: warm_submitters(server), "a warm submitter")
    before = {each["id"] for each in yarn.applications()}
    with pytest.raises(RequestError) as info:
        start(KERNEL_QUEUE="full", KERNEL_LAUNCH_TIMEOUT="20")
    assert info.value.status == 500
    assert "ACCEPTED" in info.value.message
    new = [each["id"] for each in yarn.applications() if each["id"] not in before]
    assert len(new) == 1
    assert yarn.wait_for(new[0], "KILLED")["queue"].endswith("full")


def test_hostile_values_reach_the_kernel_as_text(start, tmp_path):
    mark = tmp_path / "mark"
    value = f"\"; touch {mark}; ' && touch {mark} \\ * ? ~ {{a,b}} | touch {mark} é"
    kernel = start(KERNEL_HOSTILE=value, KERNEL_WORD="a 'b' \"c\"")
    assert kernel.value("import os; print(os.environ['KERNEL_HOSTILE'])") == value
    assert kernel.value("print(os.environ['KERNEL_WORD'])") == "a 'b' \"c\""
    assert not mark.exists()


@pytest.mark.parametrize("value", ["$(touch x)", "`touch x`", "a\nb", "a\rb", "x" * 4097])
def test_values_that_only_an_attacker_sends_are_refused(server, value):
    with pytest.raises(RequestError) as info:
        request(server, "POST", "/api/kernels", {"name": "spark_python_yarn_cluster", "env": {"KERNEL_X": value}})
    assert info.value.status == 400
    assert "KERNEL_X" in info.value.message


def test_an_older_ipykernel_runs_as_well(start, add_kernelspec, old_ipykernel):
    add_kernelspec("old", lambda spec: spec["env"].update(PYSPARK_PYTHON=str(old_ipykernel)))
    kernel = start("old")
    assert kernel.value("import ipykernel; print(ipykernel.version_info[0])") == "6"
    application = kernel.value("sc.applicationId")
    kernel.restart()
    assert kernel.value("sc.applicationId") == application
    assert kernel.value("spark.range(10).count()") == "10"
