"""The ticket of a launch: taken once, by one launcher, and gone from where it was."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import MutableMapping

TICKET_VARIABLE = "ELYRA_LAUNCH_TICKET"
TICKET_FILE = "elyra-ticket"


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

    # Of a launcher that starts with the container and one that Spark's driver starts, one gets it.
    own = f"{TICKET_FILE}-{os.getpid()}"
    try:
        os.rename(TICKET_FILE, own)
        with open(own, encoding="utf-8") as file:
            ticket, _, variables = file.read().partition("\n")
        os.unlink(own)
        environ.update(json.loads(variables or "{}"))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        print(f"elyra_launcher: ./{TICKET_FILE} cannot be used: {error}", file=sys.stderr)
    return ticket.strip()
