"""What a kernel's messages say of whether it works, and is used.

Jupyter reads every message for that, each print of a loop too, which costs more than to send it on. Of a kernel that is
busy any message is activity, and only those that tell its state tell more.
"""

from __future__ import annotations

from typing import Any

from jupyter_client.session import Session
from jupyter_server._tz import utcnow

from elyra_server.paced import tells_state


class Activity:
    """Notes a kernel's state and its last activity, by Jupyter's rules (``MappingKernelManager`` of jupyter_server).

    Parameters
    ----------
    kernels : MappingKernelManager
        Has the time of the last activity of all, and the types of messages that are none.
    kernel : KernelManager
        Its attributes ``execution_state`` and ``last_activity`` are set.
    """

    def __init__(self, kernels: Any, kernel: Any) -> None:
        self._kernels, self._kernel = kernels, kernel
        # Its own, which remembers the messages that it has seen, as each of those that read them does.
        self._session = Session(config=kernel.session.config, key=kernel.session.key)

    def see(self, message: list[bytes]) -> None:
        """Note a message of the iopub channel.

        Raises
        ------
        ValueError
            If it is not signed with the kernel's key, or is no message.
        """
        if self._kernel.execution_state == "busy" and not tells_state(message):
            self._note()
            return
        frames = self._session.feed_identities(message)[1]
        read = self._session.deserialize(frames)
        kind, parent = read["header"]["msg_type"], (read.get("parent_header") or {}).get("msg_type")
        is_use = self._kernels.track_message_type
        if is_use(kind) or is_use(parent) or self._kernel.execution_state == "busy":
            self._note()
        if kind == "status":
            self._note_state(read["content"]["execution_state"], is_use(parent))

    def _note(self) -> None:
        self._kernels.last_kernel_activity = self._kernel.last_activity = utcnow()

    def _note_state(self, state: str, is_use: bool) -> None:
        if is_use:
            self._kernel.execution_state = state
        elif self._kernel.execution_state == "starting" and state != "starting":
            # It answers, whatever it was asked.
            self._kernel.execution_state = "idle"
