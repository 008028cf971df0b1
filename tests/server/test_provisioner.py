"""The same kernelspecs without the server: in whatever else runs Jupyter kernels."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager, KernelManager
from nbclient import NotebookClient
from server_harness import ROOT, descendants_with, environment, free_port, write_spec
from waiting import until

from elyra_server.errors import LaunchError

METADATA = {"kernel_provisioner": {"provisioner_name": "elyra-provisioner"}}


@pytest.fixture
def jupyter(tmp_path, monkeypatch):
    """Point this process at kernelspecs of its own; see that its kernels leave nothing."""
    for name, value in environment(tmp_path, ELYRA_TEST_MARKER=f"marker-{tmp_path}").items():
        monkeypatch.setenv(name, value)
    (tmp_path / "tmp").mkdir()
    write_spec(tmp_path / "data", "provisioned", metadata=METADATA)
    write_spec(tmp_path / "data", "broken", ["/no/where", "{response_address}"], metadata=METADATA)
    yield tmp_path
    until(lambda: not descendants_with(f"marker-{tmp_path}"), "the end of all kernels")
    assert not list(tmp_path.glob("runtime/kernel-*"))


async def test_an_async_kernel_manager(jupyter):
    manager = AsyncKernelManager(kernel_name="provisioned")
    await manager.start_kernel()
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=60)
    ports = manager.ports
    for now in (False, True):
        await manager.restart_kernel(now=now)
        await client.wait_for_ready(timeout=60)
        assert manager.ports == ports
        assert await manager.is_alive()
    client.execute("import os; os._exit(7)")
    end = await manager.provisioner.wait_ended()
    assert end.restartable and end.code == 7
    assert not await manager.is_alive()
    client.stop_channels()
    await manager.shutdown_kernel()


def test_a_synchronous_kernel_manager(jupyter):
    manager = KernelManager(kernel_name="provisioned")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    assert client.execute_interactive("6 * 7", timeout=60)["content"]["status"] == "ok"
    ports = manager.ports
    manager.restart_kernel()
    client.wait_for_ready(timeout=60)
    assert manager.ports == ports
    manager.interrupt_kernel()
    client.stop_channels()
    began = time.monotonic()
    manager.shutdown_kernel()
    assert time.monotonic() - began < 12
    assert not manager.is_alive()


def test_nbclient(jupyter):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(6 * 7)")])
    for _ in range(2):  # each with an event loop of its own
        NotebookClient(notebook, kernel_name="provisioned", timeout=30).execute()
        assert notebook.cells[0].outputs[0].text == "42\n"


def test_the_error_of_a_launch_is_its_cause(jupyter):
    manager = KernelManager(kernel_name="broken")
    with pytest.raises(LaunchError, match="/no/where does not exist"):
        manager.start_kernel()


def test_a_plain_jupyter_server(jupyter):
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "jupyter_server",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ip=127.0.0.1",
        "--IdentityProvider.token=t",
        "--ServerApp.disable_check_xsrf=True",
        f"--ServerApp.root_dir={jupyter}",
    ]
    with (jupyter / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)

    def rest(method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", data, {"Authorization": "token t"}, method=method
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()

    def up():
        try:
            return rest("GET", "/api")[0] == 200
        except OSError:
            return False

    try:
        until(up, "the Jupyter server")
        status, body = rest("POST", "/api/kernels", {"name": "provisioned"})
        kernel_id = json.loads(body)["id"]
        assert status == 201
        assert rest("POST", f"/api/kernels/{kernel_id}/restart", {})[0] == 200
        assert rest("DELETE", f"/api/kernels/{kernel_id}")[0] == 204
    finally:
        process.terminate()
        process.wait(20)


async def test_many_loops_share_one_listener(jupyter):
    async def one():
        manager = AsyncKernelManager(kernel_name="provisioned")
        await manager.start_kernel()
        assert await manager.is_alive()
        await manager.shutdown_kernel(now=True)

    await asyncio.gather(one(), one(), asyncio.to_thread(lambda: asyncio.run(one())))
