"""What a network and a machine do to kernels on other hosts; and that nothing is left over."""

from __future__ import annotations

import functools
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from client import Kernel, RequestError, request
from front import Front, nothing_left, started_when_back
from waiting import until

from elyra_launcher.landing import RELAYS

NAMES = ("plain", "tunnel")
OUTAGE = 60
LOST = """
table inet lost {{
    chain input {{ type filter hook input priority -20; tcp sport {0} drop; }}
    chain output {{ type filter hook output priority -20; tcp dport {0} drop; }}
}}
"""
LOSS = """
table inet loss {
    chain input { type filter hook input priority -20; numgen random mod 100 < 8 drop; }
    chain output { type filter hook output priority -20; numgen random mod 100 < 8 drop; }
}
"""


@pytest.fixture(scope="module")
def faulty(hosts, tmp_path_factory):
    """A server of its own, with one host reached directly and one that lets only ssh in."""
    _, plain, shut = hosts.all
    shut.filter()
    directory = tmp_path_factory.mktemp("faults")
    with Front(directory, hosts, ELYRA_PING="2") as server:
        server.add("plain", remote_hosts=plain.name)
        server.add("tunnel", remote_hosts=shut.name, enable_tunneling=True)
        for name in NAMES:  # what comes with the first use stays
            Kernel(server, name).delete()
        process = psutil.Process(server.process.pid)
        clean(plain, shut)
        files, threads = until(lambda: at_rest(process))
        yield server
        clean(plain, shut)
        until(lambda: process.num_fds() <= files and process.num_threads() <= threads)
        assert server.stop() == 0, server.log_tail()
    shut.unfilter()


@pytest.fixture
def pair(faulty, w2, w3):
    """A kernel on each of the hosts; with them everything goes."""
    kernels = [Kernel(faulty, name) for name in NAMES]
    yield kernels
    for kernel in kernels:
        kernel.delete()
    for host in (w2, w3):
        assert nothing_left(host)
        until(lambda host=host: not host.sockets())


def clean(*hosts):
    """See that nothing of any kernel is left on hosts, and no connection."""
    for host in hosts:
        until(lambda host=host: not (host.processes() or host.files()), limit=60)
        until(lambda host=host: not (host.sockets() or host.sessions()), limit=40)


def at_rest(process):
    """Return the open files and threads of a process, if they do not change."""
    before = process.num_fds(), process.num_threads()
    time.sleep(0.5)
    return before if before == (process.num_fds(), process.num_threads()) else None


def works(kernel):
    """See that a kernel can be used in every way."""
    assert kernel.value("6 * 7") == "42"
    cell = "import time; print('on', flush=True); time.sleep(100)"
    assert kernel.execute(cell, on_output=lambda _: kernel.interrupt()).error == "KeyboardInterrupt"


def process_of(kernel, host, who):
    """Return a process of a kernel's on its host."""
    pids = {"kernel": kernel.value("import os; print(os.getpid())")}
    pids["launcher"] = host.run("ps", "-o", "ppid=", pids["kernel"]).strip()
    pids["keeper"] = host.run("ps", "-o", "ppid=", pids["launcher"]).strip()
    children = host.run("ps", "-o", "pid=", "--ppid", pids["keeper"]).split()
    pids["relay"] = next((pid for pid in children if pid != pids["launcher"]), "")
    return pids[who]


def test_an_outage_while_cells_run_loses_nothing(pair, w2, w3):
    """A minute; the tunnel is made again while the old connection still sleeps."""
    count = OUTAGE + 10
    cell = f"import time\nfor i in range({count}): print(i, 'x' * 5000, flush=True); time.sleep(1)"
    with ThreadPoolExecutor() as pool:
        begun = [threading.Event() for _ in pair]
        results = [
            pool.submit(kernel.execute, cell, on_output=lambda _, event=event: event.set())
            for kernel, event in zip(pair, begun, strict=True)
        ]
        for event in begun:
            assert event.wait(60)
        for host in (w2, w3):
            host.cut()
        try:
            time.sleep(OUTAGE)  # this is what is tested
            with pytest.raises(RequestError) as error:
                pair[1].interrupt()
        finally:
            for host in (w2, w3):
                host.restore()
        for result in results:
            assert result.result().text.replace("x", "").split() == [str(number) for number in range(count)]
    assert "there has been no connection to it for" in error.value.message
    assert "Check host w3 and the network between" in error.value.message
    for kernel in pair:
        works(kernel)
    assert w3.sessions() == w3.forwards() == 1


def test_a_restart_during_an_outage_leaves_the_kernel_as_it_is(pair, w2, w3):
    for kernel in pair:
        kernel.value("x = 41")
    for host in (w2, w3):
        host.cut()
    try:
        for _ in ("before it is noticed", "after that"):
            with ThreadPoolExecutor() as pool:
                for message in pool.map(refusal, pair):
                    assert "The kernel was not restarted. " in message
                    assert "its kernel goes on, and it calls in when the network is back" in message
            assert "dead" not in [kernel.get()["execution_state"] for kernel in pair]
    finally:
        for host in (w2, w3):
            host.restore()
    for kernel in pair:
        assert kernel.value("x + 1") == "42"
        until(lambda kernel=kernel: not refusal(kernel))
        assert kernel.value("'x' in dir()") == "False"


def refusal(kernel):
    """Return why a kernel cannot be restarted; nothing if it is."""
    try:
        kernel.restart()
    except RequestError as error:
        return error.message
    return ""


def test_a_link_that_goes_down_and_up(pair, w2, w3):
    for change in ("down", "up"):
        for host in (w2, w3):
            subprocess.run(["ip", "link", "set", host.link, change], check=True)
        time.sleep(3)
    for host in (w2, w3):  # which went with the link
        subprocess.run(["ip", "address", "replace", f"{host.gateway6}/64", "dev", host.link, "nodad"], check=True)
    for kernel in pair:
        works(kernel)
        kernel.restart()
        assert kernel.value("6 * 7") == "42"


def test_a_network_that_loses_packets(pair, faulty, w2, w3):
    for host in (w2, w3):
        host._nft(LOSS)
    try:
        with ThreadPoolExecutor() as pool:
            more = list(pool.map(lambda name: Kernel(faulty, name), NAMES))
            for kernel in (*pair, *more):
                assert len(kernel.value("print('x' * 300_000)")) == 300_000
                works(kernel)
            list(pool.map(Kernel.delete, more))
    finally:
        for host in (w2, w3):
            host._nft("delete table inet loss\n")


@pytest.mark.parametrize("when", ["unconnected", "connected"])
def test_no_launch_during_an_outage_and_one_after_it(faulty, when, w2, w3):
    kernels = [Kernel(faulty, name) for name in NAMES] if when == "connected" else []
    if not kernels:
        for host in (w2, w3):
            host.run("pkill", "-KILL", "-f", "sshd: root@notty", check=False)
            until(lambda host=host: not host.sessions())
    for host in (w2, w3):
        host.cut()
    try:
        for name in NAMES:
            error, seconds = faulty.fail(name)
            assert "Check that the host is up, and the network" in error.message
            assert seconds < 15  # about 5; other tests run beside
        for kernel in kernels:
            kernel.delete()
    finally:
        for host in (w2, w3):
            host.restore()
    for name in NAMES:
        kernel = started_when_back(functools.partial(Kernel, faulty), name)
        works(kernel)
        kernel.delete()
    for host in (w2, w3):
        assert nothing_left(host)


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_connection_that_is_closed_during_an_outage_is_closed_on_the_host(faulty, when, w2):
    """Without a launch that comes after it. What TCP says of the old connection is lost, as after a long outage."""
    clean(w2)
    kernel = Kernel(faulty, "plain")
    (port,) = ports_towards(faulty, w2)
    if when == "before":
        kernel.delete()
        assert nothing_left(w2)
        assert w2.sessions() == 1  # which is kept for a while
    w2.cut()
    try:
        if when == "during":
            kernel.delete()
        until(lambda: port not in ports_towards(faulty, w2), limit=60)
        w2._nft(LOST.format(port))
        w2.restore()
        clean(w2)
    finally:
        w2._nft("table inet cut\ndelete table inet cut\ntable inet lost\ndelete table inet lost\n")


def ports_towards(server, host):
    """Return the local ports of a server's connections to a host's sshd."""
    found = psutil.Process(server.process.pid).net_connections("tcp4")
    wanted = [each for each in found if each.raddr and each.raddr == (host.address, host.port)]
    return [each.laddr.port for each in wanted if each.status == psutil.CONN_ESTABLISHED]


@pytest.mark.parametrize("who", ["launcher", "keeper"])
def test_who_is_killed_on_the_host_is_named(pair, who, w2, w3):
    words = {"launcher": "ended without a word: it was killed there", "keeper": "the process that started the launcher"}
    for kernel, host in zip(pair, (w2, w3), strict=True):
        host.run("kill", "-KILL", process_of(kernel, host, who))
        until(lambda kernel=kernel: kernel.get()["execution_state"] == "dead")
        assert words[who] in kernel.get()["reason"]
        kernel.restart()
        assert kernel.get()["execution_state"] != "dead"


def test_a_relay_that_is_killed_is_replaced(pair, w3):
    kernel = pair[1]
    kernel.value("x = 41")
    before, keeper = (process_of(kernel, w3, who) for who in ("relay", "keeper"))
    w3.run("kill", "-KILL", before)
    until(lambda: len(w3.run("ps", "-o", "pid=", "--ppid", keeper).split()) == 2)
    until(lambda: answers(kernel))  # what is on its way meanwhile is lost
    assert kernel.value("x + 1") == "42"


def test_a_relay_that_is_killed_too_often_leaves_no_port(pair, w3):
    """There would be nobody to take what comes to it."""
    launcher, keeper = (process_of(pair[1], w3, who) for who in ("launcher", "keeper"))
    before, seen = len(w3.sockets()), {launcher}
    for _ in range(RELAYS):
        relay = until(lambda: set(w3.run("ps", "-o", "pid=", "--ppid", keeper).split()) - seen).pop()
        seen.add(relay)
        w3.run("kill", "-KILL", relay)
    until(lambda: len(w3.sockets()) == before - 1)


def answers(kernel):
    """Return whether a cell's output comes."""
    try:
        return kernel.value("print('yes')", 3.0) == "yes"
    except TimeoutError:
        return False


def test_a_host_s_word_of_a_launch_that_is_lost(faulty, w2):
    """Its kernel is as good as any, also when its link is lost later."""
    wrapper = w2.directory / "speechless"
    wrapper.write_text(f'#!/bin/sh\n{sys.executable} "$@" | cat >/dev/null\n')
    wrapper.chmod(0o755)
    faulty.add("speechless", remote_hosts="w2", python=str(wrapper))
    kernel = Kernel(faulty, "speechless")
    w2.cut(spared=[w2.port])
    try:
        time.sleep(20)  # it is noticed, and the host is asked three times
        assert kernel.get()["execution_state"] != "dead"
    finally:
        w2.restore()
    works(kernel)
    kernel.delete()
    assert nothing_left(w2)


def test_an_sshd_that_hangs_gets_a_successor(pair, w2, w3):
    for host in (w2, w3):
        host.run("pkill", "-STOP", "-f", "sshd: root@notty")
    for kernel in pair:
        works(kernel)
    for name, host in zip(NAMES, (w2, w3), strict=True):
        until(lambda host=host: "T" not in host.run("sh", "-c", "ps -o stat=,args= ax | grep -o '^T.*notty' || true"))
        Kernel(pair[0].server, name).delete()


def test_a_disk_that_is_full_hurts_nobody_who_is_there(pair, faulty, w2, w3):
    for host in (w2, w3):
        host.run("sh", "-c", "cat /dev/zero > /tmp/fill", check=False)
    try:
        for kernel, name in zip(pair, NAMES, strict=True):
            kernel.restart()
            works(kernel)
            error, _ = faulty.fail(name)
            assert "/tmp cannot take the launcher's files: No space left on device" in error.message
    finally:
        for host in (w2, w3):
            host.run("rm", "/tmp/fill")


def test_a_server_that_is_killed_during_an_outage_leaves_nothing(hosts, tmp_path, w1, w2):
    """Also the sshd goes, which nobody told that its connection is gone."""
    clean(w1, w2)
    with Front(tmp_path, hosts, ELYRA_LEASE="5", ELYRA_PING="1") as server:
        server.add("plain", remote_hosts="w1")
        server.add("tunnel", remote_hosts="w2", enable_tunneling=True)
        kernels = [Kernel(server, name) for name in NAMES]
        for host in (w1, w2):
            host.cut()
        server.process.kill()
        server.process.wait()
        try:
            clean(w1, w2)
        finally:
            for host in (w1, w2):
                host.restore()
        for kernel in kernels:
            kernel.socket.abort()


def test_a_host_that_allows_one_session_at_a_time(faulty, w2):
    config = w2.directory / "sshd_config"
    before = config.read_text()
    config.write_text(before + "MaxSessions 1\n")
    w2.run("kill", "-HUP", "1")
    faulty.add("one", remote_hosts=w2.address)  # a connection of its own
    try:
        with ThreadPoolExecutor() as pool:
            kernels = list(pool.map(lambda _: Kernel(faulty, "one", KERNEL_LAUNCH_TIMEOUT="150"), range(5)))
            for kernel in kernels:
                assert kernel.value("6 * 7") == "42"
            list(pool.map(Kernel.delete, kernels))
        clean(w2)
    finally:
        config.write_text(before)
        w2.run("kill", "-HUP", "1")


def test_a_server_without_open_files_keeps_no_kernel(hosts, tmp_path, w2):
    with Front(tmp_path, hosts) as server:
        server.add("plain", remote_hosts="w2")
        first = Kernel(server, "plain")
        process = psutil.Process(server.process.pid)
        soft, hard = process.rlimit(resource.RLIMIT_NOFILE)
        assert soft >= min(hard, 4096)
        process.rlimit(resource.RLIMIT_NOFILE, (process.num_fds() + 12, hard))
        errors = []
        for _ in range(20):  # what the first one's start had open may be free again by now
            try:
                request(server, "POST", "/api/kernels", {"name": "plain"})
            except RequestError as error:
                errors.append(error.message)
            if len(errors) == 2:
                break
        assert errors
        assert all("Too many open files" in error for error in errors), errors
        process.rlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert first.value("6 * 7") == "42"
        for model in request(server, "GET", "/api/kernels"):
            request(server, "DELETE", f"/api/kernels/{model['id']}")
        assert nothing_left(w2)
        Kernel(server, "plain").delete()
