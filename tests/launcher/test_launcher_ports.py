"""Whose the ports are: a kernel is reported when they are its own, and not when another process has one."""

import contextlib
import json
import subprocess
import sys
import time

import psutil
import pytest
from launching import TINY_KERNEL, shut_down

PORTS = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")

# Lacks the ports that it is told, and does not mind.
CARELESS_KERNEL = """
import json, os, socket, sys, time
info = json.load(open(sys.argv[1]))
lacking = sys.argv[2].split(",")
marker = sys.argv[3]
if os.path.exists(marker):
    lacking = []
bound = [info[name] for name in info if name.endswith("_port") and name not in lacking]
held = [socket.create_server((info["ip"], port)) for port in bound]
with open(marker + ".new", "w") as file:
    json.dump({name: info[name] for name in lacking}, file)
os.rename(marker + ".new", marker)
time.sleep(60)
"""

STRANGER = """
import json, socket, sys, time
held = [socket.create_server(("127.0.0.1", port)) for port in json.load(open(sys.argv[1])).values()]
time.sleep(60)
"""


@pytest.fixture
def launch_lacking(launch, tmp_path):
    """Launch a kernel that lacks ports at its first start, which a stranger then takes; return both."""
    script, marker = tmp_path / "careless.py", tmp_path / "lacking.json"
    script.write_text(CARELESS_KERNEL)
    strangers = []

    def run(*lacking):
        command = [sys.executable, str(script), "{connection_file}", ",".join(lacking), str(marker)]
        started = launch("--", *command)
        deadline = time.monotonic() + 60
        while not marker.exists():
            assert time.monotonic() < deadline, started.text
            time.sleep(0.01)
        taken = json.loads(marker.read_text())
        strangers.append(subprocess.Popen([sys.executable, "-c", STRANGER, str(marker)], env={}))
        return started, taken

    yield run
    for stranger in strangers:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("name", ["hb_port", "shell_port"])
def test_a_port_that_another_process_took_is_not_reported_as_the_kernels(server, launch_lacking, name):
    started, taken = launch_lacking(name)
    connection = server.wait_for("connection")["connection"]
    assert taken[name] not in [connection[each] for each in PORTS]
    assert server.of("exit") == []
    shut_down(server, started)


def test_a_kernel_all_of_whose_ports_are_in_a_process_elsewhere_is_reported(server, launch_lacking):
    started, taken = launch_lacking(*PORTS)
    connection = server.wait_for("connection")["connection"]
    assert {name: connection[name] for name in PORTS} == taken
    shut_down(server, started)


def test_a_kernel_in_a_session_of_its_own_is_reported(server, launch, tmp_path):
    script = tmp_path / "tiny.py"
    script.write_text(TINY_KERNEL)
    started = launch("--", "setsid", "--wait", sys.executable, str(script), "{connection_file}", "60", "0")
    server.wait_for("connection")
    for process in started.kernels():  # it left, and is not the launcher's to end
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    assert started.wait() != 0
