"""Launches whose clients go away at the very moment at which they succeed, and those that fail: nothing is kept."""

import asyncio
import sys
import threading

import pytest
from jupyter_client.provisioning.local_provisioner import LocalPortCache
from server_harness import descendants_with, environment, write_spec
from traitlets.config import LoggingConfigurable
from waiting import until

from elyra_server.errors import LaunchError
from elyra_server.guardian import Guardian
from elyra_server.kernelspecs import RemoteKernelSpecManager
from elyra_server.managers import RemoteKernelManager, RemoteMappingKernelManager
from elyra_server.processproxies import processproxy
from elyra_server.provisioner import ProcessProxyProvisioner
from elyra_server.service import Service

NAMES = ("launcher", "local")


class Gateway(LoggingConfigurable):
    """What a manager of kernels asks its server for."""

    max_kernels = None
    force_kernel_name = default_kernel_name = ""
    env_process_whitelist = ()


@pytest.fixture
async def kernels(tmp_path, monkeypatch):
    """A manager of kernels, as the server has one; nothing of its kernels is left."""
    marker = f"marker-{tmp_path}"
    for name, value in environment(tmp_path, ELYRA_TEST_MARKER=marker).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ELYRA_INHERITED_ENVS", "PYTHONPATH,ELYRA_TEST_MARKER")
    (tmp_path / "tmp").mkdir()
    write_spec(tmp_path / "data", "launcher")
    local = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    write_spec(tmp_path / "data", "local", local, process_proxy={})
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    yield RemoteMappingKernelManager(
        parent=Gateway(), kernel_spec_manager=RemoteKernelSpecManager(), connection_dir=str(runtime)
    )
    assert await Service.instance().drain(60)  # also of a launch that is given up and has yet to start its kernel
    until(lambda: not descendants_with(marker), "the end of all kernels")
    until(lambda: not list(runtime.glob("kernel-*")), "the removal of their files")


class Client:
    """Somebody who goes away."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.launch = None
        self.gone = threading.Event()

    async def starts(self, kernels, name):
        self.launch = asyncio.ensure_future(kernels.start_kernel(kernel_name=name))
        with pytest.raises(asyncio.CancelledError):
            await self.launch
        assert kernels.list_kernel_ids() == []
        assert self.gone.is_set()

    def go(self):
        """Also from another thread, and then before what that does next is noticed."""
        self.loop.call_soon_threadsafe(self._go)

    def _go(self):
        self.launch.cancel()
        self.gone.set()

    def goes_after(self, monkeypatch, owner, name):
        original = getattr(owner, name)

        async def method(*args, **kwargs):
            result = await original(*args, **kwargs)
            self.go()
            return result

        monkeypatch.setattr(owner, name, method)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (ProcessProxyProvisioner, "_launch"),
        (RemoteKernelManager, "_async_post_start_kernel"),
        (RemoteMappingKernelManager, "_add_kernel_when_ready"),
        (RemoteMappingKernelManager, "_finish_kernel_start"),
    ],
)
async def test_a_kernel_that_nobody_takes_is_ended(kernels, monkeypatch, owner, method, name):
    client = Client()
    client.goes_after(monkeypatch, owner, method)
    await client.starts(kernels, name)


async def test_a_kernel_that_is_started_in_a_thread_is_ended(kernels, monkeypatch):
    """Which cannot be stopped: the kernel comes up after the launch was given up."""
    client = Client()
    start = processproxy.launch_kernel

    def start_late(*args, **kwargs):
        client.go()
        assert client.gone.wait(10)
        return start(*args, **kwargs)

    monkeypatch.setattr(processproxy, "launch_kernel", start_late)
    await client.starts(kernels, "local")


async def test_launches_that_fail_keep_nothing(kernels, tmp_path):
    """Neither ports nor notes of files."""
    write_spec(tmp_path / "data", "launcher", ["/bin/sh", "-c", "exit 3", "{connection_file}", "{response_address}"])
    write_spec(tmp_path / "data", "local", ["/no/such/kernel", "{connection_file}"], process_proxy={})
    assert not [note for note in Guardian.instance()._guarded if note.isdigit()]  # a process that was given up
    ports, notes = LocalPortCache.instance().currently_used_ports, Guardian.instance()._guarded
    kept = []
    for _ in range(3):  # after the first one the server has files of its own
        for name in ("launcher", "local"):
            with pytest.raises(LaunchError):
                await kernels.start_kernel(kernel_name=name)
        kept.append((len(ports), len(notes)))
    assert kept == 3 * kept[:1]
