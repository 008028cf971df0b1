"""The two kinds of process proxies: local ones, and remote ones with a launcher."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.launcher import launch_kernel

from elyra_launcher.landing import keep_spark_here
from elyra_server import shipping
from elyra_server.environment import check_launch_timeout
from elyra_server.errors import KernelSpecError, LaunchError, LaunchTimeoutError, LinkError
from elyra_server.guardian import Guardian
from elyra_server.kernelspecs import switch
from elyra_server.launchers import GRACE, KernelEnd, Launcher, quote_lines
from elyra_server.listener import current_listener
from elyra_server.processes import Command, LocalProcess, describe_end, log_path, process_end
from elyra_server.processproxies.base import BaseProcessProxyABC
from elyra_server.service import in_thread
from elyra_server.users import check_own_host

__all__ = ["BaseProcessProxyABC", "LocalProcessProxy", "RemoteProcessProxy"]

SUBMIT_OPTIONS = "SPARK_SUBMIT_OPTS"

LAST_WORDS = 0.3
"""Seconds that a launcher's own report may come after its process ended."""


class LocalProcessProxy(BaseProcessProxyABC):
    """Passes through to what Jupyter does: the kernel is a child of the server."""

    process: subprocess.Popen[bytes] | None = None

    def launch_process(self, kernel_cmd: list[str], **kw: Any) -> None:
        """Start the kernel as Jupyter does."""
        super().launch_process(kernel_cmd, **kw)
        check_own_host(self.settings, self.proxy_config, kw.get("env") or {}, socket.gethostname())
        Guardian.instance().begin()
        try:
            self.process = launch_kernel(kernel_cmd, **kw)
        except OSError as error:
            raise LaunchError(f"The kernel {kernel_cmd[0]} could not be started: {error}") from error
        Guardian.instance().guard_process(self.process.pid)

    def poll(self) -> bool | None:
        """Return None while the kernel runs, False otherwise."""
        return None if self.process is not None and self.process.poll() is None else False

    def wait(self) -> None:
        """Wait for the kernel's end."""
        if self.process is not None:
            self.process.wait()

    def send_signal(self, signum: int) -> bool | None:
        """Send a signal to the kernel's process group."""
        if self.process is None or self.process.poll() is not None:
            return False
        if signum == 0:
            return None
        try:
            os.killpg(self.process.pid, signum)
        except OSError:
            self.process.send_signal(signum)
        return None

    def kill(self) -> bool | None:
        """Kill the kernel and its process group."""
        self.send_signal(signal.SIGKILL)
        if self.process is None:
            return False
        try:
            self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            return False
        Guardian.instance().release_process(self.process.pid)
        return None

    async def ended(self) -> KernelEnd:
        """Return when the process ended; as in Jupyter, it is then started again."""
        if self.process is None:
            return KernelEnd("The kernel was never started.")
        code = await process_end(self.process)
        Guardian.instance().release_process(self.process.pid)
        return KernelEnd(f"The kernel's process {describe_end(code)}.", restartable=True, code=code)

    async def release(self, now: bool) -> None:
        """Kill what is left of it."""
        if self.process is not None:
            await in_thread(self.kill)


class RemoteProcessProxy(BaseProcessProxyABC):
    """A kernel with a launcher, which reports to this server and obeys it.

    A subclass starts the launcher in `launch_process` and then calls `confirm_remote_startup`.
    The other methods go over the launcher's link and rarely need to be overridden.

    Attributes
    ----------
    launcher : Launcher
        What the server knows about the launcher; there before `launch_process` is called.
    command : Command or None
        The launch command, if the subclass has one: by `run_command`, it is a `LocalProcess`.
    """

    launcher: Launcher
    command: Command | None = None
    names_response_address = False
    """Whether the subclass itself fills in where the launcher calls, with `fill_response_address`."""
    connection_file_modes: tuple[str, ...] = ("socket",)
    """The ways by which the connection file's content can come here."""
    command_is_kernel = True
    """Whether the kernel ends with the launch command, unlike with one that only submits."""

    _spark_files: Path | None = None
    """Where the launch command's JVM has its temporary files, which it leaves there if it is killed."""

    def __init__(self, kernel_manager: Any) -> None:
        super().__init__(kernel_manager)
        self.launch_timeout: float = self.settings.kernel_launch_timeout
        self.deadline = time.monotonic() + self.launch_timeout
        self._watches: list[asyncio.Task[None]] = []

    @property
    def local(self) -> bool:
        """Whether the launcher runs on this host and calls in over loopback."""
        return False

    # -- the two methods of a remote process proxy -------------------------------------------------

    @abc.abstractmethod
    def confirm_remote_startup(self, kernel_cmd: list[str], **kw: Any) -> Any:
        """See that the kernel was launched and is ready; called by `launch_process`.

        A coroutine does so with `receive_connection_info`, a plain method with `wait_for_report`,
        and either calls `handle_timeout` while it is not.
        """

    @abc.abstractmethod
    def handle_timeout(self) -> Any:
        """Raise `LaunchTimeoutError`, which becomes HTTP 500, once the launch limit is over."""
        if time.monotonic() >= self.deadline:
            raise LaunchTimeoutError(
                f"The kernel was not ready within {self.launch_timeout:g} s (KERNEL_LAUNCH_TIMEOUT). "
                f"{self.describe_progress()}"
            )

    # -- tools for them --------------------------------------------------------------------------

    def begin(self, env: dict[str, str]) -> None:
        """Start the clock of a launch."""
        if self.settings.connection_file_mode not in self.connection_file_modes:
            raise LaunchError(
                f"ELYRA_CONNECTION_FILE_MODE={self.settings.connection_file_mode!r} is not supported by "
                f"{type(self).__name__}: use {' or '.join(self.connection_file_modes)}."
            )
        value = check_launch_timeout(env) or self.proxy_config.get("launch_timeout")
        try:
            self.launch_timeout = float(value) if value is not None else self.settings.kernel_launch_timeout
        except (TypeError, ValueError) as error:
            raise KernelSpecError(f"process_proxy: launch_timeout {value!r} is not a number of seconds.") from error
        self.deadline = time.monotonic() + self.launch_timeout

    def remaining(self) -> float:
        """Return the seconds that the launch has left."""
        return max(float(self.deadline) - time.monotonic(), 0.0)

    def run_command(
        self, kernel_cmd: list[str], env: dict[str, str], cwd: Any = None, on_line: Callable[[str], None] | None = None
    ) -> LocalProcess:
        """Run the launch command on this host; from the service's loop."""
        log_file = log_path(self.settings.kernel_log_dir, self.settings.proxy_launch_log, self.kernel_id)
        # Another user could not write there.
        other_user = self.settings.impersonation_enabled or switch(self.proxy_config, "impersonates")
        if env.get("SPARK_HOME") and not other_user:
            self._spark_files = shipping.directory_for_spark()
            env = {**env, SUBMIT_OPTIONS: keep_spark_here(env.get(SUBMIT_OPTIONS, ""), str(self._spark_files))}
        self.command = command = LocalProcess(kernel_cmd, env, str(cwd) if cwd else None, log_file, on_line)
        return command

    async def receive_connection_info(self, timeout: float, *causes: asyncio.Future[Any]) -> bool:
        """Wait for the launcher's report.

        Parameters
        ----------
        timeout : float
            Seconds to wait; then the result is False.
        *causes : futures
            Which end the launch when they are done, by the error they raise.

        Raises
        ------
        LaunchError
            If the launcher, or the launch command, failed; the text is the cause.
        """
        waiting: set[asyncio.Future[Any]] = {self.launcher.reported, *causes}
        if self.command is not None and not (self.command.ended.done() and self._command_may_end()):
            waiting.add(self.command.ended)
        await asyncio.wait(waiting, timeout=max(timeout, 0.0), return_when=asyncio.FIRST_COMPLETED)
        if self.launcher.reported.done():
            self.launcher.reported.result()
            return True
        for cause in causes:
            if cause.done():
                cause.result()
        if self.command is not None and self.command.ended.done() and not self._command_may_end():
            await asyncio.wait({self.launcher.reported}, timeout=LAST_WORDS)
            if self.launcher.reported.done():
                self.launcher.reported.result()
                return True
            raise LaunchError(self.describe_command_end())
        return False

    async def reachable(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return the connection info by which this server reaches the kernel, given what its launcher reported."""
        return info

    def wait_for_report(self, timeout: float) -> bool:
        """Do the same from a plain method, which runs in a thread."""
        return self.service.call_and_wait(self.receive_connection_info(timeout))

    def describe_progress(self) -> str:
        """Return what is known about a launch that is not ready, in sentences."""
        if self.launcher.link is not None:
            phase = f" (last heard: {self.launcher.phase})" if self.launcher.phase else ""
            return f"The launcher called in from {self.launcher.host or 'its host'}; its kernel is starting{phase}."
        lines = list(self.command.lines) if self.command is not None else []
        state = ""
        if self.command is not None:
            state = (
                f"The launch command is still running (process {self.command.pid}). "
                if self.command.running
                else f"The launch command {describe_end(self.command.ended.result())}. "
            )
        return f"{state}The launcher has not called in yet.{quote_lines(lines)}"

    def describe_command_end(self) -> str:
        """Return why a launch command that ended is the end of its launch."""
        if self.command is None or not self.command.ended.done():
            return "The launch command ended."
        code = self.command.ended.result()
        lines = list(self.command.lines)
        ended = f"The launch command {describe_end(code)} before the kernel was ready."
        return f"{ended}{self.explain_output(lines)}{quote_lines(lines)}"

    def explain_output(self, lines: list[str]) -> str:
        """Return what is known about the output of a launch command that failed, as a sentence behind a space."""
        return ""

    # -- the kernel as a process, over the link ----------------------------------------------------

    async def poll(self) -> bool | None:
        """Return None while the kernel runs, False otherwise; asks nobody."""
        return None if self.launcher.running else False

    async def wait(self) -> None:
        """Wait for the kernel's end, at most as long as it is given for that."""
        await asyncio.wait({self.launcher.ended}, timeout=2 * GRACE)

    async def send_signal(self, signum: int) -> bool | None:
        """Send the kernel a signal through its launcher."""
        if not self.launcher.running:
            return False
        if signum == 0:
            return None
        return None if await self.launcher.signal(signum) else False

    async def kill(self) -> bool | None:
        """Kill the kernel; its launcher stays, until `release`, and could restart it."""
        if not self.launcher.running:
            return False
        if not self.launcher.restarts_in_place:
            # It may be on its way to an ordinary end, which takes a little longer.
            await self.launcher.shutdown(now=not self.launcher.ending)
            return None
        self.launcher.restart_expected = True
        try:
            await self.launcher.signal(signal.SIGKILL)
        except LinkError as error:
            self.log.warning("Kernel %s: %s", self.kernel_id, error)
            await self.kill_without_link()
        return None

    async def kill_without_link(self) -> None:
        """End kernel and launcher where the launcher cannot be asked to."""
        if self.command is not None and self.command_is_kernel:
            await self.command.terminate()
        self.launcher.end("The kernel was killed; its launcher could not be reached.")

    async def ended(self) -> KernelEnd:
        """Return when the kernel ended, as its launcher said."""
        return await asyncio.shield(self.launcher.ended)

    # -- what goes on beside, and the end ----------------------------------------------------------

    def watch(self) -> None:
        """Watch what the link does not tell, from the report on."""
        if self.command is not None and self.command_is_kernel:
            self._watches.append(self.service.loop.create_task(self._watch_command(self.command)))

    async def release(self, now: bool) -> None:
        """Let the launcher end with its kernel; what takes longer goes on in the background."""
        for watch in self._watches:
            watch.cancel()
        self._watches.clear()
        if self.launcher.link is None and self.launcher.connection is None:
            self.launcher.forget()  # never called in: from now on it would be turned away
            self.service.spawn(self._see_end(), f"end of kernel {self.kernel_id}")
        else:
            try:
                await self.launcher.shutdown(now)
            finally:
                self.service.spawn(self._see_end(), f"end of kernel {self.kernel_id}")

    async def _see_end(self) -> None:
        # Whatever goes wrong on the way, such as a server out of open files: an application has to be killed.
        try:
            await self._see_launcher_end()
            if self.command is not None:
                await self._see_command_end(self.command)
        finally:
            try:
                await self.finish()
            finally:
                self._remove_connection_file()
                if self._spark_files is not None:
                    await in_thread(shutil.rmtree, self._spark_files, ignore_errors=True)
                current_listener(self.settings).forget(self.launcher)

    async def _see_launcher_end(self) -> None:
        gone = asyncio.ensure_future(self.launcher.gone.wait())
        if not await self.service.patiently(gone, 2 * GRACE):
            gone.cancel()
            self.log.warning("Kernel %s: its launcher did not end when it was told to.", self.kernel_id)

    async def _see_command_end(self, command: Command) -> None:
        try:
            # A launcher that ended, or was never wanted, needs no patience.
            if self.launcher.connection is not None:
                await command.stop(1.0)
        finally:
            await command.terminate()

    def _remove_connection_file(self) -> None:
        """Remove what is left of a launch on this host that failed; not the file of a launch that came after it."""
        failed = self.launcher.connection is None and isinstance(self.command, LocalProcess)
        if failed and current_listener(self.settings).is_latest(self.launcher):
            with contextlib.suppress(OSError):
                Path(self.kernel_manager.connection_file).unlink(missing_ok=True)

    async def finish(self) -> None:
        """See that nothing of the kernel is left elsewhere, such as an application."""

    async def _watch_command(self, command: Command) -> None:
        code = await asyncio.shield(command.ended)
        await asyncio.sleep(LAST_WORDS)
        if not self.launcher.gone.is_set():
            self.launcher.end(f"The launcher {describe_end(code)}.{quote_lines(list(command.lines))}")

    def _command_may_end(self) -> bool:
        """Whether the launch command's end, as it was, is nothing to worry about."""
        return not self.command_is_kernel and self.command is not None and self.command.ended.result() == 0
