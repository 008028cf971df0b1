"""The kernel gateway's websocket personality, with Elyra's handlers."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyter_server.utils import url_path_join
from kernel_gateway.jupyter_websocket import JupyterWebsocketPersonality
from kernel_gateway.services.kernels import handlers as gateway_kernels
from kernel_gateway.services.sessions import handlers as gateway_sessions

from elyra_server.handlers import kernel_handlers, session_handlers, with_errors
from elyra_server.managers import SHUTDOWN_LIMIT, RemoteKernelManager


class ElyraPersonality(JupyterWebsocketPersonality):
    """What the server answers to; configured as JupyterWebsocketPersonality."""

    def create_request_handlers(self) -> list[Any]:
        """Return the handlers of all requests."""
        own = {}
        for former, ours in (
            (gateway_kernels.default_handlers, kernel_handlers),
            (gateway_sessions.default_handlers, session_handlers),
        ):
            for (path, *_), handler in zip(former, ours, strict=True):
                own[url_path_join("/", self.parent.base_url, path)] = handler[1:]
        theirs = super().create_request_handlers()
        chosen = [(pattern, *own.get(pattern, rest)) for pattern, *rest in theirs]
        return [(pattern, with_errors(handler), *rest) for pattern, handler, *rest in chosen]

    async def shutdown(self) -> None:
        """End all kernels, side by side."""
        ids = self.parent.kernel_manager.list_kernel_ids()
        results = await asyncio.gather(*(self._shut_down(each) for each in ids), return_exceptions=True)
        for kernel_id, result in zip(ids, results, strict=True):
            if isinstance(result, Exception):
                self.log.warning("Kernel %s was not shut down as it should: %r", kernel_id, result)

    async def _shut_down(self, kernel_id: str) -> None:
        """End a kernel; if that takes too long, or fails, let go of it, so that what is left of it is killed."""
        manager = self.parent.kernel_manager
        kernel = manager.get_kernel(kernel_id)
        try:
            await asyncio.wait_for(manager.shutdown_kernel(kernel_id), SHUTDOWN_LIMIT)
        except Exception:
            if isinstance(kernel, RemoteKernelManager):
                await kernel.give_up()
            raise


def create_personality(*args: Any, **kwargs: Any) -> ElyraPersonality:
    """Return the personality; the kernel gateway calls this by name."""
    return ElyraPersonality(*args, **kwargs)
