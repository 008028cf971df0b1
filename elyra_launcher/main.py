"""The one way in: from a command line to the exit code of a launch."""

from __future__ import annotations

import os
import sys

from .arguments import InformationRequested, parse
from .errors import OK, LauncherError, UsageError
from .kernels import kernel_for
from .runner import Runner

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Callable, MutableMapping, Sequence

    from .arguments import Options
    from .kernels import Kernel

TICKET_VARIABLE = "ELYRA_LAUNCH_TICKET"
TICKET_FILE = "elyra-ticket"


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
    """
    try:
        ticket = take_ticket(os.environ)
        options = parse(sys.argv[1:] if argv is None else argv, os.environ)
        if options.protocol_version == 2 and not ticket:
            raise UsageError(f"the launch has no ticket: neither {TICKET_VARIABLE} nor a file ./{TICKET_FILE} is there")
        chosen = (kernel or kernel_for)(options)
    except InformationRequested as asked:
        print(asked, end="")
        return OK
    except LauncherError as error:
        print(f"elyra_launcher: {error}\nTry: python -m elyra_launcher --help", file=sys.stderr)
        return error.exit_code
    runner = Runner(chosen)
    problem = None
    try:
        runner.start()
    except LauncherError as error:
        problem = error
    except Exception as error:  # noqa: BLE001 - a hook of others, or a system without processes: the server is told
        import traceback

        traceback.print_exc()
        problem = LauncherError(f"the kernel could not be started: {error!r}")
    # While the kernel starts there is time for the rest.
    from .supervisor import Supervisor

    return Supervisor(runner, ticket).run(problem)


def take_ticket(environ: MutableMapping[str, str]) -> str:
    """Return the launch's ticket and leave no trace of it.

    It comes in the environment; or into a YARN container as the first line of a file, the second line of which is a
    JSON object with the launch's variables. They would otherwise stand on command lines, in YARN's launch script and
    in Spark's web interface.
    """
    ticket = environ.pop(TICKET_VARIABLE, "")
    if ticket or "CONTAINER_ID" not in environ:
        return ticket
    import json  # here, because where there is no such file it would only delay the kernel

    try:
        with open(TICKET_FILE, encoding="utf-8") as file:
            ticket, _, variables = file.read().partition("\n")
        os.unlink(TICKET_FILE)
        environ.update(json.loads(variables or "{}"))
    except (OSError, ValueError) as error:
        print(f"elyra_launcher: ./{TICKET_FILE} cannot be used: {error}", file=sys.stderr)
    return ticket.strip()
