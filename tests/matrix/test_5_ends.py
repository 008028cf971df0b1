"""However a kernel ends: its user is told why, YARN says what is true, nothing is left."""

import pytest
from client import RequestError
from places import CLUSTER


def check_end(kernel, *more):
    """The kernel ended in an ordinary way, and so YARN says of its last application."""
    kernel.check_nothing_left()
    assert kernel.ends()[-1:] == (["SUCCEEDED"] if kernel.cell.place.on_yarn else [])


@pytest.mark.row("the client's shutdown_request")
def test_a_client_shuts_its_kernel_down(eager):
    eager.value(eager.language.count)
    eager.send("shutdown_request", {"restart": False}, "control")
    eager.wait_for_state("dead")
    assert eager.get()["reason"]
    check_end(eager)


@pytest.mark.row("quit in a cell")
def test_a_cell_ends_its_kernel(bare):
    bare.value(bare.language.get_spark + bare.language.count)
    bare.facts()
    bare.begin(bare.language.quit)
    bare.wait_for_state("dead")
    assert "ended by itself" in bare.get()["reason"]
    check_end(bare)


@pytest.mark.row("DELETE")
def test_a_kernel_is_deleted(kernel):
    kernel.value(kernel.language.count)
    kernel.delete()
    with pytest.raises(RequestError) as info:
        kernel.get()
    assert info.value.status == 404
    check_end(kernel)


@pytest.mark.row("killed for its memory", needs="memory", places=[CLUSTER], why="the system's killer is a kill -9")
def test_a_kernel_that_took_too_much_memory_is_dead_for_that_reason(start_cell):
    kernel = start_cell()
    kernel.value(kernel.language.remember)
    kernel.begin(kernel.language.memory)
    kernel.wait_for_state("dead")
    assert "physical memory" in kernel.get()["reason"]
    kernel.check_nothing_left()
    assert kernel.ends() == ["FAILED"]
