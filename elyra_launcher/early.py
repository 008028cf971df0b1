"""A launch script that runs with its container, before Spark's driver would run it.

In YARN's cluster mode the driver's JVM takes seconds until it starts the launch script. ``early.sh`` starts this module
beside that JVM, and this module runs the very same script with the same arguments, which it reads in the command of the
ApplicationMaster. When the driver then runs the script too, that one finds a launcher there and hands Spark over to it
(`elyra_launcher.handover`).
"""

from __future__ import annotations

import os
import sys

COMMAND = "ELYRA_EARLY"
"""The variable with the command of the ApplicationMaster."""

MAIN_CLASS = "org.apache.spark.deploy.yarn.ApplicationMaster"

PROPERTIES = os.path.join("__spark_conf__", "__spark_conf__.properties")


def script_of(command: str) -> list[str]:
    """Return the launch script and its arguments out of the command of an ApplicationMaster; nothing if it has none."""
    import shlex

    words = shlex.split(command)
    if MAIN_CLASS not in words:
        return []
    options = words[words.index(MAIN_CLASS) + 1 :]  # each has a value, which may look like an option
    script: list[str] = []
    arguments: list[str] = []
    for flag, value in zip(options[::2], options[1::2]):
        if flag == "--primary-py-file":
            script = [value]
        elif flag == "--arg":
            arguments.append(value)
    return script + arguments if script else []


def main() -> None:
    """Run the launch script; without a word where there is none, as the driver will say what is wrong."""
    words = script_of(os.environ[COMMAND])
    if not words or not os.path.isfile(words[0]):
        return
    os.environ["PYTHONUNBUFFERED"] = "YES"  # as Spark sets it
    _limit_threads()
    import runpy

    sys.argv = words
    sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
    runpy.run_path(words[0], run_name="__main__")


def _limit_threads() -> None:
    """Set what Spark sets for a script that it runs: as many threads of numeric libraries as the driver has cores."""
    import re

    try:
        with open(PROPERTIES, encoding="utf-8", errors="replace") as file:
            match = re.search(r"^spark\.driver\.cores[=:\s]\s*(\d+)\s*$", file.read(), re.M)
    except OSError:
        return
    if match:
        os.environ.setdefault("OMP_NUM_THREADS", match[1])


if __name__ == "__main__":
    main()
