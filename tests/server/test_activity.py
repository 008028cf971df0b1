"""The watch over a kernel's activity, with messages that a real kernel would have to send at the wrong moment."""

import types

import pytest
from jupyter_client.session import Session

from elyra_server.activity import ActivityWatch

TRACKED = "execute_request"


@pytest.fixture
def kernel():
    return types.SimpleNamespace(session=Session(key=b"key"), execution_state="idle", last_activity=None)


@pytest.fixture
def watch(kernel):
    managers = types.SimpleNamespace(
        get_kernel=lambda kernel_id: kernel,
        track_message_type=lambda kind: kind == TRACKED,
        last_kernel_activity=None,
    )
    return ActivityWatch(managers, "kernel")


def frames(kind, content, asked=TRACKED, key=b"key"):
    """Return a message as it comes from the iopub channel."""
    session = Session(key=key)
    parent = session.msg_header(asked) if asked else {}
    return [b"topic", *session.serialize(session.msg(kind, content, parent={"header": parent} if parent else None))]


def test_a_cell_is_use_from_its_begin_to_its_end(watch, kernel):
    for state in ("busy", "idle"):
        kernel.last_activity = None
        watch.record(frames("status", {"execution_state": state}))
        assert kernel.execution_state == state
        assert kernel.last_activity is not None


def test_output_is_use_where_it_belongs_to_a_cell(watch, kernel):
    output = {"name": "stdout", "text": "text"}
    watch.record(frames("stream", output, asked="kernel_info_request"))
    assert kernel.last_activity is None
    watch.record(frames("stream", output))
    first = kernel.last_activity
    assert first is not None
    kernel.execution_state = "busy"
    watch.record(frames("stream", output, asked=""))
    assert kernel.last_activity > first


def test_what_jupyter_asks_is_no_use_but_shows_that_a_kernel_is_ready(watch, kernel):
    kernel.execution_state = "starting"
    watch.record(frames("status", {"execution_state": "busy"}, asked="kernel_info_request"))
    assert kernel.execution_state == "idle"
    watch.record(frames("status", {"execution_state": "busy"}, asked="kernel_info_request"))
    assert kernel.execution_state == "idle"
    assert kernel.last_activity is None


@pytest.mark.parametrize("state", ["dead", "restarting"])
def test_the_last_words_of_a_kernel_do_not_revive_it(watch, kernel, state):
    kernel.execution_state = state
    watch.record(frames("status", {"execution_state": "busy"}))
    assert kernel.execution_state == state


def test_a_state_that_is_not_signed_is_none(watch, kernel):
    with pytest.raises(ValueError, match="Signature"):
        watch.record(frames("status", {"execution_state": "busy"}, key=b"another"))
    assert kernel.execution_state == "idle"
