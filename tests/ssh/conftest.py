"""Three test hosts, a server that reaches them by ssh, and kernels there."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import pytest
from client import Kernel, RequestError, request

from demo import ROOT
from demo.hosts import Hosts
from demo.server import Server

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
        self.environ.pop("SSH_AUTH_SOCK", None)
        self.home = home

    def add(self, name, base="python_distributed", change=None, **config):
        """Install a kernelspec; `config` goes into its stanza's, `change` may change all of it."""
        self.install(base, "--user", "--replace", f"--kernel-name={name}", f"--python={sys.executable}")
        path = Path(self.environ["JUPYTER_DATA_DIR"], "kernels", name, "kernel.json")
        spec = json.loads(path.read_text())
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


@pytest.fixture(scope="session")
def hosts():
    with Hosts() as hosts:
        yield hosts
    assert not hosts.directory.exists()


@pytest.fixture(scope="session")
def server(hosts, tmp_path_factory):
    with Front(tmp_path_factory.mktemp("elyra"), hosts) as server:
        server.add("spread", remote_hosts=",".join(HOSTS))
        for name in HOSTS:
            server.add(name, remote_hosts=name)
        yield server
        assert server.stop() == 0, server.log_tail()


@pytest.fixture
def start(server):
    """Start kernels that end with the test."""
    kernels = []

    def start_kernel(name, on=server, **env):
        kernels.append(Kernel(on, name, **env))
        return kernels[-1]

    yield start_kernel
    for kernel in kernels:
        with contextlib.suppress(RequestError):  # it is gone already
            kernel.delete()


@pytest.fixture
def w1(hosts):
    return hosts.all[0]


@pytest.fixture
def w2(hosts):
    return hosts.all[1]


@pytest.fixture
def w3(hosts):
    return hosts.all[2]


def until(condition, limit=20.0):
    """Wait for something that no event announces, and return it."""
    deadline = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < deadline, value
        time.sleep(0.05)
    return value


def nothing_left(host):
    """Return whether neither a process nor a file of a launch is on a host."""
    return until(lambda: not (host.processes() or host.files()))


os.environ.pop("SSH_AUTH_SOCK", None)
