"""`jupyter elyra`: a kernel gateway whose kernels run elsewhere."""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from collections.abc import Awaitable
from typing import Any, ClassVar

from jupyter_core.application import JupyterApp
from jupyter_server.log import log_request
from jupyter_server.services.kernels.connection.base import BaseKernelWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from kernel_gateway.gatewayapp import KernelGatewayApp
from traitlets import Type, observe
from traitlets.config import Configurable

from elyra_server import __version__, shipping
from elyra_server.channels import RemoteChannelsConnection
from elyra_server.environment import launch_environment
from elyra_server.kernelspecs import RemoteKernelSpecManager
from elyra_server.listener import Listener
from elyra_server.managers import SHUTDOWN_LIMIT, RemoteKernelManager, RemoteMappingKernelManager
from elyra_server.restarter import RemoteKernelRestarter
from elyra_server.service import HURRY, PATIENCE, Service
from elyra_server.sessions import SessionManager
from elyra_server.settings import Settings
from elyra_server.ssh.connections import Connection
from elyra_server.submitter.pool import SubmitterPool, warm

LAUNCHES_LIMIT = 5.0
CLOSE_LIMIT = 8.0
"""Seconds for the websockets' end."""

OPEN_FILES = 65536

PERSONALITY = "elyra_server.personality"
WEBSOCKET_NAMES = ("kernel_gateway.jupyter_websocket", "jupyter-websocket")


class ElyraApp(KernelGatewayApp):
    """The server. All options of the kernel gateway are options of it."""

    name = "jupyter-elyra"
    version = __version__
    description = """
    Elyra

    Runs Jupyter kernels on a cluster: as Spark applications on YARN, on other
    hosts, or here, behind the REST and websocket interface of a Jupyter server.
    """
    examples = """
    jupyter elyra --ip=0.0.0.0 --port=8888                  # serve
    jupyter elyra --JupyterWebsocketPersonality.list_kernels=True
    jupyter elyra install spark_python_yarn_cluster --user  # install a kernelspec
    """
    subcommands: ClassVar[dict[str, Any]] = {
        "install": ("elyra_server.install.InstallApp", "Install kernelspecs that come with Elyra."),
    }
    classes: ClassVar[list[Any]] = [
        *KernelGatewayApp.classes,
        Settings,
        RemoteKernelSpecManager,
        RemoteMappingKernelManager,
        RemoteKernelManager,
        RemoteKernelRestarter,
        RemoteChannelsConnection,
    ]

    kernel_spec_manager_class = Type(
        default_value=RemoteKernelSpecManager,
        config=True,
        help="The kernel spec manager class to use; has to understand process_proxy.",
    )
    kernel_manager_class = Type(
        default_value=RemoteMappingKernelManager,
        klass=AsyncMappingKernelManager,
        config=True,
        help="The kernel manager class to use.",
    )
    kernel_websocket_connection_class = Type(
        default_value=RemoteChannelsConnection,
        klass=BaseKernelWebsocketConnection,
        config=True,
        help="The kernel websocket connection class to use.",
    )

    _stopping = False

    @observe("config")
    def _config_changed(self, change: Any) -> None:
        """Apply a configuration; what is in it may be secret, so only its sections are logged."""
        # Not Application's own, which logs all of it.
        Configurable._config_changed(self, change)
        self.log.debug("Configuration of: %s", ", ".join(sorted(change.new)) or "nothing")

    def initialize(self, argv: list[str] | None = None, new_httpserver: bool = True) -> None:
        """Read the configuration and set the server up; not for a subcommand, or to write a config file."""
        JupyterApp.initialize(self, argv)
        if self.subapp is not None or self.subcommand or self.generate_config:
            return
        super().initialize(argv, new_httpserver)

    def init_configurables(self) -> None:
        """Make the managers, with a manager of sessions that jupyter_server's handlers can await."""
        super().init_configurables()
        self.session_manager = SessionManager(self.kernel_manager)

    def init_webapp(self) -> None:
        """Set the web application up; its log shows no tokens."""
        super().init_webapp()
        self.web_app.settings["log_function"] = log_request

    def start_app(self) -> None:
        """Say where the server is."""
        JupyterApp.start(self)
        scheme = "https" if self.certfile else "http"
        self.log.info("Elyra %s is available at %s://%s:%s%s", __version__, scheme, self.ip, self.port, self.base_url)

    def start(self) -> None:
        """Serve until told to stop, or run the subcommand."""
        if self.subapp is not None or self.subcommand or self.generate_config:
            JupyterApp.start(self)
        else:
            raise_file_limit()
            self._warm_up()
            super().start()

    def _warm_up(self) -> None:
        """Have the submitters of kernels on YARN ready when they are wanted."""
        settings = Settings(parent=self)
        if settings.warm_submitter and settings.warm_submitter_at_start:
            environ = launch_environment({}, [*self.env_process_whitelist, *settings.inherited_envs])
            service = Service.instance()
            asyncio.run_coroutine_threadsafe(warm(self.kernel_spec_manager, environ, settings), service.loop)

    def init_signal(self) -> None:
        """Stop on signals; at a terminal, Ctrl-C asks first, and a second one does not."""
        super().init_signal()
        if not (sys.stdin and sys.stdin.isatty()):
            # Python's own handler would end the loop, and with it the server before its kernels.
            signal.signal(signal.SIGINT, self._signal_stop)

    def _signal_stop(self, sig: int, frame: Any) -> None:
        """Leave the handling of a signal to the loop: in the middle of a log line nothing can be logged."""
        self.io_loop.add_callback_from_signal(super()._signal_stop, sig, frame)

    def stop(self, from_signal: bool = False) -> None:
        """Begin to stop, once."""
        if not self._stopping:
            self._stopping = True
            super().stop(from_signal)

    async def _stop(self) -> None:
        """End all kernels, wait, within limits, for what that takes, and stop whatever happens."""
        connections: Any = self.kernel_websocket_connection_class
        try:
            if isinstance(self.kernel_manager, RemoteMappingKernelManager):
                await self._finish_within(LAUNCHES_LIMIT, "end of the launches", self.kernel_manager.end_launches())
            await self._finish_within(SHUTDOWN_LIMIT + 4.0, "shutdown of the kernels", self.async_shutdown())
            await self._finish_within(CLOSE_LIMIT, "close of the websockets", connections.close_all())
            await self._finish_within(PATIENCE + HURRY + 3.0, "end of the kernels", self._drain())
        finally:
            shipping.remove_private_directory()
            self.io_loop.stop()

    async def _drain(self) -> None:
        """See what goes on behind the kernels' shutdown: launchers and applications that end, or are killed."""
        service = Service.instance()
        if not await service.drain(PATIENCE):
            self.log.warning("Some kernels did not end within %g s: what is left of them is killed.", PATIENCE)
            if not await service.hurry():
                self.log.error("Some kernels' ends were not seen within %g s more.", HURRY)
        await service.call(Listener.close_shared())
        await service.call(Connection.close_all())
        await service.call(SubmitterPool.close_shared())

    async def _finish_within(self, seconds: float, name: str, step: Awaitable[Any]) -> None:
        """Take one step of the server's end; one that fails must not keep the others from being taken."""
        try:
            await asyncio.wait_for(step, seconds)
        except asyncio.TimeoutError:
            self.log.error("Stopping: the %s took longer than %g s.", name, seconds)
        except (Exception, asyncio.CancelledError):  # a launch that was given up at this moment, for one
            self.log.exception("Stopping: the %s failed.", name)

    def _load_api_module(self, module_name: str) -> Any:
        if module_name in WEBSOCKET_NAMES:
            return importlib.import_module(PERSONALITY)
        return super()._load_api_module(module_name)


def raise_file_limit() -> None:
    """Allow this process more open files, as far as the system lets it: a kernel takes up to forty of often 1024."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(argv: list[str] | None = None) -> None:
    """Run `jupyter elyra`."""
    ElyraApp.launch_instance(argv)


if __name__ == "__main__":
    main()
