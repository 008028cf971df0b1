"""The servers that are measured, and the client that measures them: plain HTTP and one websocket."""

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import requests
import websocket


class Server:
    """A server process with Jupyter's REST API.

    Parameters
    ----------
    command : list of str
        What starts it; ``{port}`` is replaced.
    directory : Path
        Where its data, runtime files and log are.
    environ : str
        Variables beside those of this process.
    """

    def __init__(self, command: list[str], directory: Path, **environ: str) -> None:
        self.url = ""
        self._command = command
        self._directory = directory
        self._environ = environ
        self.session = requests.Session()

    def __enter__(self) -> Self:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._directory.mkdir(parents=True, exist_ok=True)
        log = (self._directory / "log").open("wb")
        environ = {
            **os.environ,
            "JUPYTER_RUNTIME_DIR": str(self._directory / "runtime"),
            "JUPYTER_CONFIG_DIR": str(self._directory / "config"),
            "ELYRA_RESPONSE_IP": "127.0.0.1",
            **self._environ,
        }
        self.process = psutil.Popen(
            [part.format(port=port) for part in self._command],
            cwd=self._directory,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.session.get(self.url + "/api").raise_for_status()
                return self
            except requests.RequestException:
                time.sleep(0.05)
        self.process.kill()
        raise RuntimeError(f"{self._command} did not start:\n{(self._directory / 'log').read_text()[-4000:]}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except psutil.TimeoutExpired:
            self.process.kill()

    def start_kernel(self, name: str, **env: str) -> "Kernel":
        """POST a kernel and return it, with its websocket open."""
        body: dict[str, Any] = {"name": name}
        if env:
            body["env"] = env
        answer = self.session.post(self.url + "/api/kernels", json=body)
        if answer.status_code != 201:
            raise RuntimeError(f"POST /api/kernels: {answer.status_code} {answer.text}")
        return Kernel(self, answer.json()["id"])

    def first_reply(self, name: str) -> float:
        """Return the seconds from the POST of a kernel to its first reply; the kernel is then deleted."""
        start = time.perf_counter()
        kernel = self.start_kernel(name)
        kernel.first_reply()
        seconds = time.perf_counter() - start
        kernel.close()
        return seconds

    def get_api(self) -> float:
        """Return the seconds that GET /api takes."""
        start = time.perf_counter()
        self.session.get(self.url + "/api").raise_for_status()
        return time.perf_counter() - start


class Kernel:
    """A kernel on a server, through its websocket."""

    def __init__(self, server: Server, kernel_id: str) -> None:
        self.server = server
        self.id = kernel_id
        self.url = f"{server.url}/api/kernels/{kernel_id}"
        self._session = uuid.uuid4().hex
        address = self.url.replace("http:", "ws:") + f"/channels?session_id={self._session}"
        self._socket = websocket.create_connection(
            address, timeout=120, sockopt=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        )

    def request(self, kind: str, content: dict[str, Any]) -> str:
        """Send a message on the shell channel and return its id."""
        number = uuid.uuid4().hex
        header = {
            "msg_id": number,
            "msg_type": kind,
            "username": "",
            "session": self._session,
            "date": "",
            "version": "5.3",
        }
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self._socket.send(json.dumps(message))
        return number

    def reply(self, number: str) -> dict[str, Any]:
        """Return the content of the reply to message `number`."""
        while True:
            message = json.loads(self._socket.recv())
            if message["channel"] == "shell" and message["parent_header"].get("msg_id") == number:
                return dict(message["content"])

    def busy(self, code: str) -> Callable[[], object]:
        """Start a cell, return once it printed something, and give what returns when its reply came."""
        number = self._begin(code)
        while True:
            message = json.loads(self._socket.recv())
            if message["parent_header"].get("msg_id") == number and message["header"]["msg_type"] == "stream":
                return lambda: self.reply(number)

    def first_reply(self) -> None:
        """Wait until the kernel answers."""
        self.reply(self.request("kernel_info_request", {}))

    def execute(self, code: str, **expressions: str) -> dict[str, Any]:
        """Run a cell and return its reply."""
        return self.reply(self._begin(code, **expressions))

    def _begin(self, code: str, **expressions: str) -> str:
        """Send a cell, with all that a request may say, as Toree takes no less."""
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        return self.request("execute_request", {**content, "user_expressions": expressions})

    def value(self, expression: str) -> str:
        """Return the text of an expression's value."""
        reply = self.execute(f"value_ = {expression}", value="value_")
        if reply["status"] != "ok":
            raise RuntimeError(f"{reply.get('ename')}: {reply.get('evalue')}")
        return str(reply["user_expressions"]["value"]["data"]["text/plain"])

    def post(self, verb: str) -> None:
        """POST ``interrupt`` or ``restart``."""
        self.server.session.post(f"{self.url}/{verb}").raise_for_status()

    def close(self) -> float:
        """DELETE the kernel and return the seconds that this took."""
        start = time.perf_counter()
        self.server.session.delete(self.url).raise_for_status()
        seconds = time.perf_counter() - start
        self._socket.close()
        return seconds


def elyra(directory: Path, **environ: str) -> Server:
    """Return `jupyter elyra`, not started yet."""
    return Server(
        [sys.executable, "-m", "elyra_server", "--ip=127.0.0.1", "--port={port}", "--port_retries=0"],
        directory,
        **environ,
    )


def jupyter_server(directory: Path, **environ: str) -> Server:
    """Return a plain jupyter_server, not started yet."""
    options = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port={port}"]
    open_api = ["--IdentityProvider.token=", "--ServerApp.password=", "--ServerApp.disable_check_xsrf=True"]
    return Server([sys.executable, "-m", "jupyter_server", *options, *open_api], directory, **environ)
