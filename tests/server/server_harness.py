"""What the tests of the server share: a real `jupyter elyra`, and a client of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import psutil
import websocket
from waiting import PATIENCE, until

from demo.server import end_with_parent

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LAUNCHER = [sys.executable, "-m", "elyra_launcher"]
FLAGS = ["{connection_file}", "--RemoteProcessProxy.response-address", "{response_address}"]
DISTRIBUTED = "elyra.services.processproxies.distributed.DistributedProcessProxy"
YARN = "enterprise_gateway.services.processproxies.yarn.YarnClusterProcessProxy"


def environment(base: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a server whose files are all under `base`."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {
        **kept,
        "HOME": str(base),
        "TMPDIR": str(base / "tmp"),
        "PYTHONPATH": str(ROOT),
        "PYTHONFAULTHANDLER": "1",
        "JUPYTER_DATA_DIR": str(base / "data"),
        "JUPYTER_CONFIG_DIR": str(base / "config"),
        "JUPYTER_RUNTIME_DIR": str(base / "runtime"),
        "IPYTHONDIR": str(base / "ipython"),
        "ELYRA_RESPONSE_IP": "127.0.0.1",
        "ELYRA_CLIENT_ENVS": "ALLOWED_BY_OPERATOR",
        "ELYRA_INHERITED_ENVS": "PYTHONPATH,IPYTHONDIR",
        "SECRET_OF_THE_SERVER": "do-not-show",
        **variables,
    }


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def write_spec(data_dir: Path, name: str, argv: list[str] | None = None, **content) -> Path:
    """Write a kernelspec, by default one of the real launcher as a local process."""
    directory = data_dir / "kernels" / name
    directory.mkdir(parents=True, exist_ok=True)
    content.setdefault("process_proxy", {"class_name": DISTRIBUTED})
    spec = {"language": "python", "display_name": name, "argv": argv or [*LAUNCHER, *FLAGS], **content}
    (directory / "kernel.json").write_text(json.dumps(spec))
    return directory


def descendants_with(marker: str) -> list[psutil.Process]:
    """Return all processes that got `marker` in their environment, wherever they went since."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and marker in process.environ().values():
                found.append(process)
        except psutil.Error:
            continue
    return found


class Server:
    """A `jupyter elyra` of its own, with its files under one directory."""

    def __init__(self, base: Path, *options: str, **variables: str) -> None:
        self.base = base
        self.data = base / "data"
        (base / "tmp").mkdir(parents=True, exist_ok=True)
        self.data.mkdir(exist_ok=True)
        self.token = ""
        self.log = base / "server.log"
        self.marker = f"elyra-test-{uuid.uuid4().hex}"
        variables = {"ELYRA_KERNEL_LAUNCH_TIMEOUT": "120", **variables}
        self.env = environment(base, ELYRA_TEST_MARKER=self.marker, **variables)
        # The marker reaches every process of the server's kernels, so that none is overlooked.
        self.env["ELYRA_INHERITED_ENVS"] += ",ELYRA_TEST_MARKER"
        self.options = options
        # Another process may have taken the port before the server did.
        if not (self._started() or self._started()):
            raise AssertionError(f"the server did not start:\n{self.text()}")

    def _started(self) -> bool:
        """Start the server at a free port; return whether it serves."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "elyra_server.app",
                    "--ip=127.0.0.1",
                    f"--port={self.port}",
                    "--port_retries=0",
                    "--log-level=DEBUG",
                    "--JupyterWebsocketPersonality.list_kernels=True",
                    *self.options,
                ],
                env=self.env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.base,
                preexec_fn=end_with_parent,
            )
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            if f":{self.port}/" in self.text() and "is available at" in self.text():
                return True
            time.sleep(0.05)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        return False

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def spec(self, name: str, argv: list[str] | None = None, **content) -> Path:
        return write_spec(self.data, name, argv, **content)

    def rest(self, method: str, path: str, body=None, timeout: float = 180):
        """Return status and decoded body of a request."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, method=method)
        if self.token:
            request.add_header("Authorization", f"token {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                content = answer.read()
                return answer.status, json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def start(self, name: str, **env: str) -> str:
        status, model = self.rest("POST", "/api/kernels", {"name": name, "env": env})
        assert status == 201, model
        return model["id"]

    def fail(self, name: str, **env: str):
        """Return the answer to a POST that must fail, and how long it took."""
        began = time.monotonic()
        status, answer = self.rest("POST", "/api/kernels", {"name": name, "env": env})
        assert status >= 400, answer
        assert set(answer) == {"reason", "message"}
        return status, answer["message"], time.monotonic() - began

    def kernel(self, kernel_id: str):
        return self.rest("GET", f"/api/kernels/{kernel_id}")[1]

    def delete(self, kernel_id: str) -> float:
        began = time.monotonic()
        assert self.rest("DELETE", f"/api/kernels/{kernel_id}")[0] == 204
        return time.monotonic() - began

    def socket(self, kernel_id: str, session_id: str = "") -> Socket:
        return Socket(self, kernel_id, session_id)

    def await_text(self, text: str, timeout: float = PATIENCE) -> None:
        until(lambda: text in self.text(), f"{text!r} in the server's log", timeout)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """End the server as an operator does; return its exit code."""
        self.process.send_signal(signum)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler writes what each thread does
            self.process.wait()
            raise AssertionError(f"the server did not end:\n{self.text()[-8000:]}") from None

    def kill(self) -> None:
        """End the server as nobody should, which is no failure of the test."""
        self.process.kill()
        self.process.wait()
        self.process.returncode = 0

    def launchers(self) -> list[psutil.Process]:
        """Return the launchers on this host, which are children of the server as its guardian is."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if self.marker in child.environ().values()]

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop()

    def leftovers(self) -> list[str]:
        """Return what is left of it: processes, and files that should be gone."""
        gone = time.monotonic() + 5
        while (processes := descendants_with(self.marker)) and time.monotonic() < gone:
            time.sleep(0.1)
        names = [" ".join(process.cmdline()) for process in processes]
        files = [*self.base.glob("runtime/kernel-*"), *self.base.glob("tmp/*")]
        return names + [str(file) for file in files]


class Socket:
    """A websocket to a kernel."""

    def __init__(self, server: Server, kernel_id: str, session_id: str = "") -> None:
        session_id = session_id or uuid.uuid4().hex
        url = f"ws://127.0.0.1:{server.port}/api/kernels/{kernel_id}/channels?session_id={session_id}"
        self.connection = websocket.create_connection(url, timeout=30)
        self.states: list[str] = []

    def send(self, code: str) -> str:
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        }
        return self.send_message("execute_request", content)

    def send_message(self, kind: str, content: dict, channel: str = "shell") -> str:
        number = uuid.uuid4().hex
        header = {
            "msg_id": number,
            "msg_type": kind,
            "session": "test",
            "username": "",
            "version": "5.3",
            "date": "2026-01-01T00:00:00Z",
        }
        message = {
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
            "channel": channel,
            "buffers": [],
        }
        self.connection.send(json.dumps(message))
        return number

    def receive(self):
        message = json.loads(self.connection.recv())
        if message["msg_type"] == "status":
            self.states.append(message["content"]["execution_state"])
        return message

    def await_state(self, state: str) -> None:
        while state not in self.states:
            self.receive()

    def result(self, number: str) -> str:
        """Return the output of a request, in full: up to its reply and its idle."""
        text, replied, idle = "", False, False
        while not (replied and idle):
            message = self.receive()
            if message["parent_header"].get("msg_id") != number:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                text += content["text"]
            elif kind == "error":
                text += content["ename"]
            replied = replied or kind == "execute_reply"
            idle = idle or (kind == "status" and content["execution_state"] == "idle")
        return text

    def run(self, code: str) -> str:
        return self.result(self.send(code))

    def close(self) -> None:
        self.connection.close()


def which_java() -> str | None:
    return shutil.which("java")
