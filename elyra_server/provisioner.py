"""The kernel provisioner that hosts a process proxy.

This is how the server's managers run kernels, and, as the entry point
``elyra-provisioner``, how any other Jupyter application does: JupyterLab, nbclient,
papermill or a bare `KernelManager`. It turns jupyter_client's calls into those of a
process proxy, on the service's loop, and knows what a restart means: the launcher
stays, and starts a new kernel on the same ports. Where that cannot be, there is a new
launch.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from pathlib import Path
from typing import Any

from jupyter_client.connect import port_names
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from jupyter_core.paths import jupyter_runtime_dir

from elyra_server.arguments import PORT_LIMITS, add_missing_flags, check_port_range, fill
from elyra_server.clientoptions import check_options
from elyra_server.environment import KERNEL_PREFIX, default_username
from elyra_server.errors import ElyraError, InvalidRequestError, LaunchError
from elyra_server.guardian import Guardian
from elyra_server.kernelspecs import proxy_class, stanza_of
from elyra_server.launchers import KernelEnd, Launcher
from elyra_server.listener import Listener
from elyra_server.processproxies.base import polled_end
from elyra_server.reports import check_key, check_report
from elyra_server.service import Service, in_thread, invoke
from elyra_server.settings import Settings
from elyra_server.users import check_principal, check_user

# Where a process proxy has to find its own launch's secrets and software.
TICKET = "ELYRA_LAUNCH_TICKET"
IMPERSONATION = "ELYRA_IMPERSONATION_ENABLED"


class ProcessProxyProvisioner(LocalProvisioner):
    """Runs a kernel through the process proxy that its kernelspec names.

    Derived from Jupyter's own for what local kernels share with it: the choice of ports, the
    connection file, paths. The process is always the process proxy's.

    Attributes
    ----------
    process_proxy : BaseProcessProxyABC
        The process proxy, from the launch until `cleanup`.
    """

    process_proxy: Any = None
    _proxy_class: Any = None
    _launcher: Launcher | None = None
    _remote = False
    _managed = False

    @property
    def settings(self) -> Settings:
        """The operator's settings."""
        return Settings(parent=self)

    @property
    def has_process(self) -> bool:
        """Whether there is a process to manage."""
        return self._managed

    # -- launch ------------------------------------------------------------------------------------

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Prepare the launch: class, user, command and environment."""
        config = stanza_of(self.kernel_spec).config
        found = await in_thread(proxy_class, self.kernel_spec)
        self._remote = callable(getattr(found, "confirm_remote_startup", None))
        given = kwargs.pop("env", None)
        environ = dict(given) if given is not None else self._own_environment()
        # What clients say is not put into the kernelspec's env by substitution: a launch script
        # evaluates some of that as shell code, and there it expands these variables itself.
        sent = getattr(given, "client", ())
        names = [name for name in environ if name in sent or name.startswith(KERNEL_PREFIX)]
        client = {name: environ.pop(name) for name in names}
        if self.settings.impersonation_enabled:
            check_options(client)
            if not client.get("KERNEL_USERNAME"):
                raise InvalidRequestError(
                    "Kernels run as other users here (ELYRA_IMPERSONATION_ENABLED): name one by KERNEL_USERNAME in env."
                )
        check_user(self.settings, config, client.get("KERNEL_USERNAME") or default_username())
        if self._remote:
            self._name_connection_file()
            command = self._format_command(kwargs.pop("extra_arguments", None))
            kwargs = await KernelProvisionerBase.pre_launch(self, env=environ, cmd=command, **kwargs)
        else:
            kwargs = await super().pre_launch(env=environ, **kwargs)
        kwargs["env"] = self._complete({**client, **kwargs["env"]})
        self._proxy_class = found
        return kwargs

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start the kernel, in place if its launcher is still there."""
        try:
            info = await Service.instance().call(self._launch(cmd, kwargs))
        except asyncio.CancelledError:
            # It may have succeeded just now, and nobody else knows of it.
            await asyncio.shield(Service.instance().call(self._release(now=True)))
            raise
        if self._remote:
            self._load_into_manager(info)
        return info

    def _load_into_manager(self, info: Any) -> None:
        """Give the manager the launcher's ports and key, and the connection file to remove in the end.

        jupyter_client does so itself, but not where the file exists: a launcher on this host wrote it.
        """
        manager: Any = self.parent
        for name in port_names:
            setattr(manager, name, 0)
        manager.load_connection_info(info)
        manager._connection_file_written = True

    async def _launch(self, cmd: list[str], kwargs: dict[str, Any]) -> Any:
        if self.settings.test_block_launch > 0:
            await asyncio.sleep(self.settings.test_block_launch)
        launcher = self._launcher
        if launcher is not None and launcher.alive:
            try:
                return self._started(await self._reachable(await launcher.restart(now=True)))
            except LaunchError as error:
                # It was told to end meanwhile, and perhaps released; or it is there and just cannot be asked now.
                if launcher.ending or (launcher.lost.is_set() and not launcher.gone.is_set()):
                    raise
                self.log.warning("Kernel %s: %s It is launched anew.", self.kernel_id, error)
        if self._remote:
            # What is left of a kernel that died, or is not restarted in place; also if this launch is given up.
            await asyncio.shield(asyncio.ensure_future(self._release(now=True)))
        try:
            if not getattr(self._proxy_class, "runs_by_login", False):
                check_principal(self.settings, stanza_of(self.kernel_spec).config, kwargs["env"])
            if self.process_proxy is None:
                self.process_proxy = await in_thread(self._proxy_class, self.parent)
            if self._remote:
                cmd = self._equip(cmd, kwargs["env"])
            await self._launch_process(cmd, self._scrub_kwargs(kwargs))
            if self._remote and self._launcher is not None:
                info = await self._reachable(await self._await_report())
            else:
                info = dict(self.connection_info)
        except BaseException as error:  # also a launch that was cancelled leaves nothing
            await self._give_back()
            await self._forget_file_and_ports()
            if isinstance(error, (ElyraError, asyncio.CancelledError)) or not isinstance(error, Exception):
                raise
            raise LaunchError(f"{self._proxy_class.__name__}: {error}") from error
        if callable(getattr(self.process_proxy, "watch", None)):
            self.process_proxy.watch()
        return self._started(info)

    async def _launch_process(self, cmd: list[str], kwargs: dict[str, Any]) -> None:
        """Have the process proxy launch. A plain method cannot be stopped: what it starts all the same is killed."""
        proxy = self.process_proxy
        if inspect.iscoroutinefunction(proxy.launch_process):
            await proxy.launch_process(cmd, **kwargs)
            return
        launching = asyncio.ensure_future(invoke(proxy.launch_process, cmd, **kwargs))
        try:
            await asyncio.shield(launching)
        except asyncio.CancelledError:
            await self._give_back()
            await asyncio.wait({launching})
            if launching.exception() is None:
                await _kill_if_running(proxy)
            raise

    async def _await_report(self) -> dict[str, Any]:
        """Return the launcher's report, which our own process proxies waited for already."""
        assert self._launcher is not None
        try:
            limit = self.settings.kernel_launch_timeout
            return await asyncio.wait_for(asyncio.shield(self._launcher.reported), limit)
        except asyncio.TimeoutError as error:
            raise LaunchError(
                f"{self._proxy_class.__name__} launched, but its launcher did not report within {limit:g} s."
            ) from error

    async def _reachable(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return how a kernel is reached, which its launcher reported and its process proxy may know better."""
        assert self._launcher is not None
        await in_thread(check_report, info, self._launcher.peer)
        hook = getattr(self.process_proxy, "reachable", None)
        info = await hook(info) if callable(hook) else info
        check_key(info)
        return info

    def _started(self, info: dict[str, Any]) -> Any:
        self._managed = True
        info = dict(info)
        self.pid = info.pop("pid", None)
        self.pgid = info.pop("pgid", None)
        self.connection_info = _connection_info(info)
        return self.connection_info

    def _equip(self, cmd: list[str], env: dict[str, str]) -> list[str]:
        """Give a launch what its launcher needs to call in."""
        listener = Listener.shared(self.settings)
        self._launcher = listener.register(str(self.kernel_id))
        self.process_proxy.launcher = self._launcher
        port_range = (
            self.process_proxy.proxy_config.get("port_range") if hasattr(self.process_proxy, "proxy_config") else None
        )
        # Where it depends on the host, which is not chosen yet, the process proxy fills it in.
        own = getattr(self.process_proxy, "names_response_address", False)
        address = (
            {}
            if own
            else {"response_address": listener.response_address(bool(getattr(self.process_proxy, "local", False)))}
        )
        values = {
            **address,
            "public_key": listener.fingerprint,
            "kernel_id": str(self.kernel_id),
            "port_range": check_port_range(
                str(port_range or self.settings.port_range), self.settings.min_port_range_size, "process_proxy"
            ),
        }
        env[TICKET] = self._launcher.ticket or ""
        limits = (self.settings.min_port_range_size, self.settings.max_port_range_retries)
        env.update(zip(PORT_LIMITS, map(str, limits), strict=True))
        if callable(getattr(self.process_proxy, "begin", None)):
            self.process_proxy.begin(env)
        return add_missing_flags(fill(cmd, values), values)

    # -- the process -------------------------------------------------------------------------------

    async def poll(self) -> int | None:
        """Return None while the kernel runs, else something like an exit code."""
        if not self._managed or self.process_proxy is None:
            return 0
        result = await Service.instance().call(invoke(self.process_proxy.poll))
        if result is None or self._launcher is None or not self._launcher.ended.done():
            return None if result is None else int(result or 1)
        return self._launcher.ended.result().code

    async def wait(self) -> int | None:
        """Wait for the end of a kernel that was told to end."""
        if self._managed and self.process_proxy is not None:
            await Service.instance().call(invoke(self.process_proxy.wait))
        self._managed = False
        return 0

    async def wait_ended(self) -> KernelEnd:
        """Return when the kernel ended, and how; without polling where the process proxy can tell."""
        if self.process_proxy is None:
            return KernelEnd("The kernel was not started.")
        return await Service.instance().call(self._wait_ended())

    async def send_signal(self, signum: int) -> None:
        """Send the kernel a signal."""
        if self.process_proxy is not None and self._managed:
            await Service.instance().call(invoke(self.process_proxy.send_signal, int(signum)))

    async def kill(self, restart: bool = False) -> None:
        """Kill the kernel; what it holds elsewhere stays until `cleanup` says whether it restarts."""
        if self.process_proxy is not None and self._managed:
            await Service.instance().call(invoke(self.process_proxy.kill))

    async def terminate(self, restart: bool = False) -> None:
        """Ask the kernel, by a signal, to end."""
        await self.send_signal(15)

    async def check_restart(self) -> None:
        """See that a restart does not cost a kernel which goes on, but cannot be asked for anything now."""
        if self._launcher is not None:
            await Service.instance().call(self._launcher.check_restart())

    async def shutdown_requested(self, restart: bool = False) -> None:
        """Tell the launcher what the shutdown request on the control channel is for."""
        if self._launcher is not None:
            await Service.instance().call(self._announce(self._launcher, restart))

    def expect_restart(self) -> None:
        """Note, before the kernel is told, that a client asks it to end for a restart."""
        if self._launcher is not None:
            Service.instance().loop.call_soon_threadsafe(self._launcher.expect_restart)

    async def cleanup(self, restart: bool = False) -> None:
        """Give back what the kernel held, unless it restarts."""
        if restart:
            return
        await Service.instance().call(self._release(now=False))
        self._managed = False
        await self._forget_file_and_ports()

    async def _forget_file_and_ports(self) -> None:
        """Let go of the connection file, and of the ports that a local kernel was given."""
        manager: Any = self.parent
        Guardian.instance().release_file(manager.connection_file)
        if not self._remote:
            manager.cleanup_connection_file()
            await super().cleanup()
            self.ports_cached = False

    async def get_provisioner_info(self) -> dict[str, Any]:
        """Return what a server that adopts this kernel has to know."""
        info = await super().get_provisioner_info()
        info["process_proxy"] = type(self.process_proxy).__name__
        return info

    @staticmethod
    async def _announce(launcher: Launcher, restart: bool) -> None:
        if restart and launcher.restarts_in_place:
            launcher.restart_expected = True
        else:  # where a restart is a new launch, the old one ends as it would for good
            await launcher.shutdown()

    async def _wait_ended(self) -> KernelEnd:
        if not callable(getattr(self.process_proxy, "ended", None)):
            return await polled_end(self.process_proxy.poll)
        end: KernelEnd = await self.process_proxy.ended()
        return end

    async def _release(self, now: bool) -> None:
        """Let the process proxy give back what it holds; safe to repeat."""
        launcher, self._launcher = self._launcher, None
        proxy, self.process_proxy = self.process_proxy, None
        if proxy is None:
            return
        try:
            if callable(getattr(proxy, "release", None)):
                await proxy.release(now)
            else:
                await invoke(proxy.kill)
        finally:
            if launcher is not None and not callable(getattr(proxy, "begin", None)):
                Listener.shared(self.settings).forget(launcher)

    async def _give_back(self) -> None:
        """Release what a failed launch has. What is told is why it failed, not what a process proxy says to this."""
        try:
            await self._release(now=True)
        except Exception as error:  # noqa: BLE001 - whatever others' process proxies raise that have started nothing
            self.log.warning("Kernel %s: %s cannot give it back: %r", self.kernel_id, self._proxy_class.__name__, error)

    # -- command and environment -------------------------------------------------------------------

    def _name_connection_file(self) -> None:
        """Give the connection file its name, which a KernelManager of its own (without a server) has not done yet."""
        manager: Any = self.parent
        if not manager.connection_file:
            directory = Path(jupyter_runtime_dir())
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            manager.connection_file = str(directory / f"kernel-{self.kernel_id}.json")
        Guardian.instance().guard_file(manager.connection_file)

    def _format_command(self, extra_arguments: list[str] | None) -> list[str]:
        manager: Any = self.parent
        return list(manager.format_kernel_cmd(extra_arguments=extra_arguments or []))

    def _own_environment(self) -> dict[str, str]:
        """Return the environment of a launch outside the server: this process's, as in Jupyter."""
        return dict(os.environ)

    def _complete(self, env: dict[str, str]) -> dict[str, str]:
        """Return an environment with what each launch has."""
        env.pop("KG_AUTH_TOKEN", None)
        env["KERNEL_ID"] = str(self.kernel_id)
        env.setdefault("KERNEL_LANGUAGE", (self.kernel_spec.language or "").lower())
        if not env.get("KERNEL_USERNAME"):
            env["KERNEL_USERNAME"] = default_username()
        if self._remote:
            env[IMPERSONATION] = str(self.settings.impersonation_enabled)
        return env


async def _kill_if_running(proxy: Any) -> None:
    if await invoke(proxy.poll) is None:
        await invoke(proxy.kill)


def _connection_info(info: dict[str, Any]) -> Any:
    """Return connection info as jupyter_client wants it: the key in bytes."""
    result = dict(info)
    if isinstance(result.get("key"), str):
        result["key"] = result["key"].encode()
    return result
