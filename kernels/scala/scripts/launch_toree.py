"""Launches a Scala kernel (Apache Toree): what spark-submit starts.

The launcher need not be installed on the worker: the server says in ELYRA_LAUNCHER_PATH where it lies, or ships it
with a submission, which puts it on PYTHONPATH.
"""

import os
import sys

try:
    from elyra_launcher import ToreeKernel, launch
except ImportError:
    path = os.environ.get("ELYRA_LAUNCHER_PATH")
    if not path:
        sys.exit("No package elyra_launcher on this worker: install jupyter_elyra, or start kernels by its server.")
    sys.path.insert(0, path)
    from elyra_launcher import ToreeKernel, launch

if __name__ == "__main__":
    sys.exit(launch(kernel=ToreeKernel))
