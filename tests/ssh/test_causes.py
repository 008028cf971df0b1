"""Launches that fail when nobody on the server listens to them any more."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from front import nothing_left
from waiting import until

SECONDS = 6
CONNECTIONS = "sshd.*root@notty"
HELD_ON_ITS_WAY = """#!/bin/sh
test -e {hold} || exec {python} "$@"
{python} "$@" | (while test -e {hold}; do sleep 0.05; done; exec cat)
"""
HELD_BACK = """#!{python}
import os, sys, time

def write(descriptor, data, write=os.write):
    while descriptor == 1 and os.path.exists("{hold}"):
        time.sleep(0.05)
    return write(descriptor, data)

os.write = write
exec(sys.argv[-1])
"""
"""It begins with an exit code, which is that of the keeper's parent."""


def end_after_a_while(spec):
    spec["argv"] = ["/bin/sh", "-c", f"sleep {SECONDS}; echo the cause is BROKEN; exit 3"]


@pytest.fixture
def broken(server):
    """A kernelspec whose launch ends by itself after a while, with its reason."""
    server.add("broken", change=end_after_a_while, remote_hosts="w1")
    return "broken"


@pytest.fixture(params=[HELD_ON_ITS_WAY, HELD_BACK], ids=["on its way", "back"])
def hold(request, server, w1):
    """As long as this file is there, no word of a launch comes from the host for kernelspecs with the Python `slow`."""
    hold, slow = w1.directory / "hold", w1.directory / "slow"
    hold.touch()
    slow.write_text(request.param.format(python=sys.executable, hold=hold))
    slow.chmod(0o755)
    yield hold
    hold.unlink(missing_ok=True)


@pytest.fixture
def begun(server):
    """Return whether the server knows of a launch that has begun since."""

    def count():
        return server.log_file.read_text().count("has the launch of")

    before = count()
    return lambda: count() > before


def test_each_of_many_launches_says_why_it_failed(server, broken, w1):
    """A connection listens to some at a time."""
    with ThreadPoolExecutor(9) as pool:
        results = list(pool.map(lambda _: server.fail(broken), range(9)))
    for error, seconds in results:
        assert "ended with exit code 3 before the kernel was ready" in error.message
        assert "the cause is BROKEN" in error.message
        assert seconds < SECONDS + 25  # and not the whole launch limit
    assert nothing_left(w1)


def test_a_launch_whose_connection_is_replaced_says_why_it_failed(server, broken, begun, w1):
    with ThreadPoolExecutor() as pool:
        failing = pool.submit(server.fail, broken)
        until(begun)
        w1.run("pkill", "-KILL", "-f", CONNECTIONS)
        error, _ = failing.result()
    assert "ended with exit code 3 before the kernel was ready" in error.message
    assert "the cause is BROKEN" in error.message
    assert nothing_left(w1)


def test_a_launch_that_is_killed_unheard_is_over(server, broken, begun, w1):
    with ThreadPoolExecutor() as pool:
        failing = pool.submit(server.fail, broken)
        until(begun)
        w1.run("pkill", "-KILL", "-f", CONNECTIONS)
        w1.run("pkill", "-KILL", "-f", "sys.stdin.buffer")
        error, _ = failing.result()
    assert "the launch ended without a word" in error.message
    assert nothing_left(w1)


def test_a_kernel_whose_launch_began_unheard_is_the_only_one(server, start, hold, w1):
    server.add("unheard", remote_hosts="w1", python=str(hold.with_name("slow")))
    with ThreadPoolExecutor() as pool:
        starting = pool.submit(start, "unheard")
        until(lambda: any("launch_ipykernel" in line for line in w1.processes()))
        w1.run("pkill", "-KILL", "-f", CONNECTIONS)
        hold.unlink()
        kernel = starting.result()
    assert kernel.value("6 * 7") == "42"
    until(lambda: len(w1.run("pgrep", "-f", f"launch_ipykernel.*{kernel.id}").split()) == 1)
    kernel.delete()
    assert nothing_left(w1)


@pytest.fixture
def once(w1):
    """A change to a kernelspec: of its launches the first one stays, all others end at once."""
    mark = w1.directory / "first"

    def change(spec):
        spec["argv"] = ["/bin/sh", "-c", f"mkdir {mark} || exit 3; exec sleep 4246"]

    yield change
    mark.rmdir()


def stays(host):
    return "sleep 4246" in host.processes()


def test_a_launch_that_began_unheard_is_ended_and_made_again(server, hold, once, w1):
    """The connection is over before the host's word of the launch came through it."""
    server.add("unheard", change=once, remote_hosts="w1", python=str(hold.with_name("slow")))
    with ThreadPoolExecutor() as pool:
        failing = pool.submit(server.fail, "unheard")
        until(lambda: stays(w1))
        w1.run("pkill", "-KILL", "-f", CONNECTIONS)
        hold.unlink()
        until(lambda: not stays(w1))
        error, _ = failing.result()
    assert "ended with exit code 3 before the kernel was ready" in error.message
    assert nothing_left(w1)


def test_a_launch_that_began_unheard_ends_when_its_time_is_over(server, hold, once, w1):
    server.add("unheard", change=once, remote_hosts="w1", python=str(hold.with_name("slow")))
    with ThreadPoolExecutor() as pool:
        failing = pool.submit(server.fail, "unheard", KERNEL_LAUNCH_TIMEOUT="20")
        until(lambda: stays(w1))
        error, _ = failing.result()
    assert "not ready within 20 s" in error.message
    hold.unlink()
    assert nothing_left(w1)


@pytest.mark.parametrize("hold", [HELD_BACK], indirect=True)
def test_a_launch_that_began_unheard_in_an_outage_is_made_elsewhere_and_ended_after_it(server, hold, once, w1, w2):
    config = {"remote_hosts": "w1,w2", "load_balancing_algorithm": "least-connection"}
    server.add("unheard", change=once, python=str(hold.with_name("slow")), **config)
    with ThreadPoolExecutor() as pool:
        failing = pool.submit(server.fail, "unheard")
        until(lambda: stays(w1))
        begin = len(server.log_file.read_text())
        w1.cut()
        try:
            hold.unlink()
            error, _ = failing.result()
            assert stays(w1)
        finally:
            w1.restore()
    assert "Host root@w2" in error.message
    assert "ended with exit code 3" in error.message
    assert "nothing was started within" not in server.log_file.read_text()[begin:]  # it was noticed before that
    until(lambda: not stays(w1))
    for host in (w1, w2):
        assert nothing_left(host)


def test_what_is_kept_of_an_end_goes_with_the_kernel(start, w1):
    kernel = start("w1")
    launcher = kernel.value("import os; print(os.getppid())")
    kernel.execute("exit()")
    until(lambda: kernel.get()["execution_state"] == "dead")
    until(lambda: launcher not in w1.run("ps", "-o", "pid=", "-e").split())
    kernel.delete()
    assert nothing_left(w1)
