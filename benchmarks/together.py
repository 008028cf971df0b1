"""Many kernels started at once, through the server and by jupyter_client alone, until each has answered."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty

import zmq.asyncio
from jupyter_client import AsyncKernelManager
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from .figures import Figure, figure, interleaved
from .servers import Server, elyra

LIMIT = 240.0

ATTEMPTS = 3
"""How often the floor is measured anew: kernels that jupyter_client starts at once may pick the same port."""


def measure(runs: int, directory: Path) -> Iterator[Figure]:
    """Yield the figures, as they come."""
    AsyncHTTPClient.configure(None, max_clients=100)
    with elyra(directory / "elyra") as server:
        for count, times in ((10, min(runs, 5)), (50, 3)) if runs > 1 else ((2, 1),):
            values, floors = interleaved(
                times,
                lambda count=count: asyncio.run(posts(server, count)),
                lambda count=count: floor(count),
            )
            yield figure(f"{count} POSTs at once, python_local, all answering", "s", values, floors, 1.1)


async def posts(server: Server, count: int) -> float:
    """Return the seconds until all of some kernels, which are asked for at once, have answered."""
    start = time.perf_counter()
    kernels = await asyncio.gather(*(_post(server) for _ in range(count)))
    seconds = time.perf_counter() - start
    await asyncio.gather(*(_delete(server, each) for each in kernels))
    return seconds


async def _post(server: Server) -> str:
    body = json.dumps({"name": "python_local"})
    answer = await AsyncHTTPClient().fetch(
        HTTPRequest(f"{server.url}/api/kernels", "POST", body=body, request_timeout=LIMIT)
    )
    kernel_id = str(json.loads(answer.body)["id"])
    address = f"{server.url.replace('http:', 'ws:')}/api/kernels/{kernel_id}/channels"
    socket = await websocket_connect(HTTPRequest(address, request_timeout=LIMIT))
    header = {"msg_id": kernel_id, "msg_type": "kernel_info_request", "username": "", "session": "x", "version": "5.3"}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": {}, "channel": "shell"}
    await socket.write_message(json.dumps(message))
    while (data := await socket.read_message()) is not None:
        if json.loads(data)["header"]["msg_type"] == "kernel_info_reply":
            socket.close()
            return kernel_id
    raise RuntimeError(f"the websocket of kernel {kernel_id} was closed")


async def _delete(server: Server, kernel_id: str) -> None:
    await AsyncHTTPClient().fetch(HTTPRequest(f"{server.url}/api/kernels/{kernel_id}", "DELETE"))


def floor(count: int) -> float:
    """Return the same without a server."""
    for _ in range(ATTEMPTS - 1):
        try:
            return asyncio.run(alone(count))
        except (Empty, RuntimeError):
            print(f"of {count} kernels that jupyter_client started at once, one did not answer; once more", flush=True)
    return asyncio.run(alone(count))


async def alone(count: int) -> float:
    """Return the seconds until kernels that jupyter_client started at once have answered."""
    with zmq.asyncio.Context() as context:
        context.setsockopt(zmq.RECONNECT_IVL, 10)
        managers = [AsyncKernelManager(kernel_name="python3", context=context) for _ in range(count)]
        start = time.perf_counter()
        try:
            await asyncio.gather(*(_start(each) for each in managers))
            return time.perf_counter() - start
        finally:
            await asyncio.gather(*(each.shutdown_kernel(now=True) for each in managers), return_exceptions=True)


async def _start(manager: AsyncKernelManager) -> None:
    await manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = manager.client()
    client.start_channels(hb=False)
    client.kernel_info()
    try:
        await client.get_shell_msg(timeout=LIMIT)
    finally:
        client.stop_channels()
