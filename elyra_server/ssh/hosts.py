"""Which host gets the next kernel.

One `HostChoice` per process knows how many kernels each host has and which failed
lately. A host that failed is passed over for a while; when no other is left, it is
tried all the same. Everything here runs on the service's loop.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from elyra_server.errors import KernelSpecError

ROUND_ROBIN = "round-robin"
LEAST_CONNECTION = "least-connection"
ALGORITHMS = (ROUND_ROBIN, LEAST_CONNECTION)

PASSED_OVER = 60.0
"""Seconds for which a host that failed gets no launch while others do."""


class HostChoice:
    """Chooses hosts, and counts their kernels."""

    _shared: HostChoice | None = None

    def __init__(self) -> None:
        self.kernels: Counter[str] = Counter()
        self._failed: dict[str, float] = {}
        # Where the next launch over these hosts begins.
        self._turns: dict[tuple[str, ...], int] = {}

    @classmethod
    def shared(cls) -> HostChoice:
        """Return the one of this process."""
        if cls._shared is None:
            cls._shared = cls()
        return cls._shared

    def candidates(self, hosts: Sequence[str], algorithm: str) -> Iterator[str]:
        """Yield each host once, in the order in which a launch had better try them.

        The next one is chosen when it is asked for, so that launches that begin at the same time spread.
        """
        tried: set[str] = set()
        while left := [host for host in hosts if host not in tried]:
            well = [host for host in left if self._failed.get(host, 0.0) <= time.monotonic()]
            # Where none is well, all are alike: launches must not pile up on the one that failed first.
            choice = self._choose(tuple(hosts), well or left, algorithm)
            tried.add(choice)
            yield choice

    def failed(self, host: str) -> None:
        """Pass a host over for a while."""
        self._failed[host] = time.monotonic() + PASSED_OVER

    def succeeded(self, host: str) -> None:
        """Take a host into account again."""
        self._failed.pop(host, None)

    def _choose(self, hosts: tuple[str, ...], well: list[str], algorithm: str) -> str:
        begin = self._turns.get(hosts, 0)
        turns = [hosts[(begin + step) % len(hosts)] for step in range(len(hosts))]
        order = [host for host in turns if host in well]
        choice = min(order, key=lambda host: self.kernels[host]) if algorithm == LEAST_CONNECTION else order[0]
        self._turns[hosts] = (hosts.index(choice) + 1) % len(hosts)
        return choice


def check_algorithm(name: str, origin: str) -> str:
    """Return the name of an algorithm, if it is one.

    Raises
    ------
    KernelSpecError
        If not.
    """
    if name not in ALGORITHMS:
        raise KernelSpecError(f"{origin}: load_balancing_algorithm {name!r} is none of {', '.join(ALGORITHMS)}.")
    return name
