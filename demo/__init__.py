"""The demonstration: a YARN, a server and a notebook on one machine."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("ELYRA_BUILD_DIR") or ROOT / ".build").absolute()
HADOOP_LIB = BUILD / "hadoop" / "lib"
GUARDIAN = ROOT / "demo" / "guardian.py"
