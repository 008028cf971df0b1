"""The server's listener in a process of its own, for `links`: ``python -m benchmarks.listening COUNT``.

It registers launches as the server does, and prints what their launchers have to know. Then each line of its input is a
question, and each line of its output the answer, in JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
import uuid
from typing import Any

from elyra_server.launchers import Launcher
from elyra_server.listener import Listener, current_listener
from elyra_server.service import Service
from elyra_server.settings import Settings

from .processes import proportional_memory
from .simulated import raise_file_limit


class Listening:
    """The listener, and the launches that it waits for."""

    def __init__(self, count: int) -> None:
        self._before = proportional_memory(os.getpid())
        self._listener: Listener = current_listener(Settings())
        self._address = self._listener.response_address(local=True)
        self._launchers = [self._listener.register(str(uuid.uuid4())) for _ in range(count)]
        self._reported: dict[str, float] = {}
        for each in self._launchers:
            each.reported.add_done_callback(lambda _, each=each: self._note(each))

    def _note(self, launcher: Launcher) -> None:
        self._reported[launcher.kernel_id] = time.monotonic()

    def describe(self) -> dict[str, Any]:
        """Return what launchers have to know."""
        launches = [(each.kernel_id, each.ticket) for each in self._launchers]
        return {"address": self._address, "fingerprint": self._listener.fingerprint, "launches": launches}

    async def count(self) -> int:
        """Return how many have reported."""
        return len(self._reported)

    async def reported(self) -> dict[str, float]:
        """Return when each reported, by the system's monotonic clock."""
        return self._reported

    async def held(self) -> int:
        """Return how many links are open."""
        return sum(each.link is not None for each in self._launchers)

    async def memory(self) -> float:
        """Return what the process grew by since before it knew any launch, in MiB."""
        return proportional_memory(os.getpid()) - self._before

    async def ask(self) -> list[float]:
        """Ask a thousand launchers for something, and return the seconds that each answer took."""
        seconds = []
        for launcher in random.choices(self._launchers, k=1000):
            start = time.perf_counter()
            await launcher.request("ping")
            seconds.append(time.perf_counter() - start)
        return seconds


async def make(count: int) -> Listening:
    """Return it, made on the service's loop."""
    # The first connection of the process costs what no other does.
    return Listening(count)


def main() -> None:
    """Answer the questions of the standard input."""
    raise_file_limit()
    service = Service.instance()
    listening = service.call_and_wait(make(int(sys.argv[1])))
    print(json.dumps(listening.describe()), flush=True)
    for line in sys.stdin:
        print(json.dumps(service.call_and_wait(getattr(listening, line.strip())())), flush=True)
    asyncio.run(service.call(Listener.close_shared()))


if __name__ == "__main__":
    main()
