"""The REST handlers that start kernels, and how their failures are answered.

They replace the kernel gateway's: the environment of a request goes with the call
that starts its kernel, and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from http.client import responses
from typing import Any, ClassVar

import jupyter_server.services.kernels.handlers as server_kernels
import jupyter_server.services.kernels.websocket as server_websocket
import jupyter_server.services.sessions.handlers as server_sessions
from jupyter_client.jsonutil import json_default
from jupyter_server.auth.decorator import authorized
from jupyter_server.utils import url_escape, url_path_join
from kernel_gateway.mixins import CORSMixin, JSONErrorsMixin, TokenAuthorizationMixin
from kernel_gateway.services.kernels import handlers as gateway_kernels
from kernel_gateway.services.sessions import handlers as gateway_sessions
from tornado import web

from elyra_server.environment import check_client_environment, check_kernel_id
from elyra_server.errors import ElyraError, InvalidRequestError
from elyra_server.settings import Settings


class ElyraErrorsMixin(JSONErrorsMixin):
    """Answers Elyra's errors as JSON ``{reason, message}``, their text being the message."""

    def write_error(self: Any, status_code: int, **kwargs: Any) -> None:
        """Answer a failed request."""
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        if isinstance(error, ElyraError):
            self._answer(error.status, error.reason, str(error))
        elif isinstance(error, web.HTTPError):
            # Tornado doubles the percent signs of a message without arguments.
            message = error.log_message or ""
            message = message % error.args if error.args else message.replace("%%", "%")
            self._answer(status_code, error.reason or responses.get(status_code, "Error"), message)
        else:
            self._answer(status_code, responses.get(status_code, "Error"), f"{type(error).__name__}: {error}")

    def log_exception(self: Any, kind: Any, error: Any, trace: Any) -> None:
        """Log a failure; one that is an answer needs no traceback."""
        if isinstance(error, ElyraError):
            self.log.warning("%s %s: %s", self.request.method, self.request.path, error)
        else:
            super().log_exception(kind, error, trace)

    def _answer(self: Any, status: int, reason: str, message: str) -> None:
        self.set_header("Content-Type", "application/json")
        self.set_status(status, reason=reason)
        self.finish(json.dumps({"reason": reason, "message": message}))

    def send_error(self: Any, status_code: int = 500, **kwargs: Any) -> None:
        """Send an error with the status that it asks for."""
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        super().send_error(error.status if isinstance(error, ElyraError) else status_code, **kwargs)


class LaunchMixin(TokenAuthorizationMixin, CORSMixin, ElyraErrorsMixin):
    """What the two handlers share that start kernels."""

    _base: ClassVar[Any]
    _launch: asyncio.Task[Any] | None = None

    @web.authenticated
    async def get(self: Any) -> None:
        """List what there is, if the operator allows that."""
        if not self.settings.get("kg_list_kernels"):
            raise web.HTTPError(403, "Forbidden")
        await self._base.get(self)

    def created(self: Any, model: dict[str, Any], collection: str) -> None:
        """Answer that `model` was added to ``/api/<collection>``."""
        self.set_header("Location", url_path_join(self.base_url, "api", collection, url_escape(model["id"])))
        self.set_status(201)
        self.finish(json.dumps(model, default=json_default))

    def client_environment(self: Any, model: dict[str, Any]) -> dict[str, str]:
        """Return the variables of a request that reach its launch."""
        allowed = [*self.settings["kg_personality"].env_whitelist, *Settings(config=self.config).client_envs]
        env = model.get("env")
        return check_client_environment({} if env is None else env, allowed)

    def request_body(self: Any) -> Any:
        """Return what the JSON of a request's body holds; None where there is none."""
        try:
            return self.get_json_body()
        except UnicodeDecodeError as error:
            raise InvalidRequestError("The request's body is not JSON: it is not UTF-8.") from error

    async def launched(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Await a launch, which is given up when its client goes away."""
        self._launch = asyncio.ensure_future(coroutine)
        try:
            return await self._launch
        except asyncio.CancelledError:
            raise web.Finish from None
        finally:
            self._launch = None

    def on_connection_close(self: Any) -> None:
        """Give up what nobody waits for any more: a kernel nobody knows is an orphan."""
        if self._launch is not None:
            self.log.warning("The client of %s went away; its launch is given up.", self.request.path)
            self._launch.cancel()
        super().on_connection_close()

    def options(self: Any, **kwargs: Any) -> None:
        """Answer CORS pre-flight requests."""
        self.finish()


class MainKernelHandler(LaunchMixin, server_kernels.MainKernelHandler):
    """``/api/kernels``."""

    _base: ClassVar[Any] = server_kernels.MainKernelHandler

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Start a kernel."""
        model: Any = self.request_body()
        if model is None:
            model = {}
        if not isinstance(model, dict):
            raise InvalidRequestError("The request's body is not a JSON object.")
        manager: Any = self.kernel_manager
        name = _name(model.get("name")) or manager.default_kernel_name
        arguments = {"kernel_name": name, "path": _path(model.get("path")), "env": self.client_environment(model)}
        if model.get("kernel_id") is not None:
            arguments["kernel_id"] = check_kernel_id(model["kernel_id"], "kernel_id")
        kernel_id = await self.launched(manager.start_kernel(**arguments))
        self.created(manager.kernel_model(kernel_id), "kernels")


class KernelHandler(TokenAuthorizationMixin, CORSMixin, ElyraErrorsMixin, server_kernels.KernelHandler):
    """``/api/kernels/<id>``."""

    def options(self, **kwargs: Any) -> None:
        """Answer CORS pre-flight requests."""
        self.finish()


class KernelActionHandler(TokenAuthorizationMixin, CORSMixin, ElyraErrorsMixin, server_kernels.KernelActionHandler):
    """``/api/kernels/<id>/restart`` and ``/interrupt``."""

    @web.authenticated
    @authorized
    async def post(self, kernel_id: str, action: str) -> None:
        """Restart the kernel, and answer when the new one does; or interrupt it."""
        manager: Any = self.kernel_manager
        if action == "interrupt":
            await manager.interrupt_kernel(kernel_id)
            self.set_status(204)
            self.finish()
            return
        await manager.restart_kernel(kernel_id)
        self.finish(json.dumps(manager.kernel_model(kernel_id), default=json_default))

    def options(self, **kwargs: Any) -> None:
        """Answer CORS pre-flight requests."""
        self.finish()


class KernelWebsocketHandler(
    TokenAuthorizationMixin, CORSMixin, ElyraErrorsMixin, server_websocket.KernelWebsocketHandler
):
    """``/api/kernels/<id>/channels``."""


class SessionRootHandler(LaunchMixin, server_sessions.SessionRootHandler):
    """``/api/sessions``."""

    _base: ClassVar[Any] = server_sessions.SessionRootHandler

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Create a session, with a new kernel unless there is one for its path."""
        model = self.request_body()
        if not isinstance(model, dict):
            raise InvalidRequestError("The request's body is not a JSON object.")
        kernel = model.get("kernel") or {}
        notebook = model.get("notebook") or {}
        if not isinstance(kernel, dict) or not isinstance(notebook, dict):
            raise InvalidRequestError("kernel and notebook have to be JSON objects.")
        path = model.get("path") or notebook.get("path") or notebook.get("name")
        if not isinstance(path, str):
            raise InvalidRequestError("The session has no path.")
        sessions: Any = self.session_manager
        if sessions.session_exists(path=path):
            session = sessions.get_session(path=path)
        else:
            env = self.client_environment({"env": model.get("env", kernel.get("env"))})
            kernel_id = await self._kernel_for(kernel, path, env)
            session = sessions.save_session(sessions.new_session_id(), path=path, kernel_id=kernel_id)
        self.created(session, "sessions")

    async def _kernel_for(self, kernel: dict[str, Any], path: str, env: dict[str, str]) -> str:
        manager: Any = self.kernel_manager
        wanted = kernel.get("id")
        if wanted is not None and not isinstance(wanted, str):
            raise InvalidRequestError("The id of the session's kernel is not a string.")
        if wanted in manager:
            return str(wanted)
        name = _name(kernel.get("name"))
        return str(await self.launched(manager.start_kernel(path=path, kernel_name=name, env=env)))


def _name(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidRequestError("The name of the kernelspec is not a string.")
    return value or None


def _path(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidRequestError("The path is not a string.")
    return value


def _replaced(handlers: list[Any]) -> list[Any]:
    """Return a list of handlers with ours in the place of those of the same name."""
    ours = (MainKernelHandler, KernelHandler, KernelActionHandler, KernelWebsocketHandler, SessionRootHandler)
    own = {cls.__name__: cls for cls in ours}
    return [(path, own.get(cls.__name__, cls), *rest) for path, cls, *rest in handlers]


kernel_handlers = _replaced(gateway_kernels.default_handlers)
session_handlers = _replaced(gateway_sessions.default_handlers)
