"""The warm submitter: does what spark-submit does, sooner, and is not missed when it is not there."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import cluster
import psutil
import pytest
from cluster import counting_spark, warm_submitters
from waiting import PATIENCE, until

from demo import spark_home
from elyra_server.settings import Settings
from elyra_server.submitter import pool as pools
from elyra_server.submitter.client import LOST

CLIENT = Path(pools.__file__).with_name("client.py")
WAIT_FOR_NOTHING = "spark.yarn.submit.waitAppCompletion=false"
BASE = ["--master", "yarn", "--deploy-mode", "cluster", "--queue", "full", "--conf", WAIT_FOR_NOTHING]
FALLBACK = """\
#!/bin/sh
for word in "$@"; do echo "spark-submit got <$word>"; done
exit 9
"""


class Submitters:
    """A pool of submitters as the server has one, and launch commands that use it."""

    def __init__(self, yarn, directory):
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.conf = directory / "conf"
        shutil.copytree(yarn.conf_dir, self.conf)
        self.env = {**kept, **yarn.environ, "SPARK_CONF_DIR": str(self.conf), "SPARK_HOME": str(spark_home())}
        self.script = directory / "application.py"
        self.script.write_text("print('never run')\n")
        self.fallback = directory / "spark-submit"
        self.fallback.write_text(FALLBACK)
        self.fallback.chmod(0o755)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.pool = pools.SubmitterPool(Settings())

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def find(self):
        """Ask as a launch does; return the submitter's directory, None if none is ready."""

        async def find():
            env = pools.submitter_environment(self.env)
            self.pool.start(env)
            return self.pool.find(env)

        path = self.call(find())
        return path and path.parent

    def ready(self):
        return until(self.find, "a submitter")

    def start(self, *words, **variables):
        """Start a launch's command, as run.sh does."""
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(CLIENT), str(self.fallback), *words],
            env={**self.env, "ELYRA_SUBMITTER": str(self.ready() / "socket"), **variables},
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words, **variables):
        """Return exit code and output of a launch's command."""
        process = self.start(*words, **variables)
        output, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, output

    def close(self):
        self.call(self.pool.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def submitters(yarn, tmp_path_factory):
    made = Submitters(yarn, tmp_path_factory.mktemp("submitters"))
    yield made
    processes = processes_of(made.ready())
    made.close()
    assert not psutil.wait_procs(processes, timeout=PATIENCE)[1]
    for application in yarn.applications():
        if application["queue"] == "full" and application["state"] == "ACCEPTED":
            yarn.kill(application["id"])
            for directory in (yarn.directory / "staging").glob(f"*/.sparkStaging/{application['id']}"):
                shutil.rmtree(directory)


def processes_of(directory):
    """Return the submitter in a directory and its JVM."""
    named = [each for each in psutil.Process().children() if str(directory) in each.cmdline()]
    return [each for process in named for each in [process, *process.children()]]


def jvm_of(directory):
    return next(each for each in processes_of(directory) if "java" in each.name())


def submitted(yarn, name):
    found = [each for each in yarn.applications() if each["name"] == name]
    assert len(found) == 1
    return found[0]


def test_an_application_is_submitted_as_by_spark_submit(submitters, yarn):
    code, output = submitters.run(*BASE, "--name", "one", "--conf", "spark.yarn.tags=x,y", str(submitters.script))
    application = submitted(yarn, "one")
    assert code == 0
    assert f"Submitted application {application['id']}" in output
    assert (application["user"], application["queue"]) == (yarn.user, "full")
    assert set(application["applicationTags"].split(",")) == {"x", "y"}


@pytest.mark.parametrize("value", ["a b", "\"; touch x; '", "$(touch x) `y` ${z}", "é☃", "--queue", "a\nb"])
def test_hostile_words_stay_words(submitters, yarn, value):
    assert submitters.run(*BASE, "--name", f"{value}!", str(submitters.script), value, "")[0] == 0
    assert submitted(yarn, f"{value}!")


def test_an_application_runs_as_the_user_that_is_named(submitters, yarn):
    code, _ = submitters.run(*BASE, "--name", "proxied", "--proxy-user", "alice", str(submitters.script))
    assert code == 0 and submitted(yarn, "proxied")["user"] == "alice"


def test_it_is_much_sooner_than_a_new_jvm(submitters):
    submitters.run(*BASE, "--name", "before", str(submitters.script))
    began = time.monotonic()
    assert submitters.run(*BASE, "--name", "timed", str(submitters.script))[0] == 0
    warm = time.monotonic() - began
    began = time.monotonic()
    command = [f"{spark_home()}/bin/spark-submit", *BASE, "--name", "cold", str(submitters.script)]
    subprocess.run(command, env=submitters.env, check=True, capture_output=True)
    assert 2 * warm < time.monotonic() - began


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--queue", "nowhere", "SCRIPT"], "unknown queue: nowhere"),
        (["/nowhere/x.py"], "FileNotFoundException: File file:/nowhere/x.py does not exist"),
        (["--files", "/nowhere/y", "SCRIPT"], "FileNotFoundException: File file:/nowhere/y does not exist"),
        (["--driver-memory", "900g", "SCRIPT"], "is above the max threshold"),
        (["--driver-memory", "much", "SCRIPT"], "Driver memory must be a positive number"),
        (["--conf", "spark.yarn.maxAppAttempts=many", "SCRIPT"], "should be int, but was many"),
    ],
)
def test_what_is_wrong_is_said_as_by_spark_submit(submitters, words, expected):
    words = [word.replace("SCRIPT", str(submitters.script)) for word in words]
    code, output = submitters.run(*BASE, *words)
    assert code == 1
    error = output[output.index('Exception in thread "main" ') :]
    assert expected in error
    assert "py4j" not in error


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        [*BASE],
        [*BASE, "--no-such-option", "/x.py"],
        [*BASE, "--conf", "nothing", "/x.py"],
        [*BASE, "--keytab", "/k", "--principal", "p", "/x.py"],
        [*BASE, "--conf", "spark.kerberos.keytab=/k", "/x.py"],
        [*BASE, "--packages", "a:b:1", "/x.py"],
        [*BASE, "--properties-file", "/p", "/x.py"],
        [*BASE, "--deploy-mode", "client", "/x.py"],
        [*BASE, "--master", "local", "/x.py"],
        [*BASE, "--conf", "spark.yarn.submit.waitAppCompletion=true", "/x.py"],
        [*BASE, "relative.py"],
        [*BASE, "--files", "/a,b#c", "/x.py"],
        [*BASE, "--conf", "spark.yarn.dist.archives=b.zip", "/x.py"],
    ],
)
def test_what_needs_a_process_of_its_own_is_left_to_spark_submit(submitters, words):
    code, output = submitters.run(*words)
    assert code == 9
    assert output.splitlines() == [f"spark-submit got <{word}>" for word in words]


def test_outputs_of_submissions_at_a_time_are_apart(submitters, yarn):
    names = [f"at-a-time-{number}" for number in range(2)]
    processes = [submitters.start(*BASE, "--name", name, str(submitters.script)) for name in names]
    for name, process in zip(names, processes, strict=True):
        output, _ = process.communicate(timeout=PATIENCE)
        ids = {word for word in output.replace("/", " ").split() if word.startswith("application_")}
        assert ids == {submitted(yarn, name)["id"]}


def test_a_launch_command_that_is_killed_is_in_nobodys_way(submitters, yarn):
    processes = [submitters.start(*BASE, "--name", f"killed-{number}", str(submitters.script)) for number in range(4)]
    for process in processes:
        process.kill()
        process.communicate()
    assert submitters.run(*BASE, "--name", "after-the-killed", str(submitters.script))[0] == 0
    assert submitted(yarn, "after-the-killed")


def test_nobody_else_can_use_it(submitters):
    directory = submitters.ready()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "socket").stat().st_mode) == 0o600
    # The gateway is a port of this host, where anybody can knock: without its token it does nothing.
    port = next(each.laddr.port for each in jvm_of(directory).net_connections() if each.status == "LISTEN")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"j\ni\nrj\ne\n")
        answer = connection.recv(1000)
    assert b"!x" in answer or b"!y" not in answer


def test_no_secret_is_on_its_command_line_or_in_its_environment(submitters):
    for process in processes_of(submitters.ready()):
        assert "token" not in " ".join(process.cmdline()).lower()
        assert not [name for name in process.environ() if name.startswith(("KERNEL_", "ELYRA_"))]


@pytest.mark.parametrize("proxied", [False, True])
def test_submissions_leave_nothing(submitters, yarn, proxied):
    def state():
        jvm = jvm_of(directory)
        return jvm.num_fds(), jvm.num_threads(), sum(len(files) for _, _, files in os.walk(directory))

    def submit(count):
        for number in range(count):
            user = ["--proxy-user", f"user{number}"] if proxied else []
            assert submitters.run(*BASE, *user, str(submitters.script))[0] == 0

    directory = submitters.ready()
    submit(2)
    before = state()
    submit(8)
    # Hadoop closes a connection after 10 s without use, and each user that is impersonated has one.
    until(lambda: all(late <= early + 2 for late, early in zip(state(), before, strict=True)), f"{before} again")


def test_a_jvm_that_died_is_replaced_and_not_missed(submitters, yarn):
    first = submitters.ready()
    processes = processes_of(first)
    jvm_of(first).kill()
    psutil.wait_procs(processes, timeout=PATIENCE)
    code, output = submitters.run(*BASE, str(submitters.script), ELYRA_SUBMITTER=str(first / "socket"))
    assert code == 9 and "spark-submit got <--master>" in output
    assert submitters.ready() != first
    assert submitters.run(*BASE, "--name", "replaced", str(submitters.script))[0] == 0
    until(lambda: not first.exists(), "the end of its directory")


def test_a_changed_configuration_is_never_missed(submitters, yarn):
    first = submitters.ready()
    with (submitters.conf / "spark-defaults.conf").open("a") as file:
        file.write("spark.app.name from-defaults\n")
    code, _ = submitters.run(*BASE, str(submitters.script), ELYRA_SUBMITTER=str(first / "socket"))
    assert code == 9
    until(lambda: submitters.ready() != first, "another submitter")
    assert submitters.run(*BASE, str(submitters.script))[0] == 0
    assert submitted(yarn, "from-defaults")


def test_it_ends_with_the_server_however_that_ends(yarn, tmp_path):
    server = subprocess.Popen(
        [sys.executable, __file__, json.dumps(yarn.environ), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(cluster.__file__).parent)},
        stdout=subprocess.PIPE,
    )
    directory = Path(server.stdout.readline().decode().strip())
    processes = psutil.Process(server.pid).children(recursive=True)
    assert len(processes) == 2 and directory.exists()
    server.send_signal(signal.SIGKILL)
    server.wait()
    server.stdout.close()
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
    assert not alive
    assert not directory.exists()


def test_a_kernel_starts_through_it_where_its_kernelspec_says_so(server, yarn, start, add_kernelspec, tmp_path):
    """The same Spark, but with a spark-submit that counts: the first launch needs it, the second does not."""
    calls = tmp_path / "calls"
    home = counting_spark(tmp_path / "spark", calls)
    add_kernelspec("counted", lambda spec: spec["env"].update(SPARK_HOME=str(home)))
    before = warm_submitters(server)
    start("counted")
    assert calls.read_text().count("called") == 1
    until(lambda: warm_submitters(server) > before, "a warm submitter")
    kernel = start("counted")
    assert kernel.value("import os; print(os.environ['PYSPARK_PYTHON'])") == sys.executable
    assert calls.read_text().count("called") == 1


def test_a_submitter_that_is_lost_half_way_says_that_an_application_may_exist(tmp_path):
    """A fake that ends after it began to submit: nothing may be submitted twice."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        command = [sys.executable, "-I", "-S", str(CLIENT), "/bin/true", "x"]
        process = subprocess.Popen(command, env={"ELYRA_SUBMITTER": str(path)}, stderr=subprocess.PIPE, text=True)
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as requests:
            assert json.loads(requests.readline())["words"] == ["x"]
            connection.sendall(b'{"output": "Submitting application application_1_1\\n", "may_exist": true}\n')
        _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == LOST
    assert "whether there is an application is unknown" in error


def serve(environ, directory):
    """Be a server with a submitter, until killed."""
    made = Submitters(type("Yarn", (), {"environ": environ, "conf_dir": Path(environ["HADOOP_CONF_DIR"])}), directory)
    print(made.ready(), flush=True)
    signal.pause()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        serve(json.loads(sys.argv[1]), Path(sys.argv[2]))
