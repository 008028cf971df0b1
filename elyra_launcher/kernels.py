"""How a kernel is started, interrupted and stopped: one small class per family."""

from __future__ import annotations

import os
import sys

from .errors import UsageError

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Iterable, Mapping, Sequence, Tuple

    from .arguments import Options
    from .process import Process

    Step = Tuple[str, Sequence[str]]


def package_location() -> str:
    """Return the directory or zip that this package is in."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def importable_here(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which ``python -m elyra_launcher...`` finds this package."""
    path = environ.get("PYTHONPATH", "")
    places = path.split(os.pathsep) if path else []
    if package_location() not in places:
        places.insert(0, package_location())
    return {**environ, "PYTHONPATH": os.pathsep.join(places)}


class Kernel:
    """Any Jupyter kernel, started by its command.

    Derive from it for a kernel that wants more, and hand the class to `launch`. Every
    method is a hook that may be overridden. None may block: what takes longer than a moment
    is a command of `preparation`.

    Parameters
    ----------
    options : Options
        What was asked for.

    Attributes
    ----------
    options : Options
        The same.
    connection_file : str
        The path of the connection file; set before any hook is called.
    """

    name = ""
    """What ``kernel_name`` in the connection info says."""

    binds_itself = False
    """Whether the kernel binds ports of its own choice where the file has zeros. It then
    writes them to the descriptor that ``ELYRA_READY_FD`` names, in one line: shell, iopub,
    stdin, hb, control."""

    cancels_spark_jobs = False
    """Whether an interrupted cell ends its own Spark jobs. For the others the launcher cancels
    what runs; that is a moment later, and could hit a job of the next cell."""

    restarts_in_place = True
    """Whether the launcher can start the kernel again with the same ports. Otherwise the server
    makes a new launch of it."""

    starts_before_spark = False
    """Whether the kernel can start before the Spark driver, where the launcher does. It then finds in
    ``JPY_SPARK_FD`` a descriptor, from which it reads the port and the secret of the driver's
    gateway, in one line, when it needs Spark."""

    ends_with_driver = False
    """Whether the kernel lives in the JVM of the Spark driver, which then has to exit after it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.connection_file = ""

    def environment(self, environ: dict[str, str]) -> dict[str, str]:
        """Return the environment of the kernel's process.

        Parameters
        ----------
        environ : dict of str to str
            The launcher's own, without what is not meant for the kernel.
        """
        return environ

    def command(self) -> list[str]:
        """Return the command that starts the kernel.

        ``{connection_file}`` and ``{kernel_id}`` are filled in.
        """
        values = dict.fromkeys(_names_of_file(self.options), self.connection_file)
        values["{kernel_id}"] = self.options.kernel_id
        command = []
        for word in self.options.command + self.options.kernel_arguments:
            for placeholder, value in values.items():
                word = word.replace(placeholder, value)
            command.append(word)
        return command

    def preparation(self) -> Iterable[Step]:
        """Return commands that run, one after the other, before the kernel's first start; here none.

        Each comes with what it prepares, a few words that the user reads when it fails or
        when the launch takes too long. It may be a generator, whose code runs between them.
        """
        return ()

    def before_start(self) -> None:
        """Do what has to be done each time before the kernel starts; here nothing."""

    def before_exec(self) -> None:
        """Do something in the kernel's own process, just before the command replaces it; here nothing.

        This is the place for what a process does to itself: resource limits, niceness, a mask.
        """

    def after_end(self) -> None:
        """Remove what the kernel left; called once, when it has ended for good. Here there is nothing."""

    def interrupt(self, process: Process) -> None:
        """Interrupt what the kernel does: here by SIGINT to its process group."""
        from signal import SIGINT

        process.signal(SIGINT)

    def stop(self, process: Process) -> None:
        """Ask the kernel to end; it is killed when it does not: here by SIGTERM."""
        from signal import SIGTERM

        process.signal(SIGTERM)


class PythonKernel(Kernel):
    """ipykernel, which binds its ports itself and tells which it got."""

    name = "python3"
    binds_itself = True
    cancels_spark_jobs = True
    starts_before_spark = True

    def command(self) -> list[str]:
        """Return the command of `elyra_launcher.python_kernel` in this interpreter.

        The kernel's ``PYTHONPATH`` stays as the user has it, wherever this package is.
        """
        start = "import sys; sys.path[0] = sys.argv[1]; from elyra_launcher.python_kernel import main; main()"
        command = [sys.executable, "-c", start, package_location(), self.connection_file, self.options.spark_mode]
        if self.options.kernel_class_name:
            command.append("--IPKernelApp.kernel_class=" + self.options.kernel_class_name)
        return command + self.options.kernel_arguments


def kernel_for(options: Options) -> Kernel:
    """Return the kernel that a command line asks for.

    Raises
    ------
    UsageError
        If it names no command where one is needed.
    """
    if not options.command:
        return PythonKernel(options)
    if not any(name in word for word in options.command for name in _names_of_file(options)):
        raise UsageError("the command behind -- has no {connection_file}, so the kernel would not find its ports")
    return Kernel(options)


def _names_of_file(options: Options) -> list[str]:
    """Return what stands for the connection file in a command.

    A server fills the placeholders of a kernel.json in before the launcher sees them: then
    it is the path that the launcher was given, which may not be where the file is in the end.
    """
    named = options.connection_file
    return ["{connection_file}", named] if os.path.isabs(named) else ["{connection_file}"]
