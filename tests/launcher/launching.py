"""Start the real launcher as a process, and talk to the kernel that it reports."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
from fake_server import FakeServer
from jupyter_client import BlockingKernelClient

ROOT = Path(__file__).resolve().parents[2]

# Binds its ports and stays for as long as it is told, or until SIGTERM or SIGUSR1. Runs on any Python 3.
TINY_KERNEL = """
import json, os, signal, socket, sys, time
signal.signal(signal.SIGUSR1, lambda *_: os._exit(int(sys.argv[3])))
info = json.load(open(sys.argv[1]))
held = []
for name in ("hb_port", "iopub_port", "control_port", "stdin_port", "shell_port"):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((info["ip"], info[name]))
    sock.listen(5)
    held.append(sock)
print("tiny kernel on Python %d.%d" % sys.version_info[:2], flush=True)
time.sleep(float(sys.argv[2]))
sys.exit(int(sys.argv[3]))
"""


class Launch:
    """One launcher process.

    Parameters
    ----------
    directory : Path
        Where its output and temporary files go.
    arguments : str
        The launcher's.
    python : str
        The interpreter.
    program : sequence of str
        What stands before the arguments.
    environ : str
        Additional variables.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        python: str = sys.executable,
        program: tuple[str, ...] = ("-m", "elyra_launcher"),
        **environ: str,
    ) -> None:
        self.mark = uuid.uuid4().hex
        self.temporary = directory / f"tmp-{self.mark[:8]}"
        self.temporary.mkdir()
        self.log = directory / f"{self.mark[:8]}.log"
        self.started = time.monotonic()
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ELYRA_", "KERNEL_"))},
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": str(ROOT),
            "IPYTHONDIR": str(directory / "ipython"),
            "LAUNCH_MARK": self.mark,
            **environ,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [python, *program, *arguments], env=variables, cwd=directory, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, timeout: float = 120.0) -> int:
        """Return the exit code."""
        return self.process.wait(timeout)

    def kernels(self) -> list[psutil.Process]:
        """Return all processes of this launch but the launcher."""
        return [each for each in self.processes() if each.pid != self.process.pid]

    def processes(self) -> list[psutil.Process]:
        """Return the living processes that have this launch's mark in their environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("LAUNCH_MARK") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def gone(self, timeout: float = 30.0) -> bool:
        """Wait until no process of this launch lives."""
        deadline = time.monotonic() + timeout
        while (processes := self.processes()) and time.monotonic() < deadline:
            psutil.wait_procs(processes, max(deadline - time.monotonic(), 0))
        return not processes

    def files(self) -> list[Path]:
        """Return what there is in its temporary directory."""
        return sorted(self.temporary.rglob("*"))

    def kill(self) -> None:
        for process in self.processes():
            process.kill()
        self.process.wait(10)


def server_arguments(server: FakeServer, kernel_id: str = "") -> list[str]:
    """Return the arguments that a server adds to a launch."""
    kernel_id = kernel_id or str(uuid.uuid4())
    return [
        f"/does/not/exist/kernel-{kernel_id}.json",
        "--RemoteProcessProxy.response-address",
        server.address,
        "--RemoteProcessProxy.public-key",
        server.fingerprint,
    ]


def shut_down(server: FakeServer, launch: Launch) -> None:
    """End a launch as a server does."""
    server.request("shutdown", {"now": True})
    assert launch.wait() == 0


class Client:
    """A client of a reported kernel."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self._client = BlockingKernelClient()
        self._client.load_connection_info(connection)
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()

    def send(self, code: str) -> str:
        """Send a cell."""
        return str(self._client.execute(code))

    def shut_down(self) -> None:
        """Ask the kernel to end, on its control channel."""
        self._client.shutdown()

    def start(self, code: str) -> str:
        """Send a cell and return once it runs."""
        request = self.send(code)
        while True:
            message = self._client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") == request and message["msg_type"] == "execute_input":
                return request

    def await_stream(self, text: str) -> None:
        """Return once the running cell wrote a text, perhaps in several messages."""
        written = ""
        while text not in written:
            message = self._client.get_iopub_msg(timeout=60)
            written += message["content"]["text"] if message["msg_type"] == "stream" else ""

    def answer(self, code: str) -> str:
        """Run a cell and return its first text, which some kernels send after their idle."""
        request = self.send(code)
        while True:
            message = self._client.get_iopub_msg(timeout=60)
            content = message["content"]
            text = content.get("text") or content.get("data", {}).get("text/plain")
            if message["parent_header"].get("msg_id") == request and text:
                return str(text)

    def result(self, request: str) -> tuple[str, str]:
        """Return status and text (or error name) of a cell."""
        status, text = "ok", ""
        while True:
            message = self._client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                text += content["text"]
            elif message["msg_type"] == "execute_result":
                text += content["data"]["text/plain"]
            elif message["msg_type"] == "error":
                status, text = "error", content["ename"]
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return status, text

    def run(self, code: str) -> tuple[str, str]:
        """Run a cell; return status and text (or error name)."""
        return self.result(self.start(code))
