"""What follows when a kernel ends without having been asked to."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from jupyter_client.ioloop.restarter import AsyncIOLoopKernelRestarter
from traitlets import Dict

from elyra_server.errors import ElyraError
from elyra_server.launchers import KernelEnd
from elyra_server.provisioner import ProcessProxyProvisioner


class RemoteKernelRestarter(AsyncIOLoopKernelRestarter):
    """Restarts a kernel that crashed; leaves dead, with its reason, one that ended.

    It does not poll: the process proxy says when the kernel ended. Callbacks may be
    registered for two events more than usual, ``restarted``: the new kernel is there; ``interrupted``: it was told so.
    """

    callbacks = Dict()
    _task: asyncio.Task[None] | None = None
    _restarting = False
    _crashes = 0
    _last_crash = 0.0

    def _callbacks_default(self) -> dict[str, list[Any]]:
        return {"restart": [], "restarted": [], "dead": [], "interrupted": []}

    def start(self) -> None:
        """Watch the kernel that was just started."""
        if not isinstance(self.kernel_manager.provisioner, ProcessProxyProvisioner):
            super().start()  # somebody else's provisioner is polled, as in Jupyter
            return
        if self._task is None or self._task.done() or self._task is asyncio.current_task():
            self._task = asyncio.ensure_future(self._watch())

    def stop(self) -> None:
        """Stop watching; a restart that this restarter makes itself goes on."""
        super().stop()
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task() and not self._restarting:
            task.cancel()

    def fire(self, event: str) -> None:
        """Call those who wait for an event."""
        self._fire_callbacks(event)

    async def _watch(self) -> None:
        manager: Any = self.kernel_manager
        end = await manager.provisioner.wait_ended()
        if manager.shutting_down:
            return
        if not (end.restartable and manager.autorestart):
            self._leave_dead(end.reason)
        elif self._too_many_crashes():
            self._leave_dead(f"It crashed {self._crashes} times in a row. {end.reason}")
        else:
            await self._restart(end)

    async def _restart(self, end: KernelEnd) -> None:
        manager: Any = self.kernel_manager
        self.log.warning(
            "Kernel %s: %s It is restarted (%i/%i).", manager.kernel_id, end.reason, self._crashes, self.restart_limit
        )
        # A kernel that never answered may have died of its ports.
        newports = getattr(manager, "execution_state", None) == "starting" and self._crashes > 1
        self._restarting = True
        try:
            await manager.restart_kernel(now=True, newports=newports)
        except (ElyraError, OSError, RuntimeError, ValueError) as error:
            # Those who watch it were told by the manager; the reason says here what came first.
            manager.reason = f"{end.reason} It could not be restarted: {error}"
            self.log.warning("Kernel %s is dead: %s", manager.kernel_id, manager.reason)
        finally:
            self._restarting = False

    def _too_many_crashes(self) -> bool:
        now = time.monotonic()
        self._crashes = self._crashes + 1 if now - self._last_crash < self.stable_start_time else 1
        self._last_crash = now
        return self._crashes > self.restart_limit

    def _leave_dead(self, reason: str) -> None:
        manager: Any = self.kernel_manager
        self.log.warning("Kernel %s is dead: %s", manager.kernel_id, reason)
        manager.execution_state = "dead"
        manager.reason = reason
        self._fire_callbacks("dead")
        self._crashes = 0
