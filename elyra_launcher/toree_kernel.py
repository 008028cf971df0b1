"""Apache Toree: a kernel that is not a process but lives in the Spark driver's JVM.

What stands for it as the kernel's process is a small child, `elyra_launcher.toree_driver`, which runs Toree there and
ends with it. So the supervisor starts, interrupts, stops and explains it like any other kernel. Only a restart in
place is not possible: it takes a new JVM, which means a new launch.
"""

from __future__ import annotations

import sys

from .errors import UsageError
from .kernels import Kernel, package_location

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Sequence

INTERPRETERS = ("Scala", "SQL")
"""The interpreters that Toree has by itself."""

BUILD_INFO = "org/apache/toree/kernel/BuildInfo$.class"
"""The class in Toree's assembly jar that knows the Scala it was built for."""

DEFAULT_INTERPRETER = "--default-interpreter"
ALTERNATE_SIGINT = "--alternate-sigint"


class ToreeKernel(Kernel):
    """Toree in the JVM of the Spark driver that started this launcher."""

    name = "scala"
    cancels_spark_jobs = True
    restarts_in_place = False
    ends_with_driver = True

    def before_start(self) -> None:
        """See that Spark started this process, and that the default interpreter exists."""
        from os import environ

        if "PYSPARK_GATEWAY_PORT" not in environ:
            raise UsageError("Toree runs in the JVM of a Spark driver: start its launch script by spark-submit")
        options = self._toree_options()
        plugins = [value.partition(":")[0] for value in values_of("--interpreter-plugin", options)]
        known = [*INTERPRETERS, *plugins]
        for name in values_of(DEFAULT_INTERPRETER, options):
            if name not in known:
                raise UsageError(
                    f"Toree has no interpreter {name!r} (DEFAULT_INTERPRETER, {DEFAULT_INTERPRETER}); "
                    f"it can be {' or '.join(known)}, in this spelling"
                )

    def command(self) -> list[str]:
        """Return the command of `elyra_launcher.toree_driver` in this interpreter."""
        start = "import sys; sys.path[0] = sys.argv[1]; from elyra_launcher.toree_driver import main; main()"
        return [
            sys.executable,
            "-c",
            start,
            package_location(),
            self.connection_file,
            self.options.spark_mode,
            *self._toree_options(),
        ]

    def _toree_options(self) -> list[str]:
        """Return the options for Toree: what the launcher left, and the interpreter's own behind ``--``."""
        options = list(self.options.kernel_arguments)
        if not values_of(ALTERNATE_SIGINT, options):
            options += [ALTERNATE_SIGINT, "USR2"]
        return options + (["--", *self.options.command] if self.options.command else [])


def values_of(flag: str, options: Sequence[str]) -> list[str]:
    """Return the values that options give a flag, in either spelling, before a ``--``."""
    values = []
    for index, option in enumerate(options):
        if option == "--":
            break
        if option == flag and index + 1 < len(options):
            values.append(options[index + 1])
        elif option.startswith(flag + "="):
            values.append(option[len(flag) + 1 :])
    return values


def scala_version(build_info: bytes) -> str:
    """Return the Scala version that a class file names; empty if there is none."""
    import re

    found = re.search(rb"\x01\x00[\x05-\x0a](\d\.\d+\.\d+)(?=[\x01-\x14])", build_info)
    return found[1].decode() if found else ""
