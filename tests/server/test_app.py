"""`jupyter elyra` as an operator meets it."""

import json
import subprocess
import sys
import threading
import time

import psutil
import pytest
from server_harness import FLAGS, descendants_with, environment
from waiting import until


def run(tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "elyra_server.app", *arguments],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_version_and_help(tmp_path):
    from elyra_launcher import __version__

    assert run(tmp_path, "--version").stdout.strip() == __version__
    answer = run(tmp_path, "--help-all")
    assert answer.returncode == 0
    for text in (
        "--Settings.yarn_endpoint",
        "ELYRA_YARN_ENDPOINT",
        "--KernelGatewayApp.max_kernels",
        "--JupyterWebsocketPersonality.list_kernels",
        "cull_idle_timeout",
        "install",
    ):
        assert text in answer.stdout, text


def test_generate_config_writes_a_file_that_is_read(tmp_path):
    answer = run(tmp_path, "--generate-config")
    assert answer.returncode == 0, answer.stderr
    config = tmp_path / "config" / "jupyter_elyra_config.py"
    assert "c.Settings.kernel_launch_timeout = 30.0" in config.read_text()


def test_the_usual_start_line(make_server):
    server = make_server(
        "--MappingKernelManager.cull_idle_timeout=3600",
        "--MappingKernelManager.cull_interval=60",
    )
    server.spec("python_launcher")
    kernel_id = server.start("python_launcher")
    assert "idle durations > 3600 seconds at 60 second intervals" in server.text()
    assert [kernel["id"] for kernel in server.rest("GET", "/api/kernels")[1]] == [kernel_id]
    assert server.rest("GET", "/api/kernelspecs/python_launcher")[1]["spec"]["process_proxy"]


def test_no_secret_is_in_the_log_or_on_a_command_line(make_server):
    token = "token-of-the-operator"
    server = make_server(f"--KernelGatewayApp.auth_token={token}")
    server.spec("python_launcher")
    for path in ("/api/kernels", "/api/kernelspecs", "/api", "/api/sessions", "/kernelspecs/python_launcher/logo.png"):
        status, answer = server.rest("GET", path)
        assert status == 401 and answer["reason"] == "Unauthorized"
        assert "Authorization: token" in answer["message"]
    server.token = token
    assert server.rest("GET", f"/api/kernels?token={token}")[0] == 200
    kernel_id = server.start("python_launcher")
    (connection_file,) = (server.base / "runtime").glob("kernel-*.json")
    assert connection_file.stat().st_mode & 0o777 == 0o600
    key = json.loads(connection_file.read_text())["key"]
    children = psutil.Process(server.process.pid).children(recursive=True)
    tickets = {child.environ().get("ELYRA_LAUNCH_TICKET") for child in children} - {None, ""}
    assert len(tickets) == 1
    lines = [" ".join(child.cmdline()) for child in children]
    server.rest("POST", f"/api/kernels/{kernel_id}/restart")
    server.delete(kernel_id)
    server.fail("no_such_kernel")
    assert server.stop() == 0
    for secret in (key, token, *tickets):
        assert secret not in server.text()
        assert not [line for line in lines if secret in line]


def test_the_server_is_idle_with_many_kernels(server):
    ids = [server.start("python_launcher") for _ in range(20)]
    process = psutil.Process(server.process.pid)
    until(lambda: {server.kernel(each)["execution_state"] for each in ids} == {"idle"}, "an answer of each")

    def used():
        before = process.cpu_times()
        time.sleep(10)
        after = process.cpu_times()
        return (after.user + after.system) - (before.user + before.system)

    # The last starts may have left something to do.
    assert used() / 10 < 0.01 or used() / 10 < 0.01
    assert len(server.rest("GET", "/api/kernels")[1]) == len(ids)


def test_a_killed_launcher_is_a_dead_kernel_with_a_reason(server):
    kernel_id = server.start("python_launcher")
    (launcher,) = server.launchers()
    launcher.kill()
    until(lambda: server.kernel(kernel_id)["execution_state"] == "dead", "the kernel's death")
    assert "SIGKILL" in server.kernel(kernel_id)["reason"]
    assert server.delete(kernel_id) < 5


def test_a_dead_kernel_turns_clients_away_with_the_reason(server):
    import websocket

    kernel_id = server.start("python_launcher")
    socket = server.socket(kernel_id)
    socket.send("quit()")
    socket.await_state("dead")
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        server.socket(kernel_id)
    assert refused.value.status_code == 410
    socket.close()


def test_a_server_that_is_killed_takes_its_kernels_along(server):
    server.start("python_launcher")
    children = psutil.Process(server.process.pid).children(recursive=True)
    assert children
    server.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    assert server.leftovers() == []


@pytest.mark.parametrize("ignored", ["", "trap '' TERM;"])
def test_a_server_that_is_killed_takes_its_launch_commands_along(server, ignored):
    """Of a spark-submit in a script that waits for it, and also where it does not heed a SIGTERM."""
    server.spec("never_ready", ["bash", "-c", f"{ignored} sleep 1000; true", *FLAGS])

    def launch():
        with pytest.raises(OSError):
            server.start("never_ready")

    post = threading.Thread(target=launch)
    post.start()
    until(lambda: "sleep" in {each.name() for each in descendants_with(server.marker)}, "the launch command")
    started = descendants_with(server.marker)
    server.kill()
    post.join(20)
    _, alive = psutil.wait_procs(started, timeout=60)
    assert alive == []
    until(lambda: server.leftovers() == [], "the removal of its files")


def test_two_servers_side_by_side(make_server):
    servers = [make_server(), make_server()]
    for each in servers:
        each.spec("python_launcher")
    for each in servers:
        kernel_id = each.start("python_launcher")
        socket = each.socket(kernel_id)
        assert socket.run("print(1)") == "1\n"
        socket.close()
