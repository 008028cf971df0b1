"""What can go wrong with a host."""

from __future__ import annotations

from elyra_server.errors import LaunchError


class HostError(LaunchError):
    """A host could not take a launch; the next one may.

    Attributes
    ----------
    lasting : bool
        Whether the next launches had better pass it over for a while.
    """

    def __init__(self, message: str, *, lasting: bool = True) -> None:
        super().__init__(message)
        self.lasting = lasting
