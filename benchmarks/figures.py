"""What a measurement is: a figure beside its floor, and the table and file that they end in."""

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes
    ----------
    name : str
        What was measured.
    unit : str
        ``s``, ``ms``, ``MiB``, ``%`` or what is counted.
    value : float
        The median over the runs.
    floor : float or None
        The median of the same without Elyra, in the same run; None where there is no such thing.
    ratio : float
        ``value / floor``; without a floor, ``value`` itself.
    target : float
        What `ratio` should not exceed.
    """

    name: str
    unit: str
    value: float
    floor: float | None
    ratio: float
    target: float

    @property
    def met(self) -> bool:
        return self.ratio <= self.target


def figure(name: str, unit: str, values: list[float], floors: list[float] | None, target: float) -> Figure:
    """Return the figure that a number of runs make: medians, and their ratio."""
    value = statistics.median(values)
    floor = statistics.median(floors) if floors else None
    return Figure(name, unit, round(value, 5), floor and round(floor, 5), round(value / (floor or 1), 4), target)


def interleaved(runs: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Return what each of some measurements gave in `runs` runs, taken in turn, so that a drift hits all alike."""
    for measure in measures:
        measure()  # not counted: files are read and caches filled
    rows = [[measure() for measure in measures] for _ in range(runs)]
    return [list(column) for column in zip(*rows, strict=True)]


def table(figures: list[Figure]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| figure | value | floor | ratio | target | |", "|---|---:|---:|---:|---:|---|"]
    for one in figures:
        floor = f"{one.floor:.4g} {one.unit}" if one.floor is not None else ""
        ratio = f"{one.ratio:.3g}" if one.floor is not None else ""
        lines.append(
            f"| {one.name} | {one.value:.4g} {one.unit} | {floor} | {ratio} | {one.target:g} | "
            f"{'' if one.met else 'missed'} |"
        )
    return "\n".join(lines)


def write(figures: list[Figure], path: Path) -> None:
    """Write the figures as a JSON list of ``{name, unit, value, floor, ratio, target}``."""
    path.write_text(json.dumps([asdict(one) for one in figures], indent=1) + "\n")
