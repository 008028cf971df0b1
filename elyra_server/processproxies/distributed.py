"""Kernels on hosts of the operator's choice, reached by ssh."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import socket
from collections.abc import Sequence
from typing import Any

from jupyter_client.connect import port_names

from elyra_launcher.landing import PLACE
from elyra_server import shipping
from elyra_server.addresses import (
    RESOLVER_LIMIT,
    is_ipv4_elsewhere,
    is_known_as_this_host,
    is_this_host,
    was_this_host,
)
from elyra_server.arguments import PORT_LIMITS, fill
from elyra_server.environment import KERNEL_PREFIX
from elyra_server.errors import InvalidRequestError, LaunchError
from elyra_server.kernelspecs import switch
from elyra_server.launchers import quote_lines
from elyra_server.listener import current_listener
from elyra_server.processes import describe_end
from elyra_server.processproxies.processproxy import RemoteProcessProxy
from elyra_server.reports import check_place
from elyra_server.service import in_thread, in_thread_within
from elyra_server.settings import split_list
from elyra_server.ssh.command import RemoteCommand
from elyra_server.ssh.connections import Connection
from elyra_server.ssh.errors import HostError, SilenceError
from elyra_server.ssh.hosts import HostChoice, check_algorithm
from elyra_server.ssh.login import describe_network_error
from elyra_server.ssh.pack import KERNELSPEC, LAUNCHER, pack
from elyra_server.ssh.target import find_target
from elyra_server.ssh.tunnels import Tunnel
from elyra_server.users import check_own_host

TICKET = "ELYRA_LAUNCH_TICKET"
LAUNCHER_PATH = "ELYRA_LAUNCHER_PATH"
IMPERSONATION = "ELYRA_IMPERSONATION_ENABLED"
PYTHON = "PYSPARK_PYTHON"
CONNECTION_FILE_MODE = "ELYRA_CONNECTION_FILE_MODE"
ANY_PYTHON = re.compile(r"python(3(\.[0-9]+)?)?\Z")

LINK_CHECKS = (0.3, 2.0, 8.0, 30.0)
"""When, after a link was lost, the host is asked whether the launcher is still there."""

CONNECT_LIMIT = 3.0
"""Seconds for a connection to a kernel's port."""

NEXT_QUESTION = 2.0
"""Seconds between two questions whether a launch is over."""


class DistributedProcessProxy(RemoteProcessProxy):
    """Starts the launcher on one of the hosts: by ssh, or on this host as a local process.

    The hosts are ``remote_hosts`` of the stanza's config, else ELYRA_REMOTE_HOSTS, else this
    host; KERNEL_REMOTE_HOST of a launch chooses one of them. A host that cannot take the
    launch is passed over for a while, and the next one is tried.
    """

    names_response_address = True
    connection_file_modes = ("socket", "pull")
    runs_by_login = True
    host = ""
    _counted = False
    _connection: Connection | None = None
    _tunnel: Tunnel | None = None

    async def launch_process(self, kernel_cmd: list[str], **kw: Any) -> None:
        """Start the launcher on a host that takes it."""
        super().launch_process(kernel_cmd, **kw)
        env = kw["env"]
        problems: list[str] = []
        for host in self._candidates(env):
            try:
                await self._start_patiently(host, kernel_cmd, env, kw.get("cwd"))
                break
            except HostError as error:
                if self._is_there():
                    break
                problems.append(str(error))
                env[TICKET] = self.launcher.renew_ticket()  # first: what is ended now has no say in the next try
                await self._leave(host, error)
        else:
            many = len(problems) > 1
            raise LaunchError("No host could take the kernel.\n" + "\n".join(problems) if many else problems[0])
        await self.confirm_remote_startup(kernel_cmd, **kw)

    async def confirm_remote_startup(self, kernel_cmd: list[str], **kw: Any) -> None:
        """Wait for the launcher's report, its end, or the end of the launch limit."""
        command = self.command
        if not isinstance(command, RemoteCommand):
            while not await self.receive_connection_info(self.remaining()):
                self.handle_timeout()
            return
        asking = asyncio.ensure_future(self._ask_for_end(command))
        try:
            while not await self.receive_connection_info(self.remaining(), asking):
                self.handle_timeout()
        finally:
            asking.cancel()
            await command.listen_no_more()

    def handle_timeout(self) -> None:
        """Give the launch up when its time is over."""
        super().handle_timeout()

    def describe_progress(self) -> str:
        """Return what is known about a launch that is not ready, and where it is."""
        if self._connection is None:
            return super().describe_progress()
        if isinstance(self.command, RemoteCommand) and self.command.waits_for_session:
            return (
                f"The sshd of host {self.host} allows no more sessions at a time than other launches have now: raise "
                "MaxSessions in its sshd_config."
            )
        return f"It is on host {self.host}. {super().describe_progress()}"

    def describe_command_end(self) -> str:
        """Return why a launch command that ended is the end of its launch, and where that was."""
        text = super().describe_command_end()
        if self._connection is None:
            return text
        hint = ""
        if self.command is not None and any("server cannot be reached" in line for line in self.command.lines):
            hint = (
                "\nThe host cannot connect to this server: set ELYRA_RESPONSE_IP to an address that it can reach, open "
                "the port in the firewalls between, or set ELYRA_ENABLE_TUNNELING=True."
            )
        return f"Host {self._connection.target}: {text[0].lower()}{text[1:]}{hint}"

    async def reachable(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return the connection info by which the kernel is reached: through a tunnel, if that is the only way.

        It is also for a launcher that called in over IPv6, which Jupyter's channels do not speak.
        """
        if self._connection is None:
            return info
        if self._pulls:
            info = await self._pull(info)
        if self._tunnel is None and not is_ipv4_elsewhere(str(info["ip"])):
            self._tunnel = Tunnel(self._connection)
        if self._tunnel is None:
            check_place(info, dict.fromkeys([self.launcher.peer, self._connection.address]))
            await in_thread(self._check_way, str(info["ip"]), int(info["shell_port"]))
            return info
        return await self._tunnel.reach(info, *getattr(self.command, "relay", ("", 0)))

    def _check_way(self, ip: str, port: int) -> None:
        """See that the kernel's ports can be connected to: a firewall lets nothing in without a word; blocks."""
        try:
            socket.create_connection((ip, port), CONNECT_LIMIT).close()
        except OSError as error:
            raise LaunchError(
                f"Host {self.host}: the kernel runs, but this server cannot connect to its ports there ({ip}:{port} "
                f"{describe_network_error(error)}). Open the host's ports for this server (port_range limits them), or "
                "set ELYRA_ENABLE_TUNNELING=True."
            ) from error

    def watch(self) -> None:
        """Ask the host for the cause when the link to the launcher is lost."""
        super().watch()
        if isinstance(self.command, RemoteCommand):
            self._watches.append(self.service.loop.create_task(self._watch_link(self.command)))

    async def finish(self) -> None:
        """Let the host and the connection to it go."""
        self._uncount()
        tunnel, self._tunnel = self._tunnel, None
        connection, self._connection = self._connection, None
        try:
            if tunnel is not None:
                await tunnel.close()
        finally:
            if connection is not None:
                connection.release()

    # -- hosts -------------------------------------------------------------------------------------

    def _candidates(self, env: dict[str, str]) -> Any:
        configured = self.proxy_config.get("remote_hosts") or self.settings.remote_hosts or ["localhost"]
        hosts = split_list(configured) if isinstance(configured, str) else [str(name) for name in configured]
        hosts = list(dict.fromkeys(hosts))
        wanted = env.get("KERNEL_REMOTE_HOST")
        if wanted:
            if wanted not in hosts:
                raise InvalidRequestError(f"KERNEL_REMOTE_HOST={wanted[:100]!r} is not one of this kernelspec's hosts.")
            hosts = [wanted]
        own = self.proxy_config.get("load_balancing_algorithm")
        algorithm = check_algorithm(
            str(own or self.settings.load_balancing_algorithm),
            "process_proxy" if own else "ELYRA_LOAD_BALANCING_ALGORITHM",
        )
        return HostChoice.shared().candidates(hosts, algorithm)

    async def _start_patiently(self, host: str, kernel_cmd: list[str], env: dict[str, str], cwd: Any) -> None:
        """Start on a host, once more if the connection to it was lost on the way: there may be a new one already."""
        try:
            await self._start_on(host, kernel_cmd, env, cwd)
        except SilenceError:
            if self._is_there():
                return
            env[TICKET] = self.launcher.renew_ticket()
            await self._give_back()
            await self._start_on(host, kernel_cmd, env, cwd)

    def _is_there(self) -> bool:
        """Say whether a launch that seemed to fail was just late, or the host's word of it was lost."""
        if self.launcher.link is None:
            return False
        if isinstance(self.command, RemoteCommand):
            self.command.is_there()
        return True

    async def _start_on(self, host: str, kernel_cmd: list[str], env: dict[str, str], cwd: Any) -> None:
        self.host = host
        self._count()
        here = is_known_as_this_host(host)
        if here is None:
            here = await in_thread_within(RESOLVER_LIMIT, was_this_host(host), is_this_host, host)
        if here:
            check_own_host(self.settings, self.proxy_config, env, host)
            address = current_listener(self.settings).response_address(local=True)
            kept = {name: value for name, value in env.items() if name != CONNECTION_FILE_MODE}
            environ = {**kept, LAUNCHER_PATH: str(shipping.launcher_directory())}
            self.run_command(fill(kernel_cmd, {"response_address": address}), environ, cwd)
        else:
            user = env.get("KERNEL_USERNAME", "") if self.settings.impersonation_enabled else ""
            target = await in_thread(find_target, host, self.settings, user)
            self._connection = Connection.acquire(target)
            await self._start_by_ssh(self._connection, kernel_cmd, env)
        HostChoice.shared().succeeded(host)

    async def _leave(self, host: str, error: HostError) -> None:
        """Give a host back that could not take the launch."""
        self.log.warning("Kernel %s could not be started on a host. %s", self.kernel_id, error)
        if error.lasting and not (error.of_user and self.settings.impersonation_enabled):
            HostChoice.shared().failed(host)
        await self._give_back()

    async def _give_back(self) -> None:
        if isinstance(self.command, RemoteCommand):
            await self.command.terminate()
        self.command = None
        await self.finish()

    def _count(self) -> None:
        self._counted = True
        HostChoice.shared().kernels[self.host] += 1

    def _uncount(self) -> None:
        if self._counted:
            self._counted = False
            HostChoice.shared().kernels[self.host] -= 1

    # -- a launch by ssh ---------------------------------------------------------------------------

    async def _start_by_ssh(self, connection: Connection, kernel_cmd: list[str], env: dict[str, str]) -> None:
        place = self.kernel_manager.kernel_spec.resource_dir or ""
        packed = await in_thread(pack, place)
        address = await self._response_address(connection)
        words = self._own_python(fill(kernel_cmd, {"response_address": address}))
        own_env = self._environment(env)
        names = [(place, f"{PLACE}/{KERNELSPEC}")] if place else []
        connection_file = str(self.kernel_manager.connection_file)
        # In arguments jupyter_client has it without symbolic links.
        written = dict.fromkeys([connection_file, await in_thread(os.path.realpath, connection_file)])
        files = [*names, *((each, f"{PLACE}/{self._connection_file}") for each in written)]
        order = {
            "kernel_id": self.kernel_id,
            "argv": [_moved(word, files) for word in words],
            "env": {name: _moved(value, names) for name, value in own_env.items()},
            "log": self.settings.kernel_log_dir or self.settings.proxy_launch_log,
            "log_is_directory": bool(self.settings.kernel_log_dir),
            # Its channels go through ssh.
            "relay": secrets.token_hex(16) if self._tunnel is not None or address.startswith("[") else "",
        }
        python = str(self.proxy_config.get("python") or own_env.get(PYTHON) or "python3")
        self.command = command = RemoteCommand(connection, python, self.remaining())
        starting = asyncio.ensure_future(command.start(order, packed))
        try:
            done, _ = await asyncio.wait({starting}, timeout=self.remaining())
            if not done:
                self.handle_timeout()
            await starting
        finally:
            starting.cancel()
            await asyncio.wait({starting})  # which notes whether the host may have the launch

    def _own_python(self, words: list[str]) -> list[str]:
        """Return a command with the host's Python where the kernelspec wants any: jupyter_client names the server's."""
        first = self.kernel_manager.kernel_spec.argv[0]
        return [first, *words[1:]] if ANY_PYTHON.match(first) else words

    async def _response_address(self, connection: Connection) -> str:
        """Return where the launcher calls, as seen from its host."""
        listener = current_listener(self.settings)
        if not self._tunnels():
            return await listener.remote_response_address(await connection.local_address())
        self._tunnel = Tunnel(connection)
        return await self._tunnel.open(int(listener.response_address(local=True).rpartition(":")[2]))

    async def _pull(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return the content of the connection file itself; of the report only what is not in there."""
        assert isinstance(self.command, RemoteCommand)
        try:
            content = json.loads(await self.command.read(self._connection_file))
        except ValueError as error:
            raise LaunchError(f"Host {self.host}: the connection file is damaged: {error}") from error
        if not isinstance(content, dict) or not all(isinstance(content.get(name), int) for name in port_names):
            raise LaunchError(f"Host {self.host}: the connection file has no ports.")
        return {**content, **{name: info[name] for name in ("ip", "pid", "pgid") if name in info}}

    @property
    def _pulls(self) -> bool:
        return bool(self.settings.connection_file_mode == "pull")

    @property
    def _connection_file(self) -> str:
        return f"kernel-{self.kernel_id}.json"

    def _tunnels(self) -> bool:
        return switch(self.proxy_config, "enable_tunneling", bool(self.settings.enable_tunneling))

    def _environment(self, env: dict[str, str]) -> dict[str, str]:
        """Return the part of the launch's environment that is not this server's own: PATH and so on are the host's."""
        kept = {TICKET, IMPERSONATION, *PORT_LIMITS, *(self.kernel_manager.kernel_spec.env or {})}
        kept.update(self.settings.client_envs, self.settings.inherited_envs)
        own = {name: value for name, value in env.items() if name in kept or name.startswith(KERNEL_PREFIX)}
        if self.settings.impersonation_enabled:
            own[IMPERSONATION] = "False"  # who is logged in is the user already: nobody is left to impersonate
        if self._pulls:
            own[CONNECTION_FILE_MODE] = "pull"
        return {**own, LAUNCHER_PATH: f"{PLACE}/{LAUNCHER}"}

    async def _ask_for_end(self, command: RemoteCommand) -> None:
        """See the end of a launch which nobody tells: there were too many, or the connection was replaced."""
        await command.deaf.wait()
        while not command.ended.done():
            await asyncio.sleep(NEXT_QUESTION)
            if self.launcher.link is None and await command.gone() and not command.ended.done():
                raise LaunchError(
                    f"Host {command.connection.target}: the launch ended without a word: it was killed there, or the "
                    "host was started anew."
                )

    async def _watch_link(self, command: RemoteCommand) -> None:
        while not self.launcher.gone.is_set():
            await self.launcher.lost.wait()
            for pause in LINK_CHECKS:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.launcher.gone.wait(), pause)
                if not self.launcher.lost.is_set() or self.launcher.gone.is_set():
                    break
                if await command.gone():
                    self.launcher.end(self._end_of(command))
                    return
            while self.launcher.lost.is_set():  # until it called in again, or its lease is over
                if self.launcher.gone.is_set():
                    return
                await asyncio.sleep(1.0)

    def _end_of(self, command: RemoteCommand) -> str:
        """Return how a launcher ended that did not say so itself."""
        code = command.ended.result() if command.ended.done() else -signal.SIGKILL
        if code == -signal.SIGKILL:
            how = "ended without a word: it was killed there, or the host was started anew."
        else:
            how = f"{describe_end(code)}.{quote_lines(command.lines)}"
        return f"The launcher on host {self.host} {how}"


def _moved(text: str, places: Sequence[tuple[str, str]]) -> str:
    """Return a text with paths of this host as they are on the other one."""
    for here, there in places:
        if here:
            parts = re.split(re.escape(here) + r"(?![^/])", text)
            text = there.join(parts)
    return text
