"""IRkernel as a child of the launcher.

What runs in the kernel's own process is ``r_kernel.R``, which lies beside this module. It reaches R in a variable, as
the package may be in a zip, and nothing that a client or a path says ever becomes code.
"""

from __future__ import annotations

import os

from .errors import LauncherError, UsageError
from .kernels import Kernel
from .private import PrivateDirectory

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Sequence

    from .arguments import Options

START = 'eval(parse(text = Sys.getenv("ELYRA_R_KERNEL"), keep.source = FALSE), new.env(parent = asNamespace("utils")))'

RSCRIPT_VARIABLE = "ELYRA_RSCRIPT"

UTF8_LOCALES = ("C.UTF-8", "C.utf8", "en_US.UTF-8", "en_US.utf8")


class RKernel(Kernel):
    """IRkernel, under Spark with an RBackend in the driver's JVM.

    Beside the launcher's own it takes the options ``--customAppName NAME``, the name of the Spark application, and
    ``--rscript FILE``, the R to run; by default that is what ELYRA_RSCRIPT names, or ``Rscript`` in PATH.
    """

    name = "ir"
    # It does so itself, before it takes the next cell.
    cancels_spark_jobs = True

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        values, self._arguments = _take(options.kernel_arguments, ("customappname", "rscript"))
        self._application = values.get("customappname", "")
        self._rscript = values.get("rscript", "") or os.environ.get(RSCRIPT_VARIABLE, "") or "Rscript"
        self._directory: PrivateDirectory | None = None
        # R makes an eager context itself, and could only wait for the driver.
        self.starts_before_spark = options.spark_mode != "eager"

    def command(self) -> list[str]:
        """Return the command that runs ``r_kernel.R``."""
        rscript = _find(self._rscript)
        arguments = [self.connection_file, self.options.spark_mode, self._application, rscript]
        return [rscript, "-e", START, *arguments, *self._arguments]

    def environment(self, environ: dict[str, str]) -> dict[str, str]:
        """Return the environment, with a locale that has all characters, and a directory for R's own files."""
        private = {"ELYRA_R_KERNEL": _source(), "ELYRA_R_TMPDIR": environ.get("TMPDIR", "")}
        if self._directory is not None:
            private["TMPDIR"] = self._directory.path
        return {**environ, **_utf8(environ), **private}

    def before_start(self) -> None:
        """Make the directory for R's own files, which R leaves behind when a signal ends it."""
        import tempfile

        self._remove_directory()
        self._directory = PrivateDirectory(os.getcwd() if "CONTAINER_ID" in os.environ else tempfile.gettempdir())

    def before_exec(self) -> None:
        """Let no interrupt end the kernel before it handles interrupts itself, as R does from then on."""
        import signal

        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def after_end(self) -> None:
        """Remove the directory of R's own files."""
        self._remove_directory()

    def _remove_directory(self) -> None:
        if self._directory is not None:
            self._directory.remove()


def _take(arguments: Sequence[str], names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the values of some options, in any of their spellings, and all other arguments."""
    values: dict[str, str] = {}
    others: list[str] = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        flag, equals, value = argument.partition("=")
        name = flag.lower().replace("--remoteprocessproxy.", "--").replace("-", "").replace("_", "")
        if not flag.startswith("--") or name not in names:
            others.append(argument)
            continue
        if not equals:
            if not remaining:
                raise UsageError(f"{flag} needs a value")
            value = remaining.pop(0)
        values[name] = value
    return values, others


def _find(rscript: str) -> str:
    """Return the path of the Rscript to run."""
    from shutil import which

    found = which(rscript)
    if not found:
        where = (
            f"in PATH ({os.environ.get('PATH', '')})" if os.sep not in rscript else "there, or it cannot be executed"
        )
        raise LauncherError(
            f"there is no {rscript} {where}: install R and IRkernel on {os.uname().nodename}, or name another Rscript "
            f"by --rscript or {RSCRIPT_VARIABLE}"
        )
    return found


def _utf8(environ: dict[str, str]) -> dict[str, str]:
    """Return what to set so that R knows all characters; nothing where it does already."""
    chosen = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or "C"
    if "utf8" in chosen.lower().replace("-", ""):
        return {}
    name = "LC_ALL" if environ.get("LC_ALL") else "LC_CTYPE"
    return {name: _utf8_locale()}


def _utf8_locale() -> str:
    import locale

    before = locale.setlocale(locale.LC_CTYPE)
    try:
        for name in UTF8_LOCALES:
            try:
                locale.setlocale(locale.LC_CTYPE, name)
            except locale.Error:
                continue
            return name
        return UTF8_LOCALES[0]
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def _source() -> str:
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "r_kernel.R")
    data: bytes = globals()["__loader__"].get_data(path)
    return data.decode()
