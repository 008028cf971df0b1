"""What a kernel left behind in sessions of its own, where no signal to its process group comes.

All processes of a kernel inherit a mark in their environment, by which they are found at its end (on Linux). Those that
lost the terminal which a kernel such as bash's gave them are an example.
"""

from __future__ import annotations

import os

PASSES = 10
"""How often is looked again, as what is killed may have started others meanwhile."""


def end_marked(mark: str) -> None:
    """Kill all processes of this user that have a mark, ``NAME=value``, in their environment."""
    from signal import SIGKILL

    wanted = mark.encode()
    for _ in range(PASSES):
        found = [pid for pid in _processes() if wanted in _environment(pid).split(b"\0")]
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, SIGKILL)
            except OSError:
                continue  # it ended by itself, or became another user's


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()]
    except OSError:
        return []  # another system


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""  # gone, or another user's
