"""YARN misbehaving: with a fake ResourceManager and a fake spark-submit.

That kernels run on YARN is tested with a real one, elsewhere. Here is what a real one
does only on its bad days.
"""

import asyncio
import json
import math
import os
import re
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from server_harness import FLAGS, YARN, free_port
from waiting import until

from elyra_server.applications import Application, ApplicationWatch
from elyra_server.resourcemanager import ResourceManager, ResourceManagerError
from elyra_server.settings import Settings

ID = "application_1700000000000_0001"
SUBMITTED = "as submitted"
FAKE_SUBMIT = Path(__file__).parent / "fake_spark_submit.py"


class FakeResourceManager:
    """A ResourceManager's REST interface with one application, or with none."""

    def __init__(self):
        self.ha_state = "ACTIVE"
        self.broken = None
        self.app = None
        self.options = None
        self.requests = []
        self.killed = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def answer(self, content, status=200):
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                outer.requests.append(self.path)
                app = outer.current()
                path = urlsplit(self.path).path
                if outer.broken == "html":
                    self.answer(b"<html>a proxy's login page</html>")
                elif outer.broken == "500":
                    self.answer({"RemoteException": {"message": "the state store is gone"}}, 500)
                elif path == "/cluster":
                    self.answer(b"<html>")
                elif path == "/ws/v1/cluster/info":
                    self.answer({"clusterInfo": {"haState": outer.ha_state}})
                elif outer.broken == "json" and "/apps" in path:
                    self.answer(b'{"apps": {"app": [')
                elif path == "/ws/v1/cluster/apps":
                    query = parse_qs(urlsplit(self.path).query)
                    wanted = set(query["applicationTags"][0].split(","))
                    match = app and wanted.intersection(app["applicationTags"].split(","))
                    self.answer({"apps": {"app": [app]} if match else None})
                elif app:
                    self.answer({"app": app})
                else:
                    self.answer({}, 404)

            def do_PUT(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.killed.append(self.path)
                outer.app = {**outer.app, "state": "KILLED", "finalStatus": "KILLED"}
                self.answer({"state": "KILLED"}, 202)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/ws/v1/cluster"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def set_app(self, state, tag, final="UNDEFINED", diagnostics="", name="x"):
        """Have an application; `SUBMITTED` as its tag stands for those that the last submission has."""
        self.app = {
            "id": ID,
            "name": name,
            "applicationTags": tag,
            "state": state,
            "finalStatus": final,
            "queue": "root.default",
            "diagnostics": diagnostics,
        }

    def current(self):
        """Return the application as it is now, None before it is submitted."""
        if self.app is None or self.app["applicationTags"] != SUBMITTED:
            return self.app
        if self.options is None or not self.options.exists():
            return None
        tags = re.findall("^spark.yarn.tags=(.*)$", self.options.read_text(), re.M)[-1]
        return {**self.app, "applicationTags": tags}


@pytest.fixture
def rm():
    made = FakeResourceManager()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def yarn(rm, make_server, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    server = make_server(ELYRA_YARN_ENDPOINT=rm.url)
    server.place = place
    rm.options = place / "options"
    add_spec(server, "cluster")
    yield server


def add_spec(server, name, class_name=YARN, **config):
    server.spec(
        name,
        [sys.executable, str(FAKE_SUBMIT), *FLAGS],
        process_proxy={"class_name": class_name, "config": config},
        env={
            "SPARK_OPTS": "--master yarn --deploy-mode cluster --name ${KERNEL_ID:-ERROR}",
            "FAKE_PLACE": str(server.place),
        },
    )


KERNEL_ID = "6f0b64d4-61c6-4c60-9f5e-0d3a7b6c1a5e"


def fails(yarn, **env):
    env.setdefault("KERNEL_ID", KERNEL_ID)
    status, message, seconds = yarn.fail(env.pop("name", "cluster"), **env)
    assert status == 500
    assert not list((yarn.base / "tmp").glob(f"elyra-*/ticket-{env['KERNEL_ID']}*"))
    return message, seconds


def test_an_endpoint_where_nobody_listens_is_named_before_anything_is_submitted(yarn):
    endpoint = f"http://127.0.0.1:{free_port()}"
    add_spec(yarn, "wrong", yarn_endpoint=f"{endpoint}/ws/v1/cluster")
    message, seconds = fails(yarn, name="wrong")
    assert endpoint in message and "refused" in message and "yarn_endpoint" in message
    assert seconds < 12
    assert not (yarn.place / "options").exists()


@pytest.mark.parametrize(
    ("broken", "expected"), [("html", "not a ResourceManager"), ("500", "500"), ("standby", "STANDBY")]
)
def test_endpoints_that_are_no_active_resourcemanager(yarn, rm, broken, expected):
    if broken == "standby":
        rm.ha_state = "STANDBY"
    rm.broken = broken
    message, seconds = fails(yarn)
    assert expected in message and rm.url.partition("/ws/")[0] in message
    assert seconds < 12


@pytest.mark.parametrize("endpoint", ["ftp://x", "http://", "http://host:port"])
def test_endpoints_that_are_no_url(yarn, endpoint):
    add_spec(yarn, "wrong", yarn_endpoint=endpoint)
    message, _ = fails(yarn, name="wrong")
    assert "is not a URL" in message


def test_the_active_one_of_a_pair_is_found_in_hadoops_configuration(rm, make_server, tmp_path):
    standby = FakeResourceManager()
    standby.ha_state = "STANDBY"
    values = {"yarn.resourcemanager.ha.rm-ids": "rm1,rm2"}
    for number, each in ((1, standby), (2, rm)):
        values[f"yarn.resourcemanager.webapp.address.rm{number}"] = each.url.split("/")[2]
    properties = "".join(f"<property><name>{k}</name><value>{v}</value></property>" for k, v in values.items())
    (tmp_path / "yarn-site.xml").write_text(f"<configuration>{properties}</configuration>")
    server = make_server(HADOOP_CONF_DIR=str(tmp_path))
    server.place = tmp_path
    add_spec(server, "cluster")
    message, _ = fails(server, KERNEL_SUBMIT="fails")
    assert "no queue named nowhere" in message
    assert standby.requests and rm.requests
    standby.server.shutdown()
    standby.server.server_close()


async def test_the_active_one_of_a_pair_that_fails_is_named(rm):
    standby, active = FakeResourceManager(), rm
    standby.ha_state = "STANDBY"
    urls = [each.url.partition("/ws/")[0] for each in (standby, active)]
    manager = ResourceManager(urls, Settings(), secure=False)
    assert await manager.find(["x"]) == []
    active.server.shutdown()
    active.server.server_close()
    failed = await asyncio.gather(*(manager.find(["x"]) for _ in range(3)), return_exceptions=True)
    standby.server.shutdown()
    standby.server.server_close()
    assert urls[1] in str(failed[0]) and urls[0] not in str(failed[0])
    for error in failed:
        assert isinstance(error, ResourceManagerError)
        assert "unexpected" not in str(error)


async def test_who_asks_for_an_application_gets_an_answer_though_others_ask_no_more(rm):
    watch = ApplicationWatch(ResourceManager([rm.url.partition("/ws/")[0]], Settings(), secure=False))
    application = Application("x")
    watch.watch(application)
    await application.asked.wait()
    asking = asyncio.ensure_future(watch.ask_once(application))
    await asyncio.sleep(0)  # so that it is asked for by both
    watch.unwatch(application)
    await asyncio.wait_for(asking, 10)


def test_without_any_endpoint_the_error_says_what_to_set(make_server, tmp_path):
    server = make_server()
    server.place = tmp_path
    add_spec(server, "cluster")
    message, _ = fails(server)
    assert "ELYRA_YARN_ENDPOINT" in message and "HADOOP_CONF_DIR" in message


def test_a_submission_that_fails_is_told_at_once(yarn):
    message, seconds = fails(yarn, KERNEL_SUBMIT="fails")
    assert "exit code 3" in message and "no queue named nowhere" in message
    assert seconds < 12


def test_an_application_that_fails_is_told_with_its_diagnostics(yarn, rm):
    rm.set_app("FAILED", SUBMITTED, "FAILED", "AM Container exited with exitCode: 13. Java heap space")
    message, seconds = fails(yarn)
    assert ID in message and "FAILED" in message and "Java heap space" in message
    assert seconds < 15


def test_an_application_of_another_launch_with_the_same_kernel_id_is_left_alone(yarn, rm):
    rm.set_app("RUNNING", KERNEL_ID, name=KERNEL_ID)  # such as that of another server
    fails(yarn, KERNEL_LAUNCH_TIMEOUT="1")
    assert yarn.stop() == 0
    assert not rm.killed


def limit_with(yarn, seconds):
    """Return a launch limit that leaves a launch so many seconds beside what it takes on a machine as busy as this."""
    _, took = fails(yarn, KERNEL_SUBMIT="fails")
    (yarn.place / "options").unlink()
    return str(math.ceil(seconds + 5 * took))


def test_one_that_waits_in_its_queue_is_killed_when_its_time_is_over(yarn, rm):
    limit = limit_with(yarn, 1)
    rm.set_app("ACCEPTED", SUBMITTED, diagnostics="AM Resource limit of queue exceeded")
    message, seconds = fails(yarn, KERNEL_LAUNCH_TIMEOUT=limit)
    for text in (f"within {limit} s", "ACCEPTED", "root.default", "AM Resource limit"):
        assert text in message
    assert seconds < 12 + int(limit)
    until(lambda: rm.killed, "the kill")
    assert ID in rm.killed[0] and "user.name=" in rm.killed[0]


def test_one_that_appears_after_its_launch_was_given_up_is_killed(yarn, rm):
    fails(yarn, KERNEL_SUBMIT="unnamed", KERNEL_LAUNCH_TIMEOUT=limit_with(yarn, 1))
    rm.set_app("ACCEPTED", SUBMITTED)
    until(lambda: rm.killed, "the kill")


def test_an_application_of_others_is_not_killed_though_the_submitter_names_it(yarn, rm):
    rm.set_app("RUNNING", "of-somebody-else", name="their job")
    fails(yarn, KERNEL_LAUNCH_TIMEOUT="2")  # the fake submitter writes its id, as for a client's option
    assert yarn.stop() == 0
    assert not rm.killed


def test_a_kernel_is_started_again_after_its_application_was_killed(yarn, rm):
    start_in_container(yarn, rm, KERNEL_DELAY="2")
    rm.set_app("KILLED", rm.current()["applicationTags"], "KILLED", "killed by an operator")
    os.kill(int((yarn.place / "pid").read_text()), signal.SIGKILL)
    until(lambda: yarn.kernel(KERNEL_ID)["execution_state"] == "dead", "the kernel's death")
    status, answer = yarn.rest("POST", f"/api/kernels/{KERNEL_ID}/restart")
    assert status == 200, answer
    yarn.delete(KERNEL_ID)


def test_a_resourcemanager_that_breaks_down_does_not_end_a_launch_but_is_told(yarn, rm):
    limit = limit_with(yarn, 1)
    rm.broken = "json"
    message, _ = fails(yarn, KERNEL_SUBMIT="unnamed", KERNEL_LAUNCH_TIMEOUT=limit)
    assert "not JSON" in message or "unexpected" in message


def test_a_submission_that_hangs_is_ended(yarn):
    message, _ = fails(yarn, KERNEL_SUBMIT="slow", KERNEL_LAUNCH_TIMEOUT="1")
    assert "still running" in message


def start_in_container(yarn, rm, **env):
    rm.set_app("RUNNING", SUBMITTED)
    return yarn.start("cluster", KERNEL_ID=KERNEL_ID, KERNEL_SUBMIT="container", **env)


def test_what_a_submission_carries(yarn, rm):
    start_in_container(yarn, rm)
    options = (yarn.place / "options").read_text()
    for text in (
        f"spark.yarn.tags={KERNEL_ID},elyra-",
        "spark.yarn.maxAppAttempts=1",
        "#elyra-ticket",
        "elyra_launcher.zip",
        "spark.yarn.submit.waitAppCompletion=false",
        "spark.yarn.am.waitTime=480s",
        "--name\n${KERNEL_ID:-ERROR}",
    ):
        assert text in options, text
    assert not re.search(r"[0-9a-f]{64}", options)
    assert not list((yarn.base / "tmp").glob("elyra-*/ticket-*"))
    rm.set_app("FINISHED", SUBMITTED, "SUCCEEDED")
    yarn.delete(KERNEL_ID)


def test_nothing_is_asked_while_all_is_well(yarn, rm):
    start_in_container(yarn, rm)
    websocket = yarn.socket(KERNEL_ID)
    before = len(rm.requests)
    assert websocket.run("print(1)") == "1\n"
    time.sleep(3)  # in which a poll would come
    assert len(rm.requests) == before
    websocket.close()
    began = time.monotonic()
    yarn.delete(KERNEL_ID)
    assert time.monotonic() - began < 5
    rm.set_app("FINISHED", SUBMITTED, "SUCCEEDED")
    assert yarn.stop() == 0 and not rm.killed


def test_a_launch_is_given_up_when_the_server_ends(yarn, rm):
    rm.set_app("ACCEPTED", SUBMITTED)
    answers = []
    launch = threading.Thread(target=lambda: answers.append(yarn.rest("POST", "/api/kernels", {"name": "cluster"})))
    launch.start()
    yarn.await_text(f"is {ID}")
    assert yarn.stop() == 0
    launch.join()
    status, answer = answers[0]
    assert status == 503 and "being stopped" in answer["message"], answer
    assert rm.killed


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_applications_end_with_the_server(yarn, rm, signum):
    start_in_container(yarn, rm)
    assert yarn.stop(signum) == 0
    assert rm.killed  # as this one does not end by itself


def test_an_application_that_does_not_end_by_itself_is_killed(yarn, rm):
    start_in_container(yarn, rm)
    yarn.delete(KERNEL_ID)
    assert yarn.stop() == 0
    assert rm.killed


def test_an_application_whose_launcher_hangs_is_killed_when_the_server_ends(yarn, rm):
    start_in_container(yarn, rm)
    launcher = int((yarn.place / "pid").read_text())
    os.kill(launcher, signal.SIGSTOP)
    assert yarn.stop() == 0
    assert rm.killed
    os.kill(launcher, signal.SIGKILL)


def test_an_application_is_killed_also_by_a_server_that_is_out_of_open_files(rm, make_server, tmp_path):
    here = Path(__file__).parent
    server = make_server(ELYRA_YARN_ENDPOINT=rm.url, PYTHONPATH=f"{here.parent.parent}:{here}")
    server.place = tmp_path
    rm.options = tmp_path / "options"
    add_spec(server, "cluster", class_name="third_party.Exhausted")
    start_in_container(server, rm)
    server.delete(KERNEL_ID)
    server.stop()
    assert rm.killed


def test_a_killed_application_is_a_dead_kernel_with_yarns_reason(yarn, rm):
    start_in_container(yarn, rm)
    rm.set_app("KILLED", SUBMITTED, "KILLED", "Application was killed by user alice")
    os.kill(int((yarn.place / "pid").read_text()), signal.SIGKILL)
    until(lambda: yarn.kernel(KERNEL_ID)["execution_state"] == "dead", "the kernel's death")
    assert "killed by user alice" in yarn.kernel(KERNEL_ID)["reason"]
    yarn.delete(KERNEL_ID)


def test_concurrent_launches_are_asked_for_together(yarn, rm):
    limit = limit_with(yarn, 2)
    rm.requests.clear()
    ids = [f"6f0b64d4-61c6-4c60-9f5e-0d3a7b6c1a5{digit}" for digit in "0123"]
    threads = [
        threading.Thread(
            target=fails,
            args=(yarn,),
            kwargs={"KERNEL_ID": each, "KERNEL_SUBMIT": "unnamed", "KERNEL_LAUNCH_TIMEOUT": limit},
        )
        for each in ids
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = [path for path in rm.requests if "/apps" in path]
    assert len(asked) < 2 * (time.monotonic() - began) + 6
    assert any(len(parse_qs(urlsplit(path).query)["applicationTags"][0].split(",")) == len(ids) for path in asked)
