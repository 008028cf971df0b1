"""A kernel of one's own, built on ipykernel's base class, that reports itself."""

from __future__ import annotations

import sys
from typing import Any

from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

import elyra_launcher


class EchoKernel(Kernel):  # type: ignore[misc, unused-ignore]
    """Answers each cell with its own text."""

    implementation = "echo"
    implementation_version = "1.0"
    banner = "Echo: it says what you say"
    language_info = {"name": "echo", "mimetype": "text/plain", "file_extension": ".txt"}  # noqa: RUF012

    async def do_execute(self, code: str, silent: bool, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run a cell."""
        if not silent:
            self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})
        return {"status": "ok", "execution_count": self.execution_count, "payload": [], "user_expressions": {}}


def main() -> None:
    """Take the connection file's path and the launcher's options, as a launcher does."""
    path, *options = sys.argv[1:]
    app = IPKernelApp.instance(kernel_class=EchoKernel)
    app.initialize(["-f", path])  # binds the ports and writes the file

    def stop() -> None:
        app.kernel.io_loop.add_callback(app.kernel.io_loop.stop)

    try:
        link = elyra_launcher.report([app.abs_connection_file, *options], shutdown=stop)
    except elyra_launcher.LauncherError as error:
        sys.exit(f"The kernel cannot be reported: {error}")
    try:
        app.start()
    except BaseException as error:
        link.close(code=1, reason=f"The kernel failed: {error!r}")
        raise
    link.close()


if __name__ == "__main__":
    main()
