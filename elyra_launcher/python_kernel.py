"""ipykernel as a child of the launcher: start it, and say when its ports are bound.

This is the only module that runs in the kernel's process. It adds as little as it
can: what takes time here is added to the start of every kernel.
"""

from __future__ import annotations

import gc
import os
import signal
import sys

TYPE_CHECKING = False  # importing typing would delay the start
if TYPE_CHECKING:
    from typing import Any

READY_DESCRIPTOR = "ELYRA_READY_FD"
"""The environment variable with the descriptor that waits for the ports."""


def main() -> None:
    """Run ipykernel with the arguments ``LOCATION FILE SPARK_MODE [ipykernel's options]``."""
    collects = gc.isenabled()
    gc.disable()  # a start makes hardly any garbage, and an eighth of it is looking for some
    del sys.path[0]
    _, _, connection_file, spark_mode, *arguments = sys.argv
    descriptor = int(os.environ.pop(READY_DESCRIPTOR))
    # The launcher may pass an interrupt on as soon as it knows the ports; ipykernel wants none yet.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.argv = ["ipykernel_launcher.py", "-f", connection_file, *arguments]
    app = _application(descriptor)
    app.initialize(sys.argv[1:])
    from .process import end_with_parent

    end_with_parent(int(os.environ["JPY_PARENT_PID"]))
    if spark_mode != "none" or "PYSPARK_GATEWAY_PORT" in os.environ or "JPY_SPARK_FD" in os.environ:
        from .spark_session import install

        install(app, spark_mode)
    if collects:
        _collect_from_now_on()
    app.start()


def _collect_from_now_on() -> None:
    """Let Python look for garbage, but not among what stays as long as the kernel does."""
    if hasattr(gc, "freeze"):  # only CPython has it
        gc.freeze()
    gc.enable()


def _application(descriptor: int) -> Any:
    try:
        from ipykernel import kernelapp
    except ImportError as error:
        sys.exit(f"ipykernel cannot be imported by {sys.executable} ({error}): install it there or name another Python")

    class IPKernelApp(kernelapp.IPKernelApp):  # type: ignore[misc, unused-ignore]
        """ipykernel, which tells its launcher the ports as soon as they are bound."""

        def write_connection_file(self, *args: Any, **kwargs: Any) -> None:
            super().write_connection_file(*args, **kwargs)
            ports: list[int] = [self.shell_port, self.iopub_port, self.stdin_port, self.hb_port, self.control_port]
            os.write(descriptor, " ".join(map(str, ports)).encode() + b"\n")
            os.close(descriptor)

    return IPKernelApp.instance()
