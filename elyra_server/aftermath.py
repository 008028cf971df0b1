"""The process that ends and removes what another one leaves on this host when it is killed.

A script of its own (see guardian.py). On its standard input it gets notes of what there is to end and to remove. The
end of the input, which no death can prevent, is the order to do so with what is left. Until then it waits, and
imports little, because it does so beside each server.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator

PATIENCE = 8.0
"""Seconds from SIGTERM to SIGKILL: Spark removes its files meanwhile."""

END = b"\0"
"""Ends a note: a sign, then the number of a process or an absolute path, of which none has this character."""


def main() -> None:
    """Follow the notes until they end, then end and remove what is left."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # the end of the input is the one order
    commands: dict[int, int] = {}
    files: dict[bytes, None] = {}
    for note in _notes():
        sign, text = note[:1], note[1:]
        if text.startswith(b"/"):
            if sign == b"+":
                files[text] = None
            else:
                files.pop(text, None)
        elif sign == b"+":
            try:
                commands[int(text)] = os.pidfd_open(int(text))
            except (AttributeError, OSError):  # another system, or it has ended
                continue
        elif (descriptor := commands.pop(int(text), None)) is not None:
            os.close(descriptor)
    _end(commands)
    _remove(files)


def _notes() -> Iterator[bytes]:
    """Yield what comes on standard input; half a note is none."""
    rest = b""
    while data := os.read(0, 65536):
        *notes, rest = (rest + data).split(END)
        yield from notes


def _end(commands: dict[int, int]) -> None:
    """End the launch commands that still run, and all that is in their groups."""
    left = {descriptor: pid for pid, descriptor in commands.items() if not _over(descriptor, 0)}
    for pid in left.values():
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    for descriptor, pid in left.items():
        _over(descriptor, deadline - time.monotonic())
        _signal(pid, signal.SIGKILL)  # for the group too, which may outlive the one that leads it


def _over(descriptor: int, patience: float) -> bool:
    """Whether a process ended; it is waited for."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(patience, 0.0) * 1000))


def _signal(pid: int, signum: int) -> None:
    try:
        os.killpg(pid, signum)
    except OSError:  # nothing is left, or it became another user's
        return


def _remove(files: Iterable[bytes]) -> None:
    import shutil

    for path in files:
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            shutil.rmtree(path, ignore_errors=True)
        else:
            try:
                os.unlink(path)  # noqa: PTH108
            except OSError:  # it was never written
                continue


if __name__ == "__main__":
    main()
