"""Stands for Toree, which runs in the Spark driver's JVM, as the process that the supervisor looks after.

It runs Toree's main class there and ends when Toree does: with 0 after an ordinary end, otherwise with what went wrong
as its last words. SIGINT interrupts the cell, SIGTERM makes the JVM exit.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time

TYPE_CHECKING = False  # importing typing would take time and memory
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn

    from .toree_jvm import ToreeJvm

READY_INTERVAL = 0.1
"""Seconds between two looks whether Toree is up; there is no event."""

ORPHAN_LIMIT = 3.0
"""Seconds that the supervisor, whose parent the JVM is, has to notice by itself that it is gone."""

EXIT_LIMIT = 60.0
"""Seconds that the JVM has to exit once Spark closed its gateway."""


def main() -> NoReturn:
    """Run Toree with the arguments ``LOCATION FILE SPARK_MODE [Toree's options]``."""
    signals = Signals()
    del sys.path[0]
    _, _, connection_file, spark_mode, *options = sys.argv
    from .toree_jvm import ToreeError

    try:
        code = Driver(signals, connection_file, spark_mode).run(options)
    except (ToreeError, OSError) as error:
        print(error, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads may wait for a JVM that does not answer any more


class Driver:
    """Toree's stand-in.

    Parameters
    ----------
    signals : Signals
        What this process is told.
    connection_file : str
        Toree's.
    spark_mode : str
        ``eager`` makes the session as soon as Toree is up.
    """

    def __init__(self, signals: Signals, connection_file: str, spark_mode: str) -> None:
        self._signals = signals
        self._connection_file = connection_file
        self._spark_mode = spark_mode

    def run(self, options: list[str]) -> int:
        """Run Toree to its end and return the exit code."""
        from .toree_jvm import ToreeJvm

        ports = hold_ports(self._connection_file)
        jvm = ToreeJvm(os.environ)
        jvm.check()
        jvm.prepare()
        exits = self._watch_exit(jvm)
        toree = Task(lambda: jvm.run(["--profile", self._connection_file, *options]), self._signals.wake)
        Task(lambda: self._when_ready(jvm, ports), lambda: None)
        while True:
            for signum in self._signals.wait(exits):
                if signum == signal.SIGINT:
                    self._interrupt(jvm)
                elif signum == signal.SIGTERM:
                    Task(jvm.exit, lambda: None)
            if select.select([exits], [], [], 0)[0]:
                return self._exited(jvm, exits)
            if toree.over:
                return self._returned(toree, jvm, exits)

    def _interrupt(self, jvm: ToreeJvm) -> None:
        """Interrupt the cell; in a thread, as the compiler, or Spark that starts, is waited for."""
        Task(lambda: self._try(jvm.interrupt, "the interrupt did not work"), lambda: None)

    def _watch_exit(self, jvm: ToreeJvm) -> int:
        """Return a descriptor that can be read when the JVM exits, or is gone."""
        pipe = self._connection_file + ".exit"
        os.mkfifo(pipe, 0o600)
        try:
            descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
            jvm.watch_exit(pipe)
        finally:
            os.unlink(pipe)
        return descriptor

    def _when_ready(self, jvm: ToreeJvm, ports: list[Any]) -> None:
        jvm.get_ready()
        while not jvm.ready():
            time.sleep(READY_INTERVAL)
        for port in ports:
            port.close()
        # A Toree that is built otherwise runs its cells all the same. What is wrong with Spark the first of them shows.
        self._try(jvm.allow_exit, "sys.exit does not work")
        self._try(jvm.mend, "cells may stay without an answer")
        self._try(jvm.take_over, "interrupts do not work")
        if self._spark_mode == "eager":
            self._try(jvm.make_session, "Spark could not be started")

    def _try(self, step: Callable[[], None], without: str) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - a context that stops meanwhile, a JVM that goes: no end of the kernel
            print(f"elyra_launcher: {without}: {error}", file=sys.stderr, flush=True)

    def _exited(self, jvm: ToreeJvm, exits: int) -> int:
        """Return the exit code, now that the JVM exits or is gone without a word."""
        if os.read(exits, 1):
            if jvm.answers():
                return 0
            # It is not the kernel that makes it exit, but Spark, as where YARN's administrator killed the application.
            select.select([exits], [], [], EXIT_LIMIT)
        time.sleep(ORPHAN_LIMIT)
        print("the Spark driver's JVM, in which Toree ran, is gone: it was killed, or it crashed", file=sys.stderr)
        return 128 + signal.SIGKILL

    def _returned(self, toree: Task, jvm: ToreeJvm, exits: int) -> int:
        """Return the exit code, now that Toree's main class returned or failed."""
        # An exit of the JVM ends Toree too, and one that was killed breaks the connection: then that is the reason.
        if select.select([exits], [], [], 0.5 if jvm.answers() else EXIT_LIMIT)[0]:
            return self._exited(jvm, exits)
        if toree.error is not None:
            raise toree.error
        print("Toree ended by itself; what it said is in the log of the Spark driver", file=sys.stderr)
        return 1


class Signals:
    """Signals, and calls of `wake`, as something to wait for."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        for descriptor in (self._read, self._write):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: None)

    def wake(self) -> None:
        """End a `wait`; from any thread."""
        os.write(self._write, b"\0")

    def wait(self, *descriptors: int) -> list[int]:
        """Wait for signals, or until a descriptor can be read; return the signals, each once."""
        select.select([self._read, *descriptors], [], [])
        try:
            return sorted(set(os.read(self._read, 4096)))
        except BlockingIOError:
            return []


class Task:
    """A function that runs in a thread of its own.

    Attributes
    ----------
    over : bool
        Whether it returned.
    error : Exception or None
        What it raised.
    """

    def __init__(self, function: Callable[[], object], then: Callable[[], object]) -> None:
        self.over = False
        self.error: Exception | None = None
        self._function, self._then = function, then
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._function()
        except Exception as error:  # noqa: BLE001 - the one who looks at it raises it again
            self.error = error
        self.over = True
        self._then()


def hold_ports(connection_file: str) -> list[Any]:
    """Bind the ports that Toree will bind some seconds from now, so that nobody else gets them.

    Sockets that do not listen and allow the address's reuse are no obstacle for Toree's.

    Raises
    ------
    OSError
        If somebody else has one already; the launcher then chooses others.
    """
    import json
    import socket

    with open(connection_file, encoding="utf-8") as file:
        info = json.load(file)
    held = []
    for name in ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port"):
        held.append(socket.socket(socket.AF_INET6 if ":" in info["ip"] else socket.AF_INET))
        held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held[-1].bind((info["ip"], info[name]))
    return held
