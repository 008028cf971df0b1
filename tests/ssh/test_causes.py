"""Launches that fail when nobody on the server listens to them any more."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from front import nothing_left, until

SECONDS = 6


@pytest.fixture
def broken(server):
    """A kernelspec whose launch ends by itself after a while, with its reason."""

    def change(spec):
        spec["argv"] = ["/bin/sh", "-c", f"sleep {SECONDS}; echo the cause is BROKEN; exit 3"]

    server.add("broken", change=change, remote_hosts="w1")
    return "broken"


def test_each_of_many_launches_says_why_it_failed(server, broken, w1):
    """A connection listens to some at a time."""
    with ThreadPoolExecutor(9) as pool:
        results = list(pool.map(lambda _: server.fail(broken), range(9)))
    for error, seconds in results:
        assert "ended with exit code 3 before the kernel was ready" in error.message
        assert "the cause is BROKEN" in error.message
        assert seconds < SECONDS + 25  # and not the whole launch limit
    assert nothing_left(w1)


def test_a_launch_whose_connection_is_replaced_says_why_it_failed(server, broken, w1):
    with ThreadPoolExecutor() as pool:
        failing = pool.submit(server.fail, broken)
        until(lambda: any("BROKEN" in line for line in w1.processes()))
        w1.run("pkill", "-KILL", "-f", "sshd.*root@notty")
        error, _ = failing.result()
    assert "ended with exit code 3 before the kernel was ready" in error.message
    assert "the cause is BROKEN" in error.message
    assert nothing_left(w1)


def test_a_launch_that_is_killed_unheard_is_over(server, broken, w1):
    with ThreadPoolExecutor() as pool:
        failing = pool.submit(server.fail, broken)
        until(lambda: any("BROKEN" in line for line in w1.processes()))
        w1.run("pkill", "-KILL", "-f", "sshd.*root@notty")
        w1.run("pkill", "-KILL", "-f", "sys.stdin.buffer")
        error, _ = failing.result()
    assert "the launch ended without a word" in error.message
    assert nothing_left(w1)


def test_what_is_kept_of_an_end_goes_with_the_kernel(start, w1):
    kernel = start("w1")
    launcher = kernel.value("import os; print(os.getppid())")
    kernel.execute("exit()")
    until(lambda: kernel.get()["execution_state"] == "dead")
    until(lambda: launcher not in w1.run("ps", "-o", "pid=", "-e").split())
    kernel.delete()
    assert nothing_left(w1)
