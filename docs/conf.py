"""Sphinx configuration. Nothing here needs a network.

What would go stale when typed by hand is taken from the code: the table of the server's
settings, the launcher's own help, and the benchmarks' figures where they were measured.
"""

import json
import os
from pathlib import Path
from typing import Any

for name in [name for name in os.environ if name.startswith("ELYRA_")]:
    del os.environ[name]  # they would be shown as defaults

from elyra_launcher import __version__  # noqa: E402
from elyra_launcher.arguments import USAGE  # noqa: E402
from elyra_server.settings import Settings  # noqa: E402

ROOT = Path(__file__).parent.parent

project = "Elyra"
project_copyright = "Elyra developers"
author = "Elyra developers"
version = release = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build", "examples"]
myst_enable_extensions = ["colon_fence", "deflist", "substitution"]
myst_heading_anchors = 3
suppress_warnings = ["myst.strikethrough"]
highlight_language = "text"

html_theme = "alabaster"
html_title = "Elyra"
html_static_path: list[str] = []
html_theme_options = {
    "description": "Jupyter kernels on a cluster",
    "page_width": "1120px",
    "body_max_width": "none",
    "fixed_sidebar": True,
}


def settings_table() -> str:
    """Return the server's own settings as a Markdown table."""
    lines = ["| Option (`--Settings.…`) | Variable | Default | Meaning |", "|---|---|---|---|"]
    settings = Settings()
    for option, trait in settings.traits(config=True).items():
        variable = trait.metadata.get("variable")
        if variable is None:
            continue
        value = getattr(settings, option)
        shown = ",".join(value) if isinstance(value, list) else str(value)
        meaning = trait.help.replace(f" ({variable} env var)", "").replace("|", "\\|").replace("*", "\\*")
        lines.append(f"| `{option}` | `{variable}` | {f'`{shown}`' if shown else ''} | {meaning} |")
    return "\n".join(lines)


BENCHMARKS = ROOT / "benchmarks"


def measured(name: str) -> list[dict[str, Any]]:
    """Return the rows of one of the benchmarks' files; none if there is no such file."""
    path = BENCHMARKS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def amount(value: float | None, spread: list[float], unit: str = "") -> str:
    """Return a median with its quartiles."""
    if value is None:
        return ""
    shown = f" ({spread[0]:.3g} to {spread[1]:.3g})" if spread else ""
    return f"{value:.4g}{' ' * bool(unit)}{unit}{shown}"


def figures_table() -> str:
    """Return the measured figures as a Markdown table, or what to do to get them."""
    rows = measured("results.json")
    if not rows:
        return "*There are no figures in this build. `make bench` writes them, and `make docs` shows them here.*"
    lines = ["| Figure | Elyra | Floor | Ratio | Target | |", "|---|---:|---:|---:|---:|---|"]
    for row in rows:
        floor, unit = row["floor"], row["unit"]
        target = f"{row['target']:g}x" if floor is not None else f"{row['target']:g} {unit}"
        met = "" if row["ratio"] <= row["target"] else "missed"
        ratio = f"{row['ratio']:.3g}x" if floor is not None else ""
        value, below = amount(row["value"], row.get("spread", []), unit), amount(floor, row.get("floor_spread", []))
        lines.append(f"| {row['name']} | {value} | {below} | {ratio} | {target} | {met} |")
    return "\n".join(lines)


def peers_table() -> str:
    """Return the figures beside other servers as a Markdown table."""
    rows = measured("peers.json")
    if not rows:
        return "*There are no figures in this build. `make bench-peers` writes them, and `make docs` shows them here.*"
    names = list(rows[0]["peers"])
    lines = [f"| Figure | Elyra | {' | '.join(names)} | Floor |", f"|---|---:|{'---:|' * len(names)}---:|"]
    for row in rows:
        others = [row["peers"].get(name, {}) for name in names]
        shown = [f"cannot: {each['cannot']}" if "cannot" in each else amount(**each) for each in others]
        ours, floor = amount(row["value"], row["spread"], row["unit"]), amount(row["floor"], row["floor_spread"])
        lines.append(f"| {row['name']} | {ours} | {' | '.join(each.replace('|', '/') for each in shown)} | {floor} |")
    return "\n".join(lines)


GROWTH = {
    "launch_s": "One more launch (s)",
    "get_api_ms": "GET /api (ms)",
    "get_api_p99_ms": "its p99 (ms)",
    "get_kernels_ms": "GET /api/kernels (ms)",
    "memory_MiB": "Memory (MiB)",
    "files": "Open files",
    "idle_percent": "Idle (% of a core)",
}


def growth_table() -> str:
    """Return how a server's cost grows as a Markdown table."""
    rows = measured("growth.json")
    if not rows:
        return "*There are no figures in this build. `make bench` writes them, and `make docs` shows them here.*"
    kinds = {"python_local": "real", "simulated": "simulated"}
    lines = [f"| Kernels | Websockets | {' | '.join(GROWTH.values())} |", f"|---|---:|{'---:|' * len(GROWTH)}"]
    for row in rows:
        cells = [f"{row[key]:.3g}" if row[key] < 1000 else f"{row[key]:.0f}" for key in GROWTH if key in row]
        shown = " | ".join(cells) if cells else f"{row.get('broke', '')}" + " |" * (len(GROWTH) - 1)
        lines.append(f"| {row['kernels']} {kinds[row['kind']]} | {row.get('websockets', '')} | {shown} |")
    return "\n".join(lines)


myst_substitutions = {
    "settings": settings_table(),
    "usage": f"```text\n{USAGE}```",
    "figures": figures_table(),
    "peers": peers_table(),
    "growth": growth_table(),
}
