"""The other servers that run kernels elsewhere, the real ones: Enterprise Gateway 3.3 and gateway_provisioners 0.5.

Each is installed in a virtual environment of its own, has its own kernelspecs and its own launchers, and is told no
more than where things are here. gateway_provisioners, which is no server, runs in a plain jupyter_server.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path

import requests

from .environments import (
    ENTERPRISE_GATEWAY,
    GATEWAY_PROVISIONERS,
    enterprise_gateway_sources,
    environment,
)
from .servers import Server

USER = "somebody"
LOCAL, ON_YARN = "python_distributed", "spark_python_yarn_cluster"
VARIABLES = "PATH,HOME,JAVA_HOME,HADOOP_CONF_DIR,YARN_CONF_DIR,SPARK_CONF_DIR,SPARK_HOME"


class EnterpriseGateway(Server):
    """Enterprise Gateway, with the kernelspecs of its own release."""

    speaks_v1 = False

    def __init__(self, directory: Path) -> None:
        programs = environment("eg-venv", ENTERPRISE_GATEWAY)
        self._install(programs, directory)
        super().__init__(
            [str(programs / "jupyter-enterprisegateway"), "--ip=127.0.0.1", "--port={port}", "--port_retries=0"],
            directory,
            PATH=f"{programs}:{os.environ['PATH']}",
            JUPYTER_PATH=str(directory / "share"),
            EG_RESPONSE_IP="127.0.0.1",
            EG_REMOTE_HOSTS="localhost",
            EG_KERNEL_LOG_DIR=str(directory),
            EG_KERNEL_LAUNCH_TIMEOUT="120",
            EG_INHERITED_ENVS=VARIABLES,
            EG_YARN_ENDPOINT=rest_address(),
        )

    def post_kernel(self, name: str, **env: str) -> requests.Response:
        """POST a kernel for a user who is not root."""
        return super().post_kernel(name, **{"KERNEL_USERNAME": USER, **env})

    def _install(self, programs: Path, directory: Path) -> None:
        """Put the kernelspecs together as its Makefile does, with the paths of this machine."""
        sources = enterprise_gateway_sources() / "etc"
        spark = os.environ.get("SPARK_HOME", "/nowhere")
        py4j = next(Path(spark).glob("python/lib/py4j-*.zip"), Path("py4j.zip")).name
        for name in (LOCAL, ON_YARN):
            place = directory / "share" / "kernels" / name
            shutil.copytree(sources / "kernelspecs" / name, place)
            shutil.copytree(sources / "kernel-launchers" / "python" / "scripts", place / "scripts")
            text = (place / "kernel.json").read_text()
            for there, here in (
                ("/usr/local/share/jupyter/kernels", str(place.parent)),
                ("/usr/hdp/current/spark2-client", spark),
                ("py4j-0.10.6-src.zip", py4j),
                ("/opt/conda/bin", str(programs)),
                ('"python",', f'"{programs / "python"}",'),
            ):
                text = text.replace(there, here)
            (place / "kernel.json").write_text(text)
            for script in place.glob("bin/*.sh"):
                script.chmod(0o755)


class GatewayProvisioners(Server):
    """A plain jupyter_server whose kernels have the provisioners of gateway_provisioners."""

    def __init__(self, directory: Path) -> None:
        programs = environment("gp-venv", GATEWAY_PROVISIONERS)
        self._install(programs, directory)
        options = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port={port}"]
        open_api = ["--IdentityProvider.token=", "--ServerApp.password=", "--ServerApp.disable_check_xsrf=True"]
        super().__init__(
            [str(programs / "jupyter-server"), *options, *open_api],
            directory,
            PATH=f"{programs}:{os.environ['PATH']}",
            JUPYTER_PATH=str(directory / "share" / "jupyter"),
            KERNEL_USERNAME=USER,
            GP_RESPONSE_IP="127.0.0.1",
            GP_REMOTE_HOSTS="localhost",
            GP_KERNEL_LOG_DIR=str(directory),
            GP_LAUNCH_TIMEOUT="120",
            KERNEL_LAUNCH_TIMEOUT="120",
            GP_YARN_ENDPOINT=rest_address(),
        )

    def post_kernel(self, name: str, **env: str) -> requests.Response:
        """POST a session: the provisioners insist on an environment, which jupyter_server gives to no other kernel."""
        body = {"kernel": {"name": name}, "path": uuid.uuid4().hex, "name": "", "type": "notebook"}
        answer = self.session.post(self.url + "/api/sessions", json=body)
        if answer.status_code == 201:
            answer._content = json.dumps(answer.json()["kernel"]).encode()
        return answer

    def _install(self, programs: Path, directory: Path) -> None:
        """Make the kernelspecs by its own commands."""
        spark = os.environ.get("SPARK_HOME", "/nowhere")
        place = directory / "share" / "jupyter" / "kernels" / ON_YARN
        # Its run.sh does not send a module along that its launcher imports.
        along = f"--extra-spark-opts=--py-files {place}/scripts/server_listener.py --conf spark.yarn.maxAppAttempts=1"
        for program, name, *options in (
            ("jupyter-ssh-spec", LOCAL),
            ("jupyter-yarn-spec", ON_YARN, f"--spark-home={spark}", f"--python-root={programs.parent}", along),
        ):
            command = [str(programs / program), "install", f"--prefix={directory}", f"--kernel-name={name}", *options]
            # Without the endpoint: with one it fails, looking for a method that it has under another name.
            answer = subprocess.run(command, capture_output=True)
            if not (place.parent / name / "kernel.json").exists():
                raise RuntimeError(f"{program} failed: {answer.stderr.decode()[-1000:]}")
        for script in place.glob("bin/*.sh"):
            script.chmod(0o755)


def rest_address() -> str:
    """Return the ResourceManager's address without the path, as both want it."""
    return os.environ.get("ELYRA_YARN_ENDPOINT", "http://127.0.0.1:8088").removesuffix("/ws/v1/cluster")
