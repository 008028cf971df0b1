"""Scala on YARN: what YARN says about a kernel's ends, and a kernel.json that was written for others."""

import json
from pathlib import Path

from cluster import OVER

from demo import spark_home


def run(kernel, code):
    """Return what a cell prints; Toree may say that it is idle before it has sent that."""
    text = kernel.value(f"println({code})")
    while not text:
        message = kernel.receive(30)
        if message["header"]["msg_type"] == "stream":
            text = message["content"]["text"]
    return text.splitlines()[0]


def ends(yarn, kernel):
    """Return the final status of each application that the kernel had, once it is over."""
    own = sorted(each["id"] for each in yarn.applications() if kernel.id in each["applicationTags"])
    return [yarn.wait_for(each, *OVER)["finalStatus"] for each in own]


def test_every_ordinary_end_is_a_success_and_a_restart_is_a_new_application(start, yarn):
    kernel = start("spark_scala_yarn_cluster")
    assert run(kernel, "6 * 7") == "42"
    cell = {"code": "sys.exit(0)", "silent": False, "store_history": True, "allow_stdin": False}
    kernel.send("execute_request", {**cell, "user_expressions": {}})
    kernel.wait_for_state("dead")
    assert ends(yarn, kernel) == ["SUCCEEDED"]  # though Spark was not used

    kernel.states.clear()
    kernel.restart()
    first = run(kernel, "sc.applicationId")
    assert run(kernel, "(sc.master, sc.deployMode)") == "(yarn,cluster)"
    kernel.restart()
    second = run(kernel, "sc.applicationId")
    assert first != second
    assert run(kernel, "spark.range(1000).count()") == "1000"
    kernel.states.clear()
    kernel.send("shutdown_request", {"restart": False}, "control")
    kernel.wait_for_state("dead")
    assert ends(yarn, kernel) == ["SUCCEEDED"] * 3


def test_an_application_that_spark_ends_is_the_reason_and_no_end_of_the_kernel_by_itself(start, yarn):
    kernel = start("spark_scala_yarn_cluster", KERNEL_EXTRA_SPARK_OPTS="--conf spark.yarn.max.executor.failures=1")
    assert run(kernel, "spark.range(1000).count()") == "1000"
    kernel.begin("sc.parallelize(Seq(1)).foreach(_ => Runtime.getRuntime.halt(3))")
    kernel.wait_for_state("dead")
    assert "Max number of executor failures (1) reached" in kernel.get()["reason"]
    assert ends(yarn, kernel) == ["FAILED"]


def test_a_kernel_json_of_the_field_works_with_nothing_changed_but_its_paths(server, start, yarn):
    kernels = Path(server.environ["JUPYTER_DATA_DIR"]) / "kernels"
    options = "--master yarn --deploy-mode client --name ${KERNEL_ID:-ERROR__NO__KERNEL_ID}"
    spec = {
        "language": "scala",
        "display_name": "Spark 2.1 - Scala (YARN Client Mode)",
        "process_proxy": {"class_name": "elyra.services.processproxies.distributed.DistributedProcessProxy"},
        "env": {
            "SPARK_HOME": str(spark_home()),
            "__TOREE_SPARK_OPTS__": options,
            "__TOREE_OPTS__": "",
            "LAUNCH_OPTS": "",
            "DEFAULT_INTERPRETER": "Scala",
        },
        "argv": [
            str(kernels / "spark_scala_yarn_client" / "bin" / "run.sh"),
            "--profile",
            "{connection_file}",
            "--RemoteProcessProxy.response-address",
            "{response_address}",
        ],
    }
    directory = kernels / "spark_2.1_scala_yarn_client"
    directory.mkdir()
    (directory / "kernel.json").write_text(json.dumps(spec))
    kernel = start(directory.name)
    application = yarn.application(run(kernel, "sc.applicationId"))
    assert application["name"] == kernel.id
    assert run(kernel, "(sc.master, sc.deployMode)") == "(yarn,client)"
    kernel.delete()
    assert yarn.wait_for(application["id"], *OVER)["finalStatus"] == "SUCCEEDED"
