"""A launcher that starts with its YARN container, and the one that Spark's driver starts in the same container later.

The container is a directory here, and the driver nobody: what these do with real ones is in tests/yarn.
"""

import json
import os
import subprocess
import sys

import pytest
from launching import ROOT, Client, server_arguments, shut_down
from waiting import until

from elyra_launcher.early import script_of

GATEWAY = {"PYSPARK_GATEWAY_PORT": "1", "PYSPARK_GATEWAY_SECRET": "of-nobody"}
WAIT = "from elyra_launcher import spark_gateway; spark_gateway.wait(); import os; os.environ['PYSPARK_GATEWAY_SECRET']"


def command_of(*words):
    """Return the command of an ApplicationMaster as Spark writes it, for a script and its arguments."""
    script, *arguments = ("'" + str(word).replace("'", "'\\''") + "'" for word in words)
    rest = " ".join(f"--arg {each}" for each in arguments)
    return (
        "/usr/bin/java -server -Xmx1g -Djava.io.tmpdir=./tmp '-Dx=a b' org.apache.spark.deploy.yarn.ApplicationMaster "
        f"--class 'org.apache.spark.deploy.PythonRunner' --primary-py-file {script} {rest} "
        "--properties-file ./__spark_conf__/__spark_conf__.properties 1> ./stdout 2> ./stderr"
    )


def test_script_and_arguments_are_read_in_the_command_of_the_application_master():
    words = ["launch.py", "kernel-1.json", "--a", 'it\'s "a" $(b) `c`', "", "--arg"]
    assert script_of(command_of(*words)) == words
    assert script_of("java -cp x org.apache.spark.deploy.yarn.ApplicationMaster --class 'A' --jar b.jar") == []


class Container:
    """A directory as YARN makes one for a launch, and the launchers that start there."""

    def __init__(self, directory, server, start):
        self.directory, self.server, self._start = directory, server, start
        self.script = directory / "launch.py"
        self.script.write_text("import sys\nfrom elyra_launcher import launch\nsys.exit(launch())\n")
        self.arguments = [str(self.script), *server_arguments(server)]
        self.ticket = directory / "elyra-ticket"
        self.ticket.write_text(f"{server.ticket}\n{json.dumps({'KERNEL_X': 'from the ticket'})}\n")

    def early(self):
        command = command_of(*self.arguments)
        variables = {"CONTAINER_ID": "container_1", "ELYRA_EARLY": command, "ELYRA_SPARK_PATIENCE": "0.2"}
        return self._start(program=("-m", "elyra_launcher.early"), **variables)

    def late(self):
        return self._start(*self.arguments, program=(), CONTAINER_ID="container_1", **GATEWAY)

    def names(self):
        return {path.name for path in self.directory.iterdir() if path.name in ("elyra-spark", "elyra-ticket")}


@pytest.fixture
def container(tmp_path, server, start):
    return Container(tmp_path, server, start)


def test_the_early_launcher_has_the_kernel_and_the_drivers_own_hands_spark_over(container, server):
    early = container.early()
    with Client(server.wait_for("connection")["connection"]) as client:
        assert client.run("import os; os.environ['KERNEL_X']") == ("ok", "'from the ticket'")
        assert container.names() == {"elyra-spark"}
        cell = client.start(WAIT)
        client.await_stream("Waiting for Spark's driver")
        late = container.late()
        status, text = client.result(cell)
        assert (status, text.endswith("'of-nobody'")) == ("ok", True)
        client.send("os._exit(7)")
        server.wait_for("exit")
    assert (early.wait(), late.wait()) == (7, 7)
    assert container.names() == set()


def test_a_kernel_that_ended_before_the_driver_came_leaves_its_exit_code_to_it(container, server):
    early = container.early()
    server.wait_for("connection")
    server.request("shutdown", {"now": True})
    with pytest.raises(subprocess.TimeoutExpired):
        early.wait(0.5)  # without a driver that ends well, the application would be a failed one
    assert (container.late().wait(), early.wait()) == (0, 0)


def test_the_driver_that_is_faster_has_the_kernel(container, server):
    late = container.late()
    server.wait_for("connection")
    early = container.early()
    assert early.wait() == 0
    assert early.text == ""
    assert container.names() == set()
    shut_down(server, late)


def test_a_launcher_that_was_killed_is_a_failure_of_the_drivers_own(container, server):
    early = container.early()
    server.wait_for("connection")
    early.was_killed = True
    early.process.kill()
    assert early.gone()
    late = container.late()
    assert late.wait() == 70
    assert "cannot be reached" in late.text


def test_the_shell_of_the_application_master_starts_it_and_becomes_the_jvm(container, server, tmp_path):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho java has BASH_ENV=$BASH_ENV\nexec sleep 600\n")
    java.chmod(0o755)
    environ = {
        **os.environ,
        "BASH_ENV": str(ROOT / "elyra_launcher" / "early.sh"),
        "CONTAINER_ID": "container_1",
        "LOG_DIRS": f"{tmp_path},/other",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path),
    }
    command = command_of(*container.arguments).replace("/usr/bin/java", str(java))
    with subprocess.Popen(["/bin/bash", "-c", command], cwd=tmp_path, env=environ) as shell:
        server.wait_for("connection")
        until(lambda: (tmp_path / "stdout").read_text() == "java has BASH_ENV=\n", "the JVM")
        assert server.wait_for("hello")["pid"] != shell.pid
        shell.kill()  # as YARN does; the launcher is its child and ends with it
    assert "JVM" in server.wait_for("error")["message"]
    assert (tmp_path / "kernel.stderr").exists()
