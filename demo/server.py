"""`jupyter elyra` as a process of its own, with private directories and a port of its own."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demo import spark_home

LOOPBACK = "127.0.0.1"
START_LIMIT = 180.0
STOP_LIMIT = 120.0
READY = re.compile(r"is available at (https?://\S+)")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class ServerError(RuntimeError):
    """The server could not be started; the text has its last lines."""


class Server:
    """A running `jupyter elyra`, as a context manager.

    Parameters
    ----------
    directory : Path
        For its data, runtime and temporary files and its log. It belongs to the caller.
    environ : mapping
        Variables for the server beside this process's own, above all those of a `Yarn`.
    options : sequence of str
        More options of its command line.
    token : str, optional
        What it asks its clients for; by default a new one. Empty: it asks for nothing.

    Attributes
    ----------
    url, token : str
        Where it is, and what it wants to see in ``Authorization: token ...``.
    """

    def __init__(
        self, directory: Path, environ: Mapping[str, str], options: Sequence[str] = (), token: str | None = None
    ) -> None:
        self.directory = directory
        self.options = options
        self.token = secrets.token_urlsafe(24) if token is None else token
        self.url = ""
        self.log_file = directory / "elyra.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._started = threading.Event()
        self._pump: threading.Thread | None = None
        for name in ("data", "runtime", "config", "tmp"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        self.environ = {
            **without_jupyter(os.environ),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "JUPYTER_DATA_DIR": str(directory / "data"),
            "JUPYTER_RUNTIME_DIR": str(directory / "runtime"),
            "JUPYTER_CONFIG_DIR": str(directory / "config"),
            "TMPDIR": str(directory / "tmp"),
            "SPARK_HOME": str(spark_home()),
            "ELYRA_RESPONSE_IP": LOOPBACK,
            "KG_AUTH_TOKEN": self.token,
            **environ,
        }

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def install(self, *options: str) -> None:
        """Run ``jupyter elyra install`` into the private data directory."""
        command = [self._jupyter(), "elyra", "install", *options]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerError(f"{' '.join(command)} failed:\n{done.stderr}")

    def start(self) -> None:
        """Start it and return when it serves.

        Raises
        ------
        ServerError
            If it ends, or does not serve in time.
        """
        command = [
            self._jupyter(),
            "elyra",
            f"--ip={LOOPBACK}",
            "--port=8888",
            "--KernelGatewayApp.port_retries=200",  # the first free one of those
            "--JupyterWebsocketPersonality.list_kernels=True",
            "--log-level=INFO",
            *self.options,
        ]
        self._started.clear()
        self.process = subprocess.Popen(
            command,
            env=self.environ,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal is for the demonstration alone
            preexec_fn=end_with_parent,
        )
        self._pump = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._pump.start()
        if not self._started.wait(START_LIMIT) or not self.url:
            tail = self.log_tail()
            self.stop()
            raise ServerError(f"jupyter elyra did not start:\n{tail}")

    def stop(self) -> int | None:
        """End it as a service manager does, and return its exit code."""
        process, self.process = self.process, None
        self.url = ""
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        assert self._pump is not None
        self._pump.join(5)
        return code

    def request(self, method: str, path: str, body: Any = None, timeout: float = 320) -> Any:
        """Send a request of the REST API and return what the JSON of its answer holds."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}", "Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=timeout) as response:
            text = response.read()
        return json.loads(text) if text else None

    def log_tail(self, lines: int = 30) -> str:
        """Return the last lines of its log."""
        try:
            text = self.log_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with self.log_file.open("ab", buffering=0) as log, process.stdout as lines:
            for line in lines:
                log.write(line)
                match = READY.search(line.decode(errors="replace"))
                if match and not self._started.is_set():
                    self.url = match[1].rstrip("/")
                    self._started.set()
        self._started.set()

    @staticmethod
    def _jupyter() -> str:
        return str(Path(sys.executable).with_name("jupyter"))


def without_jupyter(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what a user's own Jupyter, gateway or cluster left in it."""
    prefixes = ("JUPYTER", "ELYRA_", "EG_", "KG_", "KERNEL_", "SPARK_", "PYSPARK_", "HADOOP_", "YARN_", "PYTHON")
    kept = {name: value for name, value in environ.items() if not name.startswith(prefixes)}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def end_with_parent(signum: int = signal.SIGTERM) -> None:
    """Let the system end a process whose parent was killed; runs between fork and exec."""
    LIBC.prctl(PR_SET_PDEATHSIG, signum)
