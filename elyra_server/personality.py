"""The kernel gateway's websocket personality, with Elyra's handlers."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyter_server.utils import url_path_join
from kernel_gateway.jupyter_websocket import JupyterWebsocketPersonality
from kernel_gateway.services.kernels import handlers as gateway_kernels
from kernel_gateway.services.sessions import handlers as gateway_sessions

from elyra_server.handlers import kernel_handlers, session_handlers


class ElyraPersonality(JupyterWebsocketPersonality):
    """What the server answers to; configured as JupyterWebsocketPersonality."""

    def create_request_handlers(self) -> list[Any]:
        """Return the handlers of all requests."""
        own = {}
        for theirs, ours in (
            (gateway_kernels.default_handlers, kernel_handlers),
            (gateway_sessions.default_handlers, session_handlers),
        ):
            for (path, *_), handler in zip(theirs, ours, strict=True):
                own[url_path_join("/", self.parent.base_url, path)] = handler[1:]
        return [(pattern, *own.get(pattern, rest)) for pattern, *rest in super().create_request_handlers()]

    async def shutdown(self) -> None:
        """End all kernels, side by side."""
        manager = self.parent.kernel_manager
        ids = manager.list_kernel_ids()
        results = await asyncio.gather(*(manager.shutdown_kernel(each) for each in ids), return_exceptions=True)
        for kernel_id, result in zip(ids, results, strict=True):
            if isinstance(result, Exception):
                self.log.warning("Kernel %s was not shut down as it should: %s", kernel_id, result)


def create_personality(*args: Any, **kwargs: Any) -> ElyraPersonality:
    """Return the personality; the kernel gateway calls this by name."""
    return ElyraPersonality(*args, **kwargs)
