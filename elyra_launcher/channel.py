"""What the supervisor needs of a server, whichever protocol it speaks."""

from __future__ import annotations

from .protocol import ACTION_END

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Any, Callable

    from .arguments import Options
    from .errors import LauncherError
    from .eventloop import Loop


class Owner:
    """What a channel calls back: the supervisor.

    The methods are called from the loop and must not block.
    """

    def hello(self) -> dict[str, Any]:
        """Return what a greeting tells besides the proof."""
        raise NotImplementedError

    def linked(self) -> None:
        """Note that the server accepted the greeting, first or again."""
        raise NotImplementedError

    def lost(self, reason: str) -> None:
        """Note that the connection broke; it is being dialled again."""
        raise NotImplementedError

    def gave_up(self, error: LauncherError) -> None:
        """Note that there will be no connection any more."""
        raise NotImplementedError

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request of the server and return the result.

        Raises
        ------
        RequestError
            If it cannot be carried out.
        """
        raise NotImplementedError


class Channel:
    """A server that is told nothing: the kernel is only supervised.

    Attributes
    ----------
    established : bool
        Whether a message would be sent at once.
    """

    def __init__(self, loop: Loop, owner: Owner) -> None:
        self._loop = loop
        self._owner = owner
        self.established = False

    def start(self) -> None:
        """Begin; calls `Owner.linked` when the server is there."""
        self.established = True
        self._owner.linked()

    def phase(self, name: str, detail: str = "") -> None:
        """Tell what the launch does now."""

    def connection(self, info: dict[str, Any], restart: int) -> None:
        """Tell that the kernel listens, and where."""

    def error(self, code: str, message: str, output: list[str]) -> None:
        """Tell about a failure of the launcher's own."""

    def exit(self, report: dict[str, Any], answered: Callable[[dict[str, Any]], None], *, final: bool) -> None:
        """Tell that the kernel ended; `answered` gets what to do now, of which there is no choice if it is final."""
        answered({"action": ACTION_END})

    def local_address(self) -> str:
        """Return the address from which the server was reached; empty if none is known."""
        return ""

    def close(self) -> None:
        """Let go of the server."""


def open_channel(loop: Loop, owner: Owner, options: Options, ticket: str) -> Channel:
    """Return the channel to the server that a launch names; the public key tells the protocol."""
    if options.protocol_version == 0:
        return Channel(loop, owner)
    if options.protocol_version == 2:
        from .link import Link

        return Link(loop, owner, options.addresses, options.public_key, ticket)
    from .version1 import Version1

    return Version1(loop, owner, options)
