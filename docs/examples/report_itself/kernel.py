"""A program that is a kernel itself: it binds its ports, then reports where."""

import sys

from ipykernel.kernelapp import IPKernelApp

import elyra_launcher


def main() -> None:
    """Take the connection file's path and the launcher's options, as a launcher does."""
    path, *options = sys.argv[1:]
    app = IPKernelApp.instance()
    app.initialize(["-f", path])
    app.shell.user_ns["simulation"] = {"step": 42}
    link = elyra_launcher.report([app.abs_connection_file, *options], shutdown=lambda: stop(app))
    app.start()
    link.close()


def stop(app: IPKernelApp) -> None:
    """End the kernel; called in the thread of the link."""
    app.kernel.io_loop.add_callback(app.kernel.io_loop.stop)


if __name__ == "__main__":
    main()
