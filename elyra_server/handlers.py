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
from elyra_server.errors import ElyraError, InvalidRequestError, KernelDeadError
from elyra_server.settings import Settings

MESSAGES = {
    401: "This server wants its token: send it in the header 'Authorization: token <token>', or as ?token=<token>.",
    404: "There is nothing at this address.",
}
"""What is said to a status that comes without words."""


class ElyraErrorsMixin(JSONErrorsMixin):
    """Answers errors as JSON ``{reason, message}``; the message of Elyra's own is their text."""

    def write_error(self: Any, status_code: int, **kwargs: Any) -> None:
        """Answer a failed request."""
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        silent = MESSAGES.get(status_code, responses.get(status_code, "Error"))
        if error is None:
            self._answer(status_code, responses.get(status_code, "Error"), silent)
        elif isinstance(error, ElyraError):
            self._answer(error.status, error.reason, str(error))
        elif isinstance(error, web.HTTPError):
            # Tornado doubles the percent signs of a message without arguments.
            message = error.log_message or ""
            message = message % error.args if error.args else message.replace("%%", "%")
            self._answer(status_code, error.reason or responses.get(status_code, "Error"), message or silent)
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
    """What the handlers share that start kernels."""

    _base: ClassVar[Any]
    _launch: asyncio.Task[Any] | None = None

    @web.authenticated
    async def get(self: Any) -> None:
        """List what there is, if the operator allows that."""
        if not self.settings.get("kg_list_kernels"):
            raise web.HTTPError(403, "Forbidden")
        await self.list_all()

    async def list_all(self: Any) -> None:
        """List what there is."""
        await self._base.get(self)

    def created(self: Any, model: dict[str, Any], collection: str) -> None:
        """Answer that `model` was added to ``/api/<collection>``."""
        self.set_header("Location", url_path_join(self.base_url, "api", collection, url_escape(model["id"])))
        self.set_status(201)
        self.finish(json.dumps(model, default=json_default))

    def client_environment(self: Any, model: dict[str, Any]) -> dict[str, str]:
        """Return the variables of a request that reach its launch."""
        allowed = [*self.settings["kg_personality"].env_whitelist, *Settings(parent=self.kernel_manager).client_envs]
        env = model.get("env")
        return check_client_environment({} if env is None else env, allowed)

    def json_object(self: Any, empty: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON object in a request's body, `empty` where there is no body."""
        try:
            model = self.get_json_body()
        except UnicodeDecodeError as error:
            raise InvalidRequestError("The request's body is not JSON: it is not UTF-8.") from error
        model = empty if model is None else model
        if not isinstance(model, dict):
            raise InvalidRequestError("The request's body is not a JSON object.")
        return model

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

    @authorized
    async def list_all(self) -> None:
        """List the kernels; with many, what it takes is to write them."""
        written = getattr(self.kernel_manager, "kernels_as_json", None)
        if written is None:  # the operator's own manager of kernels
            await super().list_all()
        else:
            self.finish(written())

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Start a kernel."""
        model = self.json_object(empty={})
        manager: Any = self.kernel_manager
        name = _text(model, "name") or manager.default_kernel_name
        arguments = {"kernel_name": name, "path": _text(model, "path"), "env": self.client_environment(model)}
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
            kernel = manager.get_kernel(kernel_id)
            if getattr(kernel, "execution_state", None) == "dead":
                raise KernelDeadError(f"The kernel is dead, so there is nothing to interrupt. {kernel.reason}")
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
        model = self.json_object()
        kernel, notebook = _part(model, "kernel"), _part(model, "notebook")
        path = model.get("path") or notebook.get("path") or notebook.get("name")
        if not isinstance(path, str):
            raise InvalidRequestError("The session has no path.")
        sessions: Any = self.session_manager
        creation = sessions.create_session(
            path=path,
            name=_text(model, "name") or "",
            type=_text(model, "type") or "notebook",
            kernel_name=_text(kernel, "name"),
            kernel_id=_text(kernel, "id"),
            env=self.client_environment({"env": model.get("env", kernel.get("env"))}),
        )
        self.created(await self.launched(creation), "sessions")


class SessionHandler(LaunchMixin, server_sessions.SessionHandler):
    """``/api/sessions/<id>``."""

    @web.authenticated
    @authorized
    async def get(self, session_id: str) -> None:
        """Show a session."""
        await self._show(session_id)

    @web.authenticated
    @authorized
    async def patch(self, session_id: str) -> None:
        """Rename a session, or give it another kernel: one that there is, or a new one."""
        model = self.json_object()
        kernel, notebook = _part(model, "kernel"), _part(model, "notebook")
        sessions: Any = self.session_manager
        await sessions.get_session(session_id)
        wanted = {name: _text(model, name) for name in ("path", "name", "type")}
        wanted["path"] = wanted["path"] or _text(notebook, "path")
        wanted["kernel_id"] = _text(kernel, "id")
        name = _text(kernel, "name")
        if name and not wanted["kernel_id"]:
            env = self.client_environment({"env": model.get("env", kernel.get("env"))})
            wanted["kernel_id"] = await self.launched(sessions.start_kernel_for_session(session_id, name, env))
        await sessions.update_session(session_id, **{name: value for name, value in wanted.items() if value})
        await self._show(session_id)

    @web.authenticated
    @authorized
    async def delete(self, session_id: str) -> None:
        """End a session with its kernel."""
        sessions: Any = self.session_manager
        await sessions.delete_session(session_id)
        self.set_status(204)
        self.finish()

    async def _show(self, session_id: str) -> None:
        sessions: Any = self.session_manager
        self.finish(json.dumps(await sessions.get_session(session_id), default=json_default))


def _part(model: dict[str, Any], name: str) -> dict[str, Any]:
    value = model.get(name) or {}
    if not isinstance(value, dict):
        raise InvalidRequestError(f"{name} has to be a JSON object.")
    return value


def _text(model: dict[str, Any], name: str) -> str | None:
    value = model.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequestError(f"{name} has to be a string.")
    return value or None


def with_errors(handler: Any) -> Any:
    """Return a handler that answers its errors as Elyra's do."""
    ours = issubclass(handler, ElyraErrorsMixin)
    return handler if ours else type(handler.__name__, (ElyraErrorsMixin, handler), {})


def _replaced(handlers: list[Any]) -> list[Any]:
    """Return a list of handlers with ours in the place of those of the same name."""
    ours = (
        MainKernelHandler,
        KernelHandler,
        KernelActionHandler,
        KernelWebsocketHandler,
        SessionRootHandler,
        SessionHandler,
    )
    own = {cls.__name__: cls for cls in ours}
    return [(path, own.get(cls.__name__, cls), *rest) for path, cls, *rest in handlers]


kernel_handlers = _replaced(gateway_kernels.default_handlers)
session_handlers = _replaced(gateway_sessions.default_handlers)
