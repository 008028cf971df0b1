"""Any kernel within limits of memory, processor time and open files."""

from __future__ import annotations

import os
import resource
import sys

import elyra_launcher

GIB = 2**30


class LimitedKernel(elyra_launcher.Kernel):
    """The command behind ``--``; its address space in GiB is KERNEL_MEMORY_GIB, at most the site's limit."""

    def __init__(self, options: elyra_launcher.Options) -> None:
        super().__init__(options)
        most = float(os.environ.get("SITE_MEMORY_GIB", "8"))
        asked = os.environ.get("KERNEL_MEMORY_GIB", str(most))
        try:
            self.memory = float(asked)
        except ValueError:
            self.memory = -1.0
        if not 0.5 <= self.memory <= most:
            raise elyra_launcher.LauncherError(f"KERNEL_MEMORY_GIB is {asked!r}: ask for a number from 0.5 to {most:g}")

    def before_exec(self) -> None:
        """Limit the process that is about to become the kernel, and all that it starts."""
        size = int(self.memory * GIB)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CPU, (36000, 36060))
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(elyra_launcher.launch(kernel=LimitedKernel))
