"""``jupyter elyra install``: puts Elyra's kernelspecs where Jupyter finds them.

A kernelspec is made of what all languages share (``kernels/common``), of what all kernelspecs of its language do
(``bin`` and ``scripts`` in ``kernels/<language>``), and of its own directory there; the options of the command go into
its kernel.json.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.application import JupyterApp, base_aliases, base_flags
from traitlets import Bool, Enum, Float, Unicode

import elyra_launcher
from elyra_server.settings import split_list
from elyra_server.toree import add_assembly, is_elsewhere

COMMON = "common"
SHARED = ("bin", "scripts")
CLIENTS_OPTIONS = "${KERNEL_EXTRA_SPARK_OPTS}"
CLIENTS_MODE = "${KERNEL_SPARK_CONTEXT_INIT_MODE:-"
LOCAL_JARS = "--conf spark.yarn.jars=local:${SPARK_HOME}/jars/*"


def kernels_directory() -> Path:
    """Return the directory of the kernelspecs: in the package, or beside it in a checkout of the repository."""
    package = Path(__file__).resolve().parent
    installed = package / "kernels"
    return installed if installed.is_dir() else package.parent / "kernels"


def known_kernelspecs() -> dict[str, Path]:
    """Return the directory of each kernelspec that can be installed."""
    return {path.parent.name: path.parent for path in sorted(kernels_directory().glob("*/*/kernel.json"))}


class InstallApp(JupyterApp):
    """Install kernelspecs of Elyra."""

    name = "jupyter-elyra-install"
    version = elyra_launcher.__version__
    examples = """
    jupyter elyra install --list
    jupyter elyra install python_local
    jupyter elyra install spark_python_yarn_cluster --spark-home=/opt/spark --python=/opt/python/bin/python3
    """

    prefix = Unicode(help="Install below this directory, in share/jupyter/kernels.").tag(config=True)
    user = Bool(False, help="Install for the current user.").tag(config=True)
    sys_prefix = Bool(False, help="Install into this Python's environment, as by default in a virtual one.").tag(
        config=True
    )
    replace = Bool(False, help="Replace a kernelspec of the same name.").tag(config=True)
    list_names = Bool(False, help="List the kernelspecs that can be installed.").tag(config=True)
    kernel_name = Unicode(help="Name of the installed kernelspec; by default its own.").tag(config=True)
    display_name = Unicode(help="Name that is shown to users.").tag(config=True)
    spark_home = Unicode(
        help="Directory of Spark on the server's host; by default SPARK_HOME, now or when a kernel starts."
    ).tag(config=True)
    python = Unicode(
        help="Python on the workers, which has ipykernel; by default python3, for python_local the one that runs this."
    ).tag(config=True)
    rscript = Unicode(
        help="Rscript on the workers, whose R has IRkernel, for kernelspecs of R; by default the one in PATH."
    ).tag(config=True)
    toree_assembly = Unicode(
        help="Toree's assembly jar, for kernelspecs of Scala: a file of this host, or a URL that Spark understands; by "
        "default that of the Python package toree."
    ).tag(config=True)
    yarn_endpoint = Unicode(
        help="URL of YARN's ResourceManager, as http://host:8088/ws/v1/cluster; by default the server's."
    ).tag(config=True)
    remote_hosts = Unicode(
        help="Hosts for the kernels, as host1,host2, reached by ssh; for kernelspecs of DistributedProcessProxy. "
        "By default ELYRA_REMOTE_HOSTS, and for the others this host."
    ).tag(config=True)
    launch_timeout = Float(
        None, allow_none=True, help="Seconds that a launch may take; by default the server's limit."
    ).tag(config=True)
    spark_init_mode = Enum(
        ["lazy", "eager", "none"],
        default_value=None,
        allow_none=True,
        help="When a kernel gets its Spark, if its client does not say: on first use (lazy), early in the background "
        "(eager), or not (none).",
    ).tag(config=True)
    extra_spark_opts = Unicode(
        help="Options of spark-submit to add, as --extra-spark-opts='--conf spark.executor.cores=2'."
    ).tag(config=True)
    local_jars = Bool(
        False, help="Do not upload Spark's jars: all nodes of the cluster have them in SPARK_HOME/jars."
    ).tag(config=True)

    # Written out, because the help is made of it.
    aliases = {  # noqa: RUF012
        "log-level": base_aliases["log-level"],
        "prefix": "InstallApp.prefix",
        "kernel-name": "InstallApp.kernel_name",
        "display-name": "InstallApp.display_name",
        "spark-home": "InstallApp.spark_home",
        "python": "InstallApp.python",
        "rscript": "InstallApp.rscript",
        "toree-assembly": "InstallApp.toree_assembly",
        "yarn-endpoint": "InstallApp.yarn_endpoint",
        "remote-hosts": "InstallApp.remote_hosts",
        "launch-timeout": "InstallApp.launch_timeout",
        "spark-init-mode": "InstallApp.spark_init_mode",
        "extra-spark-opts": "InstallApp.extra_spark_opts",
    }
    flags = {  # noqa: RUF012
        "debug": base_flags["debug"],
        "user": ({"InstallApp": {"user": True}}, "Install for the current user."),
        "sys-prefix": ({"InstallApp": {"sys_prefix": True}}, "Install into this Python's environment."),
        "replace": ({"InstallApp": {"replace": True}}, "Replace a kernelspec of the same name."),
        "local-jars": ({"InstallApp": {"local_jars": True}}, "All nodes have Spark's jars: do not upload them."),
        "list": ({"InstallApp": {"list_names": True}}, "List the kernelspecs that can be installed."),
    }

    @property
    def description(self) -> str:  # type: ignore[override]
        """What ``--help`` begins with."""
        return "Install kernelspecs of Elyra: " + ", ".join(known_kernelspecs()) + "."

    def start(self) -> None:
        """Install what the command line names."""
        super().start()
        known = known_kernelspecs()
        if self.list_names:
            print("\n".join(known))
            return
        self._check(known)
        for name in self.extra_args:
            self._install(known[name], self.kernel_name or name)

    def _check(self, known: dict[str, Path]) -> None:
        names = ", ".join(known)
        if not self.extra_args:
            self._fail(f"Name at least one kernelspec to install: {names}.")
        unknown = [name for name in self.extra_args if name not in known]
        if unknown:
            self._fail(f"Unknown kernelspec {', '.join(unknown)}. Known are: {names}.")
        if len(self.extra_args) > 1 and (self.kernel_name or self.display_name):
            self._fail("--kernel-name and --display-name are for one kernelspec at a time.")
        if sum((self.user, self.sys_prefix, bool(self.prefix))) > 1:
            self._fail("Choose one of --user, --sys-prefix and --prefix.")
        if self.launch_timeout is not None and not 0 < self.launch_timeout < math.inf:
            self._fail(f"--launch-timeout={self.launch_timeout} is not a number of seconds above 0.")
        local = [name for name in self.extra_args if not _is_distributed(known[name])]
        if self.remote_hosts and local:
            self._fail(f"--remote-hosts is not for {', '.join(local)}: YARN chooses the hosts there.")
        if self.spark_home and not self.remote_hosts and not Path(self.spark_home, "bin", "spark-submit").is_file():
            self._fail(f"--spark-home={self.spark_home} has no bin/spark-submit: name the directory of a Spark.")
        if self.toree_assembly and not is_elsewhere(self.toree_assembly) and not Path(self.toree_assembly).is_file():
            self._fail(f"--toree-assembly={self.toree_assembly} is not a file: name Toree's assembly jar.")

    def _install(self, source: Path, name: str) -> None:
        with tempfile.TemporaryDirectory() as directory:
            staged = Path(directory, name)
            stage(source, staged)
            self._configure(staged / "kernel.json")
            if source.parent.name == "scala":
                add_assembly(staged, self.toree_assembly, self.local_jars)
            self._place(staged, name)

    def _place(self, staged: Path, name: str) -> None:
        name = name.lower()  # as the manager does, and as Jupyter looks names up
        manager = KernelSpecManager(parent=self)
        user, prefix = self.user, self.prefix or None
        if self.sys_prefix or (sys.prefix != sys.base_prefix and not user and not prefix):
            prefix = sys.prefix
        user = user or not prefix
        try:
            # The manager's own method, as it is the one that knows; it validates the name as well.
            target = Path(manager._get_destination_dir(name, user=user, prefix=prefix))
            if target.exists() and not self.replace:
                self._fail(f"There is a kernelspec {name} in {target}: --replace replaces it.")
            manager.install_kernel_spec(str(staged), name, user=user, prefix=prefix)
        except ValueError as error:
            self._fail(str(error))
        except OSError as error:
            self._fail(f"Cannot install {name}: {error}. Choose another place by --user, --sys-prefix or --prefix.")
        print(f"Installed kernelspec {name} in {target}")

    def _configure(self, path: Path) -> None:
        spec: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        env = spec["env"]
        if self.display_name:
            spec["display_name"] = self.display_name
        config = spec["process_proxy"].setdefault("config", {})
        if self.launch_timeout is not None:
            config["launch_timeout"] = self.launch_timeout
        if self.yarn_endpoint and spec["process_proxy"]["class_name"].endswith("YarnClusterProcessProxy"):
            config["yarn_endpoint"] = self.yarn_endpoint
        if self.remote_hosts:
            config["remote_hosts"] = ",".join(split_list(self.remote_hosts))
        elsewhere = self.remote_hosts or "remote_hosts" not in config
        if "SPARK_OPTS" in env:
            self._configure_spark(env)
            if self.python:
                env["PYSPARK_PYTHON"] = self.python
        else:
            env["PYSPARK_PYTHON"] = self.python or ("python3" if elsewhere else sys.executable)
        if self.rscript and spec["language"] == "R":
            env["LAUNCH_OPTS"] = f"{env['LAUNCH_OPTS']} --rscript {shlex.quote(self.rscript)}".strip()
        path.write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")

    def _configure_spark(self, env: dict[str, str]) -> None:
        home = self.spark_home or os.environ.get("SPARK_HOME", "")
        if home:
            env["SPARK_HOME"] = str(Path(home).absolute())
        more = [LOCAL_JARS] if self.local_jars else []
        if self.extra_spark_opts:
            more.append(self.extra_spark_opts)
        if self.spark_init_mode:
            mode = f"{CLIENTS_MODE}{self.spark_init_mode}"
            env["LAUNCH_OPTS"] = env["LAUNCH_OPTS"].replace(f"{CLIENTS_MODE}lazy", mode)
        # Before the options of clients, which may override them.
        env["SPARK_OPTS"] = env["SPARK_OPTS"].replace(CLIENTS_OPTIONS, " ".join([*more, CLIENTS_OPTIONS]))

    def _fail(self, message: str) -> NoReturn:
        print(f"jupyter elyra install: {message}", file=sys.stderr)
        sys.exit(1)


def _is_distributed(source: Path) -> bool:
    spec = json.loads((source / "kernel.json").read_text(encoding="utf-8"))
    return str(spec["process_proxy"]["class_name"]).endswith("DistributedProcessProxy")


def stage(source: Path, target: Path) -> None:
    """Put a kernelspec together from its own directory and what it shares with others; its own files win."""
    language = source.parent
    parts = [(home / name, target / name) for home in (language.parent / COMMON, language) for name in SHARED]
    for origin, place in [*parts, (source, target)]:
        if origin.is_dir():
            shutil.copytree(origin, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    # An archive may have lost the modes, and a umask must not hide the files from other users of the server.
    target.chmod(0o755)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.name == "run.sh" else 0o644)


main = InstallApp.launch_instance
