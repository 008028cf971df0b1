"""A client of the server as a user has one: REST, and a websocket with Jupyter's messages."""

from __future__ import annotations

import json
import queue
import threading
import time
import urllib.error
import uuid
from collections.abc import Callable
from typing import Any

import websocket

LIMIT = 180.0


class RequestError(Exception):
    """The server's answer to a request was an error."""

    def __init__(self, status: int, body: dict[str, Any]):
        super().__init__(status, body)
        self.status = status
        self.reason = body.get("reason", "")
        self.message = body.get("message", "")


class Result:
    """What a cell gave."""

    def __init__(self) -> None:
        self.text = ""  # what it printed and returned
        self.bundles: list[dict[str, Any]] = []  # all that it displayed and returned, by MIME type
        self.error = ""  # the exception's name
        self.value = ""  # the exception's text
        self.traceback = ""
        self.status = ""

    @property
    def all(self) -> str:
        """Everything that a user sees of it."""
        return "\n".join((self.text, self.error, self.value, self.traceback))


class Kernel:
    """A kernel of a server, with one open websocket.

    Parameters
    ----------
    server : demo.server.Server
    name : str
        Of the kernelspec.
    env : str
        KERNEL_* variables and others of the request.
    """

    def __init__(self, server: Any, name: str, **env: str) -> None:
        self.server = server
        self.model = request(server, "POST", "/api/kernels", {"name": name, "env": env})
        self.id = self.model["id"]
        self.path = f"/api/kernels/{self.id}"
        self.states: list[str] = []
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.socket = self.connect()
        # Always, since a client that reads nothing answers no ping, and is dropped.
        threading.Thread(target=self._read, args=(self.socket, self._messages), daemon=True).start()

    def connect(self) -> websocket.WebSocket:
        """Open a websocket."""
        url = self.server.url.replace("http", "ws", 1) + self.path + "/channels"
        return websocket.create_connection(url, header={"Authorization": f"token {self.server.token}"})

    @staticmethod
    def _read(socket: websocket.WebSocket, messages: queue.Queue[dict[str, Any] | None]) -> None:
        try:
            while text := socket.recv():
                messages.put(json.loads(text))
        except (OSError, websocket.WebSocketException):
            pass  # closed, by either side
        socket.shutdown()
        messages.put(None)

    def send(self, kind: str, content: dict[str, Any], channel: str = "shell") -> str:
        """Send a message and return its id."""
        message_id = uuid.uuid4().hex
        header = {
            "msg_id": message_id,
            "msg_type": kind,
            "username": "",
            "session": "test",
            "date": "",
            "version": "5.3",
        }
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": channel}
        self.socket.send(json.dumps(message))
        return message_id

    def receive(self, limit: float) -> dict[str, Any]:
        """Return the next message, and remember the states that messages tell."""
        try:
            message = self._messages.get(timeout=limit)
        except queue.Empty:
            raise TimeoutError(f"the kernel said nothing for {limit:.0f} s") from None
        if message is None:
            self._messages.put(None)
            raise ConnectionError("the server closed the websocket")
        if message["header"]["msg_type"] == "status":
            self.states.append(message["content"]["execution_state"])
        return message

    def execute(
        self, code: str, limit: float = LIMIT, on_output: Callable[[str], None] | None = None, answer: str | None = None
    ) -> Result:
        """Run a cell and return its result; `on_output` is called when it prints first, `answer` typed if asked."""
        return self.result_of(self.begin(code, answer is not None), limit, on_output, answer)

    def begin(self, code: str, allow_stdin: bool = False) -> str:
        """Send a cell and return its request's id."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": allow_stdin}
        content["user_expressions"] = {}  # Toree insists on it
        return self.send("execute_request", content)

    def result_of(
        self,
        message_id: str,
        limit: float = LIMIT,
        on_output: Callable[[str], None] | None = None,
        answer: str | None = None,
        text: str = "",
    ) -> Result:
        """Return the result of a cell whose request was sent; `text` is what it prints, perhaps after its end."""
        deadline = time.monotonic() + limit
        result, over = Result(), set()
        while over != {"reply", "idle"} or (result.status == "ok" and text not in result.text):
            message = self.receive(max(deadline - time.monotonic(), 0.01))
            if message["parent_header"].get("msg_id") != message_id:
                continue
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "stream":
                result.text += content["text"]
                if on_output is not None:
                    on_output(content["text"])
                    on_output = None  # one print may be two messages; the second interrupt would be the next cell's
            elif kind in ("display_data", "execute_result"):
                result.bundles.append(content["data"])
                if kind == "execute_result":
                    result.text += content["data"].get("text/plain", "")
            elif kind == "input_request":
                self.send("input_reply", {"value": answer}, "stdin")
            elif kind == "execute_reply":
                result.status = content["status"]
                result.error = content.get("ename", "")
                result.value = content.get("evalue") or ""
                result.traceback = "\n".join(content.get("traceback", []))
                over.add("reply")
            elif kind == "status" and content["execution_state"] == "idle":
                over.add("idle")
        return result

    def value(self, code: str, limit: float = LIMIT, text: str = "") -> str:
        """Run a cell that has to succeed and return what it printed and returned; `text` has to be in it."""
        result = self.result_of(self.begin(code), limit, text=text)
        assert result.status == "ok", result.traceback
        return result.text.strip()

    def ask(self, kind: str, content: dict[str, Any], channel: str = "shell", limit: float = LIMIT) -> dict[str, Any]:
        """Send a request that is no cell, and return the content of its reply."""
        message_id = self.send(kind, content, channel)
        deadline = time.monotonic() + limit
        while True:
            message = self.receive(max(deadline - time.monotonic(), 0.01))
            if message["parent_header"].get("msg_id") == message_id and message["header"]["msg_type"].endswith(
                "_reply"
            ):
                reply: dict[str, Any] = message["content"]
                return reply

    def wait_for_state(self, state: str, limit: float = LIMIT) -> None:
        """Read messages until one tells this state."""
        deadline = time.monotonic() + limit
        while state not in self.states:
            self.receive(max(deadline - time.monotonic(), 0.01))

    def interrupt(self) -> None:
        request(self.server, "POST", f"{self.path}/interrupt", {})

    def restart(self) -> None:
        request(self.server, "POST", f"{self.path}/restart", {})

    def get(self) -> dict[str, Any]:
        model: dict[str, Any] = request(self.server, "GET", self.path)
        return model

    def delete(self) -> float:
        """End it and return the seconds until the answer."""
        begin = time.monotonic()
        request(self.server, "DELETE", self.path)
        seconds = time.monotonic() - begin
        self.socket.abort()
        return seconds


def request(server: Any, method: str, path: str, body: Any = None) -> Any:
    """Send a request; an error of the server's is an exception with reason and message."""
    try:
        return server.request(method, path, body)
    except urllib.error.HTTPError as error:
        text = error.read()
        raise RequestError(error.code, json.loads(text)) from None
