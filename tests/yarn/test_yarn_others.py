"""The other ways to a kernel on YARN: client mode, kernelspecs of others, and Jupyter without a gateway."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from client import Kernel, RequestError

from demo import spark_home
from demo.server import Server

CLUSTER = "spark_python_yarn_cluster"

# As in the kernelspecs of the field: the shell fills SPARK_OPTS in.
RUN_SH = """\
#!/usr/bin/env bash
PROG_HOME="$(cd "`dirname "$0"`"/..; pwd)"
eval exec "${SPARK_HOME}/bin/spark-submit" "${SPARK_OPTS}" \\
    "${PROG_HOME}/scripts/launch_ipykernel.py" "${LAUNCH_OPTS}" "$@"
"""
PLAIN_JUPYTER = """
import json
from jupyter_client import KernelManager

manager = KernelManager(kernel_name="spark_python_yarn_cluster")
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=240)
texts = []

def show(message):
    if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
        texts.append(message["content"]["text"])

cell = "print(sc.applicationId, sc.master, spark.range(10).count())"
client.execute_interactive(cell, output_hook=show, timeout=240)
manager.restart_kernel()
client.wait_for_ready(timeout=240)
client.execute_interactive(cell, output_hook=show, timeout=240)
manager.shutdown_kernel()
print(json.dumps("".join(texts).splitlines()))
"""


def test_a_kernelspec_in_the_style_of_the_field_works(start, yarn, server):
    directory = Path(server.environ["JUPYTER_DATA_DIR"]) / "kernels" / "spark_2.1_python_yarn_cluster"
    installed = directory.with_name("spark_python_yarn_cluster")
    (directory / "bin").mkdir(parents=True)
    (directory / "scripts").mkdir()
    (directory / "bin" / "run.sh").write_text(RUN_SH)
    (directory / "bin" / "run.sh").chmod(0o755)
    script = (installed / "scripts" / "launch_ipykernel.py").read_text()
    (directory / "scripts" / "launch_ipykernel.py").write_text(script)
    options = (
        "--master yarn --deploy-mode cluster --name ${KERNEL_ID:-ERROR__NO__KERNEL_ID} "
        "--conf spark.yarn.submit.waitAppCompletion=false"
    )
    proxy = {"class_name": "elyra.services.processproxies.yarn.YarnClusterProcessProxy"}
    spec = {
        "language": "python",
        "display_name": "Spark 2.1 - Python (YARN Cluster Mode)",
        "process_proxy": proxy,
        "env": {
            "SPARK_HOME": str(spark_home()),
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_OPTS": options,
            "LAUNCH_OPTS": "",
        },
        "argv": [
            str(directory / "bin" / "run.sh"),
            "{connection_file}",
            "--RemoteProcessProxy.response-address",
            "{response_address}",
        ],
    }
    (directory / "kernel.json").write_text(json.dumps(spec))
    kernel = start(directory.name)
    application = yarn.application_of(kernel.id)
    assert application["name"] == kernel.id
    assert kernel.value("__import__('os').environ['CONTAINER_ID']")
    kernel.delete()
    assert yarn.end_of(kernel.id) == ("FINISHED", "SUCCEEDED")


def test_client_mode_has_its_driver_here(start, yarn):
    kernel = start("spark_python_yarn_client")
    text = kernel.value("print(sc.applicationId, sc.master, sc.getConf().get('spark.submit.deployMode'))")
    application, master, mode = text.split()
    assert (master, mode) == ("yarn", "client")
    assert kernel.value("spark.range(100).count()") == "100"
    kernel.restart()
    assert kernel.value("sc.applicationId").strip("'") == application
    kernel.delete()
    report = yarn.wait_for(application, "FINISHED", "FAILED", "KILLED")
    assert (report["state"], report["finalStatus"]) == ("FINISHED", "SUCCEEDED")


def test_an_installed_kernelspec_works_in_jupyter_without_a_gateway(server, yarn, tmp_path):
    script = tmp_path / "client.py"
    script.write_text(PLAIN_JUPYTER)
    environ = {**server.environ, "ELYRA_KERNEL_LAUNCH_TIMEOUT": "150"}
    done = subprocess.run([sys.executable, str(script)], env=environ, capture_output=True, text=True, timeout=560)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout.splitlines()[-1])
    application, master, count = first.split()
    assert (master, count) == ("yarn", "10")
    assert second.split()[0] == application  # restarted in place
    report = yarn.wait_for(application, "FINISHED", "FAILED", "KILLED")
    assert (report["state"], report["finalStatus"]) == ("FINISHED", "SUCCEEDED")


def test_an_impersonated_user_owns_the_application(yarn, tmp_path):
    environ = {**yarn.environ, "ELYRA_KERNEL_LAUNCH_TIMEOUT": "150", "ELYRA_IMPERSONATION_ENABLED": "True"}
    server = Server(tmp_path, environ)
    server.install(CLUSTER, "--user", f"--python={sys.executable}", "--local-jars")
    with server:
        kernel = Kernel(server, CLUSTER, KERNEL_USERNAME="ann")
        assert yarn.application_of(kernel.id)["user"] == "ann"
        assert kernel.value("sc.sparkUser()").strip("'") == "ann"
        kernel.delete()
        assert yarn.end_of(kernel.id) == ("FINISHED", "SUCCEEDED")
        with pytest.raises(RequestError) as info:
            Kernel(server, CLUSTER, KERNEL_USERNAME="root")
        assert info.value.status == 403


def test_the_local_kernel_needs_no_yarn(start, yarn):
    before = len(yarn.applications())
    kernel = start("python_local", KERNEL_X="a b")
    assert kernel.value("import os; print(os.environ['KERNEL_X'])") == "a b"
    assert os.path.exists(f"/proc/{kernel.value('os.getpid()')}")  # noqa: PTH110
    assert len(yarn.applications()) == before
