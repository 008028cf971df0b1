"""A YARN of this machine, with a server that submits to it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .servers import Server, elyra, install


@contextmanager
def cluster(directory: Path, *names: str) -> Iterator[tuple[Server, list[str], str]]:
    """Run a YARN and a server with some kernelspecs; give them, and the options of a bare spark-submit to that YARN."""
    import pyspark

    from demo.yarn import Yarn

    class Plain(Yarn):
        """With Spark's JVMs as they are by themselves."""

        spark_java_options = "-XX:-UsePerfData"

    os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)
    paths = install(directory, *names)
    wait = "spark.yarn.submit.waitAppCompletion=false"
    python = f"spark.yarn.appMasterEnv.PYSPARK_PYTHON={sys.executable}"
    options = ["--master", "yarn", "--deploy-mode", "cluster", "--conf", wait, "--conf", python]
    with Plain() as yarn:
        os.environ.update(yarn.environ)
        with elyra(directory / "server", ELYRA_KERNEL_LAUNCH_TIMEOUT="120", **paths) as server:
            yield server, options, yarn.endpoint
