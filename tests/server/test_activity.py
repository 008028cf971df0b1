"""What a kernel's messages say of it: the same as to Jupyter, which reads all of each."""

import itertools

import pytest
from jupyter_client.session import Session
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

from elyra_server.activity import Activity

KINDS = ("stream", "status busy", "status idle", "status starting", "comm_msg", "execute_input", "custom")
PARENTS = ("execute_request", "kernel_info_request", "comm_info_request", "complete_request", None)


class Kernel:
    """What is known of a kernel, and a stream that has whom it tells."""

    def __init__(self, session, state):
        self.session, self.execution_state, self.last_activity = session, state, None

    def connect_iopub(self):
        return self

    def on_recv(self, see):
        self.see = see


@pytest.fixture
def session():
    return Session(key=b"key")


def message_of(session, kind, parent):
    kind, _, state = kind.partition(" ")
    content = {"execution_state": state} if state else {"text": '"status" busy idle'}
    parent = session.msg(parent) if parent else None
    return [b"kernel.topic", *session.serialize(session.msg(kind, content, parent=parent))]


def told(kernel, message):
    """Return a kernel's state after a message, and whether that was activity."""
    kernel.last_activity = None
    kernel.see(message)
    return kernel.execution_state, kernel.last_activity is not None


@pytest.mark.parametrize("state", ["starting", "idle", "busy", "restarting"])
def test_state_and_activity_are_jupyters(session, state):
    kernels = AsyncMappingKernelManager()
    for kinds in itertools.product(itertools.product(KINDS, PARENTS), repeat=2):
        ours, jupyters = Kernel(session, state), Kernel(session, state)
        kernels._kernels = {"id": jupyters}
        kernels.start_watching_activity("id")
        ours.see = Activity(kernels, ours).see
        for kind, parent in kinds:
            message = message_of(session, kind, parent)
            assert told(ours, message) == told(jupyters, message), kinds


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_state_that_the_kernel_did_not_sign_is_none(session, state):
    kernel = Kernel(session, state)
    forged = message_of(Session(key=b"another"), "status dead", "execute_request")
    with pytest.raises(ValueError, match="Signature"):
        Activity(AsyncMappingKernelManager(), kernel).see(forged)
    assert (kernel.execution_state, kernel.last_activity) == (state, None)
