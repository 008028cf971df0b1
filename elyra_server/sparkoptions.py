"""What the server adds to a kernelspec's Spark options, so that its launcher arrives."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

TICKET_NAME = "elyra-ticket"
EARLY_NAME = "elyra-early.sh"
EARLY_VARIABLE = "spark.yarn.appMasterEnv.BASH_ENV"

OTHER_PYTHON = ("spark.pyspark.driver.python", "spark.pyspark.python")
"""Properties that name the driver's Python where only Spark looks."""


def extend(
    options: str, environ: Mapping[str, str], tags: str, ticket: Path, launcher: Path, early: Path | None = None
) -> str:
    """Return SPARK_OPTS with what a launch in YARN's cluster mode needs.

    What is set there stays as it is, except for the lists of tags and files, which are added to.

    Parameters
    ----------
    options : str
        SPARK_OPTS as the kernelspec has it, its variables not yet filled in.
    environ : mapping
        The launch's environment, for where Spark's defaults are.
    tags : str
        What the application is tagged with, with commas between.
    ticket, launcher : Path
        The files to distribute.
    early : Path, optional
        ``early.sh`` of the launcher, for one that starts with its container, before Spark's driver.
    """
    result = options.strip()
    files = f"{ticket.as_uri()}#{TICKET_NAME}"
    if early is not None:
        files += f",{early.as_uri()}#{EARLY_NAME}"
        result += f" --conf {EARLY_VARIABLE}=./{EARLY_NAME}"
    for name, value in (
        ("spark.yarn.maxAppAttempts", "1"),
        ("spark.yarn.submit.waitAppCompletion", "false"),
        ("spark.yarn.am.waitTime", "480s"),
    ):
        if _find(result, name) is None:
            result += f" --conf {name}={value}"
    for name, value in (
        ("spark.yarn.tags", tags.lower()),
        ("spark.yarn.dist.files", files),
        ("spark.yarn.dist.pyFiles", launcher.as_uri()),
    ):
        # The last --conf of a name wins, over Spark's defaults too: what was there goes along.
        before = lookup(result, environ, name)
        merged = f"{before},{value}" if before else value
        result += f" --conf {name}={_word(merged) if before and '$' in before else shlex.quote(merged)}"
    return result.strip()


def leaves_start_to_us(options: str, environ: Mapping[str, str]) -> bool:
    """Say whether the launcher can start with its container: the options have no wishes of their own about that."""
    return not any(lookup(options, environ, name) for name in (EARLY_VARIABLE, *OTHER_PYTHON))


def options_of(environ: Mapping[str, str]) -> str:
    """Return the Spark options of a launch; those of Toree's own kernelspecs have another name."""
    return environ.get("SPARK_OPTS") or environ.get("__TOREE_SPARK_OPTS__", "")


def lookup(options: str, environ: Mapping[str, str], name: str) -> str:
    """Return the value of a Spark property: of the options, else of spark-defaults.conf, else nothing."""
    return _find(options, name) or _default(environ, name)


def _find(options: str, name: str) -> str | None:
    try:
        words = shlex.split(options)
    except ValueError:  # run.sh says what is wrong with them
        words = options.split()
    found = [match[1] for word in words if (match := re.search(rf"(?:^|[\s=]){re.escape(name)}=(.*)", word, re.DOTALL))]
    return found[-1] if found else None


def _word(text: str) -> str:
    """Return a text as one word of options, in which variables are filled in."""
    if not re.search(r"[\s\"'\\`]", text):
        return text
    return '"' + re.sub(r"([\"\\`])", r"\\\1", text) + '"'


def _default(environ: Mapping[str, str], name: str) -> str:
    home = environ.get("SPARK_HOME", "")
    directory = environ.get("SPARK_CONF_DIR") or (f"{home}/conf" if home else "")
    if not directory:
        return ""
    try:
        lines = (Path(directory) / "spark-defaults.conf").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    for line in lines:
        match = re.match(rf"\s*{re.escape(name)}[\s=:]+(\S+)", line)
        if match:
            return match[1]
    return ""
