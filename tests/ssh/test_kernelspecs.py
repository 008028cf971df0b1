"""The kernelspecs that `jupyter elyra install --remote-hosts` makes, on other hosts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from front import nothing_left

from demo.server import ServerError

HOST = "import os; print(os.uname().nodename)"


def installed(server, name):
    return json.loads(Path(server.environ["JUPYTER_DATA_DIR"], "kernels", name, "kernel.json").read_text())


def test_kernels_of_python_and_r(server, start):
    server.install("python_distributed", "--user", "--remote-hosts=w1, w2", f"--python={sys.executable}")
    server.install("R_distributed", "--user", "--remote-hosts=w2", f"--python={sys.executable}")
    spec = installed(server, "python_distributed")
    assert spec["process_proxy"]["config"]["remote_hosts"] == "w1,w2"
    assert {start("python_distributed").value(HOST) for _ in range(2)} == {"w1", "w2"}
    assert start("R_distributed").value("cat(Sys.info()[['nodename']], Sys.getenv('KERNEL_LANGUAGE'))") == "w2 r"


def test_spark_drivers_on_another_host(server, start, w1):
    server.install("spark_python_local", "--user", "--remote-hosts=w1", f"--python={sys.executable}")
    kernel = start("spark_python_local", KERNEL_LAUNCH_TIMEOUT="150")
    assert kernel.value("print(spark.range(1000).count(), spark.conf.get('spark.driver.host'))").startswith("1000 ")
    assert kernel.value(HOST) == "w1"
    kernel.restart()
    assert kernel.value("spark.range(10).count()") == "10"
    kernel.delete()
    assert nothing_left(w1)


def test_client_mode_may_run_elsewhere_and_cluster_mode_may_not(server, tmp_path):
    for name in ("spark_python_yarn_client", "spark_scala_yarn_client"):
        server.install(name, "--user", "--remote-hosts=edge1,edge2", "--spark-home=/opt/spark/of/the/hosts")
        spec = installed(server, name)
        assert spec["process_proxy"]["class_name"].endswith("DistributedProcessProxy")
        assert spec["process_proxy"]["config"]["remote_hosts"] == "edge1,edge2"
        assert spec["env"]["SPARK_HOME"] == "/opt/spark/of/the/hosts"
    try:
        server.install("spark_python_yarn_cluster", "--user", "--remote-hosts=edge1")
    except ServerError as error:
        assert "--remote-hosts is not for spark_python_yarn_cluster: YARN chooses the hosts there" in str(error)
    else:
        raise AssertionError("it was installed")
