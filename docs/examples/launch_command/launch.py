"""Launch any Jupyter kernel by its command, after a look at the worker."""

import shutil
import sys

import elyra_launcher

COMMAND = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]

if __name__ == "__main__":
    python = shutil.which("python3")
    if python is None:
        sys.exit("No python3 on this worker: install one, or add its directory to PATH.")
    sys.exit(elyra_launcher.launch([*sys.argv[1:], "--", python, *COMMAND]))
