"""Asks all launchers in turn whether they are there.

A timer per link would wake the server as often as it has links. Here links are in groups, and each wake-up asks a whole
group: what a server with many idle kernels costs is mostly this.
"""

from __future__ import annotations

import asyncio
import itertools

from elyra_server.links import Link

GROUPS = 20
"""At most so many, so that asking one does not hold the loop up with thousands of links."""

SHORTEST = 1.0
"""Seconds between two groups, where there is time for more than one."""


class Rounds:
    """Pings links, each once in so many seconds; from one event loop.

    Parameters
    ----------
    seconds : float
        For one round.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        count = max(1, min(GROUPS, int(seconds / SHORTEST)))
        self._groups: list[dict[Link, None]] = [{} for _ in range(count)]
        self._next = itertools.cycle(self._groups)
        self._task: asyncio.Task[None] | None = None

    def add(self, link: Link) -> None:
        """Ping a link from now on."""
        min(self._groups, key=len)[link] = None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def remove(self, link: Link) -> None:
        """Ping it no more."""
        for group in self._groups:
            group.pop(link, None)

    def close(self) -> None:
        """Ping nobody any more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while any(self._groups):
            await asyncio.sleep(self._seconds / len(self._groups))
            for link in list(next(self._next)):
                link.ping(self._seconds)
