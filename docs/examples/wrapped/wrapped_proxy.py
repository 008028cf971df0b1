"""A process proxy that starts launchers through a command of the site, such as srun or nice."""

from __future__ import annotations

import shutil
from typing import Any

from elyra_server import shipping
from elyra_server.errors import KernelSpecError
from elyra_server.processproxies.processproxy import RemoteProcessProxy


class WrappedProcessProxy(RemoteProcessProxy):
    """Runs ``config.wrapper`` followed by the kernelspec's argv, and waits for the launcher's report."""

    local = True  # the launcher is on this host; False where the wrapper takes it elsewhere

    async def launch_process(self, kernel_cmd: list[str], **kw: Any) -> None:
        """Start the launcher."""
        super().launch_process(kernel_cmd, **kw)
        wrapper = self.proxy_config.get("wrapper")
        if not isinstance(wrapper, list) or not wrapper or shutil.which(wrapper[0]) is None:
            raise KernelSpecError(f"process_proxy: wrapper {wrapper!r} is not a command that exists here.")
        kw["env"]["ELYRA_LAUNCHER_PATH"] = str(shipping.launcher_directory())
        self.run_command([*wrapper, *kernel_cmd], kw["env"], kw.get("cwd"))
        await self.confirm_remote_startup(kernel_cmd, **kw)

    async def confirm_remote_startup(self, kernel_cmd: list[str], **kw: Any) -> None:
        """Wait for the launcher's report; its end, or the end of the command, raises the cause."""
        while not await self.receive_connection_info(self.remaining()):
            self.handle_timeout()

    def handle_timeout(self) -> None:
        """Give the launch up when its time is over."""
        super().handle_timeout()
