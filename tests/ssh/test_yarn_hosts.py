"""A YARN on two hosts, where launcher and server meet over a network alone; and drivers on a third host, by ssh."""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster import OVER, Cluster
from front import Front, nothing_left, until

from demo.hosts import Hosts
from demo.yarnhosts import YarnOnHosts

OUTAGE = 15
LEASE = 25
EXPIRY = 15
HOST = "import os; print(os.uname().nodename)"
EXECUTOR = "sc.range(4).map(lambda _: __import__('os').uname().nodename).first()"
LONG_JOB = """
import threading, time

def announce():
    while not sc.statusTracker().getActiveJobsIds():
        time.sleep(0.05)
    print("the job runs", flush=True)

threading.Thread(target=announce).start()
sc.parallelize(range(8), 4).map(lambda x: time.sleep(600) or x).sum()
"""


class ClusterOnHosts(Cluster, YarnOnHosts):
    """The YARN of these tests, with what they ask it."""

    def driver_of(self, kernel):
        """Return the host with the driver of a kernel in cluster mode."""
        address = self.application_of(kernel.id)["amHostHttpAddress"]
        return next(host for host in self._workers if host.name == address.partition(":")[0])

    def idle(self, host):
        """Return whether a worker runs nothing but its NodeManager and has no file of a launch."""
        return until(lambda: len(host.processes()) == 1 and not host.files())


@pytest.fixture(scope="module")
def hosts():
    with Hosts() as hosts:
        yield hosts


@pytest.fixture(scope="module")
def yarn(hosts):
    w1, w2, w3 = hosts.all
    with ClusterOnHosts(hosts, [w1, w2], w3.gateway, EXPIRY, heartbeat=0.25) as cluster:
        with (cluster.conf_dir / "spark-defaults.conf").open("a") as file:
            file.write("spark.driver.memory 1g\n")
        yield cluster
    assert not cluster.directory.exists()


@pytest.fixture(scope="module")
def server(hosts, yarn, tmp_path_factory):
    """A server that names no address for launchers, beside YARN's ResourceManager."""
    environ = {**yarn.environ, "ELYRA_KERNEL_LAUNCH_TIMEOUT": "150", "ELYRA_LEASE": str(LEASE), "ELYRA_PING": "2"}
    server = Front(tmp_path_factory.mktemp("elyra"), hosts, **environ)
    options = ("--user", f"--python={sys.executable}", "--local-jars")
    server.install(*(f"spark_{name}_yarn_cluster" for name in ("python", "scala", "R")), *options)
    server.install(*(f"spark_{name}_yarn_client" for name in ("python", "scala", "R")), "--remote-hosts=w3", *options)
    for path in Path(server.environ["JUPYTER_DATA_DIR"], "kernels").glob("*_client/kernel.json"):
        spec = json.loads(path.read_text())
        spec["env"] |= {name: yarn.environ[name] for name in ("HADOOP_CONF_DIR", "SPARK_CONF_DIR")}
        path.write_text(json.dumps(spec))
    with server:
        yield server
        assert server.stop() == 0, server.log_tail()


def interrupt_job(kernel):
    assert kernel.execute(LONG_JOB, on_output=lambda _: kernel.interrupt()).status == "error"
    assert kernel.value("len(sc.statusTracker().getActiveJobsIds())") == "0"


def test_cluster_mode_with_nothing_but_a_network_between(start, yarn, hosts):
    kernel = start("spark_python_yarn_cluster")
    assert kernel.value(HOST) == yarn.driver_of(kernel).name
    assert kernel.value(EXECUTOR).strip("'") in ("w1", "w2")
    interrupt_job(kernel)
    application = kernel.value("x = 1; print(sc.applicationId)")
    kernel.restart()
    assert kernel.execute("x").error == "NameError"
    assert kernel.value("print(sc.applicationId)") == application
    assert kernel.value("spark.range(10).count()") == "10"
    kernel.delete()
    assert yarn.end_of(kernel.id) == ("FINISHED", "SUCCEEDED")
    for worker in hosts.all[:2]:
        assert yarn.idle(worker)


def test_the_other_languages_in_cluster_mode(start, yarn):
    with ThreadPoolExecutor() as pool:
        scala, r = pool.map(start, ("spark_scala_yarn_cluster", "spark_R_yarn_cluster"))
    assert scala.value("println(java.net.InetAddress.getLocalHost.getHostName)") == yarn.driver_of(scala).name
    assert "10" in scala.value("spark.range(10).count()")
    assert r.value("cat(Sys.info()[['nodename']])").endswith(yarn.driver_of(r).name)
    for kernel in (scala, r):
        kernel.delete()
        assert yarn.end_of(kernel.id) == ("FINISHED", "SUCCEEDED")


def test_a_driver_on_an_edge_node(start, yarn, w3):
    kernel = start("spark_python_yarn_client")
    assert kernel.value(HOST) == "w3"
    assert kernel.value("print(sc.master, sc.getConf().get('spark.submit.deployMode'))") == "yarn client"
    assert kernel.value(EXECUTOR).strip("'") in ("w1", "w2")
    interrupt_job(kernel)
    application = kernel.value("print(sc.applicationId)")
    kernel.delete()
    assert yarn.wait_for(application, *OVER)["finalStatus"] == "SUCCEEDED"
    assert nothing_left(w3)


def test_scala_and_r_on_an_edge_node(start, yarn, w3):
    with ThreadPoolExecutor() as pool:
        scala, r = pool.map(start, ("spark_scala_yarn_client", "spark_R_yarn_client"))
    assert scala.value("println(java.net.InetAddress.getLocalHost.getHostName)") == "w3"
    application = scala.value("println(spark.range(10).count(), sc.master, sc.deployMode, sc.applicationId)")
    assert application.startswith("(10,yarn,client,application_")
    assert r.value("cat(Sys.info()[['nodename']])").endswith("w3")
    for kernel in (scala, r):
        kernel.delete()
    assert yarn.wait_for(application.strip("()").split(",")[3], *OVER)["finalStatus"] == "SUCCEEDED"
    assert nothing_left(w3)


def test_an_edge_node_that_is_lost_for_good(start, yarn, w3):
    kernel = start("spark_python_yarn_client")
    application = kernel.value("print(sc.applicationId)")
    w3.cut(yarn.ports)
    try:
        kernel.wait_for_state("dead", LEASE + 40)
        assert f"no contact to the launcher on w3 for {LEASE} s" in kernel.get()["reason"]
        assert nothing_left(w3)
        assert yarn.wait_for(application, *OVER)["state"] == "FINISHED"
    finally:
        w3.restore()


def test_an_outage_between_server_and_driver(start, yarn):
    kernel = start("spark_python_yarn_cluster")
    host = yarn.driver_of(kernel)
    begun = threading.Event()
    cell = f"import time\nfor i in range({OUTAGE + 3}): print(i, flush=True); time.sleep(1)"
    with ThreadPoolExecutor() as pool:
        result = pool.submit(kernel.execute, cell, on_output=lambda _: begun.set())
        assert begun.wait(60)
        host.cut(yarn.ports)
        time.sleep(OUTAGE)  # this is what is tested
        host.restore()
        assert result.result().text.split() == [str(number) for number in range(OUTAGE + 3)]
    interrupt_job(kernel)


def test_a_worker_that_is_lost_for_good(start, yarn):
    kernel = start("spark_python_yarn_cluster")
    assert kernel.value("spark.range(10).count()") == "10"
    application = yarn.application_of(kernel.id)["id"]
    host = yarn.driver_of(kernel)
    host.cut()
    host.stop()
    kernel.wait_for_state("dead", 60)
    model = kernel.get()
    assert model["execution_state"] == "dead"
    assert f"{application} is FAILED" in model["reason"]
    assert "lost" in model["reason"]
    assert yarn.application(application)["state"] == "FAILED"
    assert kernel.delete() < 5
