"""From a connection file to a kernel that listens, and again after each restart."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress

from .connection import PORTS, ConnectionFile, bind_address
from .eventloop import READ
from .process import Outlet, Process, end_with_parent

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Any, Callable

    from .arguments import Options
    from .eventloop import Loop, Timer
    from .kernels import Kernel

READY_DESCRIPTOR = "ELYRA_READY_FD"

SECRETS = ("ELYRA_LAUNCH_TICKET", "ELYRA_LAUNCHER_PATH")
"""Variables of the launch that are none of the kernel's business."""

START_LIMIT = 5
"""How many times a kernel is started that lost its ports to somebody else."""

FIRST_PROBE, LONGEST_PROBE = 0.01, 0.2


class Runner:
    """Run a kernel.

    Parameters
    ----------
    loop : Loop
        Where its output, its ports and its end are waited for.
    kernel : Kernel
        How it is started.
    listening : callable
        Called when the kernel listens.
    ended : callable
        Called when it ended, and is not being started anew for other ports.
    """

    def __init__(
        self,
        loop: Loop,
        kernel: Kernel,
        listening: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._kernel = kernel
        self._options: Options = kernel.options
        self._listening = listening
        self._ended = ended
        self._outlets = {descriptor: Outlet(loop, descriptor) for descriptor in (1, 2)}
        self._file: ConnectionFile | None = None
        self._picked = False
        self._starts = 0
        self._ready = -1
        self._probe: Timer | None = None
        self.process = Process(loop, self._outlets)
        self.listens = False
        self.ever_listened = False

    def start(self) -> None:
        """Make the connection file and start the kernel for the first time.

        Raises
        ------
        ConnectionFileError
            If the file cannot be made or no ports are free.
        KernelStartError
            If the kernel's command cannot be executed.
        """
        file = self._file = ConnectionFile(self._options.connection_file, os.environ)
        self._kernel.connection_file = file.path
        if not file.adopted:
            file.fill(bind_address(self._options), self._kernel.name)
            self._picked = self._options.port_range is not None or not self._kernel.binds_itself
            self._pick_and_write()
        self._start()

    def restart(self) -> None:
        """Start the kernel again, with the same ports and key."""
        assert self._file is not None
        if not os.path.exists(self._file.path):
            self._file.write()
        self._start()

    def info(self) -> dict[str, Any]:
        """Return the connection info, with the process beside it."""
        assert self._file is not None
        numbers = {"kernel_id": self._options.kernel_id, "pid": self.process.pid, "pgid": self.process.pid}
        return {**self._file.info, **numbers}

    def reap(self) -> None:
        """Note the end of the kernel's process, if that is what happened."""
        if not self.process.reap():
            return
        self.process.close()
        self._let_go()
        if not self.ever_listened and self._picked and self._starts < START_LIMIT and self._lost_ports():
            self._pick_and_write()
            self._start()
            return
        self.listens = False
        self._ended()

    def remove(self) -> None:
        """Kill what runs and remove what was made."""
        if self.process.alive:
            self.process.signal(signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
            self.process.reap()
        self.process.close()
        self._let_go()
        for outlet in self._outlets.values():
            outlet.flush()
        if self._file is not None:
            self._file.remove()

    def _pick_and_write(self) -> None:
        assert self._file is not None
        if self._picked:
            self._file.pick_ports(self._options.port_range, self._options.port_retries)
        self._file.write()

    def _start(self) -> None:
        self._starts += 1
        self.listens = False
        self._kernel.before_start()
        environ = {name: value for name, value in os.environ.items() if name not in SECRETS}
        if self._options.kernel_id:
            environ["KERNEL_ID"] = self._options.kernel_id
        launcher = os.getpid()
        self.process = Process(self._loop, self._outlets)
        if not self._kernel.binds_itself:
            command, environ = self._kernel.command(), self._kernel.environment(environ)
            self.process.start(command, environ, before_exec=lambda: end_with_parent(launcher))
            self._probe_later(FIRST_PROBE)
            return
        self._ready, descriptor = os.pipe()
        try:
            # ipykernel looks whether this process is still there, until it has something better.
            environ.update({READY_DESCRIPTOR: str(descriptor), "JPY_PARENT_PID": str(launcher)})
            self.process.start(self._kernel.command(), self._kernel.environment(environ), [descriptor])
        finally:
            os.close(descriptor)
        self._loop.watch(self._ready, READ, self._read_ports)

    def _read_ports(self) -> None:
        """Take the ports from the kernel; an empty read means that it ended first."""
        words = os.read(self._ready, 4096).split()
        self._let_go()
        if len(words) == len(PORTS) and self._file is not None:
            self._file.info.update(zip(PORTS, map(int, words)))
            self._now_listening()

    def _probe_later(self, pause: float) -> None:
        self._probe = self._loop.call_later(pause, lambda: self._connect_once(pause))

    def _connect_once(self, pause: float) -> None:
        """See whether the kernel accepts connections on its shell channel."""
        assert self._file is not None
        ip = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._file.info["ip"], self._file.info["ip"])
        try:
            # To this machine itself: it succeeds or is refused at once.
            socket.create_connection((ip, self._file.info["shell_port"]), 0.2).close()
        except OSError:
            self._probe_later(min(1.5 * pause, LONGEST_PROBE))
        else:
            self._now_listening()

    def _now_listening(self) -> None:
        self.listens = self.ever_listened = True
        self._listening()

    def _let_go(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
        if self._ready >= 0:
            self._loop.unwatch(self._ready)
            os.close(self._ready)
            self._ready = -1

    def _lost_ports(self) -> bool:
        """Whether a kernel that just died did so because somebody else has one of its ports."""
        assert self._file is not None
        said = any("in use" in line.lower() for line in self.process.tail.lines())
        return said or self._file.ports_taken()
