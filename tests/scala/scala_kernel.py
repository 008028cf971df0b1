"""A client of a Scala kernel that was started without a server, and the processes behind it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from jupyter_client import BlockingKernelClient
from launching import Launch

LIMIT = 120.0


class Kernel:
    """A kernel, once it answers."""

    def __init__(self, launch: Launch, file: Path) -> None:
        self.launch = launch
        self.file = file
        self.last_result = ""
        self._wait_for_port()
        self.key = json.loads(file.read_text())["key"]
        self.client = BlockingKernelClient(connection_file=str(file))
        self.client.load_connection_file()
        self.client.start_channels()
        # Not wait_for_ready(): it gives up when a heartbeat takes more than a second.
        request = self.client.kernel_info()
        while self.client.get_shell_msg(timeout=LIMIT)["parent_header"].get("msg_id") != request:
            pass

    def _wait_for_port(self) -> None:
        deadline = time.monotonic() + LIMIT
        while True:
            assert self.launch.process.poll() is None and time.monotonic() < deadline, self.launch.text
            try:
                socket.create_connection(("127.0.0.1", json.loads(self.file.read_text())["shell_port"])).close()
                return
            except (OSError, ValueError):
                time.sleep(0.1)

    @property
    def child(self) -> psutil.Process:
        """The process that stands for Toree."""
        return next(each for each in self.launch.processes() if "toree_driver" in " ".join(each.cmdline()))

    @property
    def jvm(self) -> psutil.Process:
        """The Spark driver."""
        return next(each for each in self.launch.processes() if each.name() == "java")

    def interrupt(self) -> None:
        """Interrupt it as the supervisor does."""
        os.killpg(self.child.pid, signal.SIGINT)

    def send(self, code: str) -> str:
        return str(self.client.execute(code))

    def result(self, request: str, on_output: Callable[[], object] | None = None) -> tuple[str, str]:
        """Return status and text of a cell: what it printed, and its error. Toree sends them in any order.

        Results are left out: after an error Toree shows one of its own with the next cell.
        """
        text, status = "", ""
        reply = None
        deadline = time.monotonic() + LIMIT
        while reply is None:
            assert time.monotonic() < deadline, self.launch.text
            text += self._text(request, 0.05, on_output)
            while self.client.shell_channel.msg_ready():
                message = self.client.get_shell_msg(timeout=1)
                if message["parent_header"].get("msg_id") == request:
                    reply = message["content"]
        status = reply["status"]
        if status == "error":
            text += f"{reply['ename']}: {reply['evalue']}"
        return status, text + self._text(request, 0.3, None)

    def _text(self, request: str, limit: float, on_output: Callable[[], object] | None) -> str:
        import queue

        text = ""
        while True:
            try:
                message: dict[str, Any] = self.client.get_iopub_msg(timeout=limit)
            except queue.Empty:
                return text
            content = message["content"]
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["msg_type"] == "stream":
                text += content["text"]
                if on_output is not None:
                    on_output()
            elif message["msg_type"] == "execute_result":
                self.last_result = content["data"].get("text/plain", "")

    def run(self, code: str, on_output: Callable[[], object] | None = None) -> tuple[str, str]:
        """Run a cell and return its status and text; `on_output` is called for each thing it prints."""
        return self.result(self.send(code), on_output)

    def do(self, code: str) -> None:
        """Run a cell that has to succeed."""
        status, text = self.run(code)
        assert status == "ok", text

    def value(self, code: str) -> str:
        """Return what a cell prints that has to succeed."""
        request = self.send(code)
        status, text = self.result(request)
        assert status == "ok", text
        deadline = time.monotonic() + LIMIT
        while not text and time.monotonic() < deadline:  # Toree may answer before it has sent what was printed
            text = self._text(request, 0.1, None)
        return text.strip()

    def shut_down(self) -> None:
        """Ask it to end, on its control channel."""
        self.client.shutdown()

    def close(self) -> None:
        self.client.stop_channels()
