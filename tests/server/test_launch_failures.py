"""Launches that fail: at once, with the cause, and with nothing left behind."""

import struct
import sys
from pathlib import Path

import pytest
from server_harness import DISTRIBUTED, FLAGS, LAUNCHER

FAKE = [sys.executable, str(Path(__file__).parent / "fake_launcher.py"), *FLAGS]


@pytest.fixture
def fake(server):
    server.spec("fake", FAKE)
    return server


def fails(server, name="fake", at_least=500, **env):
    status, message, seconds = server.fail(name, **env)
    assert status >= at_least, message
    assert server.rest("GET", "/api/kernels")[1] == []
    assert server.rest("GET", "/api")[0] == 200
    return message, seconds


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "kernel.json"),
        ("[]", "not a JSON object"),
        ('{"display_name": "x"}', "argv"),
        ('{"argv": "x"}', "argv"),
        ('{"argv": ["x"], "env": {"A": 1}}', "env"),
        ('{"argv": ["x"], "env": []}', "env"),
        ('{"argv": ["x"], "process_proxy": {}, "metadata": []}', "metadata"),
        ('{"argv": ["x"], "process_proxy": {"config": {}}}', "class_name"),
        ('{"argv": ["x"], "process_proxy": {"class_name": "a.B", "config": 3}}', "config"),
        ('{"argv": ["x"], "process_proxy": {"class_name": "nowhere.at.All"}}', "nowhere.at.All"),
        ('{"argv": ["x"], "process_proxy": {"class_name": "NoModule"}}', "NoModule"),
        ('{"argv": ["x"], "metadata": {"kernel_provisioner": "local"}}', "kernel_provisioner"),
        ('{"argv": ["x"], "process_proxy": {"class_name": "json.JSONDecoder"}}', "launch_process"),
        ('{"argv": ["x"], "metadata": {"process_proxy": {"class_name": "os.path.nothing"}}}', "os.path.nothing"),
        ('{"argv": ["/nowhere/run.sh"]}', "/nowhere/run.sh"),
        ('{"argv": ["/etc/hostname"]}', "/etc/hostname"),
    ],
)
def test_kernelspecs_that_cannot_be_used(server, content, expected):
    directory = server.data / "kernels" / "broken"
    directory.mkdir(parents=True)
    (directory / "kernel.json").write_text(content)
    message, seconds = fails(server, "broken")
    assert expected in message
    assert seconds < 15
    # The others are listed, and start.
    assert "python_launcher" in server.rest("GET", "/api/kernelspecs")[1]["kernelspecs"]


@pytest.mark.parametrize("address", ["/api/kernelspecs/broken", "/kernelspecs/broken/kernel.json"])
def test_a_kernelspec_that_cannot_be_used_is_explained_to_who_looks_at_it(server, address):
    (server.data / "kernels" / "broken").mkdir(parents=True)
    (server.data / "kernels" / "broken" / "kernel.json").write_text('{"display_name": "x"}')
    status, answer = server.rest("GET", address)
    assert status == 500 and set(answer) == {"reason", "message"}
    assert answer["reason"] == "Invalid kernelspec" and "argv" in answer["message"]
    assert "Traceback" not in answer["message"]
    status, answer = server.rest("GET", address.replace("broken", "nowhere"))
    assert status == 404 and "nowhere" in answer["message"]


def test_an_unknown_kernelspec(server):
    status, message, _ = server.fail("no_such_kernel")
    assert status == 404 and "no_such_kernel" in message and "python_launcher" in message


def test_a_launch_command_that_does_not_exist(server):
    server.spec("gone", ["/no/where/run.sh", *FLAGS])
    message, _ = fails(server, "gone")
    assert "/no/where/run.sh does not exist" in message


def test_a_launch_command_that_may_not_be_run(server, tmp_path):
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    server.spec("plain", [str(tmp_path / "run.sh"), *FLAGS])
    message, _ = fails(server, "plain")
    assert "not executable" in message


def test_a_launcher_that_ends_at_once(fake):
    message, seconds = fails(fake, KERNEL_FAKE="exits")
    assert "exit code 42" in message and "the worker has no disk left" in message
    assert seconds < 12


def test_a_launcher_that_says_what_is_wrong(fake):
    message, seconds = fails(fake, KERNEL_FAKE="error")
    assert "no free port in 40000..40010" in message
    assert seconds < 12


def test_a_real_launcher_whose_kernel_cannot_start(server):
    server.spec("bad_class", [*LAUNCHER, *FLAGS, "--kernel-class-name", "no.such.Kernel"])
    message, seconds = fails(server, "bad_class")
    assert "no.such" in message or "No module named 'no'" in message
    assert seconds < 25


def test_a_real_launcher_with_a_bad_option(server):
    server.spec("bad_option", [*LAUNCHER, *FLAGS, "--RemoteProcessProxy.port-range", "many"])
    message, seconds = fails(server, "bad_option")
    assert "port-range" in message
    assert seconds < 15


def test_a_launcher_without_the_right_ticket(fake):
    message, _ = fails(fake, KERNEL_FAKE="wrong-ticket")
    assert "exit code 75" in message and "rejected" in message


@pytest.mark.parametrize("mode", ["no-ports", "flood"])
def test_a_launcher_that_talks_nonsense_is_cut_off(fake, mode):
    message, seconds = fails(fake, KERNEL_FAKE=mode, KERNEL_LAUNCH_TIMEOUT="2")
    assert "not ready within 2 s" in message
    assert seconds < 12


def test_the_launch_limit_of_a_request_names_the_phase(fake):
    message, seconds = fails(fake, KERNEL_FAKE="silent", KERNEL_LAUNCH_TIMEOUT="1.5")
    assert "not ready within 1.5 s" in message and "has not called in" in message
    assert 1.5 <= seconds < 12
    _, seconds = fails(fake, KERNEL_FAKE="error")  # as long as a launcher needs to call in
    message, _ = fails(fake, KERNEL_FAKE="stuck", KERNEL_LAUNCH_TIMEOUT=f"{1.5 + 5 * seconds:.1f}")
    assert "fakehost" in message and "waiting for executors" in message


def test_the_launch_limit_of_kernelspec_and_server(make_server):
    server = make_server(ELYRA_KERNEL_LAUNCH_TIMEOUT="2")
    server.spec("fake", FAKE)
    message, _ = fails(server, KERNEL_FAKE="silent")
    assert "within 2 s" in message
    server.spec("fake", FAKE, process_proxy={"class_name": DISTRIBUTED, "config": {"launch_timeout": 1}})
    message, _ = fails(server, KERNEL_FAKE="silent")
    assert "within 1 s" in message


def test_other_hosts_are_refused_clearly(server):
    config = {"remote_hosts": "192.0.2.77"}
    server.spec("elsewhere", process_proxy={"class_name": DISTRIBUTED, "config": config})
    message, _ = fails(server, "elsewhere")
    assert "192.0.2.77" in message and "ssh" in message


@pytest.mark.parametrize("port_range", ["x", "1..2", "40000..40001", "50000..40000", "60000..70000"])
def test_port_ranges_that_cannot_be(server, port_range):
    server.spec("ports", process_proxy={"class_name": DISTRIBUTED, "config": {"port_range": port_range}})
    message, _ = fails(server, "ports")
    assert port_range in message


def test_authorized_users(server):
    config = {"authorized_users": "alice, bob", "unauthorized_users": ["bob"]}
    server.spec("few", process_proxy={"class_name": DISTRIBUTED, "config": config})
    for user in ("bob", "carol", "root"):
        status, message, _ = server.fail("few", KERNEL_USERNAME=user)
        assert status == 403 and user in message
    server.delete(server.start("few", KERNEL_USERNAME="alice"))


def test_impersonation_refuses_root_and_reaches_the_launch(make_server):
    server = make_server(ELYRA_IMPERSONATION_ENABLED="true")
    server.spec("python_launcher", process_proxy={"class_name": DISTRIBUTED, "config": {"impersonates": True}})
    for name in ("root", "ROOT", "root@EXAMPLE.ORG"):
        assert server.fail("python_launcher", KERNEL_USERNAME=name)[0] == 403
    for nobody in ({}, {"KERNEL_USERNAME": ""}):
        status, message, _ = server.fail("python_launcher", **nobody)
        assert status == 400 and "KERNEL_USERNAME" in message
    kernel_id = server.start("python_launcher", KERNEL_USERNAME="alice")
    socket = server.socket(kernel_id)
    assert socket.run("import os; print(os.environ.get('ELYRA_IMPERSONATION_ENABLED'))") == "True\n"
    socket.close()


def test_impersonation_starts_nothing_as_the_server_s_user(make_server):
    server = make_server(ELYRA_IMPERSONATION_ENABLED="true")
    server.spec("python_launcher")
    server.spec("plain", [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], process_proxy={})
    for name in ("python_launcher", "plain"):
        status, message, _ = server.fail(name, KERNEL_USERNAME="alice")
        assert status == 500 and "impersonates" in message and "--remote-hosts" in message
    assert list(server.base.glob("runtime/kernel-*")) == []


@pytest.mark.parametrize("whose", ["the server's", "the kernelspec's"])
def test_impersonation_refuses_the_user_of_the_ticket_where_a_command_changes_the_user(make_server, tmp_path, whose):
    """A cache begins with its principal, here alice@ELYRA.TEST."""
    realm, name = (struct.pack(">I", len(text)) + text for text in (b"ELYRA.TEST", b"alice"))
    (tmp_path / "cache").write_bytes(b"\5\4\0\0" + struct.pack(">II", 1, 1) + realm + name)
    cache = {"KRB5CCNAME": f"FILE:{tmp_path / 'cache'}"}
    own = cache if whose == "the server's" else {}
    server = make_server(ELYRA_IMPERSONATION_ENABLED="true", **own, ELYRA_INHERITED_ENVS="KRB5CCNAME")
    stanza = {"class_name": DISTRIBUTED, "config": {"impersonates": True}}
    server.spec("python_launcher", process_proxy=stanza, env={} if own else cache)
    for user in ("alice", "Alice@ELYRA.TEST"):
        status, message, _ = server.fail("python_launcher", KERNEL_USERNAME=user)
        assert status == 403 and "is the server's own" in message
    server.delete(server.start("python_launcher", KERNEL_USERNAME="bob"))


def test_impersonation_refuses_the_server_s_own_user_who_is_not_listed(make_server):
    own = {"ELYRA_UNAUTHORIZED_USERS": "nobody-at-all", "LOGNAME": "service", "ELYRA_IMPERSONATION_ENABLED": "true"}
    server = make_server(**own)
    server.spec("python_launcher")
    status, message, _ = server.fail("python_launcher", KERNEL_USERNAME="service")
    assert status == 403 and "authorized_users" in message


def test_a_boolean_that_is_none_is_an_error_that_names_it(make_server, tmp_path):
    server = make_server(ELYRA_IMPERSONATION_ENABLED="perhaps")
    server.spec("python_launcher")
    message, _ = fails(server, "python_launcher")
    assert "ELYRA_IMPERSONATION_ENABLED" in message and "perhaps" in message


def test_the_delay_for_tests_and_the_launch_log(make_server, tmp_path):
    server = make_server(ELYRA_TEST_BLOCK_LAUNCH="1", ELYRA_KERNEL_LOG_DIR=str(tmp_path / "logs"))
    server.spec("fake", FAKE)
    _, seconds = fails(server, KERNEL_FAKE="exits")
    assert seconds >= 1
    (log,) = (tmp_path / "logs").iterdir()
    assert "the worker has no disk left" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
