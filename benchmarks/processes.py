"""What is read off processes: which is whose, memory, and processor time."""

import re
import threading
import time
from pathlib import Path

import psutil


def supervisor_of(kernel_id: str) -> int:
    """Return the process id of the launcher of a kernel on this machine."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        python = command and re.search(r"python[0-9.]*$", command[0])
        if python and kernel_id in " ".join(command) and any("launch" in part for part in command[1:4]):
            return int(process.pid)
    raise RuntimeError(f"no launcher of kernel {kernel_id}")


def proportional_memory(pid: int) -> float:
    """Return the proportional set size of a process, in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.M)
    assert match, text
    return int(match.group(1)) / 1024


def share(process: psutil.Process, seconds: float) -> float:
    """Return the percentage of one core that a process takes in some seconds."""
    before = process.cpu_times()
    begin = time.perf_counter()
    threading.Event().wait(seconds)
    passed = time.perf_counter() - begin
    after = process.cpu_times()
    return max(after.user + after.system - before.user - before.system, 0.0) / passed * 100
