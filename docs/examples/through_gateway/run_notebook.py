"""Run a notebook by nbclient, with its kernel at a gateway: run_notebook.py URL KERNEL NOTEBOOK."""

import asyncio
import sys

import nbformat
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelManager, GatewayMappingKernelManager
from nbclient import NotebookClient


async def run(url: str, kernel: str, path: str) -> None:
    """Start a kernel at `url`, run the notebook's cells in it and save the notebook."""
    GatewayClient.instance(url=url, request_timeout=120.0).init_connection_args()
    manager = GatewayKernelManager(parent=GatewayMappingKernelManager())
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, km=manager, timeout=600, startup_timeout=120)
    await manager.start_kernel(kernel_name=kernel)
    try:
        client.kc = manager.client()
        await client.kc.start_channels()
        await client.kc.wait_for_ready(timeout=120)
        client.reset_execution_trackers()
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                await client.async_execute_cell(cell, index)
        client.kc.stop_channels()
    finally:
        await manager.shutdown_kernel()
    nbformat.write(notebook, path)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
