"""Kernels without Elyra, which are the floors: started by a bare command, reached by jupyter_client."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import zmq
from jupyter_client import BlockingKernelClient, KernelManager
from jupyter_client.connect import write_connection_file

IPYKERNEL = """
import sys
from ipykernel.kernelapp import IPKernelApp
IPKernelApp.launch_instance(["-f", sys.argv[1]])
"""

EAGER_IPYKERNEL = """
import sys
from ipykernel.kernelapp import IPKernelApp
from pyspark.sql import SparkSession
IPKernelApp.launch_instance(["-f", sys.argv[1]], user_ns={"spark": SparkSession.builder.getOrCreate()})
"""

IRKERNEL = """
import os, sys
os.execvp("Rscript", ["Rscript", "-e", "IRkernel::main(commandArgs(TRUE)[1])", sys.argv[1]])
"""

LIMIT = 120.0


class Bare:
    """A kernel that a command starts.

    Parameters
    ----------
    command : callable
        Gets a directory for what it needs, and the path of a connection file; returns the command.
    writes_file : bool
        Whether the kernel makes the connection file itself; else it is there before the kernel.
    """

    def __init__(self, command: Callable[[Path, Path], list[str]], writes_file: bool = False) -> None:
        self._command = command
        self._writes_file = writes_file
        self.seconds = 0.0
        """From the command's start to the kernel's first reply."""

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory()
        directory = Path(self._directory.name)
        path = directory / f"kernel-{secrets.token_hex(4)}.json"
        if not self._writes_file:
            write_connection_file(str(path))
        command = self._command(directory, path)
        start = time.perf_counter()
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        while not (path.exists() and path.stat().st_size):
            time.sleep(0.001)
        context = zmq.Context()
        context.setsockopt(zmq.RECONNECT_IVL, 10)  # its ports are not open yet, perhaps
        self.client = BlockingKernelClient(connection_file=str(path), context=context)
        self.client.load_connection_file()
        self.client.start_channels(hb=False)
        self.client.kernel_info(reply=True, timeout=LIMIT)
        self.seconds = time.perf_counter() - start
        return self

    def __exit__(self, *error: object) -> None:
        self.client.shutdown(reply=False)
        try:
            self.process.wait(LIMIT)
        finally:
            self.client.stop_channels()
            self.client.context.destroy(linger=0)
            self._directory.cleanup()

    def begin(self, code: str) -> str:
        """Send a cell and return the message's id."""
        return str(self.client.execute(code, store_history=False, allow_stdin=False))

    def receive(self) -> dict[str, Any]:
        """Return the next message of the two channels that say something."""
        poller = zmq.Poller()
        shell, iopub = self.client.shell_channel, self.client.iopub_channel
        for channel in (shell, iopub):
            poller.register(channel.socket, zmq.POLLIN)
        ready = dict(poller.poll(LIMIT * 1000))
        if not ready:
            raise RuntimeError(f"the bare kernel said nothing for {LIMIT:g} s")
        channel = shell if shell.socket in ready else iopub
        message: dict[str, Any] = channel.get_msg(timeout=LIMIT)
        return message

    def busy(self, code: str) -> Callable[[], object]:
        """Start a cell, return once it printed something, and give what returns when its reply came."""
        number = self.client.execute(code, store_history=False)
        while True:
            message = self.client.get_iopub_msg(timeout=LIMIT)
            if message["parent_header"].get("msg_id") == number and message["msg_type"] == "stream":
                break
        return lambda: self.client.get_shell_msg(timeout=LIMIT)


def first_reply(command: Callable[[Path, Path], list[str]], writes_file: bool = False) -> float:
    """Return the seconds from a command to the first reply of the kernel that it starts."""
    with Bare(command, writes_file) as kernel:
        return kernel.seconds


def local_ipykernel(directory: Path, path: Path) -> list[str]:
    """Return the command of an ipykernel on this machine."""
    return [sys.executable, "-m", "ipykernel_launcher", "-f", str(path)]


def managed_first_reply() -> float:
    """Return the seconds from a KernelManager's start to the first reply of its kernel, without any server."""
    with zmq.Context() as context:
        context.setsockopt(zmq.RECONNECT_IVL, 10)
        start = time.perf_counter()
        manager = KernelManager(kernel_name="python3", context=context)
        manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client = manager.client()
        client.start_channels(hb=False)
        client.kernel_info(reply=True, timeout=LIMIT)
        seconds = time.perf_counter() - start
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return seconds


def submitted(script: str, *options: str) -> Callable[[Path, Path], list[str]]:
    """Return the command that submits a Python script, which gets the connection file's path, to Spark."""

    def command(directory: Path, path: Path) -> list[str]:
        (directory / "kernel.py").write_text(script)
        return [spark_submit(), *options, str(directory / "kernel.py"), str(path)]

    return command


MAGICS = "--add-opens=java.base/java.util.jar=ALL-UNNAMED"
"""Without it Toree finds none of its magics on Java 16 and later, and is up a second sooner."""


def toree(assembly: str, *options: str) -> Callable[[Path, Path], list[str]]:
    """Return the command that submits Toree's own main class to Spark, such that it has its magics."""
    java = ["--driver-java-options", f"-XX:-UsePerfData {MAGICS}"]
    main = ["--class", "org.apache.toree.Main", assembly, "--alternate-sigint", "USR2"]
    modes = ["--spark-context-initialization-mode", "lazy"]
    return lambda directory, path: [spark_submit(), *options, *java, *main, *modes, "--profile", str(path)]


def spark_submit() -> str:
    return f"{os.environ['SPARK_HOME']}/bin/spark-submit"
