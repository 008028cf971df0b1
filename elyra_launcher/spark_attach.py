"""What is different for pyspark in a kernel, put on when pyspark is imported and not before.

- A new kernel attaches to the context that its driver's JVM holds already, so that a restart keeps the application.
- An interrupt of a call into the JVM cancels the job and collects the call's answer, so that the job has ended when the
  cell has, and never takes one of the next cell's with it.
"""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import select
import signal
import sys
import threading
import time
from typing import Any, Callable, Optional

from . import spark_gateway

#: How long an interrupted call may take to give its answer after its job was cancelled, in seconds.
INTERRUPT_GRACE = 1.0

#: How long an interrupted cell waits for the end of its jobs, of which Spark tells in its own time, in seconds; another
#: interrupt ends that.
JOBS_LIMIT = 10.0

#: How long to wait before cancelling again, for a call that had not submitted its job yet, in seconds.
CANCEL_INTERVAL = 0.1

#: How long to wait before asking Spark again whether cancelled jobs are over, in seconds. It tells nobody.
END_INTERVAL = 0.01


def adapt_on_import(shell: Any) -> None:
    """Make pyspark fit for a kernel when the kernel imports it, if it does.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell or None
        The kernel's shell; its events say when a cell was interrupted.
    """
    sys.meta_path.insert(0, _AfterImport("pyspark.context", lambda: _adapt(shell)))


def _adapt(shell: Any) -> None:
    from py4j.clientserver import ClientServerConnection
    from py4j.java_gateway import GatewayClient, GatewayConnection
    from pyspark import context
    from pyspark.context import SparkContext

    for connection in (ClientServerConnection, GatewayConnection):
        connection.send_command = _collect_on_interrupt(connection.send_command)
    GatewayClient.send_command = _as_keyboard_interrupt(GatewayClient.send_command)
    SparkContext._do_init = _keep_sigint_handler(SparkContext._do_init)
    if spark_gateway.is_there():
        SparkContext._initialize_context = _attach_or_create
        context.launch_gateway = _once_there(context.launch_gateway)
    if shell is not None:
        shell.events.register("post_run_cell", _cancel_after_interrupt)


def _once_there(launch_gateway: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(launch_gateway)
    def launch(*args: Any, **kwargs: Any) -> Any:
        spark_gateway.wait()
        return launch_gateway(*args, **kwargs)

    return launch


def _attach_or_create(self: Any, jconf: Any) -> Any:
    jvm = self._jvm
    context = getattr(getattr(jvm.org.apache.spark, "SparkContext$"), "MODULE$").getOrCreate(jconf)
    return jvm.org.apache.spark.api.java.JavaSparkContext.fromSparkContext(context)


def _keep_sigint_handler(init: Callable[..., None]) -> Callable[..., None]:
    # pyspark's handler talks to the JVM from inside the signal, on a connection that may be in the middle of a call.
    @functools.wraps(init)
    def _do_init(self: Any, *args: Any, **kwargs: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            return init(self, *args, **kwargs)
        handler = signal.getsignal(signal.SIGINT)
        try:
            init(self, *args, **kwargs)
        finally:
            signal.signal(signal.SIGINT, handler)

    return _do_init


class _Interrupted(BaseException):
    """A KeyboardInterrupt on its way through py4j, which would log it, with a traceback that tells the user nothing."""


def _as_keyboard_interrupt(send_command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(send_command)
    def send(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return send_command(self, *args, **kwargs)
        except _Interrupted:
            raise KeyboardInterrupt from None

    return send


def _collect_on_interrupt(send_command: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(send_command)
    def interruptible(self: Any, command: str, *args: Any) -> str:
        try:
            return send_command(self, command, *args)
        except KeyboardInterrupt:
            try:
                _collect_answer(self)
            except BaseException:
                self.close()
                raise
            raise _Interrupted from None

    return interruptible


def _collect_answer(connection: Any) -> None:
    """Cancel what an interrupted call started, and read its answer, which nobody wants any more."""
    if connection.socket is None:
        return
    end = time.monotonic() + INTERRUPT_GRACE
    while time.monotonic() < end:
        _in_thread(cancel_jobs, INTERRUPT_GRACE)
        if select.select([connection.socket], [], [], CANCEL_INTERVAL)[0]:
            connection.stream.readline()
            return
    # The call goes on in the JVM, without a job. The thread's next call opens a connection of its own.
    connection.close()


def _in_thread(function: Callable[[], None], limit: float) -> None:
    # A thread of its own has a connection of its own, beside the one that is waiting for its answer.
    thread = threading.Thread(target=function, name="elyra-cancel", daemon=True)
    thread.start()
    thread.join(limit)


def cancel_jobs() -> None:
    """Cancel all jobs of the live SparkContext, if there is one."""
    from pyspark.context import SparkContext

    context = SparkContext._active_spark_context
    if context is not None and context._jsc is not None:
        context._jsc.sc().cancelAllJobs()


def _cancel_and_see_the_end() -> None:
    """Cancel all jobs and return when those that ran are over, which Spark sees to in its own time."""
    from pyspark.context import SparkContext

    context = SparkContext._active_spark_context
    if context is None or context._jsc is None:
        return
    tracker = context.statusTracker()
    running = set(tracker.getActiveJobsIds())
    cancel_jobs()
    end = time.monotonic() + JOBS_LIMIT
    while running.intersection(tracker.getActiveJobsIds()) and time.monotonic() < end:
        time.sleep(END_INTERVAL)


def _cancel_after_interrupt(result: Any) -> None:
    # Jobs that other threads started for the interrupted cell, or that ran while the cell read their results.
    if isinstance(result.error_in_exec, KeyboardInterrupt):
        _in_thread(_cancel_and_see_the_end, JOBS_LIMIT)


class _AfterImport(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Calls a function once, right after a module was imported for the first time."""

    def __init__(self, module: str, action: Callable[[], None]) -> None:
        self._module = module
        self._action = action
        self._looking = False

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        """Find `fullname` as the other finders do, with this object as its loader (called by the import system)."""
        if fullname != self._module or self._looking:
            return None
        self._looking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking = False
        if spec is not None and spec.loader is not None:
            self._loader = spec.loader
            spec.loader = self
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        """Leave the making of the module to its own loader (called by the import system)."""
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        """Run the module by its own loader, then the action (called by the import system)."""
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._action()
        sys.meta_path.remove(self)  # not before: an import that is interrupted is made again
