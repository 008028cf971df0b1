"""From a connection file to a kernel that listens, and again after each restart.

The first start comes before everything else that a launcher is, so this module is
imported without the event loop, and gets it when the kernel is on its way.
"""

from __future__ import annotations

import os

from .connection import PORTS, ConnectionFile, bind_address
from .process import Process, end_with_parent, restore_signals

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Any, Callable

    from .arguments import Options
    from .eventloop import Loop, Timer
    from .kernels import Kernel
    from .output import Outlet

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
    kernel : Kernel
        How it is started.

    Attributes
    ----------
    kernel : Kernel
        The same.
    process : Process
        The kernel's, or that of its last start.
    listens, ever_listened : bool
        Whether the kernel that runs is ready for its clients; whether one was before.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.process = Process()
        self.listens = False
        self.ever_listened = False
        self._options: Options = kernel.options
        self._loop: Loop | None = None
        self._outlets: dict[int, Outlet] = {}
        self._file: ConnectionFile | None = None
        self._picked = False
        self._starts = 0
        self._ready = -1
        self._probe: Timer | None = None

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
        self.kernel.connection_file = file.path
        if not file.adopted:
            file.fill(bind_address(self._options), self.kernel.name)
            self._picked = self._options.port_range is not None or not self.kernel.binds_itself
            self._pick_and_write()
        self._start()

    def attach(self, loop: Loop, listening: Callable[[], object], ended: Callable[[], object]) -> None:
        """Wait for what happens to the kernel from now on.

        Parameters
        ----------
        loop : Loop
            Where its output, its ports and its end are waited for.
        listening : callable
            Called when the kernel listens.
        ended : callable
            Called when it ended, and is not being started anew for other ports.
        """
        from .output import Outlet

        self._loop = loop
        self._listening = listening
        self._ended = ended
        self._outlets = {descriptor: Outlet(loop, descriptor) for descriptor in (1, 2)}
        self._attach_process(loop)

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
        """Note the end of the kernel's process, if that is what happened.

        Raises
        ------
        LauncherError
            If it lost its ports and cannot be started for others.
        """
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
            self.process.kill()
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
        self.kernel.before_start()
        environ = {name: value for name, value in os.environ.items() if name not in SECRETS}
        if self._options.kernel_id:
            environ["KERNEL_ID"] = self._options.kernel_id
        self.process = Process()
        if self.kernel.binds_itself:
            self._start_binding(environ)
        else:
            launcher = os.getpid()

            def before_exec() -> None:
                restore_signals()
                end_with_parent(launcher)

            self.process.start(
                self.kernel.command(),
                self.kernel.environment(environ),
                before_exec=before_exec,
                directory=working_directory(environ),
            )
        if self._loop is not None:
            self._attach_process(self._loop)

    def _start_binding(self, environ: dict[str, str]) -> None:
        """Start a kernel that tells its ports over a pipe."""
        self._ready, descriptor = os.pipe()
        # ipykernel looks whether this process is still there, until it has something better.
        environ.update({READY_DESCRIPTOR: str(descriptor), "JPY_PARENT_PID": str(os.getpid())})
        try:
            self.process.start(
                self.kernel.command(),
                self.kernel.environment(environ),
                [descriptor],
                directory=working_directory(environ),
            )
        finally:
            os.close(descriptor)

    def _attach_process(self, loop: Loop) -> None:
        from .eventloop import READ

        self.process.attach(loop, {target: outlet.write for target, outlet in self._outlets.items()})
        if self._ready >= 0:
            loop.watch(self._ready, READ, self._read_ports)
        elif self.process.alive:
            self._probe_later(loop, FIRST_PROBE)

    def _read_ports(self) -> None:
        """Take the ports from the kernel; an empty read means that it ended first."""
        words = os.read(self._ready, 4096).split()
        self._let_go()
        if len(words) == len(PORTS) and self._file is not None:
            self._file.info.update(zip(PORTS, map(int, words)))
            self._now_listening()

    def _probe_later(self, loop: Loop, pause: float) -> None:
        self._probe = loop.call_later(pause, lambda: self._connect_once(loop, pause))

    def _connect_once(self, loop: Loop, pause: float) -> None:
        """See whether the kernel accepts connections on its shell channel."""
        import socket

        assert self._file is not None
        ip = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._file.info["ip"], self._file.info["ip"])
        try:
            # To this machine itself: it succeeds or is refused at once.
            socket.create_connection((ip, self._file.info["shell_port"]), 0.2).close()
        except OSError:
            self._probe_later(loop, min(1.5 * pause, LONGEST_PROBE))
        else:
            self._now_listening()

    def _now_listening(self) -> None:
        self.listens = self.ever_listened = True
        self._listening()

    def _let_go(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
        if self._ready >= 0:
            if self._loop is not None:
                self._loop.unwatch(self._ready)
            os.close(self._ready)
            self._ready = -1

    def _lost_ports(self) -> bool:
        """Whether a kernel that just died did so because somebody else has one of its ports."""
        assert self._file is not None
        said = any("in use" in line.lower() for line in self.process.tail.lines())
        return said or self._file.ports_taken()


def working_directory(environ: dict[str, str]) -> str:
    """Return where the kernel runs: the directory of the user's notebook, if the worker has it too; else empty.

    Clients name it in KERNEL_WORKING_DIR, as it is on their side. In a YARN container it is the container's, which
    holds what came with the submission.
    """
    wanted = environ.get("KERNEL_WORKING_DIR", "")
    usable = os.path.isabs(wanted) and os.path.isdir(wanted) and os.access(wanted, os.X_OK)
    return wanted if usable and "CONTAINER_ID" not in environ else ""
