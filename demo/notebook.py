"""Runs a notebook through a server's REST and websocket interface, as JupyterLab with a gateway does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import nbformat
import websocket
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelClient, GatewayKernelManager, GatewayMappingKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

LIMIT = 180  # seconds for a launch or a cell, on a machine that is busy with other things


class TokenKernelClient(GatewayKernelClient):
    """A gateway's kernel client that sends the token with its websocket too; its base sends it with REST only."""

    async def start_channels(
        self, shell: bool = True, iopub: bool = True, stdin: bool = True, hb: bool = True, control: bool = True
    ) -> None:
        """Open the websocket and the queues behind it."""
        gateway = GatewayClient.instance()
        self.channel_socket = websocket.create_connection(
            f"{gateway.ws_url}{gateway.kernels_endpoint}/{self.kernel_id}/channels",
            header={gateway.auth_header_key: f"{gateway.auth_scheme} {gateway.auth_token}"},
            timeout=gateway.KERNEL_LAUNCH_TIMEOUT,
            enable_multithread=True,
        )
        AsyncKernelClient.start_channels(self, shell=shell, iopub=iopub, stdin=stdin, hb=hb, control=control)
        self.response_router = Thread(target=self._route_responses)
        self.response_router.start()


def connect(url: str, token: str) -> GatewayKernelManager:
    """Return a kernel manager whose kernels run at a gateway."""
    GatewayClient.clear_instance()
    client = GatewayClient.instance(url=url, auth_token=token, request_timeout=float(LIMIT))
    client.init_connection_args()
    # Their errors come back as exceptions, which are shown once.
    logging.getLogger("traitlets").setLevel(logging.CRITICAL)
    return GatewayKernelManager(parent=GatewayMappingKernelManager(), client_factory=TokenKernelClient)


async def run(path: Path, manager: GatewayKernelManager, show: Callable[[str], None]) -> list[str]:
    """Run the cells of a notebook in the kernel of a manager.

    Parameters
    ----------
    path : Path
        The notebook, which stays as it is.
    manager : GatewayKernelManager
        Has a kernel.
    show : callable
        Gets each cell's source and output as they come.

    Returns
    -------
    list of str
        The output of each code cell, as text.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, km=manager, timeout=LIMIT, startup_timeout=LIMIT)
    client.kc = kernel_client = manager.client()
    await kernel_client.start_channels()
    outputs = []
    try:
        await kernel_client.wait_for_ready(timeout=LIMIT)
        show("The websocket is open and the kernel answers.")
        client.reset_execution_trackers()
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type != "code":
                continue
            show("In:  " + cell.source.replace("\n", "\n     "))
            await client.async_execute_cell(cell, index)
            outputs.append(as_text(cell))
            show("Out: " + outputs[-1].rstrip().replace("\n", "\n     "))
    finally:
        kernel_client.stop_channels()
    return outputs


def as_text(cell: NotebookNode) -> str:
    """Return what a cell has printed and returned."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stdout":
            parts.append(output.text)
        elif output.output_type in ("execute_result", "display_data"):
            parts.append(output.data.get("text/plain", ""))
    return "".join(parts)
