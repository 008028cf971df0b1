"""What a launch command runs in place of spark-submit: asks a warm submitter to do it.

    python3 -I -S client.py SPARK_SUBMIT ARGUMENT...

ELYRA_SUBMITTER is the submitter's socket. Whatever keeps it from taking the submission, this process becomes
SPARK_SUBMIT with the same arguments. It stands alone, on the standard library, for its start is part of each launch.
"""

from __future__ import annotations

import json
import os
import socket
import sys

VARIABLES = ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "PYTHONHASHSEED")
"""What spark-submit itself would hand on of its environment."""

LOST = 75
"""The exit code where the submitter ended, and nobody knows whether there is an application."""


def main(argv: list[str]) -> int:
    """Submit; return the exit code that spark-submit would have had."""
    spark_submit, *words = argv
    code = submit(os.environ.get("ELYRA_SUBMITTER", ""), words)
    if code is None:
        os.execv(spark_submit, [spark_submit, *words])
    return code


def submit(path: str, words: list[str]) -> int | None:
    """Have it submitted and return the exit code, None if spark-submit has to do it."""
    request = {
        "words": words,
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    may_exist = False
    try:
        with connect(path) as connection:
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as answers:
                for line in answers:
                    answer = json.loads(line)
                    if "output" in answer:
                        say(answer["output"])
                    may_exist = answer.get("may_exist", may_exist)
                    if "code" in answer:
                        return int(answer["code"])
                    if "refused" in answer:
                        return None
    except (OSError, ValueError):
        pass
    if not may_exist:
        return None
    say("spark-submit: the warm submitter ended while it submitted this; whether there is an application is unknown\n")
    return LOST


def connect(path: str) -> socket.socket:
    """Connect to a socket, however long its path is: the system takes 107 characters, and here it is only a name."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.chdir(os.path.dirname(path))  # noqa: PTH120
        connection.connect(os.path.basename(path))  # noqa: PTH119
    except BaseException:
        connection.close()
        raise
    finally:
        os.fchdir(here)
        os.close(here)
    return connection


def say(text: str) -> None:
    """Write what spark-submit would have; whoever does not listen any more misses it."""
    data = text.encode("utf-8", "replace")
    try:
        while data:
            data = data[os.write(2, data) :]
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
