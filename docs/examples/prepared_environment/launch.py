"""A Python kernel in a virtual environment of the project's own, made at the first launch."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

import elyra_launcher

PROJECTS = Path(os.environ.get("SITE_PROJECTS", "/srv/projects"))


class ProjectKernel(elyra_launcher.PythonKernel):
    """Runs in the environment of the project that KERNEL_PROJECT names."""

    def preparation(self) -> Iterable[tuple[str, Sequence[str]]]:
        """Make what is missing; what is there already costs nothing."""
        # A client's word becomes a file's name, not a path.
        self.project = PROJECTS / Path(os.environ.get("KERNEL_PROJECT", "default")).name
        if not self.project.is_dir():
            raise elyra_launcher.LauncherError(f"there is no {self.project}: set KERNEL_PROJECT to one that exists")
        home = self.project / ".venv"
        if not (home / "made").exists():
            make = [sys.executable, "-m", "venv", "--clear", "--without-pip", str(home)]
            yield "the project's virtual environment", make
            # ipykernel comes from the launcher's own Python: nothing is downloaded for it.
            packages = sysconfig.get_path("purelib", vars={"base": str(home)})
            Path(packages, "launcher.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
            requirements = self.project / "requirements.txt"
            if requirements.exists():
                install = ["install", "--quiet", "-r", str(requirements)]
                pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
                yield f"the packages of {requirements}", [*pip, *install]
            (home / "made").touch()

    def command(self) -> list[str]:
        """Put the environment's interpreter in the place of the launcher's own."""
        return [str(self.project / ".venv" / "bin" / "python"), *super().command()[1:]]

    def environment(self, environ: dict[str, str]) -> dict[str, str]:
        """Let the user's commands find what belongs to the environment."""
        home = self.project / ".venv"
        return {**environ, "VIRTUAL_ENV": str(home), "PATH": f"{home / 'bin'}:{environ['PATH']}"}


if __name__ == "__main__":
    sys.exit(elyra_launcher.launch(kernel=ProjectKernel))
