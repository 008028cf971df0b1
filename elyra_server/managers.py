"""The managers of kernels: one for each, and one for all."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import zmq
import zmq.asyncio
from jupyter_client.ioloop.restarter import AsyncIOLoopKernelRestarter
from jupyter_client.jsonutil import json_default
from kernel_gateway.services.kernels.manager import KernelGatewayIOLoopKernelManager, SeedingMappingKernelManager
from traitlets import Type, default

from elyra_server.activity import Activity
from elyra_server.buffering import Backlog
from elyra_server.environment import check_kernel_id, launch_environment
from elyra_server.errors import (
    ElyraError,
    KernelIdInUseError,
    LaunchError,
    LinkError,
    ServerEndingError,
    TooManyKernelsError,
)
from elyra_server.kernelspecs import proxy_class
from elyra_server.paced import PacedStream
from elyra_server.provisioner import ProcessProxyProvisioner
from elyra_server.restarter import RemoteKernelRestarter
from elyra_server.service import in_thread
from elyra_server.settings import Settings

RESTART_PATIENCE = 10.0
"""Seconds that a shutdown waits for the end of a restart before it gives that up."""

SHUTDOWN_LIMIT = 8.0
"""Seconds that the shutdown of all kernels may take before those that are left are let go; they end behind that."""

SHUTDOWN_PATIENCE = 0.8
"""Seconds that a shutdown waits for a launcher's kernel; the rest goes on in the background."""

MAX_SOCKETS = 65535
"""As many as ZeroMQ can have; what limits a server is its open files."""

RECONNECT_INTERVAL = 30
"""Milliseconds between two attempts of a channel to reach a kernel that is being restarted."""

NO_CHARGE = "The kernel was started, and ended again, since this server cannot take charge of it: "

ENDING = "The server is being stopped: it starts no kernel any more. Ask again when it is back."

OWN_PROVISIONERS = (None, "local-provisioner", "elyra-provisioner")


class Shown:
    """An attribute of a kernel that the list of kernels shows: where it is set, the kernel has to be written anew."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, kernel: Any, owner: type | None = None) -> Any:
        if kernel is None:
            return self
        try:
            return kernel.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None

    def __set__(self, kernel: Any, value: Any) -> None:
        kernel.__dict__[self._name] = value
        kernel.written = None


class RemoteKernelManager(KernelGatewayIOLoopKernelManager):
    """Manages one kernel, wherever it runs.

    At the point where the process is launched, a process proxy is made by the provisioner; it
    stands where the local process would.
    """

    kernel_id: Any
    _restarter: Any
    execution_state, last_activity, reason = Shown(), Shown(), Shown()
    written: str | None = None
    """The kernel's model as JSON, None where it is to be written anew."""

    restarter_class = Type(
        default_value=RemoteKernelRestarter,
        klass=AsyncIOLoopKernelRestarter,
        config=True,
        help="What restarts kernels that crashed, and notes the reason of those that ended.",
    )

    @property
    def process_proxy(self) -> Any:
        """The process proxy, None before the launch and where another provisioner runs the kernel."""
        return getattr(self.provisioner, "process_proxy", None)

    @property
    def hosted(self) -> bool:
        """Whether the kernel has a process proxy of ours, rather than a provisioner of others."""
        return isinstance(self.provisioner, ProcessProxyProvisioner)

    def connect_iopub(self, identity: bytes | None = None) -> Any:
        """Return a stream of what the kernel publishes, of which there may be much."""
        stream = super().connect_iopub(identity)
        stream.io_loop.remove_handler(stream.socket)
        return PacedStream(stream.socket, stream.io_loop)

    _restart: asyncio.Task[None] | None = None
    _readiness: asyncio.Task[bool] | None = None

    # -- start and restart -------------------------------------------------------------------------

    async def _async_pre_start_kernel(self, **kw: Any) -> Any:
        provisioner: Any = getattr(self, "provisioner", None)
        if provisioner is None and self._provisioner_name() in OWN_PROVISIONERS:
            # Before jupyter_client asks its factory for one.
            kernel_id = kw.get("kernel_id") or self.kernel_id or str(uuid.uuid4())
            self.kernel_id = kernel_id
            self.provisioner = ProcessProxyProvisioner(kernel_id=kernel_id, kernel_spec=self.kernel_spec, parent=self)
        return await super()._async_pre_start_kernel(**kw)

    async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
        async with self._given_up_on_failure():
            await super()._async_launch_kernel(kernel_cmd, **kw)

    async def _async_post_start_kernel(self, **kw: Any) -> None:
        async with self._given_up_on_failure():
            await super()._async_post_start_kernel(**kw)

    @contextlib.asynccontextmanager
    async def _given_up_on_failure(self) -> AsyncIterator[None]:
        """Let a kernel go that runs, but of which this server cannot take charge: out of open files, for example."""
        try:
            yield
        except (OSError, zmq.ZMQError) as error:
            await self.give_up()
            raise LaunchError(f"{NO_CHARGE}{error}") from error

    async def give_up(self) -> None:
        """End a kernel whose client is told that it did not start."""
        if self.hosted and self.provisioner is not None:
            self.stop_restarter()
            await self.provisioner.cleanup(restart=False)
            self._close_control_socket()
            self.cleanup_connection_file()

    def _provisioner_name(self) -> str | None:
        spec: Any = self.kernel_spec
        name = (spec.metadata or {}).get("kernel_provisioner", {}).get("provisioner_name")
        # The stanza is more specific than a provisioner that stands beside it.
        return None if getattr(spec, "process_proxy", None) else name

    async def restart_kernel(self, now: bool = False, newports: bool = False, **kw: Any) -> None:
        """Restart the kernel; whoever watches it is told before and after.

        Who asks for a restart while there is one gets that one: a user's and one after a crash, say.
        """
        if self._restart is None or self._restart.done():
            self._restart = asyncio.ensure_future(self._restart_once(now, newports, kw))
            self._restart.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            await asyncio.shield(self._restart)
        except asyncio.CancelledError:
            if self._restart.cancelled():
                raise LaunchError("The kernel was shut down while it restarted.") from None
            raise

    async def restart_is_over(self, patience: float = RESTART_PATIENCE) -> None:
        """Return when no restart is under way any more: it ended, or took too long and was given up."""
        if self._restart is not None and not self._restart.done():
            await asyncio.wait({self._restart}, timeout=patience)
            self._restart.cancel()  # a launch that is cancelled leaves nothing
            await asyncio.wait({self._restart})
            self.ready.cancel()  # a shutdown asks it how the last start went

    async def _restart_once(self, now: bool, newports: bool, options: dict[str, Any]) -> None:
        if isinstance(self.provisioner, ProcessProxyProvisioner):
            await self.provisioner.check_restart()
        self.fire("restart")
        self.execution_state = "restarting"
        try:
            await super().restart_kernel(now=now, newports=newports, **options)
        except Exception as error:
            # Whatever it was: nobody may wait for ever for a kernel that does not come back.
            self.execution_state, self.reason = "dead", f"It could not be restarted: {error}"
            self.fire("dead")
            raise
        self.execution_state = "starting"
        self.reason = ""
        self.fire("restarted")
        self.watch_readiness()

    # -- readiness ---------------------------------------------------------------------------------

    def watch_readiness(self) -> None:
        """Have the kernel "idle", and no longer "starting", once it answers."""
        self._stop_watching_readiness()
        self._readiness = asyncio.ensure_future(self._become_idle())

    async def is_ready(self) -> bool:
        """Return, once that is known, whether the kernel answers since it was started."""
        if self._readiness is None:
            return False
        await asyncio.wait({self._readiness})
        return not self._readiness.cancelled() and self._readiness.result()

    @property
    def answer_limit(self) -> float:
        """Seconds that it has to answer once it listens: as long as its launch may take, where that is longer."""
        launch: float = getattr(self.process_proxy, "launch_timeout", 0.0)
        answer: float = self.parent.kernel_info_timeout
        return max(launch, answer)

    def _stop_watching_readiness(self) -> None:
        if self._readiness is not None:
            self._readiness.cancel()

    async def _become_idle(self) -> bool:
        try:
            answers = await self._answers()
        except (OSError, zmq.ZMQError) as error:  # out of open files, for example
            self.log.warning("Kernel %s cannot be asked whether it is ready: %s", self.kernel_id, error)
            return False
        # It may work for a client already: what its messages say comes first.
        if answers and self.execution_state == "starting":
            self.execution_state = "idle"
        return answers

    async def _answers(self) -> bool:
        """Return whether the kernel answers to a request, before it ends."""
        reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended = asyncio.ensure_future(self._async_wait())
        channel: Any = self.connect_shell()
        channel.on_recv(lambda _: None if reply.done() else reply.set_result(None))
        try:
            self.session.send(channel, "kernel_info_request")
            await asyncio.wait({reply, ended}, timeout=self.answer_limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            channel.close()
        return reply.done()

    def fire(self, event: str) -> None:
        """Call those who registered for an event of the restarter."""
        restarter: Any = self._restarter
        if isinstance(restarter, RemoteKernelRestarter):
            restarter.fire(event)

    def start_restarter(self) -> None:
        """Watch the kernel. Without `autorestart` too: then it is left dead, with its reason."""
        if not self.hosted:
            super().start_restarter()
            return
        if self.has_kernel:
            if self._restarter is None:
                self._restarter = self.restarter_class(kernel_manager=self, loop=self.loop, parent=self, log=self.log)
            self._restarter.start()

    def stop_restarter(self) -> None:
        """Stop watching the kernel."""
        self._stop_watching_readiness()
        if self._restarter is not None:
            self._restarter.stop()

    # -- the end -----------------------------------------------------------------------------------

    async def _async_interrupt_kernel(self) -> None:
        if not (self.hosted and self.shutting_down):
            await super()._async_interrupt_kernel()
            self.fire("interrupted")
            return
        # On the way to a shutdown the interrupt helps a busy kernel, but is nothing to wait for.
        if self.provisioner is not None and await self.provisioner.poll() is None:
            if self.kernel_spec is not None and self.kernel_spec.interrupt_mode == "message":
                await super()._async_interrupt_kernel()  # a message, since the signal might end this kernel
                return
            task = asyncio.ensure_future(self.provisioner.send_signal(2))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    interrupt_kernel = _async_interrupt_kernel

    async def _async_wait(self, pollinterval: float = 0.1) -> None:
        if isinstance(self.provisioner, ProcessProxyProvisioner):
            await self.provisioner.wait_ended()
        else:
            await super()._async_wait(pollinterval)

    async def _async_finish_shutdown(
        self, waittime: float | None = None, pollinterval: float = 0.1, restart: bool = False
    ) -> None:
        if not (self.hosted and getattr(self.process_proxy, "launcher", None)):
            await super()._async_finish_shutdown(waittime, pollinterval, restart)
            return
        # The launcher goes on from here: SIGTERM, SIGKILL, and the end of the application.
        try:
            await asyncio.wait_for(self._async_wait(), SHUTDOWN_PATIENCE)
        except asyncio.TimeoutError:
            self.log.debug("Kernel %s is taking its time to end.", self.kernel_id)


class RemoteMappingKernelManager(SeedingMappingKernelManager):
    """Manages all kernels of the server, remote and local ones."""

    def _kernel_manager_class_default(self) -> str:
        return "elyra_server.managers.RemoteKernelManager"

    @default("context")
    def _default_context(self) -> zmq.asyncio.Context:
        self._created_context = True
        context = zmq.asyncio.Context()
        # By itself a context has 1023 sockets, a kernel with a websocket up to eight of them.
        context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
        # A kernel that restarts in place listens on its old ports again within a second or so.
        context.setsockopt(zmq.RECONNECT_IVL, RECONNECT_INTERVAL)
        return context

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # From the request on, before jupyter_client knows of it.
        self._reserved: set[str] = set()
        self._launches: set[asyncio.Task[Any]] = set()
        self._ending = False

    def kernels_as_json(self) -> str:
        """Return the models of all kernels as JSON; of those that did not change, as they were written before."""
        kernels: dict[str, Any] = self._kernels
        texts = [getattr(kernel, "written", None) or self._write(kernel_id) for kernel_id, kernel in kernels.items()]
        return f"[{', '.join(filter(None, texts))}]"

    def _write(self, kernel_id: str) -> str:
        try:
            text = json.dumps(self.kernel_model(kernel_id), default=json_default)
        except AttributeError:  # it has just begun
            return ""
        kernel: Any = self._kernels[kernel_id]
        kernel.written = text
        return text

    def notify_connect(self, kernel_id: str) -> None:
        """Note that a client's websocket was connected to a kernel."""
        super().notify_connect(kernel_id)
        self._rewrite(kernel_id)

    def notify_disconnect(self, kernel_id: str) -> None:
        """Note that one is not connected any more."""
        super().notify_disconnect(kernel_id)
        self._rewrite(kernel_id)

    def start_buffering(self, kernel_id: str, session_key: str, channels: dict[str, Any]) -> None:
        """Keep a kernel's messages for a client that went, as many as there is room for."""
        super().start_buffering(kernel_id, session_key, channels)
        self.keep_buffer(kernel_id, session_key, Backlog(Settings(parent=self).output_buffer))

    def keep_buffer(self, kernel_id: str, session_key: str, backlog: Backlog) -> None:
        """Keep these messages for a session, if its kernel's are kept, and add what comes to them."""
        if kernel_id in self._kernel_buffers and self._kernel_buffers[kernel_id]["session_key"] == session_key:
            self._kernel_buffers[kernel_id]["buffer"] = backlog

    def claim_buffer(self, kernel_id: str, session_key: str) -> Backlog | None:
        """Return what was kept for a session, which sends it itself, rather than Jupyter all at once."""
        if kernel_id not in self._kernel_buffers or self._kernel_buffers[kernel_id]["session_key"] != session_key:
            return None
        backlog: Backlog = self._kernel_buffers[kernel_id]["buffer"]
        self._kernel_buffers[kernel_id]["buffer"] = []
        return backlog

    def _rewrite(self, kernel_id: str) -> None:
        kernel: Any = self._kernels.get(kernel_id)
        if kernel is not None:
            kernel.written = None

    async def end_launches(self) -> None:
        """Start no kernel any more, and give up those that are being started: the server ends."""
        self._ending = True
        launches = set(self._launches)
        for launch in launches:
            launch.cancel()
        restarting: list[Any] = list(self._kernels.values())
        await asyncio.gather(*(kernel.restart_is_over(0.0) for kernel in restarting))
        if launches:
            await asyncio.wait(launches)

    async def start_kernel(self, *args: Any, env: dict[str, str] | None = None, **kwargs: Any) -> str:
        """Start a kernel.

        Parameters
        ----------
        env : dict, optional
            The client's variables, checked. The launch gets these, and of the server's own
            environment only what `launch_environment` lets through.
        **kwargs
            ``kernel_name``, ``kernel_id`` and ``path``, as in Jupyter.

        Returns
        -------
        str
            The kernel's id.

        Raises
        ------
        ElyraError
            If it cannot be started; the text is the cause.
        """
        async with self._as_launch():
            return await self._start_checked(env or {}, *args, **kwargs)

    @contextlib.asynccontextmanager
    async def _as_launch(self) -> AsyncIterator[None]:
        """Count the current task among the launches, which the server's end gives up."""
        if self._ending:
            raise ServerEndingError(ENDING)
        task = asyncio.current_task()
        assert task is not None
        self._launches.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if self._ending:
                raise ServerEndingError(ENDING) from None
            raise
        finally:
            self._launches.discard(task)

    async def _start_checked(self, client: dict[str, str], *args: Any, **kwargs: Any) -> str:
        kernel_id = kwargs.pop("kernel_id", None)
        if kernel_id is not None and kernel_id in self:
            return str(kernel_id)  # in Jupyter, a client may ask for a kernel that it knows
        if "KERNEL_ID" in client:
            kernel_id = check_kernel_id(client["KERNEL_ID"])
        if kernel_id is None:
            kernel_id = self.new_kernel_id()
        self._check_free(kernel_id)
        self._reserved.add(kernel_id)
        try:
            return await self._start_kernel(kernel_id, client, *args, **kwargs)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.ensure_future(self._give_up(kernel_id)))
            raise
        except (OSError, zmq.ZMQError) as error:
            await self._give_up(kernel_id)
            raise LaunchError(f"{NO_CHARGE}{error}") from error
        finally:
            self._reserved.discard(kernel_id)
            if kernel_id not in self._kernels:
                self._pending_kernels.pop(kernel_id, None)

    async def _give_up(self, kernel_id: str) -> None:
        """Let go of a kernel that came up, though nobody is told of it."""
        kernel: Any = self._kernels.get(kernel_id)
        if kernel is not None:
            self.stop_watching_activity(kernel_id)
            self.remove_kernel(kernel_id)
            self._kernel_connections.pop(kernel_id, None)
            await kernel.give_up()

    async def _start_kernel(self, kernel_id: str, client: dict[str, str], *args: Any, **kwargs: Any) -> str:
        name = self.parent.force_kernel_name or kwargs.get("kernel_name") or self.default_kernel_name
        await in_thread(self._check_kernelspec, name)
        inherited = [*self.parent.env_process_whitelist, *Settings(parent=self).inherited_envs]
        environ = launch_environment(client, inherited)
        await super().start_kernel(*args, kernel_id=kernel_id, env=environ, **kwargs)
        kernel: Any = self.get_kernel(kernel_id)
        kernel.add_restart_callback(functools.partial(self._renew_activity, kernel_id), "restarted")
        kernel.watch_readiness()
        return kernel_id

    def start_watching_activity(self, kernel_id: str) -> None:
        """Note from now on whether a kernel works, and when it was used: as Jupyter does, but at less cost."""
        super().start_watching_activity(kernel_id)
        kernel: Any = self._kernels[kernel_id]
        kernel._activity_stream.on_recv(Activity(self, kernel).see)

    def _renew_activity(self, kernel_id: str) -> None:
        """Watch the activity of a kernel that was started again, whoever wanted that, where it is now."""
        kernel: Any = self._kernels.get(kernel_id)
        if kernel is None:
            return
        if self._get_changed_ports(kernel_id) is not None or getattr(kernel, "_activity_stream", None) is None:
            self.stop_watching_activity(kernel_id)
            self.start_watching_activity(kernel_id)

    async def restart_kernel(self, kernel_id: str, now: bool = False) -> None:
        """Restart a kernel; return when the new one answers.

        Raises
        ------
        ElyraError
            If it does not; the text is the cause.
        """
        self._check_kernel_id(kernel_id)
        kernel: Any = self.get_kernel(kernel_id)
        if self._ending:
            raise ServerEndingError(ENDING)
        try:
            await self.pinned_superclass._async_restart_kernel(self, kernel_id, now=now)
            if not await kernel.is_ready():
                raise LaunchError(await self._silence(kernel))
        except LinkError:
            raise  # nothing was done: the kernel goes on
        except ElyraError as error:
            if kernel.execution_state != "dead":
                kernel.execution_state, kernel.reason = "dead", str(error)
                kernel.fire("dead")
            if self._ending:
                raise ServerEndingError(ENDING) from error
            raise

    async def _silence(self, kernel: Any) -> str:
        if not await kernel.is_alive():
            return "The kernel was restarted, but ended before it answered."
        return (
            f"The kernel was restarted, but has not answered within {kernel.answer_limit:g} s. Where its start takes "
            "longer than that, raise KERNEL_LAUNCH_TIMEOUT."
        )

    async def _async_shutdown_kernel(self, kernel_id: str, now: bool = False, restart: bool = False) -> None:
        """Shut a kernel down, once a restart of it is over."""
        self._check_kernel_id(kernel_id)
        kernel: Any = self.get_kernel(kernel_id)
        await kernel.restart_is_over()
        await super()._async_shutdown_kernel(kernel_id, now=now, restart=restart)

    shutdown_kernel = _async_shutdown_kernel

    async def _add_kernel_when_ready(self, kernel_id: str, km: Any, kernel_awaitable: Any) -> None:
        try:
            await kernel_awaitable
        except asyncio.CancelledError:
            # It may be up: jupyter_client goes on a little after that.
            await asyncio.shield(asyncio.ensure_future(km.give_up()))
            raise
        except ElyraError as error:
            # The one who waits for the kernel gets it from `ready`.
            self.log.warning("Kernel %s was not started: %s", kernel_id, error)
            return
        self._kernels[kernel_id] = km
        self._pending_kernels.pop(kernel_id, None)

    def _handle_kernel_died(self, kernel_id: str) -> None:
        """Keep a dead kernel in the list, so that its reason can be seen; a DELETE or the culler removes it."""
        if kernel_id in self._kernels:
            self.stop_watching_activity(kernel_id)  # its last words, if they come late, do not make it busy

    def _check_free(self, kernel_id: str) -> None:
        """See that there is room for another kernel, and of this id none."""
        known = {*self._kernels, *self._reserved}
        if kernel_id.lower() in {each.lower() for each in known}:
            raise KernelIdInUseError(f"There is a kernel with KERNEL_ID={kernel_id} already.")
        dead = [km for km in self._kernels.values() if getattr(km, "execution_state", None) == "dead"]
        limit = self.parent.max_kernels
        if limit is not None and len(known) - len(dead) >= limit:
            raise TooManyKernelsError(f"The server runs as many kernels as it may: {limit} (max_kernels).")

    def _check_kernelspec(self, name: str) -> None:
        """See that the kernelspec and its process proxy can be used, before anything is started."""
        proxy_class(self.kernel_spec_manager.get_kernel_spec(name))
