"""A kernel's process: started in a session of its own, watched, signalled, reaped.

`subprocess` would do, but costs more memory and time than all that is needed here,
and hides the moment before the kernel's process group is gone for good. What this
module imports delays the start of every kernel, so it imports what it needs later then.
"""

from __future__ import annotations

import os
import sys

from .errors import KernelStartError, LauncherError

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

    from .eventloop import Loop

TAIL_LINES = 30
TAIL_BYTES = 8192
READ_SIZE = 65536
READS_AT_END = 4


class Tail:
    """The last lines of an output."""

    def __init__(self) -> None:
        self._text = b""

    def add(self, data: bytes) -> None:
        self._text = (self._text + data)[-TAIL_BYTES:]

    def lines(self) -> list[str]:
        """Return at most `TAIL_LINES` lines."""
        return self._text.decode("utf-8", "replace").splitlines()[-TAIL_LINES:]


class Process:
    """A process with its own session, whose end is noticed and explained.

    Attributes
    ----------
    tail : Tail
        The last lines of its output, standard output and error as they came.
    pid : int
        The process, which also leads its process group.
    code, signum : int or None
        How it ended: an exit code or a signal; both None while it runs.
    """

    def __init__(self) -> None:
        self._loop: Loop | None = None
        self._sinks: dict[int, Callable[[bytes], object]] = {}
        self._pipes: dict[int, int] = {}
        self.tail = Tail()
        self.pid = 0
        self.code: int | None = None
        self.signum: int | None = None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.pid != 0 and self.code is None and self.signum is None

    def start(
        self,
        command: Sequence[str],
        environ: dict[str, str],
        inherited: Sequence[int] = (),
        before_exec: Callable[[], None] | None = None,
        directory: str = "",
    ) -> None:
        """Start the command.

        Parameters
        ----------
        inherited : sequence of int
            Descriptors that it gets besides its standard ones.
        before_exec : callable, optional
            Called in the new process just before the command replaces it.
        directory : str
            Its working directory; empty for this process's own.

        Raises
        ------
        KernelStartError
            If the command cannot be executed.
        """
        pipes = {target: os.pipe() for target in (1, 2)}
        problem_read, problem_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            outputs = {target: pipe[1] for target, pipe in pipes.items()}
            _become(command, environ, outputs, inherited, before_exec, directory, problem_write)
        self.pid = pid
        os.close(problem_write)
        for target, (read_end, write_end) in pipes.items():
            os.close(write_end)
            os.set_blocking(read_end, False)
            self._pipes[read_end] = target
        with os.fdopen(problem_read, "rb") as problem:
            reason = problem.read().decode("utf-8", "replace")
        if reason:
            os.waitpid(pid, 0)
            self.pid = 0
            self.close()
            raise KernelStartError(f"the kernel's command {command[0]!r} cannot be executed: {reason}")

    def attach(self, loop: Loop, sinks: dict[int, Callable[[bytes], object]]) -> None:
        """Read the output from now on, and hand it to the sinks of 1 and 2."""
        self._loop = loop
        self._sinks = sinks
        for descriptor in self._pipes:
            self._watch(loop, descriptor)

    def signal(self, signum: int) -> bool:
        """Send a signal to the process group; return whether the process was alive."""
        if not self.alive:
            return False
        try:
            os.killpg(self.pid, signum)
        except ProcessLookupError:
            # Its session is made just before exec.
            os.kill(self.pid, signum)
        return True

    def reap(self) -> bool:
        """Note the end of the process; return whether it just ended.

        What is left of its process group ends with it. That comes before the process
        is reaped: until then its number cannot be another's.
        """
        if not self.alive or os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        _kill_group(self.pid)
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            self.signum = os.WTERMSIG(status)
        else:
            self.code = os.WEXITSTATUS(status)
        return True

    def kill(self) -> None:
        """Kill it with its group and wait for the end."""
        _kill_group(self.pid)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self.reap()

    def close(self) -> None:
        """Read what is left of the output and let go of it."""
        for descriptor in list(self._pipes):
            # A process that left the group may hold the other end: what is there must do.
            for _ in range(READS_AT_END):
                if descriptor not in self._pipes or not self._read(descriptor):
                    break
            if descriptor in self._pipes:
                self._drop(descriptor)

    def _watch(self, loop: Loop, descriptor: int) -> None:
        from .eventloop import READ

        loop.watch(descriptor, READ, lambda: self._read(descriptor))

    def _read(self, descriptor: int) -> bool:
        try:
            data = os.read(descriptor, READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._drop(descriptor)
            return False
        self.tail.add(data)
        sink = self._sinks.get(self._pipes[descriptor])
        if sink is not None:
            sink(data)
        return True

    def _drop(self, descriptor: int) -> None:
        if self._loop is not None:
            self._loop.unwatch(descriptor)
        os.close(descriptor)
        del self._pipes[descriptor]


def _become(
    command: Sequence[str],
    environ: dict[str, str],
    outputs: dict[int, int],
    inherited: Sequence[int],
    before_exec: Callable[[], None] | None,
    directory: str,
    problem: int,
) -> None:
    """Turn the forked copy of the launcher into the kernel; does not return."""
    try:
        release_signals()
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for target, descriptor in outputs.items():
            os.dup2(descriptor, target)
        for descriptor in inherited:
            os.set_inheritable(descriptor, True)
        if directory:
            os.chdir(directory)
        if before_exec is not None:
            before_exec()
        os.execvpe(command[0], list(command), environ)
    except LauncherError as error:
        os.write(problem, str(error).encode())
    except OSError as error:
        os.write(problem, (error.strerror or str(error)).encode())
    except BaseException as error:  # noqa: BLE001 - must never return into a second launcher
        os.write(problem, repr(error).encode())
    finally:
        os._exit(127)


def _kill_group(group: int) -> None:
    from signal import SIGKILL

    try:
        os.killpg(group, SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # nothing left


def hold_signals() -> None:
    """Let signals that end this process wait, until `release_signals`: a kernel has to be ended first."""
    _mask("SIG_BLOCK")


def release_signals() -> None:
    """Take the signals that wait, and those to come."""
    _mask("SIG_UNBLOCK")


def _mask(how: str) -> None:
    # What module `signal` is made of: its own import would take longer than all else here.
    signal: Any = __import__("_signal")
    signal.pthread_sigmask(getattr(signal, how), (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


def restore_signals() -> None:
    """Undo what is done to signals by Python, nohup or a shell's ``&``, for a program that expects otherwise.

    ``early.sh`` starts launchers by ``&``. They themselves stay deaf to an interrupt, which is not meant for them.
    """
    import signal

    for signum in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(signum, signal.SIG_DFL)


def end_with_parent(parent: int) -> None:
    """Let the system kill this process when the process `parent` dies (Linux only).

    It outlives ``exec``, is no thread's business, and needs nothing of the one that is
    watched: also one that is killed takes its kernel along.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes
    from signal import SIGKILL

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before
        os._exit(128 + SIGKILL)
