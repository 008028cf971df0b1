"""The command line of a launch: placeholders filled in, missing flags added."""

from __future__ import annotations

import re
from collections.abc import Mapping

from elyra_server.errors import KernelSpecError

PREFIX = "--RemoteProcessProxy."
PORT_LIMITS = ("ELYRA_MIN_PORT_RANGE_SIZE", "ELYRA_MAX_PORT_RANGE_RETRIES")
"""Variables by which a launcher learns how the operator wants a port range to be used."""

PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_]+)\}")


def fill(command: list[str], values: Mapping[str, str]) -> list[str]:
    """Return a command with its placeholders filled in; unknown ones stay as they are."""
    return [PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), word) for word in command]


def add_missing_flags(command: list[str], values: Mapping[str, str]) -> list[str]:
    """Return a command with what a launcher needs beside the response address.

    Kernelspecs of the old style name only that address; the rest is appended, before a ``--``
    with a kernel's own command. A command that does not name it is not for a launcher of ours
    and stays as it is.
    """
    end = command.index("--") if "--" in command else len(command)
    result, rest = command[:end], command[end:]
    if not _has(result, "response-address"):
        return command
    for flag in ("public-key", "kernel-id", "port-range"):
        value = values.get(flag.replace("-", "_"))
        if value and not _has(result, flag):
            result += [PREFIX + flag, value]
    return result + rest


def check_port_range(text: str, smallest: int, origin: str) -> str:
    """Return a port range as launchers read it, empty for no restriction.

    Raises
    ------
    KernelSpecError
        If it is not low..high, or smaller than the operator allows.
    """
    match = re.fullmatch(r"\s*(\d{1,5})\s*\.\.\s*(\d{1,5})\s*", text)
    if match is None:
        raise KernelSpecError(f"{origin}: port_range {text!r} is not of the form low..high, such as 40000..41000.")
    low, high = int(match[1]), int(match[2])
    if low == high == 0:
        return ""
    if not 1024 <= low <= high <= 65535:
        raise KernelSpecError(f"{origin}: port_range {text!r} is not within 1024..65535, or upside down.")
    # As launchers count: the difference, not the number of ports. A kernel needs five.
    if high - low < max(smallest, 4):
        raise KernelSpecError(
            f"{origin}: port_range {text!r} is too small: it has to span {max(smallest, 4)} ports or more "
            "(ELYRA_MIN_PORT_RANGE_SIZE)."
        )
    return f"{low}..{high}"


def _has(command: list[str], flag: str) -> bool:
    spellings = {flag, flag.replace("-", "_")}
    names = {word.split("=", 1)[0] for word in command if word.startswith("--")}
    return any(f"{start}{name}" in names for start in (PREFIX, "--") for name in spellings)
