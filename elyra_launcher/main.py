"""The one way in: from a command line to the exit code of a launch."""

from __future__ import annotations

import os
import sys

from .arguments import InformationRequested, parse, server_of
from .errors import OK, LauncherError, UsageError
from .kernels import Kernel, kernel_for
from .process import hold_signals
from .runner import Runner
from .ticket import TICKET_FILE, TICKET_VARIABLE, take_ticket

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Callable, Sequence

    from .arguments import Options
    from .handover import Offer


def launch(argv: Sequence[str] | None = None, kernel: Callable[[Options], Kernel] | None = None) -> int:
    """Launch a kernel and supervise it to its end.

    It has to be called in the main thread, since it is signals that tell of a kernel's end.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, without the program's name; by default those of this process.
    kernel : callable, optional
        What makes the kernel from the options: usually a class derived from `Kernel`. By
        default ipykernel, or the command that stands behind ``--``.

    Returns
    -------
    int
        The exit code for this process: the kernel's own; 128 + n for a kernel that signal n
        ended; 64 for wrong arguments, 69 for a server that cannot be reached, 70 for a failure
        of the launcher, 73 for ports or a connection file that cannot be had, 75 for a server
        that rejects the launcher or is not the right one.

    Raises
    ------
    RuntimeError
        If this is not the main thread.
    """
    threading = sys.modules.get("threading")  # where it was not imported there is one thread
    if threading is not None and threading.current_thread() is not threading.main_thread():
        raise RuntimeError("elyra_launcher.launch() has to be called in the main thread: it handles signals")
    if "CONTAINER_ID" in os.environ:
        from .handover import launch_in_container

        return launch_in_container(lambda ticket, offer: _launch(argv, kernel, ticket, offer))
    return _launch(argv, kernel, take_ticket(os.environ))


def _launch(
    argv: Sequence[str] | None,
    kernel: Callable[[Options], Kernel] | None,
    ticket: str,
    offer: Offer | None = None,
) -> int:
    """Launch a kernel; with an offer to a Spark driver that is not there yet."""
    arguments = sys.argv[1:] if argv is None else argv
    problem: LauncherError | None = None
    try:
        options = parse(arguments, os.environ)
        if options.protocol_version == 2 and not ticket:
            raise UsageError(f"the launch has no ticket: neither {TICKET_VARIABLE} nor a file ./{TICKET_FILE} is there")
        chosen = (kernel or kernel_for)(options)
        if offer is not None and not chosen.starts_before_spark:
            os.environ.update(offer.wait())
    except InformationRequested as asked:
        print(asked, end="")
        return OK
    except Exception as error:  # noqa: BLE001 - a class of others
        return _refuse(arguments, ticket, _explained(error, f"{getattr(kernel, '__name__', kernel)}() failed"), offer)
    runner = Runner(chosen, waits_for_spark=offer is not None and chosen.starts_before_spark)
    # Until the supervisor handles them: one in between would leave the kernel, and its connection file.
    hold_signals()
    try:
        runner.start()
    except Exception as error:  # noqa: BLE001 - a system without processes, for instance
        problem = _explained(error, "the kernel could not be started")
    # While the kernel starts there is time for the rest.
    from .supervisor import Supervisor

    return Supervisor(runner, ticket, offer).run(problem)


def _explained(error: Exception, what: str) -> LauncherError:
    """Return an error as one that the server can be told."""
    if isinstance(error, LauncherError):
        return error
    import traceback

    traceback.print_exc()
    return LauncherError(f"{what}: {error!r}")


def _refuse(arguments: Sequence[str], ticket: str, problem: LauncherError, offer: Offer | None = None) -> int:
    """Say why there is no launch: to the server too, if what was given is enough to reach it."""
    if isinstance(problem, UsageError):
        print("Try: python -m elyra_launcher --help", file=sys.stderr)
    options = server_of(arguments) if ticket else None
    if options is None:
        print(f"elyra_launcher: {problem}", file=sys.stderr)
        return problem.exit_code
    from .supervisor import Supervisor

    return Supervisor(Runner(Kernel(options)), ticket, offer).run(problem)
