"""The demonstration: a YARN, a server and a notebook on one machine."""

import importlib.util
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("ELYRA_BUILD_DIR") or ROOT / ".build").absolute()
HADOOP_LIB = BUILD / "hadoop" / "lib"
GUARDIAN = ROOT / "demo" / "guardian.py"


def spark_home() -> Path:
    """Return the Spark of the demonstration and the tests: the one that pyspark brings."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise RuntimeError("pyspark is not installed: run `make venv`.")
    return Path(spec.origin).parent
