"""Kernels on hosts of the operator's choice, each with a launcher of its own."""

from __future__ import annotations

import itertools
from typing import Any

from elyra_server import shipping
from elyra_server.addresses import is_this_host
from elyra_server.errors import LaunchError
from elyra_server.processproxies.processproxy import RemoteProcessProxy
from elyra_server.service import in_thread
from elyra_server.settings import split_list

# Launches of this process take the hosts in turn.
_turn = itertools.count()


class DistributedProcessProxy(RemoteProcessProxy):
    """Starts the launcher on one of the hosts; on this host as a local process.

    The hosts are ``remote_hosts`` of the stanza's config, else ELYRA_REMOTE_HOSTS, else this
    host; KERNEL_REMOTE_HOST of a launch chooses one of them.
    """

    host = "localhost"

    @property
    def local(self) -> bool:
        """Whether the launcher runs on this host."""
        return True

    async def launch_process(self, kernel_cmd: list[str], **kw: Any) -> None:
        """Start the launcher on the chosen host."""
        super().launch_process(kernel_cmd, **kw)
        env = kw["env"]
        self.host = self._choose_host(env)
        if not await in_thread(is_this_host, self.host):
            await self.launch_remotely(kernel_cmd, **kw)
        else:
            env["ELYRA_LAUNCHER_PATH"] = str(shipping.launcher_directory())
            self.run_command(kernel_cmd, env, kw.get("cwd"))
        await self.confirm_remote_startup(kernel_cmd, **kw)

    async def launch_remotely(self, kernel_cmd: list[str], **kw: Any) -> None:
        """Start the launcher on another host. The place of ssh, which is not built yet."""
        raise LaunchError(
            f"The host {self.host!r} is not this server, and kernels on other hosts (ssh) are not supported yet. "
            "Use localhost in remote_hosts of the kernelspec, or in ELYRA_REMOTE_HOSTS."
        )

    async def confirm_remote_startup(self, kernel_cmd: list[str], **kw: Any) -> None:
        """Wait for the launcher's report, its end, or the end of the launch limit."""
        while not await self.receive_connection_info(self.remaining()):
            self.handle_timeout()

    def handle_timeout(self) -> None:
        """Give the launch up when its time is over."""
        super().handle_timeout()

    def _choose_host(self, env: dict[str, str]) -> str:
        configured = self.proxy_config.get("remote_hosts") or self.settings.remote_hosts or ["localhost"]
        hosts = split_list(configured) if isinstance(configured, str) else [str(name) for name in configured]
        wanted = env.get("KERNEL_REMOTE_HOST")
        if wanted:
            if wanted not in hosts:
                raise LaunchError(f"KERNEL_REMOTE_HOST={wanted!r} is not one of the hosts: {', '.join(hosts)}.")
            return wanted
        return hosts[next(_turn) % len(hosts)]
