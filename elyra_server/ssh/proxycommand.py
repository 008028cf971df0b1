"""A command of the operator's that stands for the network connection to a host, run as ssh runs it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
from collections import deque

END_LIMIT = 1.0
"""Seconds that it has to end before it is killed."""

LINES = 5

log = logging.getLogger("elyra.ssh")


class ProxyCommand:
    """A running command, with what comes and goes on its other side.

    paramiko has such a class, but it knows no shell, and waits in a busy loop for a command that is over.

    Parameters
    ----------
    command : str
        What the shell is to run in its place.

    Raises
    ------
    OSError
        If there is no shell, or no process or file left for it.

    Attributes
    ----------
    sock : socket.socket
        Leads to the host.
    """

    def __init__(self, command: str) -> None:
        self.sock, theirs = socket.socketpair()
        self._lines: deque[str] = deque(maxlen=LINES)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}"],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
        except BaseException:
            self.sock.close()
            raise
        self._reader = threading.Thread(target=self._read, name="elyra ssh proxy command", daemon=True)
        self._reader.start()

    def describe_end(self) -> str:
        """Return how it ended and what it said last; empty if it runs."""
        try:
            code = self._process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            return ""
        self._reader.join(END_LIMIT)
        said = "".join(f"\n{line}" for line in self._lines)
        return f"it ended with exit code {code}{f'; its last lines:{said}' if said else ' and said nothing'}"

    def close(self) -> None:
        """End it."""
        self.sock.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.returncode is not None:
                break
            # All of it: a pipeline has several processes.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_LIMIT)

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as errors:
            for line in errors:
                text = line.decode(errors="replace").rstrip()
                log.debug("ProxyCommand: %s", text)
                self._lines.append(text)
