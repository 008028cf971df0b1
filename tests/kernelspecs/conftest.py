"""Installed kernelspecs, and a spark-submit that only writes down how it was called."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RECORDER = """\
#!{python}
import json, os, sys
record = {{"argv": sys.argv[1:], "environ": dict(os.environ)}}
json.dump(record, open({target!r}, "w"))
"""


@pytest.fixture(scope="session")
def prefix(tmp_path_factory):
    """Where all kernelspecs are installed."""
    directory = tmp_path_factory.mktemp("prefix")
    names = ["python_local", "spark_python_yarn_client", "spark_python_yarn_cluster"]
    command = [sys.executable, "-m", "elyra_server", "install", *names, f"--prefix={directory}"]
    subprocess.run(command, check=True, capture_output=True)
    return directory


class RunScript:
    """Runs the run.sh of an installed kernelspec."""

    def __init__(self, kernels: Path, directory: Path):
        self.kernels = kernels
        self.directory = directory
        self.spark_home = directory / "spark"
        self.target = directory / "called.json"
        self._record(self.spark_home / "bin" / "spark-submit")
        self._record(directory / "python")

    def __call__(self, *arguments, name="spark_python_yarn_cluster", **environ):
        """Return what was called, with the environment of a launch and `environ`; None removes a variable."""
        variables = {
            "PATH": os.environ["PATH"],
            "SPARK_HOME": str(self.spark_home),
            "PYSPARK_PYTHON": str(self.directory / "python"),
            **environ,
        }
        self.target.unlink(missing_ok=True)
        self.done = subprocess.run(
            [str(self.kernels / name / "bin" / "run.sh"), *arguments],
            env={key: value for key, value in variables.items() if value is not None},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return json.loads(self.target.read_text()) if self.target.exists() else None

    def options(self, spark_opts, **environ):
        """Return the words of SPARK_OPTS as spark-submit gets them, without those of the container's environment."""
        called = self("connection.json", SPARK_OPTS=spark_opts, **environ)
        assert called is not None, self.done.stderr
        argv = called["argv"]
        script = next(index for index, word in enumerate(argv) if word.endswith("launch_ipykernel.py"))
        assert argv[script + 1 :] == ["connection.json"]
        return argv[:script]

    def error(self, *arguments, **environ):
        """Return the one line that tells why nothing was called."""
        assert self(*arguments, **environ) is None
        assert self.done.returncode not in (0, 126, 127)
        lines = self.done.stderr.splitlines()
        assert len(lines) == 1, self.done.stderr
        return lines[0]

    def _record(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(RECORDER.format(python=sys.executable, target=str(self.target)))
        path.chmod(0o755)


@pytest.fixture
def run_script(prefix, tmp_path):
    return RunScript(prefix / "share" / "jupyter" / "kernels", tmp_path)
