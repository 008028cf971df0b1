"""What every process proxy is: the contract, and what it is given."""

from __future__ import annotations

import abc
import asyncio
import logging
from collections.abc import Callable, Generator
from typing import Any

from elyra_server.kernelspecs import stanza_of
from elyra_server.launchers import KernelEnd
from elyra_server.service import Service, invoke
from elyra_server.settings import Settings

TIME_TO_DEAD = 3.0
"""Seconds between two polls of a proxy that cannot say by itself when its process ends."""


class Done:
    """The result of `BaseProcessProxyABC.launch_process`; may be awaited or not."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


class BaseProcessProxyABC(abc.ABC):
    """Stands where the local process of a kernel would, wherever that process is.

    A process proxy has five methods, each plain or a coroutine. A plain one is called in a
    thread, so it may block; a coroutine runs on the service's loop, so it must not.

    - `launch_process` starts the process;
    - `poll`, `wait`, `send_signal`, `kill` treat it as one would a local process.

    Parameters
    ----------
    kernel_manager : jupyter_client.KernelManager
        The manager of the kernel.

    Attributes
    ----------
    kernel_id : str
        The kernel.
    proxy_config : dict
        ``config`` of the kernelspec's stanza.
    settings : Settings
        The operator's settings.
    runs_by_login : bool
        Of the class: whether, with impersonation, the kernel runs as whoever the server logs in as on another host. The
        user whose Kerberos ticket the server has gets no kernels from other classes.
    """

    runs_by_login = False

    def __init__(self, kernel_manager: Any) -> None:
        self.kernel_manager = kernel_manager
        self.log: Any = getattr(kernel_manager, "log", None) or logging.getLogger("elyra.processproxies")
        self.kernel_id = str(kernel_manager.kernel_id)
        self.proxy_config: dict[str, Any] = stanza_of(kernel_manager.kernel_spec).config
        self.settings = Settings(parent=kernel_manager)
        self.service = Service.instance()

    @abc.abstractmethod
    def launch_process(self, kernel_cmd: list[str], **kw: Any) -> Any:
        """Start the process; it runs when this returns.

        The one way in. Subclasses call it first: it puts KERNEL_ID into the kernel's environment.

        Parameters
        ----------
        kernel_cmd : list of str
            The command, its placeholders filled in.
        **kw
            ``env``, the whole environment of the launch, and ``cwd``.

        Raises
        ------
        LaunchError
            If it cannot be started; the text is the cause.
        """
        env = kw.get("env")
        if isinstance(env, dict):
            env["KERNEL_ID"] = self.kernel_id
        return Done()

    @abc.abstractmethod
    def poll(self) -> Any:
        """Return None while the process runs, False otherwise."""

    @abc.abstractmethod
    def wait(self) -> Any:
        """Wait until the process ended, within reason; no value."""

    @abc.abstractmethod
    def send_signal(self, signum: int) -> Any:
        """Send a signal: 0 polls, 2 interrupts, 9 kills. None while running, False otherwise."""

    @abc.abstractmethod
    def kill(self) -> Any:
        """Kill the process, after the shutdown request did not do. None when killed, else False."""

    async def ended(self) -> KernelEnd:
        """Return when the process ended, and how. Asks `poll` unless a subclass knows better."""
        return await polled_end(self.poll)

    async def release(self, now: bool) -> None:
        """Give back what the kernel held, when it is over for good; also after a failed launch.

        Here: kill what still runs.
        """
        if await invoke(self.poll) is None:
            await invoke(self.kill)


async def polled_end(poll: Callable[[], Any]) -> KernelEnd:
    """Return when a process that cannot say so itself ended."""
    while await invoke(poll) is None:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(TIME_TO_DEAD)
    return KernelEnd("The kernel's process ended.", restartable=True)
