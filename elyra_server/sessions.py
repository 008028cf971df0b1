"""Sessions: which kernel a notebook has, under a name that its clients share.

Kernels come and go without them, by a DELETE of their own or by the culler. So a session whose kernel
is not in the list any more is no session, and one whose kernel is dead gets a new one when its path
is asked for again.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakValueDictionary

from elyra_server.errors import InvalidRequestError, NoSuchSessionError


@dataclass
class Session:
    """What a client said of a session, and its kernel."""

    path: str
    kernel_id: str
    name: str = ""
    type: str = "notebook"
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


class SessionManager:
    """All sessions of the server, in memory.

    Its methods are coroutines, as those of jupyter_server's session manager.

    Parameters
    ----------
    kernel_manager : RemoteMappingKernelManager
        Has the kernels.
    """

    def __init__(self, kernel_manager: Any) -> None:
        self.kernel_manager = kernel_manager
        self._sessions: dict[str, Session] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def list_sessions(self) -> list[dict[str, Any]]:
        """Return the models of all sessions."""
        return [self._model(session) for session in self._current()]

    async def session_exists(self, path: str) -> bool:
        """Return whether a path has a session with a kernel that is not dead."""
        session = self._of_path(path)
        return session is not None and self._lives(session.kernel_id)

    async def get_session(self, session_id: str) -> dict[str, Any]:
        """Return the model of a session.

        Raises
        ------
        NoSuchSessionError
            If there is none of that id.
        """
        return self._model(self._find(session_id))

    async def create_session(
        self,
        path: str,
        name: str = "",
        type: str = "notebook",  # noqa: A002 - as in the REST interface
        kernel_name: str | None = None,
        kernel_id: str | None = None,
        env: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the session of a path, with a new kernel unless it has one.

        Parameters
        ----------
        kernel_id : str, optional
            A kernel to take instead of a new one, if it lives.
        **others
            As in the REST interface; `env` is that of the new kernel.
        """
        turn = self._turns.setdefault(path, asyncio.Lock())
        async with turn:  # those who ask for the same path meanwhile get the same kernel
            session = self._of_path(path)
            if session is None or not self._lives(session.kernel_id):
                if kernel_id is None or not self._lives(kernel_id):
                    kernel_id = await self.kernel_manager.start_kernel(path=path, kernel_name=kernel_name, env=env)
                session = self._of_path(path) or Session(path, kernel_id, name, type)
                session.kernel_id = kernel_id
                self._sessions[session.id] = session
            return self._model(session)

    async def start_kernel_for_session(
        self, session_id: str, kernel_name: str | None, env: dict[str, str] | None = None
    ) -> str:
        """Start another kernel for a session, which `update_session` gives to it; return its id."""
        path = self._find(session_id).path
        kernel_id = str(await self.kernel_manager.start_kernel(path=path, kernel_name=kernel_name, env=env))
        if all(session.id != session_id for session in self._current()):  # it was deleted meanwhile
            await self.kernel_manager.shutdown_kernel(kernel_id)
            raise _unknown(session_id)
        return kernel_id

    async def update_session(self, session_id: str, **changes: str) -> None:
        """Change what a session is; a kernel that it had and has no more is ended.

        Parameters
        ----------
        **changes
            Any of ``path``, ``name``, ``type`` and ``kernel_id``.

        Raises
        ------
        InvalidRequestError
            If there is no such kernel, or it is dead.
        """
        session = self._find(session_id)
        kernel_id = changes.get("kernel_id", session.kernel_id)
        if "kernel_id" in changes and not self._lives(kernel_id):
            raise InvalidRequestError(f"There is no kernel {kernel_id[:100]!r} that lives.")
        self._sessions[session_id] = replace(session, **changes)
        if kernel_id != session.kernel_id and session.kernel_id in self.kernel_manager:
            await self.kernel_manager.shutdown_kernel(session.kernel_id)

    async def delete_session(self, session_id: str) -> None:
        """End a session, and its kernel if there still is one."""
        session = self._sessions.pop(session_id, None)
        if session is None:
            raise _unknown(session_id)
        if session.kernel_id in self.kernel_manager:
            await self.kernel_manager.shutdown_kernel(session.kernel_id)

    def _current(self) -> list[Session]:
        """Return the sessions whose kernels are in the list, and forget the others."""
        gone = [each.id for each in self._sessions.values() if each.kernel_id not in self.kernel_manager]
        for session_id in gone:
            del self._sessions[session_id]
        return list(self._sessions.values())

    def _find(self, session_id: str) -> Session:
        for session in self._current():
            if session.id == session_id:
                return session
        raise _unknown(session_id)

    def _of_path(self, path: str) -> Session | None:
        return next((session for session in self._current() if session.path == path), None)

    def _lives(self, kernel_id: str) -> bool:
        if kernel_id not in self.kernel_manager:
            return False
        return getattr(self.kernel_manager.get_kernel(kernel_id), "execution_state", None) != "dead"

    def _model(self, session: Session) -> dict[str, Any]:
        return {
            "id": session.id,
            "path": session.path,
            "name": session.name,
            "type": session.type,
            "notebook": {"path": session.path, "name": session.name},
            "kernel": self.kernel_manager.kernel_model(session.kernel_id),
        }


def _unknown(session_id: str) -> NoSuchSessionError:
    return NoSuchSessionError(f"There is no session {session_id}: it was deleted, or its kernel was.")
