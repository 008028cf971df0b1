"""Many launchers, simulated, that call the server's listener: all within a second, and thousands that stay."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .figures import Figure, figure, percentile
from .simulated import raise_file_limit, simulation, until

PER_SECOND = 500
LIMIT = 120.0


def measure(runs: int, directory: Path) -> Iterator[Figure]:
    """Yield the figures, as they come."""
    burst, held, times = (500, 5000, 3) if runs > 1 else (50, 100, 1)
    raise_file_limit()
    yield from reports_within_a_second(burst, times, directory)
    yield from held_links(held, directory / "held")


class Listening:
    """The process of `listening`, and what it is asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.launches = self._answer()

    def ask(self, question: str) -> Any:
        """Return the answer to a question."""
        assert self._process.stdin is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextmanager
def listening(count: int) -> Iterator[Listening]:
    """Run the server's listener, which waits for so many launchers."""
    command = [sys.executable, "-m", "benchmarks.listening", str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Listening(process)


def dial(pipe: Path, launches: dict[str, Any], per_second: float) -> dict[str, float]:
    """Let the launchers of some launches dial at this rate; return when each of them was to."""
    start = time.monotonic() + 0.5
    due = {each: start + number / per_second for number, (each, _) in enumerate(launches["launches"])}
    server = f"{launches['address']} {launches['fingerprint']}"
    with pipe.open("w") as file:
        for each, ticket in launches["launches"]:
            file.write(f"0 {ticket} {each} {server} {due[each]} link\n")
            file.flush()
    return due


def reports_within_a_second(count: int, times: int, directory: Path) -> Iterator[Figure]:
    """So many launchers dial within a second: how many reports are lost, and when the others are there."""
    lost, late = [], []
    for number in range(times):
        with simulation(directory / f"burst-{number}") as pipe, listening(count) as listener:
            due = dial(pipe, listener.launches, count)
            time.sleep(1.5)
            until(lambda listener=listener: listener.ask("count") == count, 20.0, "the reports")
            reported = listener.ask("reported")
            lost.append(float(count - len(reported)))
            late.append(percentile([reported[each] - due[each] for each in reported], 99) * 1000)
    yield figure(f"{count} simulated launchers within a second: lost", "reports", [sum(lost)], None, 0)
    yield figure(f"{count} simulated launchers within a second: p99 from dialling to its report", "ms", late, None, 250)


def held_links(count: int, directory: Path) -> Iterator[Figure]:
    """So many launchers stay: the memory that each takes, and how long one takes to answer."""
    with simulation(directory) as pipe, listening(count) as listener:
        dial(pipe, listener.launches, 200.0)
        until(lambda: listener.ask("count") == count, count / 200.0 + LIMIT, "the reports")
        time.sleep(3.0 if count > 1000 else 0.3)  # what the last ones left to do is done
        each = listener.ask("memory") / count * 1024
        answers = listener.ask("ask")
        lost = count - listener.ask("held")
    yield figure(f"{count} held links (simulated): lost", "links", [float(lost)], None, 0)
    yield figure(
        f"{count} held links (simulated): p99 of a request to one", "ms", [percentile(answers, 99) * 1000], None, 250
    )
    yield figure(f"{count} held links (simulated): memory of each", "KiB", [each], None, 30)
