"""Kernels on a cluster with Kerberos: YARN, HDFS and the ResourceManager's REST API answer those who have a ticket."""

import json
import sys
from pathlib import Path

import pytest
from client import Kernel, RequestError
from cluster import CLUSTER, warm_submitters
from waiting import until

WRITE = "spark.range({}).write.mode('overwrite').parquet('{}')"
READ = "print(spark.read.parquet('{}').count(), sc.sparkUser())"


def end(yarn, kernel):
    """Delete a kernel and return how YARN says that its application ended."""
    kernel.delete()
    return yarn.end_of(kernel.id)[1]


def test_a_kernel_of_a_user_reads_and_writes_what_is_that_users_on_hdfs(server, yarn, start):
    kernel = start(CLUSTER, KERNEL_USERNAME="alice")
    assert kernel.execute(WRITE.format(5, "numbers")).status == "ok"
    assert kernel.value(READ.format("numbers")) == "5 alice"
    assert yarn.application_of(kernel.id)["user"] == "alice"
    assert "/user/alice/numbers" in yarn.shell("alice", "-ls", "/user/alice")
    assert end(yarn, kernel) == "SUCCEEDED"
    assert "application_" not in yarn.shell("alice", "-ls", "/user/alice/.sparkStaging")


def test_the_warm_submitter_submits_for_each_user_with_the_servers_ticket(server, yarn, start):
    until(lambda: warm_submitters(server), "a warm submitter")
    before = server.count()
    for user in ("alice", "bob"):
        kernel = start(CLUSTER, KERNEL_USERNAME=user)
        assert kernel.execute(WRITE.format(7, "seven")).status == "ok"
        assert kernel.value(READ.format("seven")) == f"7 {user}"
        assert end(yarn, kernel) == "SUCCEEDED"
    assert server.count() == before
    assert "application_" not in yarn.shell("bob", "-ls", "/user/bob/.sparkStaging")


def test_a_new_ticket_is_a_new_submitter_and_another_services_ticket_is_not(server, yarn, start):
    ready = until(lambda: warm_submitters(server), "a warm submitter")
    before = server.count()
    start(CLUSTER, KERNEL_USERNAME="alice").delete()
    assert server.count() == before  # though the server's own questions added tickets to the cache
    server.kinit()
    start(CLUSTER, KERNEL_USERNAME="alice").delete()
    assert server.count() == before + 1
    until(lambda: warm_submitters(server) > ready, "another submitter")
    start(CLUSTER, KERNEL_USERNAME="alice").delete()
    assert server.count() == before + 1


def test_a_launch_that_is_given_up_is_killed_by_the_servers_ticket(server, yarn):
    until(lambda: warm_submitters(server), "a warm submitter")
    with pytest.raises(RequestError) as error:
        Kernel(server, CLUSTER, KERNEL_USERNAME="alice", KERNEL_QUEUE="full", KERNEL_LAUNCH_TIMEOUT="20")
    assert "full" in error.value.message
    waiting = [each for each in yarn.applications() if each["queue"] == "full"]
    assert waiting
    assert {yarn.wait_for(each["id"], "KILLED")["state"] for each in waiting} == {"KILLED"}


def test_without_a_ticket_a_launch_says_so_and_with_one_again_it_starts(server, yarn, start):
    away = server.cache.with_suffix(".away")
    server.cache.rename(away)
    try:
        with pytest.raises(RequestError) as error:
            Kernel(server, CLUSTER, KERNEL_USERNAME="alice")
    finally:
        away.rename(server.cache)
    assert error.value.status == 500
    assert "Hadoop could not log in by Kerberos" in error.value.message and "`kinit`" in error.value.message
    # A submitter that began meanwhile is nobody, and is not asked.
    for _ in range(2):
        assert end(yarn, start(CLUSTER, KERNEL_USERNAME="alice")) == "SUCCEEDED"


@pytest.mark.parametrize("name", ["elyra", "Elyra@ELYRA.TEST", "elyra/localhost"])
def test_nobody_gets_a_kernel_as_the_servers_principal(server, name):
    with pytest.raises(RequestError) as error:
        Kernel(server, CLUSTER, KERNEL_USERNAME=name)
    assert error.value.status == 403
    assert "is the server's own" in error.value.message


def test_the_resource_managers_word_for_no_ticket_is_explained(yarn, server):
    """Its address by number, of which there is no principal."""
    endpoint = server.environ["ELYRA_YARN_ENDPOINT"].replace("localhost", "127.0.0.1")
    server.install(CLUSTER, "--user", "--kernel-name=by_number", f"--python={sys.executable}")
    path = Path(server.environ["JUPYTER_DATA_DIR"], "kernels", "by_number", "kernel.json")
    spec = json.loads(path.read_text())
    spec["process_proxy"]["config"]["yarn_endpoint"] = endpoint
    path.write_text(json.dumps(spec))
    with pytest.raises(RequestError) as error:
        Kernel(server, "by_number", KERNEL_USERNAME="alice")
    assert "it wants a Kerberos ticket" in error.value.message
