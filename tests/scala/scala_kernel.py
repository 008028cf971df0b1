"""A client of a Scala kernel that was started without a server, and the processes behind it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import time
from collections.abc import Callable
from functools import cached_property
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

    @cached_property
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

    def result(
        self, request: str, on_output: Callable[[], object] | None = None, on_input: Callable[[], object] | None = None
    ) -> tuple[str, str]:
        """Return status and text of a cell: what it printed until it was over, and its error."""
        text = ""
        state = ""
        deadline = time.monotonic() + LIMIT
        while state != "idle":
            with contextlib.suppress(queue.Empty):
                message: dict[str, Any] = self.client.get_iopub_msg(timeout=0.5)
                kind, content = message["msg_type"], message["content"]
                if message["parent_header"].get("msg_id") != request:
                    continue
                state = content.get("execution_state", state)
                text += content["text"] if kind == "stream" else ""
                if kind == "execute_result":
                    self.last_result = content["data"].get("text/plain", "")
                if kind == "stream" and on_output is not None:
                    on_output()
                    on_output = None
                if kind == "execute_input" and on_input is not None:
                    on_input()
            assert time.monotonic() < deadline, self.launch.text
        reply = self._reply(request)
        if reply["status"] == "error":
            text += f"{reply['ename']}: {reply['evalue']}"
        return reply["status"], text

    def _reply(self, request: str) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = self.client.get_shell_msg(timeout=LIMIT)
            if message["parent_header"].get("msg_id") == request:
                return dict(message["content"])

    def run(self, code: str, **hooks: Callable[[], object]) -> tuple[str, str]:
        """Run a cell and return its status and text.

        `on_output` is called when it first prints something, `on_input` when Toree begins with it.
        """
        return self.result(self.send(code), **hooks)

    def do(self, code: str) -> None:
        """Run a cell that has to succeed."""
        status, text = self.run(code)
        assert status == "ok", text

    def value(self, code: str) -> str:
        """Return what a cell prints that has to succeed."""
        status, text = self.run(code)
        assert status == "ok", text
        return text.strip()

    def shut_down(self) -> None:
        """Ask it to end, on its control channel."""
        self.client.shutdown()

    def close(self) -> None:
        self.client.stop_channels()
