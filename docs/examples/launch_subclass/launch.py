"""A Python kernel in one of the site's virtual environments, whichever the user names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import elyra_launcher

ENVIRONMENTS = Path(os.environ.get("SITE_ENVIRONMENTS", "/opt/environments"))


class EnvironmentKernel(elyra_launcher.PythonKernel):
    """Runs in the environment that KERNEL_ENVIRONMENT names."""

    def command(self) -> list[str]:
        """Put the environment's interpreter in the place of the launcher's own."""
        self.home = ENVIRONMENTS / Path(os.environ.get("KERNEL_ENVIRONMENT", "base")).name
        python = self.home / "bin" / "python"
        if not python.exists():
            raise elyra_launcher.LauncherError(f"there is no {python}: set KERNEL_ENVIRONMENT to one that exists")
        return [str(python), *super().command()[1:]]

    def environment(self, environ: dict[str, str]) -> dict[str, str]:
        """Let the user's commands find what belongs to the environment."""
        return {**environ, "VIRTUAL_ENV": str(self.home), "PATH": f"{self.home / 'bin'}:{environ['PATH']}"}


if __name__ == "__main__":
    sys.exit(elyra_launcher.launch(kernel=EnvironmentKernel))
