"""The launcher as a library: another kernel class, and a kernel that reports itself."""

import json
import signal
import socket
import sys

from launching import Client, server_arguments

import elyra_launcher

OWN_KERNEL = """
import sys
from elyra_launcher import PythonKernel, launch

class OwnKernel(PythonKernel):
    def environment(self, environ):
        return {**environ, "OWN": "yes"}

    def command(self):
        return ["env", "WRAPPED=yes", *super().command()]

    def before_start(self):
        print("about to start", self.options.kernel_id, flush=True)

    def interrupt(self, process):
        print("interrupting", flush=True)
        super().interrupt(process)

    def stop(self, process):
        print("stopping", flush=True)
        super().stop(process)

sys.exit(launch(kernel=OwnKernel))
"""

REPORTING = """
import sys, threading
from elyra_launcher import report

ended = threading.Event()
link = report(interrupt=lambda: print("interrupted", flush=True), shutdown=ended.set)
ended.wait(30)
link.close(code=0, reason="asked to")
"""


def test_every_hook_of_a_kernel_class_is_used(server, start, tmp_path):
    script = tmp_path / "own.py"
    script.write_text(OWN_KERNEL)
    started = start(*server_arguments(server), program=(str(script),), ELYRA_LAUNCH_TICKET=server.ticket)
    connection = server.wait_for("connection")["connection"]
    with Client(connection) as client:
        assert client.run("import os; os.environ['OWN'], os.environ['WRAPPED']") == ("ok", "('yes', 'yes')")
    server.request("interrupt")
    server.request("restart", {"now": False})
    server.wait_for("connection", 2)
    server.request("shutdown", {"now": False, "grace": 5})
    assert started.wait() == 0
    assert started.text.count(f"about to start {connection['kernel_id']}") == 2
    assert "interrupting" in started.text
    assert started.text.count("stopping") == 2


def test_a_hook_that_fails_is_reported_and_leaves_nothing(server, start, tmp_path):
    script = tmp_path / "own.py"
    script.write_text(OWN_KERNEL.replace("return {**environ", "raise ValueError('no sandbox'); return {**environ"))
    started = start(*server_arguments(server), program=(str(script),), ELYRA_LAUNCH_TICKET=server.ticket)
    assert "no sandbox" in server.wait_for("error")["message"]
    assert started.wait() == 70
    assert "Traceback" in started.text


def test_a_kernel_reports_itself_and_is_called_back(server, start, tmp_path):
    script = tmp_path / "reporting.py"
    script.write_text(REPORTING)
    file = tmp_path / "kernel-there.json"
    ports = {name: 50000 + n for n, name in enumerate(("shell", "iopub", "stdin", "hb", "control"))}
    info = {f"{name}_port": port for name, port in ports.items()}
    file.write_text(json.dumps({**info, "ip": "127.0.0.1", "key": "k", "transport": "tcp"}))
    arguments = [str(file), "--kernel-id", "there", *server_arguments(server)[1:]]
    started = start(*arguments, program=(str(script),), ELYRA_LAUNCH_TICKET=server.ticket)
    connection = server.wait_for("connection")["connection"]
    assert connection["shell_port"] == 50000
    assert connection["pid"] == started.process.pid
    assert server.of("hello")[0]["state"] == "running"
    assert server.request("signal", {"signum": 0})["result"] == {"alive": True}
    assert server.request("signal", {"signum": int(signal.SIGINT)})["result"] == {"alive": True}
    assert server.request("restart", {"now": True})["error"]["code"] == -32601
    server.request("shutdown", {"now": False, "grace": 1})
    report = server.wait_for("exit")
    assert (report["code"], report["reason"], report["requested"]) == (0, "asked to", True)
    assert started.wait() == 0
    assert "interrupted" in started.text
    assert file.exists()


def test_an_existing_connection_file_is_kept_and_its_ports_used(server, start, tmp_path):
    file = tmp_path / "kernel-mine.json"
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
    names = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")
    file.write_text(json.dumps({**{name: port + n for n, name in enumerate(names)}, "ip": "127.0.0.1", "key": "k"}))
    code = "import json, socket, sys, time; i = json.load(open(sys.argv[1])); "
    code += "s = socket.create_server((i['ip'], i['shell_port'])); time.sleep(60)"
    arguments = [str(file), "--kernel-id", "mine", *server_arguments(server)[1:]]
    command = ["--", sys.executable, "-c", code, "{connection_file}"]
    started = start(*arguments, *command, ELYRA_LAUNCH_TICKET=server.ticket)
    assert server.wait_for("connection")["connection"]["shell_port"] == port
    server.request("shutdown", {"now": True})
    assert started.wait() == 0
    assert file.exists()


def test_something_else_at_the_connection_files_path_is_not_touched(server, start, tmp_path):
    file = tmp_path / "kernel-notes.json"
    file.write_text("my notes")
    arguments = [str(file), "--kernel-id", "x", *server_arguments(server)[1:]]
    started = start(*arguments, ELYRA_LAUNCH_TICKET=server.ticket)
    assert server.wait_for("error")["code"] == "ports"
    assert started.wait() == 73
    assert file.read_text() == "my notes"


def test_the_names_of_the_library_are_there_and_explained():
    for name in elyra_launcher.__all__:
        assert getattr(elyra_launcher, name).__doc__
