"""Whether the system kills processes because memory runs out: a signal 9 alone does not say who sent it."""

from __future__ import annotations

COUNTERS = "/proc/vmstat"

PROBABLE_CAUSE = "Memory ran out, and the system killed a process for that: probably this one."


def kills() -> int:
    """Return how often the system has killed a process for memory, 0 where it does not say.

    Kills for the limit of a control group are counted too.
    """
    try:
        with open(COUNTERS, encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    except (OSError, ValueError):
        pass  # not Linux, or a sandbox's idea of it
    return 0
