"""Supervise a kernel for its server: report it, obey, and say how it ended.

A supervisor sits between a `Runner`, which has the kernel, and a `Channel`, which has
the server. It ends when the kernel ended and nobody wants it back, when it is told to,
when the server is gone for good, and when its own parent is; the kernel ends with it.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress

from . import __version__, memory, protocol
from .channel import Channel, Owner, open_channel
from .errors import INTERNAL, OK, LauncherError, RequestError
from .eventloop import Loop
from .hooks import guarded
from .kernels import importable_here
from .parent import ParentWatch
from .process import release_signals

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Any

    from .eventloop import Timer
    from .handover import Offer
    from .process import Process
    from .runner import Runner
    from .spark_driver import SparkDriver

TERMINATION_GRACE = 0.15
"""Seconds between SIGTERM and SIGKILL when the launcher itself is to end; YARN kills
what is left of a container 0.25 s after it asked."""

RESTART_GRACE = 2.0
"""Seconds that a kernel has to end by itself before it is restarted."""

REPORT_LIMIT = 12.0
"""Seconds for which a failure, or the kernel's end, waits for the server that it is to be told to."""

ARRIVAL_LIMIT = 120.0
"""Seconds that a launcher waits at its end for a Spark driver which is not there yet: its application would be a failed
one."""


class Ended(LauncherError):  # noqa: N818 - an end, not an error of anybody
    """Somebody outside ended the launcher."""

    code = "ended"

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Supervisor(Owner):
    """One launch, from the start of the kernel to the end of everything.

    Parameters
    ----------
    runner : Runner
        Has the kernel, which is on its way already.
    ticket : str
        The launch's proof towards the server.
    offer : Offer, optional
        To a Spark driver that this launcher is earlier than.
    """

    def __init__(self, runner: Runner, ticket: str, offer: Offer | None = None) -> None:
        self._runner = runner
        self._kernel = runner.kernel
        self._ticket = ticket
        self._offer = offer
        self._loop = Loop()
        self._channel = Channel(self._loop, self)
        self._parent: ParentWatch | None = None
        self._driver: SparkDriver | None = None
        self._restarts = 0
        self._restarting = False
        self._requested = False
        self._gave_up = False
        self._report: dict[str, Any] | None = None
        self._problem: LauncherError | None = None
        self._held: Timer | None = None
        self._undelivered: Timer | None = None
        self._exit_code = OK
        self._provided = False
        self._ending = False
        self._parent_is_gone = False
        self._memory_kills = memory.kills()

    def run(self, problem: LauncherError | None = None) -> int:
        """Supervise to the end and return the launcher's exit code.

        Parameters
        ----------
        problem : LauncherError, optional
            Why the kernel did not start; the server is to be told.
        """
        self._loop.handle_signals(
            {
                signal.SIGCHLD: self._reap,
                signal.SIGTERM: lambda: self._end_with(signal.SIGTERM),
                signal.SIGINT: lambda: self._end_with(signal.SIGINT),
                signal.SIGHUP: lambda: self._end_with(signal.SIGHUP),
            }
        )
        release_signals()
        try:
            self._begin(problem)
            self._loop.run()
        except Exception as error:  # noqa: BLE001 - the edge of the loop: the server is told before it is the end
            import traceback

            _say(traceback.format_exc())
            self._exit_code = INTERNAL
            self._tell_problem(LauncherError(f"internal error: {error!r}"))
        finally:
            self._let_go()
        return self._exit_code

    def _let_go(self) -> None:
        """Clear everything away, Spark's driver last, and each thing even if another cannot be."""
        with ExitStack() as last_first:
            if self._driver is not None:
                ordinary, exit_jvm = self._exit_code == OK, self._kernel.ends_with_driver
                last_first.callback(self._driver.finish, ordinary, exit_jvm=exit_jvm)
            last_first.callback(self._loop.close)
            if self._parent is not None:
                last_first.callback(self._parent.close)
            last_first.callback(self._channel.close)
            last_first.callback(self._runner.remove)

    def _begin(self, problem: LauncherError | None) -> None:
        """Dial the server and watch over kernel and parent."""
        if problem is not None:
            self._fail(problem)
        self._runner.attach(self._loop, self._kernel_listens, self._kernel_ended, self._tell_phase)
        self._channel = open_channel(self._loop, self, self._kernel.options, self._ticket)
        try:
            self._channel.start()
        except LauncherError as error:
            self.gave_up(error)
        self._parent = ParentWatch(self._loop, self._parent_died)
        if "PYSPARK_GATEWAY_PORT" in os.environ:
            self._attach_driver()
        elif self._offer is not None:
            self._offer.watch(self._loop, self._spark_arrived)
        self._reap()  # it may have ended before its end was signalled

    # -- Spark

    def _attach_driver(self) -> None:
        from .spark_driver import SparkDriver

        self._driver = SparkDriver.attach(importable_here(os.environ))

    def _spark_arrived(self, variables: dict[str, str]) -> None:
        """Take in the driver that this launcher was earlier than."""
        os.environ.update(variables)
        self._attach_driver()
        if self._ending:
            self._loop.stop()
            return
        self._runner.spark_arrived(variables)
        self._provide_context()

    def _provide_context(self) -> None:
        """See that there is a context in time, once both Spark and the kernel are there."""
        if self._driver is None or not self._runner.listens or self._provided:
            return
        self._provided = True
        driver, seconds = self._driver, self._driver.context_deadline()
        if seconds is not None:
            self._loop.call_later(seconds, lambda: self._loop.in_thread(driver.ensure_context, _ignore))

    # -- the kernel

    def _tell_phase(self) -> None:
        """Tell what a launch does that is not over."""
        if self._runner.preparing:
            self._channel.phase(protocol.PHASE_PREPARING, self._runner.preparing)
        else:
            self._channel.phase(protocol.PHASE_KERNEL, "the kernel's process was started")

    def _reap(self) -> None:
        try:
            self._runner.reap()
        except LauncherError as error:
            self._fail(error)
            self._deliver()

    def _kernel_listens(self) -> None:
        if self._channel.established:
            self._channel.connection(self._info(), self._restarts)
        self._provide_context()

    def _kernel_ended(self) -> None:
        if self._restarting:
            self._start_again()
            return
        process = self._runner.process
        self._report = {
            "code": process.code,
            "signal": process.signum,
            "reason": self._reason(),
            "output": process.tail.lines(),
            "requested": self._requested,
        }
        if self._problem is None:
            crashed = 128 + process.signum if process.signum else process.code
            self._exit_code = OK if self._requested else crashed or OK
        self._deliver()

    def _reason(self) -> str:
        if self._requested:
            return "The kernel was shut down."
        before, self._memory_kills = self._memory_kills, memory.kills()
        if self._runner.process.signum == signal.SIGKILL and self._memory_kills > before:
            return memory.PROBABLE_CAUSE
        return "" if self._runner.ever_listened else "The kernel ended before it listened."

    def _deliver(self) -> None:
        """Tell the server how it ended, if there is one to be told, and end."""
        if self._undelivered is not None:
            self._undelivered.cancel()
        if self._channel.established:
            if self._problem is not None:
                self._tell_problem(self._problem)
                self._stop_loop()
            elif self._report is not None:
                report = self._report
                self._channel.exit(report, lambda answer: self._told(report, answer), final=self._requested)
        elif self._requested or self._abandoned():
            self._stop_loop()
        else:
            self._undelivered = self._loop.call_later(REPORT_LIMIT, self._stop_loop)

    def _abandoned(self) -> bool:
        """Whether the end came from outside, or from the server's absence: nobody waits for a report."""
        return isinstance(self._problem, Ended) or self._gave_up

    def _told(self, report: dict[str, Any], answer: dict[str, Any]) -> None:
        if report is not self._report:
            return  # an order to restart was faster than the answer
        seconds = answer.get("seconds")
        if answer.get("action") != protocol.ACTION_HOLD or self._requested or not isinstance(seconds, (int, float)):
            self._stop_loop()
            return
        if self._held is not None:  # the end is told again after a link that broke
            self._held.cancel()
        self._held = self._loop.call_later(seconds, self._stop_loop)

    def _start_again(self) -> None:
        """Start the kernel anew, once Spark has forgotten the old one."""
        self._restarting = True
        if self._driver is not None:
            self._channel.phase(protocol.PHASE_SPARK, "clearing what the last kernel left in Spark")
            self._loop.in_thread(self._driver.restarting, lambda _: self._restart_now())
        else:
            self._restart_now()

    def _restart_now(self) -> None:
        self._restarting = False
        self._restarts += 1
        try:
            self._runner.restart()
        except LauncherError as error:
            self._fail(error)
            self._deliver()

    # -- the end

    def _stop_loop(self) -> None:
        """End the launcher; where Spark's driver is on its way, it is waited for, to end the application well."""
        early = self._offer is not None and not self._offer.taken
        if early and not self._ending and not self._parent_is_gone:
            self._ending = True
            self._channel.close()
            self._channel = Channel(self._loop, self)
            self._loop.call_later(ARRIVAL_LIMIT, self._loop.stop)
        elif not early or self._parent_is_gone:
            self._loop.stop()

    def _fail(self, problem: LauncherError) -> None:
        """End for a reason of the launcher's own."""
        if self._problem is not None:
            return
        self._problem = problem
        self._exit_code = problem.exit_code
        _say(str(problem))

    def _end_with(self, signum: int) -> None:
        self._end_because(f"the launcher was ended by {signal.Signals(signum).name}", 128 + signum)

    def _end_because(self, message: str, exit_code: int) -> None:
        """End the kernel quickly, and with it the launcher."""
        self._fail(Ended(message, exit_code))
        self._end_kernel(TERMINATION_GRACE)

    def _end_kernel(self, grace: float) -> None:
        self._restarting = False
        self._runner.abandon()
        if not self._runner.process.alive:
            self._deliver()
            return
        self._stop(self._runner.process)
        self._kill_later(grace)

    def _stop(self, process: Process) -> None:
        """Ask the kernel to end; its class may know how."""
        if not process.alive:
            return
        try:
            guarded(self._kernel, "stop", lambda: self._kernel.stop(process))
        except LauncherError as error:
            _say(str(error))
            _signal(process, signal.SIGTERM)

    def _kill_later(self, seconds: float) -> None:
        process = self._runner.process
        self._loop.call_later(seconds, lambda: _signal(process, signal.SIGKILL))

    def _tell_problem(self, problem: LauncherError) -> None:
        if self._channel.established:
            self._channel.error(problem.code, str(problem), self._runner.process.tail.lines())

    def _parent_died(self) -> None:
        self._parent_is_gone = True
        if self._ending:
            self._loop.stop()
            return
        if self._driver is None and self._offer is None:
            self._end_because("the process that started the launcher is gone", 128 + signal.SIGHUP)
            return
        # YARN clears away what is left of such a container in a quarter of a second: nothing else comes first.
        self._driver = None
        text = (
            "the Spark driver's JVM, to which the kernel belongs, is gone: it was killed, it crashed, or Spark ended it"
        )
        self._fail(Ended(text, 128 + signal.SIGHUP))
        self._deliver()

    # -- what the channel calls

    def hello(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "kernel_id": self._kernel.options.kernel_id,
            "launcher": __version__,
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "state": protocol.RUNNING if self._runner.listens else protocol.STARTING,
            "restarts_in_place": self._kernel.restarts_in_place,
        }
        if self._runner.listens:
            told["connection"] = self._info()
        return told

    def linked(self) -> None:
        if self._problem is not None or self._report is not None:
            self._deliver()
        elif self._runner.listens:
            self._channel.connection(self._info(), self._restarts)
        else:
            self._tell_phase()

    def lost(self, reason: str) -> None:
        _say(f"the connection to the server broke ({reason}); dialling again")
        if self._held is None and (self._report is not None or self._problem is not None):
            self._deliver()  # what was on its way did not arrive

    def gave_up(self, error: LauncherError) -> None:
        self._gave_up = True
        self._fail(error)
        self._end_kernel(TERMINATION_GRACE)

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        orders = {
            protocol.SIGNAL: self._order_signal,
            protocol.INTERRUPT: self._order_interrupt,
            protocol.RESTART: self._order_restart,
            protocol.SHUTDOWN: self._order_shutdown,
        }
        if method not in orders:
            raise RequestError(protocol.METHOD_NOT_FOUND, f"there is no method {method[:100]!r}")
        return orders[method](params)

    def _order_signal(self, params: dict[str, Any]) -> dict[str, Any]:
        signum = params.get("signum")
        if not isinstance(signum, int) or isinstance(signum, bool) or not 0 <= signum <= 64:
            raise RequestError(protocol.INVALID_PARAMS, "signum is not the number of a signal")
        if signum == 0:
            return {"alive": self._runner.process.alive}
        return {"alive": _signal(self._runner.process, signum)}

    def _order_interrupt(self, params: dict[str, Any]) -> dict[str, Any]:
        # A kernel that is starting has no cell, and no handler yet: the signal would end it.
        if not self._runner.may_run_a_cell():
            return {}
        process = self._runner.process
        try:
            guarded(self._kernel, "interrupt", lambda: self._kernel.interrupt(process))
        except LauncherError as error:
            raise RequestError(protocol.INTERNAL_ERROR, str(error)) from error
        if self._driver is not None and not self._kernel.cancels_spark_jobs:
            self._loop.in_thread(self._driver.interrupted, _ignore)
        return {}

    def _order_restart(self, params: dict[str, Any]) -> dict[str, Any]:
        if self._requested or self._problem is not None:
            raise RequestError(protocol.INVALID_REQUEST, "the launcher is about to end")
        if not self._kernel.restarts_in_place:
            raise RequestError(protocol.INVALID_REQUEST, "this kernel cannot be restarted in place: launch it anew")
        if self._held is not None:
            self._held.cancel()
            self._held = None
        if self._restarting:
            return {}
        self._report = None
        if not self._runner.process.alive:
            self._start_again()
            return {}
        self._restarting = True
        if params.get("now"):
            _signal(self._runner.process, signal.SIGKILL)
        else:
            self._stop(self._runner.process)
            self._kill_later(RESTART_GRACE)
        return {}

    def _order_shutdown(self, params: dict[str, Any]) -> dict[str, Any]:
        grace = params.get("grace")
        seconds = float(grace) if isinstance(grace, (int, float)) and grace > 0 else 0.0
        self._requested = True
        self._restarting = False
        self._runner.abandon()
        process = self._runner.process
        if not process.alive:
            self._exit_code = OK
            self._loop.call_later(0, self._stop_loop)
        elif params.get("now"):
            _signal(process, signal.SIGKILL)
        else:
            self._loop.call_later(seconds / 2, lambda: self._stop(process))
            self._kill_later(seconds)
        return {}

    def _info(self) -> dict[str, Any]:
        """Return the connection info as the server needs it."""
        info = self._runner.info()
        if info["ip"] in ("0.0.0.0", "::"):
            info["ip"] = self._channel.local_address() or info["ip"]
        if os.environ.get("ELYRA_CONNECTION_FILE_MODE") == "pull":
            info["key"] = ""  # the server fetches the file
        return info


def _signal(process: Process, signum: int) -> bool:
    with suppress(ProcessLookupError, PermissionError):
        return process.signal(signum)
    return False


def _say(text: str) -> None:
    """Write to standard error, where perhaps nobody reads any more; that must not end anything."""
    with suppress(OSError):
        os.write(2, f"elyra_launcher: {text}\n".encode("utf-8", "backslashreplace"))


def _ignore(value: object) -> None:
    """Have no use for the result of a thread."""
