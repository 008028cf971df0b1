"""Waiting, in tests, for what no event announces."""

import time

PAUSE = 0.05
PATIENCE = 120.0  # seconds, of which only a failure takes more than it needs, on however busy a machine


def until(condition, what="", limit=PATIENCE):
    """Return what a condition returns, once that is true; `what` names it where it is not within so many seconds."""
    deadline = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what or 'What is waited for'} did not come in {limit:g} s: {value!r}"
        time.sleep(PAUSE)
    return value
