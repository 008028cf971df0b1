"""The real Enterprise Gateway 3.3 runs its kernels by this launcher, as it is."""

import contextlib
import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import psutil
import pytest
import websocket
from waiting import until

ROOT = Path(__file__).resolve().parents[2]
USER = "somebody"


class Gateway:
    """A running Enterprise Gateway with one kernelspec, which names this launcher."""

    def __init__(self, programs, directory):
        self.mark = uuid.uuid4().hex
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.url = f"127.0.0.1:{sock.getsockname()[1]}"
        spec = directory / "share" / "kernels" / "elyra"
        spec.mkdir(parents=True)
        flags = ("kernel-id", "response-address", "public-key", "port-range")
        argv = [str(programs / "python"), "-m", "elyra_launcher"]
        argv += [word for flag in flags for word in ("--" + flag, "{" + flag.replace("-", "_") + "}")]
        proxy = "enterprise_gateway.services.processproxies.distributed.DistributedProcessProxy"
        stanza = {"class_name": proxy, "config": {"remote_hosts": "localhost"}}
        content = {"argv": argv, "display_name": "Python", "language": "python", "metadata": {"process_proxy": stanza}}
        content["env"] = {"PYTHONPATH": str(ROOT), "TMPDIR": str(directory)}
        (spec / "kernel.json").write_text(json.dumps(content))
        self.log = directory / "gateway.log"
        environ = {
            **os.environ,
            "GATEWAY_MARK": self.mark,
            "JUPYTER_PATH": str(directory / "share"),
            "JUPYTER_RUNTIME_DIR": str(directory / "run"),
            "IPYTHONDIR": str(directory / "ipython"),
            "EG_RESPONSE_IP": "127.0.0.1",
            "EG_KERNEL_LOG_DIR": str(directory),
            "EG_INHERITED_ENVS": "GATEWAY_MARK",
        }
        port = self.url.rpartition(":")[2]
        options = ("--ip=127.0.0.1", f"--port={port}", "--port_retries=0", "--RemoteKernelManager.shutdown_wait_time=5")
        with self.log.open("wb") as log:
            command = [str(programs / "jupyter-enterprisegateway"), *options]
            self.process = subprocess.Popen(command, env=environ, cwd=directory, stdout=log, stderr=subprocess.STDOUT)
        until(lambda: self.call("GET", "/api"), "the gateway to answer")

    def call(self, method, path, body=None):
        """Return the answer to a request; None while nobody answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.url}{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.loads(response.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read()}\n{self.text()}") from error
        except urllib.error.URLError:
            assert self.process.poll() is None, self.text()
            return None

    def text(self):
        return self.log.read_text(errors="replace")

    def launchers(self):
        """Return what its kernels consist of: all their processes."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                command = " ".join(process.cmdline())
                if process.environ().get("GATEWAY_MARK") == self.mark and "elyra_launcher" in command:
                    found.append(process)
        return found

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        left = self.launchers()
        for process in left:
            process.kill()
        assert left == [], self.text()


class Channels:
    """The websocket of a kernel."""

    def __init__(self, gateway, kernel_id):
        self._socket = websocket.create_connection(f"ws://{gateway.url}/api/kernels/{kernel_id}/channels", timeout=60)
        # Output goes past a subscription that is not there yet; only what came back tells that it is.
        until(lambda: self._hears(self._send("kernel_info_request", {})), "the kernel's output")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def start(self, code, sign="execute_input"):
        """Send a cell and return once there is a message of this type of it."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        identity = self._send("execute_request", content)
        self._message(identity, sign)
        return identity

    def _send(self, kind, content):
        identity = uuid.uuid4().hex
        header = {"msg_id": identity, "username": USER, "session": identity, "msg_type": kind, "version": "5.3"}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self._socket.send(json.dumps(message))
        return identity

    def _hears(self, identity):
        self._socket.settimeout(1)
        try:
            return self._message(identity, "status") is not None
        except websocket.WebSocketTimeoutException:
            return False
        finally:
            self._socket.settimeout(60)

    def result(self, identity):
        """Return the text of a cell's result, or the name of its error."""
        content = self._message(identity, "execute_result", "error")
        self._message(identity, "status")  # idle
        return content.get("ename") or content["data"]["text/plain"]

    def _message(self, identity, *types):
        while True:
            message = json.loads(self._socket.recv())
            if message["parent_header"].get("msg_id") == identity and message["msg_type"] in types:
                return message["content"]


@pytest.fixture
def gateway(enterprise_gateway, tmp_path):
    running = Gateway(enterprise_gateway, tmp_path)
    yield running
    running.close()
    assert list(tmp_path.glob("elyra-kernel-*")) == []


def test_a_kernel_starts_runs_is_interrupted_restarts_and_stops(gateway):
    body = {"name": "elyra", "env": {"KERNEL_USERNAME": USER}}
    kernel_id = gateway.call("POST", "/api/kernels", body)["id"]
    assert len(gateway.launchers()) == 2
    with Channels(gateway, kernel_id) as channels:
        assert channels.result(channels.start("6 * 7")) == "42"
        assert channels.result(channels.start("import os; os.environ['KERNEL_ID']")) == repr(kernel_id)
        endless = channels.start("print('it runs', flush=True)\nimport time\nwhile True: time.sleep(0.1)", "stream")
        gateway.call("POST", f"/api/kernels/{kernel_id}/interrupt", {})
        assert channels.result(endless) == "KeyboardInterrupt"
        channels.start("x = 1")
    gateway.call("POST", f"/api/kernels/{kernel_id}/restart", {})
    with Channels(gateway, kernel_id) as channels:
        assert channels.result(channels.start("x")) == "NameError"
    gateway.call("DELETE", f"/api/kernels/{kernel_id}")
    until(lambda: not gateway.launchers(), "the kernel and its launcher to end")


def test_orders_of_strangers_harm_no_kernel(gateway):
    kernel_id = gateway.call("POST", "/api/kernels", {"name": "elyra", "env": {"KERNEL_USERNAME": USER}})["id"]
    (launcher,) = [each for each in gateway.launchers() if "--response-address" in each.cmdline()]
    (listener,) = [each.laddr for each in launcher.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    for nonsense in (b"", b"{", b"[]", b"null", b'{"signum": "x"}', b'{"signum": 99999}', b"\xff" * 100, b"x" * 9000):
        with contextlib.suppress(OSError), socket.create_connection(listener, 10) as sock:
            sock.sendall(nonsense)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)
    with Channels(gateway, kernel_id) as channels:
        assert channels.result(channels.start("1 + 1")) == "2"
    gateway.call("DELETE", f"/api/kernels/{kernel_id}")
