"""The servers that are measured, and the client that measures them: plain HTTP and one websocket."""

import itertools
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import requests
import websocket

V1 = "v1.kernel.websocket.jupyter.org"


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

    speaks_v1 = True

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
        answer = self.post_kernel(name, **env)
        if answer.status_code != 201:
            raise RuntimeError(f"POST /api/kernels: {answer.status_code} {answer.text}")
        return Kernel(self, answer.json()["id"])

    def post_kernel(self, name: str, **env: str) -> requests.Response:
        """POST a kernel and return the answer."""
        body = {"name": name, "env": env} if env else {"name": name}
        return self.session.post(self.url + "/api/kernels", json=body)

    def first_reply(self, name: str) -> float:
        """Return the seconds from the POST of a kernel to its first reply; the kernel is then deleted."""
        start = time.perf_counter()
        kernel = self.start_kernel(name)
        kernel.first_reply()
        seconds = time.perf_counter() - start
        kernel.close()
        return seconds

    def get(self, path: str = "/api") -> float:
        """Return the seconds that a GET takes."""
        start = time.perf_counter()
        self.session.get(self.url + path).raise_for_status()
        return time.perf_counter() - start


class Kernel:
    """A kernel on a server, through its websocket, which speaks as JupyterLab's does where the server can."""

    def __init__(self, server: Server, kernel_id: str) -> None:
        self.server = server
        self.id = kernel_id
        self.url = f"{server.url}/api/kernels/{kernel_id}"
        self._session = uuid.uuid4().hex
        address = self.url.replace("http:", "ws:") + f"/channels?session_id={self._session}"
        self._socket = websocket.create_connection(
            address,
            timeout=120,
            sockopt=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            subprotocols=[V1] if server.speaks_v1 else None,
            skip_utf8_validation=True,  # which would take longer than everything else
        )

    def receive(self) -> dict[str, Any]:
        """Return the next message, with its channel."""
        data = self._socket.recv()
        return unpack(data) if isinstance(data, bytes) else json.loads(data)  # type: ignore[no-any-return]

    def request(self, kind: str, content: dict[str, Any], channel: str = "shell") -> str:
        """Send a message and return its id."""
        number = uuid.uuid4().hex
        header = {
            "msg_id": number,
            "msg_type": kind,
            "username": "",
            "session": self._session,
            "date": "",
            "version": "5.3",
        }
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": channel}
        if self._socket.getsubprotocol() == V1:
            self._socket.send_binary(pack(message))
        else:
            self._socket.send(json.dumps(message))
        return number

    def reply(self, number: str) -> dict[str, Any]:
        """Return the content of the reply to message `number`."""
        while True:
            message = self.receive()
            if message["channel"] == "shell" and message["parent_header"].get("msg_id") == number:
                return dict(message["content"])

    def busy(self, code: str) -> Callable[[], object]:
        """Start a cell, return once it printed something, and give what returns when its reply came."""
        number = self.begin(code)
        while True:
            message = self.receive()
            if message["parent_header"].get("msg_id") == number and message["header"]["msg_type"] == "stream":
                return lambda: self.reply(number)

    def first_reply(self) -> None:
        """Wait until the kernel answers."""
        self.reply(self.request("kernel_info_request", {}))

    def execute(self, code: str, **expressions: str) -> dict[str, Any]:
        """Run a cell and return its reply."""
        return self.reply(self.begin(code, **expressions))

    def begin(self, code: str, **expressions: str) -> str:
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


def pack(message: dict[str, Any]) -> bytes:
    """Return a message as v1 of Jupyter's websocket protocol has it: offsets, then the parts."""
    names = ("header", "parent_header", "metadata", "content")
    parts = [message["channel"].encode(), *(json.dumps(message[name]).encode() for name in names)]
    offsets = list(itertools.accumulate(map(len, parts), initial=8 * (len(parts) + 2)))
    return b"".join(each.to_bytes(8, "little") for each in (len(offsets), *offsets)) + b"".join(parts)


def unpack(data: bytes) -> dict[str, Any]:
    """Return the message of a frame of v1."""
    count = int.from_bytes(data[:8], "little")
    offsets = [int.from_bytes(data[8 * i : 8 * i + 8], "little") for i in range(1, count + 1)]
    channel, header, parent, _, content = (data[a:b] for a, b in itertools.pairwise(offsets[:6]))
    header, parent, content = (json.loads(each) for each in (header, parent, content))
    return {"channel": channel.decode(), "header": header, "parent_header": parent, "content": content}


def elyra(directory: Path, *options: str, **environ: str) -> Server:
    """Return `jupyter elyra`, not started yet."""
    fixed = ["--ip=127.0.0.1", "--port={port}", "--port_retries=0"]
    return Server([sys.executable, "-m", "elyra_server", *fixed, *options], directory, **environ)


def jupyter_server(directory: Path, *more: str, **environ: str) -> Server:
    """Return a plain jupyter_server, not started yet."""
    options = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port={port}"]
    open_api = ["--IdentityProvider.token=", "--ServerApp.password=", "--ServerApp.disable_check_xsrf=True"]
    return Server([sys.executable, "-m", "jupyter_server", *options, *open_api, *more], directory, **environ)


def install(directory: Path, *names: str, options: Sequence[str] = ()) -> dict[str, str]:
    """Install kernelspecs below `directory` and return the variable by which a server finds them."""
    command = [sys.executable, "-m", "elyra_server", "install", *names, *options, "--prefix", str(directory)]
    quiet = subprocess.DEVNULL
    subprocess.run([*command, "--python", sys.executable], check=True, stdout=quiet, stderr=quiet)
    return {"JUPYTER_PATH": str(directory / "share" / "jupyter")}
