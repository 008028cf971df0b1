"""The warm submitter on its bad days: a fake JVM that hangs and dies, launch commands that do, and too many of all.

That it submits is tested on a real YARN, elsewhere.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from elyra_server.kerberos import Tickets, user_of_cache
from elyra_server.settings import Settings
from elyra_server.submitter import arguments, client, pool, process

HERE = Path(__file__).parent
CLIENT = Path(client.__file__)
SUBMIT = ["--master", "yarn", "--deploy-mode", "cluster", "--conf", "spark.yarn.submit.waitAppCompletion=false"]
SPARK_SUBMIT = """\
#!/bin/sh
for word in "$@"; do echo "<$word>"; done
exit 9
"""


class FakeSubmitter:
    """The process of a submitter, with a fake JVM."""

    def __init__(self, place: Path, **environ: str) -> None:
        self.place = place
        self.directory = place / "submitter"
        self.directory.mkdir(mode=0o700)
        self.socket = self.directory / "socket"
        self.conf = place / "conf"
        self.conf.mkdir()
        self.spark_submit = place / "spark-submit"
        self.spark_submit.write_text(SPARK_SUBMIT)
        self.spark_submit.chmod(0o755)
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "fake_jvm.py"), str(self.directory)],
            env={"SPARK_CONF_DIR": str(self.conf), "SPARK_HOME": str(place), **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def start(self, what: str) -> subprocess.Popen:
        command = [sys.executable, "-I", "-S", str(CLIENT), str(self.spark_submit), *SUBMIT, f"/{what}", what]
        env = {"ELYRA_SUBMITTER": str(self.socket)}
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def submit(self, what: str):
        """Return code, and what the submitter and spark-submit said."""
        return finish(self.start(what))

    def begin(self, what: str) -> subprocess.Popen:
        """Start a launch's command, and return when its submission has begun."""
        started = self.start(what)
        assert started.stderr.readline() == f"{what} begins\n"
        return started

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


def finish(command: subprocess.Popen):
    output, error = command.communicate(timeout=20)
    return command.returncode, error, output


@pytest.fixture
def submitter(tmp_path):
    made = FakeSubmitter(tmp_path)
    yield made
    made.close()
    assert not made.directory.exists()


def test_exit_code_and_output_are_those_of_the_submission(submitter):
    assert submitter.submit("well") == (0, "well begins\n", "")
    assert submitter.submit("fails") == (1, "fails begins\n", "")


def test_what_only_spark_submit_can_say_it_says(submitter):
    code, _, output = submitter.submit("unknown")
    assert code == 9
    assert output.splitlines() == [f"<{word}>" for word in [*SUBMIT, "/unknown", "unknown"]]


def test_a_jvm_that_dies_before_there_can_be_an_application_is_made_up_for(submitter):
    code, _, output = submitter.submit("die")
    assert code == 9 and output.startswith("<--master>")
    assert submitter.process.wait(10) == 0
    assert submitter.submit("well")[0] == 9


def test_one_that_dies_later_is_not_for_then_there_may_be_two(submitter):
    code, error, output = submitter.submit("die-late")
    assert (code, output) == (client.LOST, "")
    assert "whether there is an application is unknown" in error


def test_nor_one_whose_log_says_nothing(tmp_path):
    made = FakeSubmitter(tmp_path, SPARK_LOG="silent")
    assert made.submit("die")[0] == client.LOST
    made.close()


def test_a_jvm_out_of_order_ends_once_it_has_answered(submitter):
    assert submitter.submit("broken")[0] == 9
    assert submitter.process.wait(10) == 0


def test_submissions_wait_for_each_other_but_not_for_long(submitter):
    hanging = submitter.begin("hang")
    code, _, output = submitter.submit("well")
    assert code == 9 and output.startswith("<--master>")
    hanging.kill()
    finish(hanging)


def test_one_that_was_given_up_and_does_not_end_takes_the_jvm_with_it(submitter):
    hanging = submitter.begin("hang")
    hanging.kill()
    finish(hanging)
    assert submitter.process.wait(10) == 0


def test_one_that_was_given_up_while_it_waited_is_dropped(submitter):
    first = submitter.begin("slow")
    second = submitter.start("die")
    second.kill()
    finish(second)
    assert finish(first)[0] == 0
    assert submitter.submit("well")[0] == 0


def test_requests_that_are_none_are_nobodys_business(submitter):
    for request in (b"", b"\n", b"{}\n", b"[]\n", b"\xff\n", b'{"words": 1, "variables": {}}\n', b"x" * 100):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(submitter.socket))
            connection.sendall(request)
    assert submitter.submit("well")[0] == 0


def test_another_user_gets_no_answer(monkeypatch):
    """The system says who is at the other end; here this process is told to be somebody else."""
    ours, theirs = socket.socketpair()

    class Writer:
        def get_extra_info(self, name):
            return ours

        def close(self):
            ours.close()

    monkeypatch.setattr(process.os, "getuid", lambda: os.geteuid() + 1)
    made = object.__new__(process.Submitter)
    made._open = set()
    asyncio.run(made._answer(None, Writer()))
    assert theirs.recv(1) == b""
    theirs.close()


def test_it_ends_when_it_is_told_to_but_answers_first(submitter):
    slow = submitter.begin("slow")
    submitter.process.stdin.write("end\n")
    submitter.process.stdin.flush()
    assert finish(slow)[0] == 0
    assert submitter.process.wait(10) == 0
    assert submitter.submit("well")[0] == 9


def test_a_changed_configuration_is_not_used(submitter):
    (submitter.conf / "spark-defaults.conf").write_text("spark.app.name x\n")
    assert submitter.submit("well")[0] == 9
    assert submitter.process.stdout.readline() == "stale\n"
    assert submitter.process.wait(10) == 0


def test_a_submission_that_has_begun_survives_a_change_of_the_configuration(submitter):
    """Every `kinit -R` is one; the launch that notices it must not end its neighbour."""
    slow = submitter.begin("slow")
    (submitter.conf / "spark-defaults.conf").write_text("spark.app.name x\n")
    assert submitter.submit("well")[0] == 9
    assert submitter.submit("well")[0] == 9
    assert finish(slow)[0] == 0
    assert submitter.process.wait(10) == 0


@pytest.mark.parametrize("place", ["nothing", "x" * 150 + "/socket"])
def test_without_a_submitter_the_command_is_spark_submit(tmp_path, place):
    words = ["--a", "b c", "", "é", "*"]
    spark_submit = tmp_path / "spark-submit"
    spark_submit.write_text(SPARK_SUBMIT)
    spark_submit.chmod(0o755)
    command = [sys.executable, "-I", "-S", str(CLIENT), str(spark_submit), *words]
    done = subprocess.run(command, env={"ELYRA_SUBMITTER": str(tmp_path / place)}, capture_output=True, text=True)
    assert done.returncode == 9
    assert done.stdout.splitlines() == [f"<{word}>" for word in words]


# -- arguments -------------------------------------------------------------------------------------


def complete(*words, variables=(), defaults=(), environ=()):
    return arguments.complete([*SUBMIT, *words], dict(variables), dict(defaults), dict(environ))


def test_what_spark_takes_from_its_environment_becomes_an_option_that_others_override():
    words = complete("/x.py", variables={"PYSPARK_PYTHON": "p 1"})
    assert words[:4] == [
        "--conf",
        f"{arguments.POLL_INTERVAL}=20",
        "--conf",
        "spark.yarn.appMasterEnv.PYSPARK_PYTHON=p 1",
    ]
    assert words[4:] == [*SUBMIT, "/x.py"]


def test_what_the_operator_set_stays():
    defaults = {arguments.POLL_INTERVAL: "7", "spark.yarn.appMasterEnv.PYSPARK_PYTHON": "q"}
    assert complete("/x.py", variables={"PYSPARK_PYTHON": "p"}, defaults=defaults) == [*SUBMIT, "/x.py"]
    environ = {"PYSPARK_PYTHON": "of spark-env.sh"}
    assert complete("/x.py", variables={"PYSPARK_PYTHON": "p"}, environ=environ)[2:] == [*SUBMIT, "/x.py"]


def test_options_of_the_application_are_not_sparks():
    assert complete("/x.py", "--packages", "relative")[-2:] == ["--packages", "relative"]


@pytest.mark.parametrize("value", ["/a", "/a#b,file:/c#d", "hdfs://host/x", "local:/jars/*", ""])
def test_absolute_paths_are_the_same_everywhere(value):
    assert complete("--files", value, "--conf", f"spark.yarn.dist.files={value}", "/x.py")[-1] == "/x.py"


@pytest.mark.parametrize("value", ["a", "/a,b", "./a", "../a#b", "file:a", "/a, b"])
def test_relative_ones_are_not(value):
    for words in (["--files", value], ["--conf", f"spark.yarn.dist.files={value}"], [f"--jars={value}"]):
        with pytest.raises(arguments.Refused):
            complete(*words, "/x.py")


def test_the_defaults_of_the_operator_are_read(tmp_path):
    text = "# c\n\nspark.a b\nspark.c=d e \n spark.f : g\nspark.h\n! c\n"
    (tmp_path / "spark-defaults.conf").write_text(text)
    found = arguments.read_defaults(str(tmp_path))
    assert found == {"spark.a": "b", "spark.c": "d e", "spark.f": "g", "spark.h": ""}
    assert arguments.read_defaults("/nowhere") == {}


# -- the pool --------------------------------------------------------------------------------------

FAKE = """\
import sys, os
if os.environ.get("SPARK_FAKE") == "fails": sys.exit(3)
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
async def make_pool(monkeypatch):
    """Pools whose submitters are processes that only become ready, or do not start."""
    monkeypatch.setattr(pool, "START", 'exec "$@"')
    monkeypatch.setattr(pool, "RUN", FAKE)
    made = []

    def make(**settings):
        made.append(pool.SubmitterPool(Settings(**settings)))
        return made[-1]

    yield make
    for each in made:
        await each.close()
        assert not each._all


async def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def ready(pool, **env):
    pool.start(env)
    await wait_until(lambda: pool.find(env))
    return pool.find(env)


async def test_one_for_each_environment(make_pool):
    pool = make_pool()
    assert pool.find({"SPARK_HOME": "a"}) is None and not pool._all
    first = await ready(pool, SPARK_HOME="a")
    assert await ready(pool, SPARK_HOME="b") != first == await ready(pool, SPARK_HOME="a")


async def test_the_least_recently_used_makes_room(make_pool):
    pool = make_pool(warm_submitter_limit=2)
    first, second = await ready(pool, SPARK_HOME="a"), await ready(pool, SPARK_HOME="b")
    assert pool.find({"SPARK_HOME": "a"}) == first
    await ready(pool, SPARK_HOME="c")
    assert pool.find({"SPARK_HOME": "a"}) == first
    assert pool.find({"SPARK_HOME": "b"}) is None
    assert await ready(pool, SPARK_HOME="b") != second
    await wait_until(lambda: len(pool._all) == 2)


async def test_none_where_none_may_be(make_pool):
    pool = make_pool(warm_submitter_limit=0)
    assert pool.start({"SPARK_HOME": "a"}) is None and not pool._all


async def test_one_that_nobody_uses_ends(make_pool):
    pool = make_pool(warm_submitter_idle=0.1)
    made = pool.start({"SPARK_HOME": "a"})
    await made.ready.wait()
    await wait_until(lambda: not pool._all)


async def test_one_that_cannot_start_is_not_tried_with_each_launch(make_pool):
    pool = make_pool()
    assert pool.start({"SPARK_FAKE": "fails"})
    await wait_until(lambda: not pool._all)
    assert pool.start({"SPARK_FAKE": "fails"}) is None and not pool._all


async def test_one_that_is_worn_is_used_until_another_is_ready(make_pool, monkeypatch):
    monkeypatch.setattr(pool, "MAX_USES", 2)
    submitters = make_pool()
    first = await ready(submitters, SPARK_HOME="a")
    seen = [submitters.find({"SPARK_HOME": "a"}) for _ in range(2)]
    assert seen == [first, first]
    await wait_until(lambda: submitters.find({"SPARK_HOME": "a"}) not in (first, None))
    await wait_until(lambda: len(submitters._all) <= 2)


async def test_one_that_died_is_replaced_at_once_and_leaves_nothing(make_pool):
    pool = make_pool()
    first = await ready(pool, SPARK_HOME="a")
    next(iter(pool._all))._process.kill()
    await wait_until(lambda: pool.find({"SPARK_HOME": "a"}) not in (first, None))
    assert not first.parent.exists()


async def test_one_that_makes_room_before_it_has_started_ends_too(make_pool):
    pool = make_pool(warm_submitter_limit=1)
    for name in "abc":
        pool.start({"SPARK_HOME": name})
    await ready(pool, SPARK_HOME="c")
    await wait_until(lambda: len(pool._all) == 1)


def test_the_jvms_environment_has_nothing_of_the_launch():
    env = {
        "SPARK_HOME": "a",
        "HADOOP_CONF_DIR": "b",
        "PATH": "c",
        "LC_ALL": "d",
        "KRB5CCNAME": "e",
        "OPERATORS": "f",
        "SPARK_OPTS": "x",
        "KERNEL_ID": "x",
        "ELYRA_LAUNCHER_PATH": "x",
        "PYSPARK_PYTHON": "x",
        "TOKEN": "x",
    }
    found = pool.submitter_environment(env, ["OPERATORS", "KERNEL_ID", "ELYRA_LAUNCHER_PATH", "SPARK_OPTS"])
    assert "".join(found.values()) == "abcdef"


@pytest.mark.parametrize(("wanted", "allowed"), [(True, False), (False, True)])
def test_who_does_not_want_one_is_offered_none(wanted, allowed):
    env = {"SPARK_HOME": "/x", "ELYRA_SUBMITTER": "/of-somebody", "ELYRA_SUBMITTER_CLIENT": "/theirs"}
    pool.offer(env, Settings(warm_submitter=allowed), wanted)
    assert env == {"SPARK_HOME": "/x"}


def test_tickets_are_others_once_somebody_has_logged_in(tmp_path):
    cache = tmp_path / "cache"
    environ = {"KRB5CCNAME": f"FILE:{cache}"}
    nobody = Tickets(environ)
    assert not nobody.are_others()
    cache.write_bytes(b"the first ticket")
    assert nobody.are_others()
    first = Tickets(environ)
    with cache.open("ab") as file:
        file.write(b", and one for another service")
    assert not first.are_others()
    cache.write_bytes(b"the next ticket, renewed")
    assert first.are_others()
    cache.unlink()
    assert first.are_others()


@pytest.mark.parametrize(
    "content",
    [b"", b"\5", b"\5\4", b"\5\3\0\0", b"\5\4\0\0\0\0\0\1\0\0\0\1\xff\xff\xff\xff", b"\5\4\0\0" + bytes(99), b"text"],
)
def test_a_cache_that_is_none_is_nobodys(tmp_path, content):
    (tmp_path / "cache").write_bytes(content)
    assert user_of_cache({"KRB5CCNAME": f"file:{tmp_path}/cache"}) == ""
    assert user_of_cache({"KRB5CCNAME": str(tmp_path)}) == ""
