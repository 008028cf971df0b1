"""Launches an R kernel: what spark-submit, or run.sh itself, starts.

The launcher need not be installed on the worker: the server says in ELYRA_LAUNCHER_PATH where it lies, or ships it
with a submission, which puts it on PYTHONPATH.
"""

import os
import sys

path = os.environ.get("ELYRA_LAUNCHER_PATH")
if path:
    # Before one that is installed, which may be of another version than the server.
    sys.path.insert(0, path)
try:
    from elyra_launcher import RKernel, launch
except ImportError:
    sys.exit("No package elyra_launcher on this worker: install jupyter_elyra, or start kernels by its server.")

if __name__ == "__main__":
    sys.exit(launch(kernel=RKernel))
