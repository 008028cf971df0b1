"""What can go wrong with a host."""

from __future__ import annotations

from elyra_server.errors import LaunchError


class HostError(LaunchError):
    """A host could not take a launch; the next one may.

    Attributes
    ----------
    lasting : bool
        Whether the next launches had better pass it over for a while.
    of_user : bool
        Whether that holds for launches of the same user alone, where each user has a login of their own.
    """

    def __init__(self, message: str, *, lasting: bool = True, of_user: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting
        self.of_user = of_user


class SilenceError(HostError):
    """The host stopped to answer in the middle of something, or hung up; it may be back in a moment."""


class OutdatedError(HostError):
    """The connection to the host turned out to be over before anything was handed to it."""


class WantError(HostError):
    """The server itself has no thread left for it; no host is to blame."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"This server cannot start kernels by ssh now: {error}. Let it have more threads (ulimit -u, TasksMax of "
            "its service), or fewer kernels.",
            lasting=False,
        )
