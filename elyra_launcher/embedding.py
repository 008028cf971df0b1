"""For a kernel that is there already: report it from within its own process.

No process is started and none is supervised; what is left of a launcher is its link,
which lives in a thread and calls back.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from contextlib import suppress

from . import __version__, protocol
from .arguments import InformationRequested, parse
from .channel import Channel, Owner, open_channel
from .connection import ConnectionFile
from .errors import LauncherError, RequestError, UsageError
from .eventloop import Loop
from .ticket import take_ticket

TYPE_CHECKING = False  # as in the other modules
if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

    from .arguments import Options

CLOSE_LIMIT = 2.0


def report(
    argv: Sequence[str] | None = None,
    *,
    interrupt: Callable[[], object] | None = None,
    shutdown: Callable[[], object] | None = None,
) -> Report:
    """Report the kernel in this process to its server and keep the link.

    Parameters
    ----------
    argv : sequence of str, optional
        A launch's arguments, by default those of this process. The connection file that they
        name exists and has the kernel's ports.
    interrupt : callable, optional
        Interrupts what the kernel does; by default SIGINT to this process.
    shutdown : callable, optional
        Ends the kernel; by default SIGTERM to this process.

    Returns
    -------
    Report
        Close it when the kernel ends. Both callables are called in its thread and must not
        block; `shutdown` also when the server is gone for good. What they raise is written to
        standard error, and told to the server if it asked; the link stays.

    Raises
    ------
    UsageError
        If the arguments name no server, or no connection file that exists, or if there is no ticket.
    ConnectionFileError
        If the file has not all ports.
    """
    try:
        options = parse(sys.argv[1:] if argv is None else argv, os.environ)
    except InformationRequested as asked:
        raise UsageError("report() has no --help and no --version: leave them to the program") from asked
    if not options.addresses or not os.path.exists(options.connection_file):
        raise UsageError("report() needs --response-address and the connection file of a kernel that is there")
    info = ConnectionFile(options.connection_file, os.environ).info
    ticket = take_ticket(os.environ)
    if options.protocol_version == 2 and not ticket:
        raise UsageError("report() needs the launch's ticket, which is good once: leave the environment as it came")
    me = {"kernel_id": options.kernel_id, "pid": os.getpid(), "pgid": os.getpgrp()}
    link = Report({**info, **me}, interrupt or _interrupt_self, shutdown or _end_self)
    link.start(options, ticket)
    return link


def _interrupt_self() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _end_self() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class Report(Owner):
    """The link of a kernel that reports itself."""

    def __init__(self, info: dict[str, Any], interrupt: Callable[[], object], shutdown: Callable[[], object]) -> None:
        self._info = info
        self._interrupt = interrupt
        self._shutdown = shutdown
        self._requested = False
        self._ending = False
        self._loop = Loop()
        self._channel = Channel(self._loop, self)
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="elyra link", daemon=True)

    def start(self, options: Options, ticket: str) -> None:
        """Dial; the link lives in a thread from now on."""
        try:
            self._channel = open_channel(self._loop, self, options, ticket)
            self._channel.start()
        except LauncherError:
            self._loop.close()
            raise
        self._thread.start()

    def close(self, code: int = 0, reason: str = "") -> None:
        """Tell the server that the kernel ends, and end the link; from any thread, and more than once.

        Parameters
        ----------
        code : int
            What the kernel ends with.
        reason : str
            What the user is told.
        """
        told: dict[str, Any] = {
            "code": code,
            "signal": None,
            "reason": reason,
            "output": [],
            "requested": self._requested,
        }
        with self._guard:
            if not self._ending:
                self._ending = True
                self._loop.call_threadsafe(lambda: self._tell_end(told))
        # A callback that closes its own link goes on, and the link ends after it.
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_LIMIT)

    def _tell_end(self, told: dict[str, Any]) -> None:
        if self._channel.established:
            self._channel.exit(told, lambda answer: self._loop.stop(), final=True)
        else:
            self._loop.stop()

    def _run(self) -> None:
        """Serve the link to its end; in its thread."""
        try:
            self._loop.run()
        except Exception as error:  # noqa: BLE001 - the edge of the loop: no kernel stays whose server is out of reach
            traceback.print_exc()
            self.gave_up(LauncherError(f"internal error: {error!r}"))
        finally:
            with self._guard:  # from here on nobody calls into the loop
                self._ending = True
            self._channel.close()
            self._loop.close()

    def _call(self, callback: Callable[[], object]) -> str:
        """Call back; return what went wrong, which is the kernel's and not the link's."""
        try:
            callback()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a function of others
            with suppress(OSError):  # perhaps nobody reads standard error any more
                traceback.print_exc()
            return f"{getattr(callback, '__name__', 'a callback')} of the kernel failed: {error!r}"
        return ""

    def hello(self) -> dict[str, Any]:
        return {
            "kernel_id": self._info["kernel_id"],
            "launcher": __version__,
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "state": protocol.RUNNING,
            "restarts_in_place": False,
            "connection": self._info,
        }

    def linked(self) -> None:
        self._channel.connection(self._info, 0)

    def lost(self, reason: str) -> None:
        if self._ending:
            self._loop.stop()
            return
        print(f"elyra_launcher: the connection to the server broke ({reason}); dialling again", file=sys.stderr)

    def gave_up(self, error: LauncherError) -> None:
        print(f"elyra_launcher: {error}", file=sys.stderr)
        self._loop.stop()
        self._call(self._shutdown)

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        signum = params.get("signum")
        if method == protocol.INTERRUPT or (method == protocol.SIGNAL and signum == signal.SIGINT):
            problem = self._call(self._interrupt)
            if problem:
                raise RequestError(protocol.INTERNAL_ERROR, problem)
        elif method == protocol.SHUTDOWN or (method == protocol.SIGNAL and signum in (signal.SIGTERM, signal.SIGKILL)):
            self._requested = True
            self._loop.call_later(0, lambda: self._call(self._shutdown))
        elif method != protocol.SIGNAL:
            raise RequestError(protocol.METHOD_NOT_FOUND, f"a kernel that reports itself cannot {method[:100]}")
        return {"alive": True} if method == protocol.SIGNAL else {}
