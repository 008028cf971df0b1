"""What a measurement is: a figure beside its floor, and the table and file that they end in."""

import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


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
    runs : int
        How many runs the medians are of.
    spread, floor_spread : list of float
        The quartiles of the runs, between which half of them are.
    peers : dict
        Of each other server its ``value`` and ``spread`` in the same runs, or ``cannot``: why there is none.
    """

    name: str
    unit: str
    value: float
    floor: float | None
    ratio: float
    target: float
    runs: int = 1
    spread: list[float] = field(default_factory=list)
    floor_spread: list[float] = field(default_factory=list)
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        return self.ratio <= self.target


def figure(
    name: str,
    unit: str,
    values: list[float],
    floors: list[float] | None,
    target: float,
    peers: Mapping[str, list[float] | str] | None = None,
) -> Figure:
    """Return the figure that a number of runs make: medians, quartiles, and the ratio of the medians."""
    value = statistics.median(values)
    floor = statistics.median(floors) if floors else None
    others = {
        peer: {"cannot": each} if isinstance(each, str) else {"value": rounded(each), "spread": quartiles(each)}
        for peer, each in (peers or {}).items()
    }
    ratio = round(value / (floor or 1), 4)
    spreads = quartiles(values), quartiles(floors or [])
    return Figure(
        name, unit, rounded(values), rounded(floors) if floors else None, ratio, target, len(values), *spreads, others
    )


def rounded(values: list[float]) -> float:
    """Return the median, as it is written down."""
    return round(statistics.median(values), 5)


def quartiles(values: list[float]) -> list[float]:
    """Return the first and the third quartile; of too few values, none."""
    if len(values) < 2:
        return []
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return [round(first, 5), round(third, 5)]


def percentile(values: list[float], percent: int) -> float:
    """Return a percentile of many values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]


def interleaved(runs: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Return what each of some measurements gave in `runs` runs, taken in turn, so that a drift hits all alike."""
    if runs > 1:
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


def read(path: Path) -> list[Figure]:
    """Return the figures of a file; none where there is no such file."""
    if not path.exists():
        return []
    return [Figure(**row) for row in json.loads(path.read_text(encoding="utf-8"))]


def write(figures: list[Figure], path: Path) -> None:
    """Write the figures as a JSON list of ``{name, unit, value, floor, ratio, target, ...}``.

    What a file has of other suites stays: a figure takes the place of the one of its name, or comes last.
    """
    rows = {one.name: one for one in [*read(path), *figures]}
    path.write_text(json.dumps([asdict(one) for one in rows.values()], indent=1) + "\n")
