"""A YARN on two hosts, where launcher and server meet over a network alone; and drivers on a third host, by ssh."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from client import Kernel, RequestError
from cluster import OVER, Cluster
from front import Front, nothing_left
from waiting import until

from demo.hosts import Hosts
from demo.yarnhosts import YarnOnHosts

OUTAGE = 15
LEASE = 25
EXPIRY = 25
MODES = ("cluster", "client")
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
        return nothing_left(host, 1, limit=60)


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
    environ = {**yarn.environ, "ELYRA_KERNEL_LAUNCH_TIMEOUT": "300", "ELYRA_LEASE": str(LEASE), "ELYRA_PING": "2"}
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


@pytest.fixture(scope="module")
def python(server):
    """A Python kernel in cluster mode and one in client mode on w3, which the tests use in their order."""
    kernels = start_together(lambda name: Kernel(server, name), *(f"spark_python_yarn_{mode}" for mode in MODES))
    yield dict(zip(MODES, kernels, strict=True))
    for kernel in kernels:
        with contextlib.suppress(RequestError):  # it is gone already
            kernel.delete()


def start_together(start, *names):
    with ThreadPoolExecutor() as pool:
        return list(pool.map(start, names))


def interrupt_job(kernel):
    assert kernel.execute(LONG_JOB, on_output=lambda _: kernel.interrupt()).status == "error"
    until(lambda: kernel.value("len(sc.statusTracker().getActiveJobsIds())") == "0", "the job's end")


def test_a_driver_on_a_worker_meets_the_server_over_the_network(python, yarn):
    kernel = python["cluster"]
    assert kernel.value(HOST) == yarn.driver_of(kernel).name
    # A cell that is earlier than Spark's driver says first that it waits.
    assert kernel.value(EXECUTOR).splitlines()[-1].strip("'") in ("w1", "w2")
    interrupt_job(kernel)
    application = kernel.value("x = 1; print(sc.applicationId)")
    kernel.restart()
    assert kernel.execute("x").error == "NameError"
    assert kernel.value("print(sc.applicationId)") == application
    assert kernel.value("spark.range(10).count()") == "10"


def test_a_driver_on_an_edge_node(python):
    kernel = python["client"]
    assert kernel.value(HOST) == "w3"
    assert kernel.value("print(sc.master, sc.getConf().get('spark.submit.deployMode'))") == "yarn client"
    assert kernel.value(EXECUTOR).strip("'") in ("w1", "w2")
    interrupt_job(kernel)


def test_scala_on_workers_and_on_an_edge_node(start, yarn):
    cluster, client = start_together(start, *(f"spark_scala_yarn_{mode}" for mode in MODES))
    host = "println(java.net.InetAddress.getLocalHost.getHostName)"
    assert cluster.value(host) == yarn.driver_of(cluster).name
    assert client.value(host) == "w3"
    text = client.value("println(spark.range(10).count(), sc.master, sc.deployMode, sc.applicationId)")
    assert text.startswith("(10,yarn,client,application_")
    client.delete()
    cluster.delete()
    assert yarn.wait_for(text.strip("()").split(",")[3], *OVER)["finalStatus"] == "SUCCEEDED"
    assert yarn.end_of(cluster.id) == ("FINISHED", "SUCCEEDED")


def test_r_on_workers_and_on_an_edge_node(start, yarn):
    cluster, client = start_together(start, *(f"spark_R_yarn_{mode}" for mode in MODES))
    host = "cat(Sys.info()[['nodename']])"
    assert cluster.value(host).endswith(yarn.driver_of(cluster).name)
    assert client.value(host).endswith("w3")
    client.delete()
    cluster.delete()
    assert yarn.end_of(cluster.id) == ("FINISHED", "SUCCEEDED")


def test_outages_of_the_network_to_the_drivers(python, yarn, hosts):
    """That to the worker passes; that to the edge node lasts."""
    w1, w2, w3 = hosts.all
    cluster, client = python["cluster"], python["client"]
    host = yarn.driver_of(cluster)
    application = client.value("print(sc.applicationId)")
    begun = threading.Event()
    cell = f"import time\nfor i in range({OUTAGE + 3}): print(i, flush=True); time.sleep(1)"
    with ThreadPoolExecutor() as pool:
        result = pool.submit(cluster.execute, cell, on_output=lambda _: begun.set())
        assert begun.wait(60)
        host.cut(yarn.ports)
        w3.cut(yarn.ports)
        time.sleep(OUTAGE)  # this is what is tested
        host.restore()
        assert result.result().text.split() == [str(number) for number in range(OUTAGE + 3)]
    interrupt_job(cluster)
    try:
        client.wait_for_state("dead", LEASE + 30)
        assert f"no contact to the launcher on w3 for {LEASE} s" in client.get()["reason"]
        assert nothing_left(w3, limit=60)
        report = yarn.wait_for(application, *OVER)
        assert report["state"] == "FINISHED", report
    finally:
        w3.restore()
    cluster.delete()
    assert yarn.end_of(cluster.id) == ("FINISHED", "SUCCEEDED")
    assert yarn.idle(w1)
    assert yarn.idle(w2)


def test_a_worker_that_is_lost_for_good(start, yarn):
    kernel = start("spark_python_yarn_cluster")
    kernel.value("1 + 1")
    application = yarn.application_of(kernel.id)["id"]
    host = yarn.driver_of(kernel)
    host.cut()
    host.stop()
    kernel.wait_for_state("dead", EXPIRY + 45)
    model = kernel.get()
    assert model["execution_state"] == "dead"
    assert f"{application} is FAILED" in model["reason"]
    assert "YARN says: " in model["reason"]
    assert "lost" in model["reason"]
    assert yarn.application(application)["state"] == "FAILED"
    assert kernel.delete() < 5
