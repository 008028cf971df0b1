"""What can go wrong with a launch, and the exit code that each of it has."""

from __future__ import annotations

OK = 0
USAGE = 64
UNREACHABLE = 69
INTERNAL = 70
CANNOT_CREATE = 73
REJECTED = 75


class LauncherError(Exception):
    """A failure of the launcher itself; its text tells a person what to do.

    Attributes
    ----------
    exit_code : int
        What the launcher ends with.
    code : str
        What the server is told, for programs.
    """

    exit_code = INTERNAL
    code = "launcher"


class UsageError(LauncherError):
    """The arguments do not make a launch."""

    exit_code = USAGE
    code = "usage"


class UnreachableError(LauncherError):
    """No address of the server answered, or none for the length of the lease."""

    exit_code = UNREACHABLE
    code = "unreachable"


class RejectedError(LauncherError):
    """The server turned the launcher away, or is not the server that was announced."""

    exit_code = REJECTED
    code = "rejected"


class ConnectionFileError(LauncherError):
    """There are no ports, or there is no place, for a connection file."""

    exit_code = CANNOT_CREATE
    code = "ports"


class KernelStartError(LauncherError):
    """The kernel's command could not be executed."""

    code = "command"


class RequestError(Exception):
    """A request of the server that cannot be carried out; it is told so.

    Parameters
    ----------
    code : int
        A JSON-RPC error code.
    message : str
        What was wrong.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
