"""Networks that are not flat: several addresses, port ranges, no way back, outages."""

from __future__ import annotations

import sys

import psutil
import pytest
from client import Kernel
from front import Front, SlowWay, nothing_left
from waiting import until

from elyra_server.addresses import advertised_addresses
from elyra_server.errors import LaunchError

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


def test_a_host_that_lets_no_one_in_to_the_kernel_is_told_so(server, w3):
    """Its launcher calls in all the same."""
    w3.filter(out=True)
    try:
        error, seconds = server.fail("w3")
    finally:
        w3.unfilter()
    assert "this server cannot connect to its ports there (" in error.message
    assert "does not answer" in error.message
    assert "ELYRA_ENABLE_TUNNELING=True" in error.message
    assert seconds < 30
    assert nothing_left(w3)


def test_through_ssh_alone(server, start, shut):
    server.add("tunnel", remote_hosts="w3", enable_tunneling=True)
    start("tunnel").delete()
    until(lambda: not shut.sockets())
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
    until(lambda: listening(server) <= before)


def listening(server):
    """Return the local ports of a server."""
    process = psutil.Process(server.process.pid)
    return {each.laddr.port for each in process.net_connections() if each.status == psutil.CONN_LISTEN}


def test_tunnels_are_made_again_when_they_break(server, start, shut):
    server.add("tunnel", remote_hosts="w3", enable_tunneling=True)
    kernel = start("tunnel")
    kernel.value("x = 41")
    before = shut.logins()
    shut.run("pkill", "-KILL", "-f", "sshd: root@notty")
    until(lambda: shut.logins() > before)
    until(lambda: shut.forwards() == 1)
    assert kernel.value("x + 1") == "42"
    cell = "import time; print('on', flush=True); time.sleep(100)"
    assert kernel.execute(cell, on_output=lambda _: kernel.interrupt()).error == "KeyboardInterrupt"
    kernel.delete()
    assert nothing_left(shut)


def test_a_host_whose_sshd_forwards_nothing_is_told_so(server, w2):
    config = w2.directory / "sshd_config"
    before = config.read_text()
    config.write_text(before + "AllowTcpForwarding no\n")
    w2.run("kill", "-HUP", "1")
    server.add("no-tunnel", remote_hosts=w2.address, enable_tunneling=True)  # a connection of its own
    try:
        error, _ = server.fail("no-tunnel")
    finally:
        config.write_text(before)
        w2.run("kill", "-HUP", "1")
    assert "its sshd forwards no ports" in error.message
    assert "AllowTcpForwarding yes" in error.message


def test_an_outage_beyond_the_lease_ends_the_kernel_on_its_own(hosts, tmp_path, w1, w2):
    with Front(tmp_path, hosts, ELYRA_LEASE="5", ELYRA_PING="1") as server:
        server.add("plain", remote_hosts="w1")
        server.add("tunnel", remote_hosts="w2", enable_tunneling=True)
        kernels = [Kernel(server, "plain"), Kernel(server, "tunnel")]
        for host in (w1, w2):
            host.cut()
        try:
            assert nothing_left(w1, limit=40)
            assert nothing_left(w2, limit=40)
            for kernel, host in zip(kernels, (w1, w2), strict=True):
                until(lambda kernel=kernel: kernel.get()["execution_state"] == "dead")
                reason = kernel.get()["reason"]
                assert (
                    reason
                    == f"There was no contact to the launcher on {host.name} for 5 s; by then it ended the kernel."
                )
        finally:
            for host in (w1, w2):
                host.restore()
        for kernel in kernels:
            kernel.delete()
        assert nothing_left(w1)
        assert nothing_left(w2)


def test_a_way_to_the_host_that_takes_long(hosts, tmp_path, w1):
    """Also a login over it, which takes several answers, has its time if it is given that."""
    with (
        SlowWay(w1, 0.3) as slow,
        SlowWay(w1, 2.0) as slower,
        Front(tmp_path, hosts, ELYRA_SSH_LOGIN_LIMIT="12") as server,
    ):
        config = server.home / ".ssh" / "config"
        for name, way in (("slow", slow), ("slower", slower)):
            where = f"  HostName 127.0.0.1\n  Port {way.port}\n  HostKeyAlias {w1.address}\n"
            config.write_text(f"Host {name}\n{where}{config.read_text()}")
        server.add("plain", remote_hosts="slow")
        server.add("tunnel", remote_hosts="slow", enable_tunneling=True)
        server.add("slower", remote_hosts="slower")
        for name in ("plain", "tunnel"):
            kernel = Kernel(server, name)
            assert kernel.value(HOST) == "w1"
            kernel.restart()
            assert kernel.value(HOST) == "w1"
            kernel.delete()
        assert nothing_left(w1)
        error, _ = server.fail("slower")
        assert "no login within 12 s" in error.message
        assert "raise ELYRA_SSH_LOGIN_LIMIT" in error.message


def test_the_connection_file_can_be_fetched_by_ssh(hosts, tmp_path, w1, w2):
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path)
    own = {"ELYRA_CONNECTION_FILE_MODE": "pull", "JUPYTER_RUNTIME_DIR": str(linked / "runtime")}
    with Front(tmp_path, hosts, **own) as server:
        server.add("plain", remote_hosts="w1")
        server.add("tunnel", remote_hosts="w2", enable_tunneling=True)
        for name in ("plain", "tunnel"):
            kernel = Kernel(server, name)
            assert kernel.value("6 * 7") == "42"
            kernel.restart()
            assert kernel.value("6 * 7") == "42"
            kernel.delete()
        server.add("nobody", base="spark_python_yarn_cluster")
        error, _ = server.fail("nobody")
    assert "ELYRA_CONNECTION_FILE_MODE='pull' is not supported by YarnClusterProcessProxy: use socket." in error.message
    assert nothing_left(w1)
    assert nothing_left(w2)


def test_the_address_is_the_one_on_the_route_to_the_host(start, server, w1, w2):
    assert told(start("w1"), w1)[0] == w1.gateway
    assert told(start("w2"), w2)[0] == w2.gateway


def test_addresses_that_the_operator_names_are_tried_in_order(hosts, tmp_path, w1):
    """The first is nobody's, the second one is right."""
    nobody = w1.gateway.rpartition(".")[0] + ".254"
    wanted = f"{nobody},{w1.gateway}"
    with Front(tmp_path, hosts, ELYRA_RESPONSE_IP=wanted, ELYRA_RESPONSE_ADDR_ANY="True") as server:
        server.add("w1", remote_hosts="w1")
        kernel = Kernel(server, "w1")
        assert kernel.value(HOST) == "w1"
        assert told(kernel, w1) == wanted.split(",")
        kernel.delete()


def test_addresses_that_are_prohibited_are_not_told(w1):
    assert advertised_addresses("", [], w1.gateway)[0] == w1.gateway
    assert w1.gateway not in advertised_addresses("", ["10.*"], w1.gateway)
    with pytest.raises(LaunchError, match="Set ELYRA_RESPONSE_IP to one, or relax ELYRA_PROHIBITED_LOCAL_IPS"):
        advertised_addresses("", ["*"], w1.gateway)


def test_over_ipv6(server, start, w1):
    server.add("six", remote_hosts=w1.address6)
    kernel = start("six")
    assert kernel.value(HOST) == "w1"
    assert told(kernel, w1)[0] == w1.gateway6
    kernel.restart()
    assert kernel.value(HOST) == "w1"


def test_kernels_stay_within_a_port_range(server, start, w1):
    server.add("range", remote_hosts="w1", port_range="22000..23000")
    kernel = start("range")
    assert kernel.value(HOST) == "w1"
    ports = [int(each.rpartition(":")[2]) for each in w1.sockets()]
    assert sum(22000 <= port <= 23000 for port in ports) == 5
    server.add("tiny", remote_hosts="w1", port_range="22000..22500")
    error, _ = server.fail("tiny")
    assert "port_range '22000..22500' is too small" in error.message


def test_a_port_range_that_is_used_up_is_named(server, w1):
    server.add("full", remote_hosts="w1", port_range="22000..23000")
    code = (
        "import socket, sys\n"
        "held = [socket.create_server(('', port)) for port in range(22000, 23001)]\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    with w1.open(sys.executable, "-c", code) as process:
        assert process.stdout.readline() == "held\n"
        error, _ = server.fail("full")
        process.stdin.close()
    assert "between 22000 and 23000" in error.message


def told(kernel, host):
    """Return the addresses that a kernel's launcher was given."""
    (line,) = {line for line in host.processes() if kernel.id in line and "response-address" in line}
    words = line.split()
    addresses = words[words.index("--RemoteProcessProxy.response-address") + 1]
    return [each.rpartition(":")[0].strip("[]") for each in addresses.split(",")]
