"""A command started on this host: its last words, its end, and how to end it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import stat
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from elyra_server.errors import LaunchError
from elyra_server.guardian import Guardian
from elyra_server.service import in_thread

KEPT_LINES = 40
SHOWN_LINES = 15
"""How many of them a message quotes."""

ERROR = re.compile(r"(?:Error|Exception in thread .*|[\w.]*(?:Exception|Error)): ")
MAX_LINE = 4000
DRAIN = 0.3
"""Seconds to wait for the rest of the output of a process that ended."""

log = logging.getLogger("elyra.processes")


async def process_end(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process without polling it; return its exit code, negative for a signal."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # another system, or it was reaped already
        return await in_thread(process.wait)
    ended: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(descriptor, wake)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()


class Command(Protocol):
    """A launch command, wherever it runs: what a process proxy wants of it."""

    @property
    def pid(self) -> int:
        """The process."""

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""

    @property
    def lines(self) -> list[str]:
        """The last lines of its output."""

    @property
    def ended(self) -> asyncio.Future[int]:
        """Its exit code, negative for a signal, once it ended."""

    async def stop(self, patience: float = 5.0) -> None:
        """See it end: by itself within `patience`, then ended."""

    async def terminate(self, patience: float = 5.0) -> None:
        """End it now."""


class LocalProcess:
    """A launch command as a process in a session of its own.

    Its output is read as it comes, so that it never blocks; the last lines are kept for
    error messages, and all of it goes to a private file if one was asked for.

    Parameters
    ----------
    command : list of str
        What to run.
    env : mapping
        Its whole environment.
    cwd : str or None
        Where; the server's directory if that does not exist.
    log_file : Path or None
        Where to append its output.
    on_line : callable, optional
        Gets each line of output.
    """

    def __init__(
        self,
        command: list[str],
        env: Mapping[str, str],
        cwd: str | None = None,
        log_file: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)
        self._first_error = ""
        self._on_line = on_line
        self._partial = b""
        self._log_file = log_file
        self._log = _open_private(log_file)
        Guardian.instance().begin()
        try:
            self.process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=cwd if cwd and os.path.isdir(cwd) else None,  # noqa: PTH112
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._close_log()
            raise LaunchError(_cannot_run(command, error)) from error
        Guardian.instance().guard_process(self.pid)
        loop = asyncio.get_running_loop()
        self._reader = loop.create_task(self._read())
        self.ended: asyncio.Task[int] = loop.create_task(self._wait())

    @property
    def pid(self) -> int:
        """The process, which leads its group."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self.ended.done()

    @property
    def lines(self) -> list[str]:
        """The last lines of its output, before them the first error: spark-submit prints pages of usage after it."""
        kept = list(self._kept)
        shown = [line for line in kept if line.strip()][-SHOWN_LINES:]
        if self._first_error and self._first_error not in shown:
            return [self._first_error, "...", *shown[2:]]
        return kept

    def signal(self, signum: int) -> None:
        """Send its whole group a signal; once it was reaped, what it left behind there."""
        # As long as there is something left of the group, no new process gets its number.
        if self.process.returncode is not None and _exists(self.pid):
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signum)

    async def stop(self, patience: float = 5.0) -> None:
        """See it end: by itself, then by SIGTERM, then by SIGKILL, each after `patience`."""
        for signum in (None, signal.SIGTERM, signal.SIGKILL):
            if signum is not None:
                self.signal(signum)
            done, _ = await asyncio.wait({self.ended}, timeout=patience)
            if done:
                return

    async def terminate(self, patience: float = 5.0) -> None:
        """End it now: by SIGTERM, then by SIGKILL after `patience`."""
        if self.running:
            self.signal(signal.SIGTERM)
            await asyncio.wait({self.ended}, timeout=patience)
        # Also for what it left behind in its group.
        self.signal(signal.SIGKILL)
        await asyncio.wait({self.ended}, timeout=patience)

    async def _wait(self) -> int:
        code = await process_end(self.process)
        Guardian.instance().release_process(self.pid)
        # A child that it left behind may hold the pipe: then the rest is not waited for.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._reader), DRAIN)
        return code

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        stdout: Any = self.process.stdout
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stdout)
        try:
            while data := await reader.read(65536):
                self._feed(data)
            if self._partial:
                self._feed(b"\n")
        finally:
            transport.close()
            self._close_log()

    def _feed(self, data: bytes) -> None:
        self._write_log(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._partial = self._partial[-MAX_LINE:]
        for line in lines:
            text = line[-MAX_LINE:].decode("utf-8", "replace").rstrip()
            self._kept.append(text)
            if not self._first_error and ERROR.match(text):
                self._first_error = text
            if self._on_line is not None:
                self._on_line(text)

    def _write_log(self, data: bytes) -> None:
        """Write what came; a disk that is full must not stop a kernel, which would wait for its reader."""
        if self._log is None:
            return
        try:
            self._log.write(data)
        except OSError as error:
            log.error("The launch log %s is not written any more: %s", self._log_file, error)
            self._close_log()

    def _close_log(self) -> None:
        if self._log is not None:
            with contextlib.suppress(OSError):
                self._log.close()
            self._log = None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def exit_code(command: Command) -> int | None:
    """Return the exit code of a launch command; None while it is not known, and if it never will be."""
    ended = command.ended
    known = ended.done() and not ended.cancelled() and ended.exception() is None
    return ended.result() if known else None


def describe_end(code: int) -> str:
    """Return how a process ended, as the middle of a sentence."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def log_path(kernel_log_dir: str, proxy_launch_log: str, kernel_id: str) -> Path | None:
    """Return the file for a launch's output, None where none is wanted."""
    place = kernel_log_dir or proxy_launch_log
    if place in ("", os.devnull):
        return None
    path = Path(place).expanduser()
    return path / f"kernel-{kernel_id}.log" if kernel_log_dir or path.is_dir() else path


def _open_private(path: Path | None) -> IO[bytes] | None:
    if path is None:
        return None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A pipe must not hold up the server, nor a device lose its mode.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(0, "it is not a file")
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise LaunchError(
            f"The launch log {path} cannot be written: {error.strerror}. "
            "Check ELYRA_KERNEL_LOG_DIR and ELYRA_PROXY_LAUNCH_LOG."
        ) from error
    return os.fdopen(descriptor, "ab", buffering=0)


def _cannot_run(command: list[str], error: OSError | ValueError) -> str:
    name = command[0] if command else "(nothing)"
    if isinstance(error, FileNotFoundError):
        return f"The launch command {name} does not exist: check argv in its kernel.json, and the interpreter it names."
    if isinstance(error, PermissionError):
        return f"The launch command {name} is not executable: chmod +x it, or check argv in its kernel.json."
    return f"The launch command {name} could not be run: {error}"
