"""A client's websocket, which stays of use while its kernel restarts.

The kernel keeps its ports, so the sockets behind the websocket connect again by
themselves; each in its own time. A request that arrived before the iopub socket did
would lose its output. So from ``restarting`` on requests are held, until the new
kernel was heard on this very iopub socket.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import struct
from typing import Any, ClassVar

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado import web
from traitlets import default

from elyra_server.buffering import Outlet
from elyra_server.cells import LOST, PATIENCE, UNANSWERED, CellWatch
from elyra_server.settings import Settings

V1 = "v1.kernel.websocket.jupyter.org"

UNSUPPORTED_DATA = 1003
"""How a websocket ends whose client sends what cannot be read (RFC 6455, 7.4.1)."""

# As they stand in a message's JSON: what a cell quotes of it has backslashes there.
SHUTDOWN = re.compile(r'"msg_type"\s*:\s*"shutdown_request"')
RESTART = re.compile(r'"restart"\s*:\s*true')

NUDGE_INTERVAL, LONGEST_NUDGE_INTERVAL = 0.1, 1.0
MAX_HELD = 1000


class RemoteChannelsConnection(ZMQChannelsWebsocketConnection):
    """The websocket connection of Elyra's server."""

    _held: list[Any] | None = None
    _heard: asyncio.Event | None = None
    _reconnecting: asyncio.Task[None] | None = None
    _address: tuple[Any, ...] = ()
    _cells: CellWatch | None = None
    _outlet: Outlet | None = None
    _looking: asyncio.TimerHandle | None = None
    _connected = False
    _base: ClassVar[Any] = ZMQChannelsWebsocketConnection  # without types of its own

    @default("limit_rate")
    def _default_limit_rate(self) -> bool:
        # What a cell prints is the user's; a client that cannot take it all has limits of its own.
        return False

    @default("kernel_info_timeout")
    def _default_kernel_info_timeout(self) -> float:
        limit: float = self.kernel_manager.answer_limit
        return limit

    async def prepare(self) -> None:
        """Turn away clients of a dead kernel, which would wait for it in vain."""
        if getattr(self.kernel_manager, "execution_state", None) == "dead":
            raise web.HTTPError(410, f"The kernel is dead. {self.kernel_manager.reason}".replace("%", "%%"))
        await self._base.prepare(self)
        self._note_answer()

    def _note_answer(self) -> None:
        """Note that a kernel that just started answers: Jupyter looks every 50 ms whether it heard so on iopub."""
        info = self._kernel_info_future
        if self.kernel_manager.execution_state == "starting" and info.done() and info.result():
            self.kernel_manager.execution_state = "idle"

    def connect(self) -> Any:
        """Connect the websocket to the kernel."""
        # Several small messages follow each other: without this each waits for the last one's ACK.
        self.websocket_handler.set_nodelay(True)
        self._address = self._kernel_address()
        self._cells = CellWatch(self.session.unpack)
        self._outlet = self._open_outlet()
        self._connected = True
        missed = self.multi_kernel_manager.claim_buffer(self.kernel_id, self.session_key)
        result = super().connect()
        if missed:
            self._outlet.begin(missed)
        self.multi_kernel_manager.add_restart_callback(self.kernel_id, self.on_kernel_back, "restarted")
        self.multi_kernel_manager.add_restart_callback(self.kernel_id, self.on_interrupt, "interrupted")
        return result

    def disconnect(self) -> Any:
        """Close the connection."""
        if not self._connected:
            self._withdraw()
            return None
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        if self._looking is not None:
            self._looking.cancel()
        if self.kernel_id in self.multi_kernel_manager:
            self.multi_kernel_manager.remove_restart_callback(self.kernel_id, self.on_kernel_back, "restarted")
            self.multi_kernel_manager.remove_restart_callback(self.kernel_id, self.on_interrupt, "interrupted")
        result = self._base.disconnect(self)
        waiting = self._outlet.close() if self._outlet is not None else None
        if waiting:
            self.multi_kernel_manager.keep_buffer(self.kernel_id, self.session_key, waiting)
        return result

    def _withdraw(self) -> None:
        """Let go of what a client had that went while its kernel was waited for: it was never counted as connected."""
        self.log.info("A client of kernel %s went while it waited for the kernel to answer.", self.kernel_id)
        if self._open_sessions.get(self.session_key) is self.websocket_handler:
            self._open_sessions.pop(self.session_key)
        channel, self.kernel_info_channel = self.kernel_info_channel, None
        if channel is None or channel.closed():
            return
        channel.close()
        # Others may wait for the same answer, which does not come any more: the next one asks again.
        future = self._kernel_info_future
        if not future.done():
            future.set_result({})
        if getattr(self.kernel_manager, "_kernel_info_future", None) is future:
            del self.kernel_manager._kernel_info_future

    def _open_outlet(self) -> Outlet:
        handler: Any = self.websocket_handler
        limit = Settings(parent=self).output_buffer
        return Outlet(handler, self._deliver, self._tell, limit, self.log)

    def handle_incoming_message(self, incoming_msg: Any) -> None:
        """Pass a client's message on, or hold it while the kernel restarts."""
        if isinstance(incoming_msg, bytes) and not is_frame(incoming_msg, self.subprotocol == V1):
            self.log.warning("A client of kernel %s sent what is no message; it is disconnected.", self.kernel_id)
            self.websocket_handler.close(UNSUPPORTED_DATA, "This is no message of the Jupyter protocol.")
            return
        if self._held is None:
            self._pass_on(incoming_msg)
        elif len(self._held) < MAX_HELD:
            self._held.append(incoming_msg)

    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        """Pass a kernel's message on, or let it wait while its client does not read."""
        channel = getattr(stream, "channel", stream)
        if self._heard is not None and channel == "iopub":
            self._heard.set()
        outlet = self._outlet
        if outlet is not None and outlet.behind:
            outlet.put(channel, outgoing_msg)
            return
        self._deliver(stream, outgoing_msg)
        if outlet is not None and outlet.clogged:
            self.log.info("A client of kernel %s does not read as fast as it prints: output waits.", self.kernel_id)
            outlet.begin()

    def _deliver(self, stream: Any, message: list[Any]) -> None:
        channel = getattr(stream, "channel", stream)
        if self._cells is not None and channel in ("iopub", "shell"):
            frames = self.session.feed_identities(message)[1]
            if channel == "iopub":
                self._cells.see(frames)
            elif self._cells.see_answer(frames) and self._looking is None:
                self._looking = asyncio.get_running_loop().call_later(LOST, self._look_for_end)
        super().handle_outgoing_message(stream, message)

    @property
    def _behind(self) -> bool:
        """Whether messages wait for the client."""
        return self._outlet is not None and self._outlet.behind

    def _look_for_end(self) -> None:
        """Tell the client that its cell ended, if the kernel's word of that got lost."""
        self._looking = None
        if self._cells is None or not self._cells.waits:
            return
        if self._cells.silence < LOST or self._behind:
            self._looking = asyncio.get_running_loop().call_later(LOST, self._look_for_end)
            return
        self.log.warning("Kernel %s published more than could be taken: the end of a cell got lost.", self.kernel_id)
        message = self.session.msg("status", {"execution_state": "idle"}, parent=self._cells.parent)
        self._deliver("iopub", self.session.serialize(message))

    def _tell(self, text: str, parent: bytes) -> None:
        self._base.write_stderr(self, text, self.session.unpack(parent) if parent else {})

    def _send_status_message(self, status: str) -> None:
        iopub = self.channels.get("iopub")
        if self._outlet is None or iopub is None or iopub.closed():
            self._base._send_status_message(self, status)
            return
        # Behind what the kernel said before, also where that has to wait.
        if not self._outlet.behind:
            self._outlet.begin()
        iopub.flush()
        message = self.session.msg("status", {"execution_state": status})
        self._outlet.put("iopub", self.session.serialize(message))

    def on_kernel_restarted(self) -> None:
        """Tell the client that the kernel restarts, and hold what it sends from now on."""
        if self._held is None:
            self._held = []
        if self._cells is not None:
            self._cells.forget()
        self._base.on_kernel_restarted(self)

    def on_restart_failed(self) -> None:
        """Tell the client that the kernel is dead."""
        self._held = None
        self._send_status_message("dead")

    def on_interrupt(self) -> None:
        """Tell the client, after a while, if its cell does not answer this interrupt."""
        if self._cells is not None and self._cells.parent is not None:
            asyncio.get_running_loop().call_later(PATIENCE, self._tell_unanswered, self._cells.parent)

    def _tell_unanswered(self, cell: dict[str, Any]) -> None:
        # Of a client that is behind it is not known what it will have seen.
        if self._cells is not None and self._cells.parent is cell and not self._behind:
            self._base.write_stderr(self, UNANSWERED, cell)

    def on_kernel_back(self) -> None:
        """Reconnect, now that the new kernel is there."""
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        self._reconnecting = asyncio.ensure_future(self._reconnect())

    async def _reconnect(self) -> None:
        if self._kernel_address() != self._address:
            self._renew_streams()
        self._heard = asyncio.Event()
        control, shell = self.kernel_manager.connect_control(), self.kernel_manager.connect_shell()
        # Of a request on the control channel some kernels, such as Deno's, say nothing on iopub.
        channels = itertools.cycle([control, control, shell])
        try:
            async with _limit(self.kernel_info_timeout):
                pause = NUDGE_INTERVAL
                while not self._heard.is_set():
                    self.session.send(next(channels), "kernel_info_request")
                    await _wait_shortly(self._heard, pause)
                    # What is asked before a slow kernel is ready, it answers one by one before all else.
                    pause = min(1.2 * pause, LONGEST_NUDGE_INTERVAL)
        except asyncio.TimeoutError:
            self.log.warning("Kernel %s does not answer after its restart.", self.kernel_id)
        finally:
            control.close()
            shell.close()
        # Not where the kernel restarted again meanwhile: what is held is then for the next one.
        self._heard = None
        held, self._held = self._held, None
        for message in held or []:
            self._pass_on(message)

    def _pass_on(self, message: Any) -> None:
        if asks_for_restart(message) and self.kernel_manager.hosted:
            self.kernel_manager.provisioner.expect_restart()
        self._base.handle_incoming_message(self, message)

    def _renew_streams(self) -> None:
        """Connect to a kernel that is at other ports, or has another key, than the last one."""
        for stream in self.channels.values():
            if not stream.closed():
                stream.on_recv(None)
                stream.close()
        self.session.key = self.kernel_manager.session.key
        self._base.create_stream(self)
        for stream in self.channels.values():
            stream.on_recv_stream(self.handle_outgoing_message)
        self._address = self._kernel_address()

    def _kernel_address(self) -> tuple[Any, ...]:
        manager = self.kernel_manager
        return (manager.ip, *manager.ports, manager.session.key)


def is_frame(message: bytes, is_v1: bool) -> bool:
    """Return whether a client's binary message can be taken apart: it has the offsets that it says it has, in order.

    Of others Jupyter would make as many parts as they ask for, each as long as they ask for.

    Parameters
    ----------
    message : bytes
        What came through the websocket.
    is_v1 : bool
        Whether in the protocol ``v1.kernel.websocket.jupyter.org``; otherwise in Jupyter's first one.
    """
    width, order, letter, least = (8, "<", "Q", 2) if is_v1 else (4, ">", "I", 1)
    if len(message) < width:
        return False
    (count,) = struct.unpack_from(f"{order}{letter}", message)
    if not least <= count < len(message) // width:
        return False
    offsets = struct.unpack_from(f"{order}{count}{letter}", message, width)
    return all(one <= another for one, another in itertools.pairwise(offsets))


def asks_for_restart(message: str | bytes) -> bool:
    """Return whether a client's message tells its kernel to end, to be started again."""
    if isinstance(message, str):
        return "shutdown_request" in message and bool(SHUTDOWN.search(message) and RESTART.search(message))
    return b"shutdown_request" in message and asks_for_restart(message.decode("utf-8", "replace"))


async def _wait_shortly(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return


class _limit:  # noqa: N801 - reads as asyncio.timeout(), which Python 3.10 lacks
    """Cancel the block that takes longer, and raise TimeoutError instead."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._over = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._expire)

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._timer.cancel()
        if self._over and kind is asyncio.CancelledError:
            raise asyncio.TimeoutError from error

    def _expire(self) -> None:
        self._over = True
        self._task.cancel()
