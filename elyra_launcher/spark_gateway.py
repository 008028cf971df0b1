"""Where the Spark driver of a kernel is, which may have started after the kernel.

Spark tells a program that it starts by two variables. A kernel that was earlier than its driver reads them from a pipe
of its launcher instead, the first time that it needs Spark, and waits there until they come.
"""

import os
import select
import sys
import threading

DESCRIPTOR = "JPY_SPARK_FD"
VARIABLES = ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET")

PATIENCE = "ELYRA_SPARK_PATIENCE"
USUAL_PATIENCE = 8.0
"""Seconds of waiting after which the user is told, if the variable says nothing else: a driver usually takes less."""

_lock = threading.Lock()


def is_there() -> bool:
    """Whether there is a driver, or will be one."""
    return VARIABLES[0] in os.environ or DESCRIPTOR in os.environ


def keep_to_itself() -> None:
    """Let no process that the kernel starts hold the pipe."""
    if DESCRIPTOR in os.environ:
        os.set_inheritable(int(os.environ[DESCRIPTOR]), False)


def wait() -> None:
    """Return when the variables that Spark sets for a program are set.

    Raises
    ------
    RuntimeError
        If the driver's end came before.
    """
    if DESCRIPTOR not in os.environ:
        return
    with _lock:
        if DESCRIPTOR not in os.environ:
            return
        descriptor = int(os.environ[DESCRIPTOR])
        if not select.select([descriptor], [], [], _patience())[0]:
            print("Waiting for Spark's driver, which is starting ...", file=sys.stderr, flush=True)
            select.select([descriptor], [], [])
        values = os.read(descriptor, 4096).decode().split()
        if len(values) != len(VARIABLES):
            raise RuntimeError("Spark's driver did not start: YARN's log of the application says why")
        os.environ.update(zip(VARIABLES, values))
        del os.environ[DESCRIPTOR]
        os.close(descriptor)


def _patience() -> float:
    try:
        return max(float(os.environ.get(PATIENCE, "")), 0.0)
    except ValueError:
        return USUAL_PATIENCE
