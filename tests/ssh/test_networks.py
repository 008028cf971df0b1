"""Networks that are not flat: several addresses, port ranges, no way back, outages."""

from __future__ import annotations

import psutil
import pytest
from front import nothing_left, until

HOST = "import os; print(os.uname().nodename)"


@pytest.fixture
def shut(w3):
    """A host that lets nothing but ssh in and nothing back out."""
    w3.filter()
    yield w3
    w3.unfilter()


def test_a_host_without_a_way_back_is_told_so(server, shut):
    error, _ = server.fail("w3")
    assert "elyra_launcher: the server cannot be reached" in error.message
    assert "The host cannot connect to this server: set ELYRA_RESPONSE_IP" in error.message
    assert "ELYRA_ENABLE_TUNNELING=True" in error.message
    assert nothing_left(shut)


def test_through_ssh_alone(server, start, shut):
    server.add("tunnel", remote_hosts="w3", enable_tunneling=True)
    start("tunnel").delete()
    before = listening(server)
    kernels = [start("tunnel"), start("tunnel")]
    for kernel in kernels:
        assert kernel.value(HOST) == "w3"
    kernel = kernels[0]
    assert len(kernel.value("print('x' * 3_000_000)")) == 3_000_000
    cell = "import time; print('on', flush=True); time.sleep(100)"
    assert kernel.execute(cell, on_output=lambda _: kernel.interrupt()).error == "KeyboardInterrupt"
    kernel.restart()
    assert kernel.value(HOST) == "w3"
    assert shut.sessions() == 1
    assert shut.forwards() == 1  # which all launchers share
    for kernel in kernels:
        kernel.delete()
    assert nothing_left(shut)
    until(lambda: not shut.sockets())
    until(lambda: listening(server) == before)


def listening(server):
    """Return the local ports of a server."""
    process = psutil.Process(server.process.pid)
    return {each.laddr.port for each in process.net_connections() if each.status == psutil.CONN_LISTEN}
