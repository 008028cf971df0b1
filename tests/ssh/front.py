"""A server with a home of its own, and looks at what is left on a host."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from client import RequestError, request

from demo import ROOT
from demo.server import Server
from elyra_server.install import known_kernelspecs, stage

HOSTS = ("w1", "w2", "w3")


class Front(Server):
    """A server with a home of its own, for its ``~/.ssh``."""

    def __init__(self, directory, hosts, **environ):
        home = directory / "home"
        if not (home / ".ssh").exists():
            hosts.write_client(home)
        environ = {
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "ELYRA_KERNEL_LAUNCH_TIMEOUT": "60",
            "ELYRA_RESPONSE_IP": "",
            **environ,
        }
        super().__init__(directory, environ)
        if "SSH_AUTH_SOCK" not in environ:
            self.environ.pop("SSH_AUTH_SOCK", None)
        self.home = home

    def add(self, name, base="python_distributed", change=None, **config):
        """Install a kernelspec; `config` goes into its stanza's, `change` may change all of it."""
        directory = Path(self.environ["JUPYTER_DATA_DIR"], "kernels", name)
        stage(known_kernelspecs()[base], directory)
        path = directory / "kernel.json"
        spec = json.loads(path.read_text())
        spec["env"]["PYSPARK_PYTHON"] = sys.executable
        spec["process_proxy"].setdefault("config", {}).update(config)
        if change is not None:
            change(spec)
        path.write_text(json.dumps(spec))

    def fail(self, name, **env):
        """Start a kernel that cannot be started; return the error and the seconds it took."""
        begin = time.monotonic()
        try:
            model = request(self, "POST", "/api/kernels", {"name": name, "env": env})
        except RequestError as error:
            return error, time.monotonic() - begin
        request(self, "DELETE", f"/api/kernels/{model['id']}")
        raise AssertionError(f"{name} started")


def until(condition, limit=20.0):
    """Wait for something that no event announces, and return it."""
    deadline = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < deadline, value
        time.sleep(0.05)
    return value


def nothing_left(host, others=0, limit=20.0):
    """Return whether neither a file nor a process of a launch is on a host, where some others run."""
    try:
        return until(lambda: len(host.processes()) == others and not host.files(), limit)
    except AssertionError:
        raise AssertionError(f"On {host.name} are {host.processes()} and {host.files()}.") from None
