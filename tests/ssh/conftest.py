"""Three test hosts, a server that reaches them by ssh, and kernels there."""

from __future__ import annotations

import contextlib

import pytest
from client import Kernel, RequestError
from front import HOSTS, Front

from demo.hosts import Hosts


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
