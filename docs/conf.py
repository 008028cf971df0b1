"""Sphinx configuration. Nothing here needs a network.

What would go stale when typed by hand is taken from the code: the table of the server's
settings, the launcher's own help, and the benchmarks' figures where they were measured.
"""

import json
import os
from pathlib import Path

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


def figures_table(path: Path) -> str:
    """Return the measured figures as a Markdown table, or what to do to get them."""
    if not path.exists():
        return "*There are no figures in this build. `make bench` writes them, and `make docs` shows them here.*"
    lines = ["| Figure | Elyra | Floor | Ratio | Target | |", "|---|---:|---:|---:|---:|---|"]
    for row in json.loads(path.read_text(encoding="utf-8")):
        floor, ratio = row["floor"], f"{row['ratio']:.3g}"
        shown = f"{floor:.4g} {row['unit']}" if floor is not None else ""
        target = f"{row['target']:g}x" if floor is not None else f"{row['target']:g} {row['unit']}"
        met = "" if row["ratio"] <= row["target"] else "missed"
        times = f"{ratio}x" if floor is not None else ""
        lines.append(f"| {row['name']} | {row['value']:.4g} {row['unit']} | {shown} | {times} | {target} | {met} |")
    return "\n".join(lines)


myst_substitutions = {
    "settings": settings_table(),
    "usage": f"```text\n{USAGE}```",
    "figures": figures_table(ROOT / "benchmarks" / "results.json"),
}
