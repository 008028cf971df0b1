"""After a restart the session is a new one, on the websocket that was open before."""

import pytest
from places import CLUSTER
from subject import eventually


def check_new_session(kernel):
    """Nothing of the old session is there, and Spark works."""
    language = kernel.language
    assert language.forgotten in kernel.execute(language.recall).all
    kernel.value(language.count, text="1000")
    kernel.value(language.views, text="views: 0")


def fill(kernel):
    kernel.value(kernel.language.remember)
    kernel.value(kernel.language.make_view)
    kernel.value(kernel.language.views, text="views: 1")
    return kernel.facts().application, kernel.value(kernel.language.pid, text="pid:").split()[-1]


@pytest.mark.row("restart")
def test_a_restart_gives_a_new_session(kernel, first_use):
    application, pid = fill(kernel)
    kernel.restart()
    check_new_session(kernel)
    assert kernel.value(kernel.language.pid, text="pid:").split()[-1] != pid
    assert (kernel.facts().application == application) == kernel.language.restarts_in_place


@pytest.mark.row("kill -9 of the kernel")
def test_a_kernel_that_is_killed_is_back_or_says_why_not(kernel, first_use, server):
    application, pid = fill(kernel)
    kernel.states.clear()
    kernel.kill_process(pid)
    if kernel.language.restarts_in_place:
        kernel.wait_for_state("restarting")
        reason = f"Kernel {kernel.id}: The kernel was ended by signal 9 (SIGKILL)"
        # The log comes through a pipe, and may be slower than the websocket.
        eventually(lambda: reason in server.log_tail(200), "the reason in the server's log")
    else:  # its JVM is the Spark driver, and all is gone
        kernel.wait_for_state("dead")
        assert any(word in kernel.get()["reason"] for word in ("SIGKILL", "killed", "137")), kernel.get()
        kernel.restart()
    check_new_session(kernel)
    assert (kernel.facts().application == application) == kernel.language.restarts_in_place


@pytest.mark.row("restart to another place")
def test_a_restart_moves_a_kernel_that_was_ended_from_outside(eager):
    application, _ = fill(eager)
    eager.end_from_outside()
    eager.wait_for_state("dead")
    assert ("KILLED" if eager.cell.place is CLUSTER else "ended") in eager.get()["reason"]
    eventually(lambda: not eager.processes(), "the end of its processes", eager.processes)
    eager.states.clear()
    eager.restart()
    check_new_session(eager)
    assert eager.facts().application != application
    if eager.cell.place is CLUSTER:
        assert eager.applications()[0]["finalStatus"] == "KILLED"
