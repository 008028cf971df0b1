"""Owns daemons on behalf of a process that may die at any moment.

A script of its own process. Its first line of standard input is the job, as JSON: the daemons' commands, the
directory that is theirs, and the directories whose users end with them. It writes ``exited <name> <code>`` when a
daemon ends. The end of its standard input, for whatever reason, is the order to stop everything and to remove the
directory; so nothing stays behind even if the parent was killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PATIENCE = 4.0  # seconds from SIGTERM to SIGKILL

# Loaded here, because between fork and exec nothing should be imported.
LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Let the kernel kill a daemon whose guardian was killed; runs between fork and exec."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def report(line: str) -> None:
    """Tell the parent, if there still is one."""
    with contextlib.suppress(OSError):
        os.write(1, f"{line}\n".encode())


def start(name: str, daemon: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start one daemon; a thread reports its end."""
    with Path(daemon["log"]).open("ab") as log:
        process = subprocess.Popen(
            daemon["argv"],
            env=daemon["env"],
            cwd=daemon["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
    threading.Thread(target=lambda: report(f"exited {name} {process.wait()}"), daemon=True).start()
    return process


def users_of(directories: list[str]) -> list[int]:
    """Return the processes that run in `directories` or got one in their environment: YARN's containers, for one."""
    needles = tuple(os.fsencode(directory) for directory in directories)
    pids = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            inside = os.fsencode(os.readlink(entry / "cwd")).startswith(needles)  # noqa: PTH115
            environ = b"" if inside else (entry / "environ").read_bytes()
            if inside or any(needle in environ for needle in needles):
                pids.append(int(entry.name))
        except OSError:  # ended meanwhile, or not ours
            continue
    return pids


def send(pids: list[int], signum: int) -> None:
    """Signal processes, some of which may be gone."""
    for pid in pids:
        try:
            os.kill(pid, signum)
        except OSError:
            continue


def stop(processes: list[subprocess.Popen[bytes]], directories: list[str]) -> None:
    """End the users of directories, with some patience, then the daemons, which hold nothing worth any."""
    deadline = time.monotonic() + PATIENCE
    send(users_of(directories), signal.SIGTERM)
    while users_of(directories) and time.monotonic() < deadline:
        time.sleep(0.05)  # they are no children: their end is no event here
    for process in processes:
        process.kill()
        process.wait()
    while left := users_of(directories):  # the stubborn, and what the NodeManager started meanwhile
        send(left, signal.SIGKILL)
        time.sleep(0.02)


def main() -> None:
    """Run the job that stands on the first line of standard input."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)  # the end of the input is the one order
    job = json.loads(sys.stdin.buffer.readline() or b"null")
    if job is None:
        return
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name, daemon in job["daemons"].items():
            processes.append(start(name, daemon))
        while os.read(0, 4096):
            pass
    finally:
        stop(processes, job["users"])
        shutil.rmtree(job["directory"], ignore_errors=True)


if __name__ == "__main__":
    main()
