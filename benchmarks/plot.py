"""``python -m benchmarks.plot``: draws what was measured, as performance.svg, peers.svg and capacity.svg in docs/."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from .figures import Figure, read

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
WIDTH, ROW, LEFT = 960, 20, 470
INK, GRID, FLOOR, MISSED = "#333", "#ddd", "#999", "#c0504d"
COLOURS = {"Elyra": "#3b6ea5", "Enterprise Gateway": "#e0a030", "gateway_provisioners": "#8a63a8", "floor": FLOOR}
WIDEST = 2.5
"""The ratio at which a bar is cut off."""


def text(x: float, y: float, content: str, anchor: str = "start", colour: str = INK, size: int = 11) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}" font-size="{size}">{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str = GRID, width: float = 1) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" fill="{colour}"/>'


def picture(height: float, parts: list[str]) -> str:
    """Return a whole picture."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>', *parts, "</svg>", ""])


def ratios(figures: list[Figure]) -> str:
    """Return bars of what stands beside a floor: the floor is the line at 1, the target a mark, quartiles a whisker."""
    rows = [each for each in figures if each.floor]
    scale = (WIDTH - LEFT - 60) / WIDEST
    bottom = 30 + ROW * len(rows)
    parts = [text(LEFT, 16, "times the floor; the mark is the target")]
    for tick in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5):
        x = LEFT + tick * scale
        parts += [line(x, 24, x, bottom, FLOOR if tick == 1 else GRID), text(x, bottom + 14, f"{tick:g}", "middle")]
    for number, each in enumerate(rows):
        y = 28 + number * ROW
        end = LEFT + min(each.ratio, WIDEST) * scale
        colour = COLOURS["Elyra"] if each.met else MISSED
        parts += [text(LEFT - 8, y + 11, each.name, "end"), box(LEFT, y, end - LEFT, ROW - 7, colour)]
        if each.spread and each.floor:
            low, high = (LEFT + min(one / each.floor, WIDEST) * scale for one in each.spread)
            parts.append(line(low, y + 6.5, high, y + 6.5, INK, 2))
        mark = LEFT + min(each.target, WIDEST) * scale
        parts += [line(mark, y - 2, mark, y + ROW - 5, INK, 2), text(max(end, mark) + 5, y + 11, f"{each.ratio:.3g}")]
    return picture(bottom + 24, parts)


def peers(figures: list[Figure]) -> str:
    """Return bars of each figure's value beside those of other servers, each figure in its own scale."""
    parts, y = [], 10.0
    for each in figures:
        values = {"Elyra": each.value, **{name: one.get("value") for name, one in each.peers.items()}}
        values["floor"] = each.floor
        longest = max(value for value in values.values() if value is not None)
        parts.append(text(10, y + 12, f"{each.name} ({each.unit})", size=12))
        for name, value in values.items():
            if name == "floor" and value is None:
                continue
            y += 17
            parts.append(text(190, y + 12, name, "end"))
            if value is None:
                parts.append(text(200, y + 12, "cannot: see the table", colour=MISSED))
                continue
            length = value / longest * (WIDTH - 290)
            parts += [box(200, y + 2, length, 12, COLOURS[name]), text(206 + length, y + 12, f"{value:.3g}")]
        y += 26
    return picture(y, parts)


def growth(rows: list[dict[str, Any]]) -> str:
    """Return curves of a server's costs over the number of its kernels, both axes logarithmic."""
    panels = (
        ("launch_s", "one more launch, POST to first reply (s)"),
        ("get_api_p99_ms", "event loop lag: GET /api, p99 (ms)"),
        ("memory_MiB", "memory of the server (MiB)"),
        ("files", "open files of the server"),
    )
    parts = [text(60, 16, "kernels of one server:"), text(200, 16, "real", colour=COLOURS["Enterprise Gateway"])]
    parts.append(text(240, 16, "simulated", colour=COLOURS["Elyra"]))
    for number, (key, title) in enumerate(panels):
        left, top = 60 + number % 2 * 460, 50 + number // 2 * 220
        shown = [each for each in rows if key in each and each["kernels"] and not each["websockets"]]
        parts += panel(shown, key, title, left, top)
    return picture(480, parts)


def panel(rows: list[dict[str, Any]], key: str, title: str, left: float, top: float) -> Iterator[str]:
    """Yield one curve for real kernels and one for simulated ones."""
    width, height = 380.0, 150.0
    values = [max(each[key], 1e-6) for each in rows]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    widest = math.ceil(math.log10(max(each["kernels"] for each in rows))) or 1

    def place(each: dict[str, Any]) -> tuple[float, float]:
        x = left + math.log10(each["kernels"]) / widest * width
        return x, top + height - (math.log10(max(each[key], 1e-6)) - low) / max(high - low, 1) * height

    yield text(left, top - 10, title, size=12)
    for power in range(low, high + 1):
        y = top + height - (power - low) / max(high - low, 1) * height
        yield line(left, y, left + width, y)
        yield text(left - 5, y + 4, f"{10**power:g}", "end")
    for power in range(widest + 1):
        yield text(left + power / widest * width, top + height + 15, f"{10**power:g}", "middle")
    for kind, colour in (("python_local", COLOURS["Enterprise Gateway"]), ("simulated", COLOURS["Elyra"])):
        points = [place(each) for each in rows if each["kind"] == kind]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for each, (x, y) in zip([each for each in rows if each["kind"] == kind], points, strict=True):
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
            yield text(x, y - 6, f"{each[key]:.3g}", "middle", colour, 10)


def main() -> None:
    """Draw what there is."""
    (DOCS / "performance.svg").write_text(ratios(read(HERE / "results.json")))
    beside, grown = HERE / "peers.json", HERE / "growth.json"
    if beside.exists():
        (DOCS / "peers.svg").write_text(peers(read(beside)))
    if grown.exists():
        (DOCS / "capacity.svg").write_text(growth(json.loads(grown.read_text())))


if __name__ == "__main__":
    main()
