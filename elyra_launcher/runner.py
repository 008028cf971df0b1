"""From a connection file to a kernel that listens, and again after each restart.

The first start comes before everything else that a launcher is, so this module is
imported without the event loop, and gets it when the kernel is on its way.
"""

from __future__ import annotations

import os

from .connection import PORTS, ConnectionFile, bind_address
from .errors import LauncherError
from .hooks import guarded
from .process import Process, end_with_parent, restore_signals

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

    from .arguments import Options
    from .eventloop import Loop, Timer
    from .kernels import Kernel, Step
    from .output import Outlet

READY_DESCRIPTOR = "ELYRA_READY_FD"
SPARK_DESCRIPTOR = "JPY_SPARK_FD"
MARK = "JPY_LAUNCHER_MARK"

SECRETS = ("ELYRA_LAUNCH_TICKET", "ELYRA_LAUNCHER_PATH", "ELYRA_CONNECTION_FILE_MODE")
"""Variables of the launch that are none of the kernel's business."""

START_LIMIT = 5
"""How many times a kernel is started that lost its ports to somebody else."""

FIRST_PROBE, LONGEST_PROBE = 0.01, 0.2

PATIENCE = 5.0
"""Seconds after which a kernel that answers on its shell channel is ready though other ports of it do
not answer: some kernels lack a channel."""


class Runner:
    """Run a kernel.

    Parameters
    ----------
    kernel : Kernel
        How it is started.
    waits_for_spark : bool
        Whether there will be a Spark driver, of which the kernel is told when it is there.

    Attributes
    ----------
    kernel : Kernel
        The same.
    process : Process
        The kernel's, or that of its last start.
    listens, ever_listened : bool
        Whether the kernel that runs is ready for its clients; whether one was before.
    preparing : str
        What is being prepared before the kernel's first start; empty once that began.
    """

    def __init__(self, kernel: Kernel, waits_for_spark: bool = False) -> None:
        self.kernel = kernel
        self._waits_for_spark = waits_for_spark
        self._spark = -1
        self._mark = os.urandom(8).hex()
        self.process = Process()
        self.listens = False
        self.ever_listened = False
        self.preparing = ""
        self._steps: Iterator[Step] = iter(())
        self._abandoned = False
        self._options: Options = kernel.options
        self._loop: Loop | None = None
        self._outlets: dict[int, Outlet] = {}
        self._file: ConnectionFile | None = None
        self._picked = False
        self._starts = 0
        self._ready = -1
        self._probe: Timer | None = None
        self._patience = 0.0
        self._stolen = False

    def start(self) -> None:
        """Make the connection file and start the kernel for the first time, or what prepares it.

        Raises
        ------
        ConnectionFileError
            If the file cannot be made or no ports are free.
        KernelStartError
            If the kernel's command cannot be executed.
        LauncherError
            If a hook failed.
        """
        file = self._file = ConnectionFile(self._options.connection_file, os.environ)
        self.kernel.connection_file = file.path
        if not file.adopted:
            file.fill(bind_address(self._options), self.kernel.name)
            self._picked = self._options.port_range is not None or not self.kernel.binds_itself
            self._pick_and_write()
        self._steps = iter(guarded(self.kernel, "preparation", self.kernel.preparation))
        self._advance()

    def attach(
        self,
        loop: Loop,
        listening: Callable[[], object],
        ended: Callable[[], object],
        progress: Callable[[], object],
    ) -> None:
        """Wait for what happens to the kernel from now on.

        Parameters
        ----------
        loop : Loop
            Where its output, its ports and its end are waited for.
        listening : callable
            Called when the kernel listens.
        ended : callable
            Called when it ended, and is not being started anew for other ports.
        progress : callable
            Called when the next thing is prepared, or the kernel is started after that.
        """
        from .output import Outlet

        self._loop = loop
        self._listening = listening
        self._ended = ended
        self._progress = progress
        self._outlets = {descriptor: Outlet(loop, descriptor) for descriptor in (1, 2)}
        self._attach_process(loop)

    def restart(self) -> None:
        """Start the kernel again, with the same ports and key."""
        assert self._file is not None
        self._starts = 0
        if not os.path.exists(self._file.path):
            self._file.write()
        self._start()

    def spark_arrived(self, variables: dict[str, str]) -> None:
        """Tell the kernel by which variables the Spark driver is reached; kernels to come have them already."""
        self._waits_for_spark = False
        if self._spark >= 0:
            from contextlib import suppress

            with suppress(BrokenPipeError):
                os.write(self._spark, (" ".join(variables.values()) + "\n").encode())
            self._forget_spark()

    def info(self) -> dict[str, Any]:
        """Return the connection info, with the process beside it."""
        assert self._file is not None
        numbers = {"kernel_id": self._options.kernel_id, "pid": self.process.pid, "pgid": self.process.pid}
        return {**self._file.info, **numbers}

    def may_run_a_cell(self) -> bool:
        """Whether a cell may run in the kernel.

        A client that knows the ports from before a restart does not wait for the report, and what is probed listens
        before that is seen.
        """
        if self.listens or self.kernel.binds_itself:
            return self.listens
        return self.process.alive and self._answers("shell_port")

    def abandon(self) -> None:
        """Start nothing any more but what `restart` asks for: what runs is about to end."""
        self._abandoned = True

    def reap(self) -> None:
        """Note the end of the kernel's process, if that is what happened.

        Raises
        ------
        LauncherError
            If it lost its ports and cannot be started for others, or what prepared it failed.
        """
        if not self.process.reap():
            return
        self.process.close()
        self._let_go()
        if self.preparing and not self._abandoned:
            self._advance()
        elif self._starts_again():
            self._pick_and_write()
            self._start()
        else:
            self.listens = False
            self._ended()

    def remove(self) -> None:
        """Kill what runs and remove what was made."""
        if self.process.alive:
            self.process.kill()
        from .remains import end_marked

        end_marked(f"{MARK}={self._mark}")
        self.process.close()
        self._let_go()
        self._forget_spark()
        for outlet in self._outlets.values():
            outlet.flush()
        if self._file is not None:
            self._file.remove()
        try:
            guarded(self.kernel, "after_end", self.kernel.after_end)
        except LauncherError as error:
            from contextlib import suppress

            with suppress(OSError):  # perhaps nobody reads any more
                os.write(2, f"elyra_launcher: {error}\n".encode("utf-8", "replace"))

    def _pick_and_write(self) -> None:
        assert self._file is not None
        if self._picked:
            self._file.pick_ports(self._options.port_range, self._options.port_retries)
        self._file.write()

    def _advance(self) -> None:
        """Prepare the next thing, or start the kernel when there is none."""
        if self.preparing and (self.process.code or self.process.signum):
            process = self.process
            how = f"signal {process.signum}" if process.signum else f"exit code {process.code}"
            raise LauncherError(f"preparing {self.preparing} ended with {how}")
        step = guarded(self.kernel, "preparation", self._next_step)
        self.preparing = step[0] if step is not None else ""
        if step is None:
            self._start()
        else:
            launcher = os.getpid()
            self.process = Process()
            self.process.start(step[1], self._environment(), before_exec=lambda: _end_with(launcher))
            if self._loop is not None:
                self._attach_process(self._loop)
        if self._loop is not None:
            self._progress()

    def _next_step(self) -> Step | None:
        for what, command in self._steps:
            return str(what), [str(word) for word in command]
        return None

    def _environment(self) -> dict[str, str]:
        environ = {name: value for name, value in os.environ.items() if name not in SECRETS}
        # Over ssh the launcher's package comes with the launch; the kernel's PYTHONPATH stays as the user has it.
        own, paths = os.environ.get("ELYRA_LAUNCHER_PATH"), environ.get("PYTHONPATH", "").split(os.pathsep)
        if own in paths:
            paths.remove(own)
            environ["PYTHONPATH"] = os.pathsep.join(paths)
            if not paths:
                del environ["PYTHONPATH"]
        environ[MARK] = self._mark
        if self._options.kernel_id:
            environ["KERNEL_ID"] = self._options.kernel_id
        return environ

    def _start(self) -> None:
        self._starts += 1
        self.listens = self._stolen = False
        self._patience = 0.0
        kernel, environ = self.kernel, self._environment()
        guarded(kernel, "before_start", kernel.before_start)
        inherited = self._announce_binding(environ) if kernel.binds_itself else []
        inherited += self._announce_spark(environ) if self._waits_for_spark else []
        try:
            command = guarded(kernel, "command", kernel.command)
            variables = guarded(kernel, "environment", lambda: kernel.environment(environ))
            before_exec, directory = self._before_exec(), working_directory(environ)
            self.process = process = Process()

            def start() -> None:
                process.start(command, variables, inherited, before_exec, directory)

            guarded(kernel, "before_exec", start) if self._has_before_exec() else start()
        finally:
            for descriptor in inherited:
                os.close(descriptor)
        if self._loop is not None:
            self._attach_process(self._loop)

    def _announce_binding(self, environ: dict[str, str]) -> list[int]:
        """Let a kernel tell its ports over a pipe; return what it inherits for that."""
        self._ready, descriptor = os.pipe()
        # ipykernel looks whether this process is still there, until it has something better.
        environ.update({READY_DESCRIPTOR: str(descriptor), "JPY_PARENT_PID": str(os.getpid())})
        return [descriptor]

    def _announce_spark(self, environ: dict[str, str]) -> list[int]:
        """Let a kernel read of the Spark driver from a pipe, once that is there."""
        self._forget_spark()
        descriptor, self._spark = os.pipe()
        environ[SPARK_DESCRIPTOR] = str(descriptor)
        return [descriptor]

    def _forget_spark(self) -> None:
        if self._spark >= 0:
            os.close(self._spark)
            self._spark = -1

    def _has_before_exec(self) -> bool:
        from .kernels import Kernel

        return type(self.kernel).before_exec is not Kernel.before_exec

    def _before_exec(self) -> Callable[[], None] | None:
        """Return what the kernel's process does before it becomes the kernel."""
        launcher, kernel = os.getpid(), self.kernel
        if not self._has_before_exec():
            # ipykernel does the same for itself, later, when that delays nothing.
            return None if kernel.binds_itself else lambda: _end_with(launcher)

        def before_exec() -> None:
            _end_with(launcher)
            guarded(kernel, "before_exec", kernel.before_exec)

        return before_exec

    def _attach_process(self, loop: Loop) -> None:
        from .eventloop import READ

        self.process.attach(loop, {target: outlet.write for target, outlet in self._outlets.items()})
        if self.preparing:
            return
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
        """See whether the kernel, and nobody else, accepts connections on its channels."""
        import time

        # Not one after the last has failed: a kernel that is not there yet costs one attempt.
        missing = next((name for name in PORTS if not self._answers(name)), None)
        if missing is None:
            self._take_or_kill()
        elif missing != PORTS[0] and self._patience and time.monotonic() > self._patience:
            self._now_listening()
        else:
            if missing != PORTS[0] and not self._patience:
                self._patience = time.monotonic() + PATIENCE
            self._probe_later(loop, min(1.5 * pause, LONGEST_PROBE))

    def _answers(self, port: str) -> bool:
        from .listeners import answers

        assert self._file is not None
        info = self._file.info
        return answers({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(info["ip"], info["ip"]), info[port])

    def _take_or_kill(self) -> None:
        """Take the kernel as ready, unless others have one of its ports: its clients would speak to them."""
        from .listeners import stolen_ports

        assert self._file is not None
        ports = [self._file.info[name] for name in PORTS]
        stolen = stolen_ports(self._file.info["ip"], ports, self.process.pid, self._options.kernel_id)
        if not stolen or self._starts >= START_LIMIT:
            self._now_listening()
            return
        self._stolen = True
        numbers = ", ".join(map(str, stolen))
        self.process.tail.add(f"elyra_launcher: another process took the kernel's port {numbers}\n".encode())
        from signal import SIGKILL

        self.process.signal(SIGKILL)

    def _now_listening(self) -> None:
        first, self.ever_listened = not self.ever_listened, True
        self.listens = True
        self._listening()
        if first and self._file is not None:
            self._file.remove_abandoned()

    def _let_go(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
        if self._ready >= 0:
            if self._loop is not None:
                self._loop.unwatch(self._ready)
            os.close(self._ready)
            self._ready = -1

    def _starts_again(self) -> bool:
        """Whether a kernel that just ended is started for other ports."""
        if self.ever_listened or self._abandoned or not self._picked or self._starts >= START_LIMIT:
            return False
        return self._lost_ports()

    def _lost_ports(self) -> bool:
        """Whether a kernel that just died did so because somebody else has one of its ports."""
        assert self._file is not None
        if self._stolen:
            return True
        said = any("in use" in line.lower() for line in self.process.tail.lines())
        return said or self._file.ports_taken()


def _end_with(launcher: int) -> None:
    """Prepare a new process for a program of others."""
    restore_signals()
    end_with_parent(launcher)


def working_directory(environ: dict[str, str]) -> str:
    """Return where the kernel runs: the directory of the user's notebook, if the worker has it too; else empty.

    Clients name it in KERNEL_WORKING_DIR, as it is on their side. In a YARN container it is the container's, which
    holds what came with the submission.
    """
    wanted = environ.get("KERNEL_WORKING_DIR", "")
    usable = os.path.isabs(wanted) and os.path.isdir(wanted) and os.access(wanted, os.X_OK)
    return wanted if usable and "CONTAINER_ID" not in environ else ""
