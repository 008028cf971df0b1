"""Version 2 of the protocol between launcher and server: names, limits, codec.

One TLS connection carries JSON-RPC 2.0 objects, one per line, in UTF-8. This
module says what such a line may look like and turns bytes into messages and back;
it knows nothing of sockets, so that both sides (and their tests) share it as it
is. It is the only module of the launcher that the server imports.
"""

from __future__ import annotations

import json

from .arguments import FINGERPRINT_PREFIX as FINGERPRINT_PREFIX

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Any, Dict, Union

    Message = Dict[str, Any]
    Id = Union[int, str]
else:
    Message = dict
    Id = object

VERSION = 2
"""The version that ``hello`` names."""

MAX_LINE = 65536
"""Longest line in bytes, its newline included; a longer one ends the connection."""

TEXT_LIMIT, DETAIL_LIMIT = 4000, 400
"""Characters that the server keeps of a launcher's text, and of a phase's detail."""

TEXT_BYTES = 14000
"""Bytes of such a text in a line, where there may also be the last lines of an output: 8 KiB, each byte six in JSON."""

HELLO_LIMIT = 4096
"""Bytes that a connection may send before its ``hello`` was accepted."""

HELLO_TIMEOUT = 5.0
"""Seconds that a connection has until its ``hello`` was accepted."""

LEASE = 120.0
"""Seconds that a launcher redials for, unless the answer to ``hello`` says otherwise."""

PING = 20.0
"""Seconds between two pings, unless the answer to ``hello`` says otherwise."""

SILENCE = 3
"""Pings without any traffic after which a link counts as broken."""

# From the launcher to the server.
HELLO = "hello"
PHASE = "phase"
CONNECTION = "connection"
OUTPUT = "output"
EXIT = "exit"
ERROR = "error"

# From the server to the launcher.
PING_METHOD = "ping"
SIGNAL = "signal"
INTERRUPT = "interrupt"
RESTART = "restart"
SHUTDOWN = "shutdown"

# States of a kernel in ``hello``, phases, and the answers to ``exit``.
STARTING = "starting"
RUNNING = "running"
PHASE_PREPARING = "preparing"
PHASE_KERNEL = "kernel"
PHASE_SPARK = "spark"
ACTION_END = "end"
ACTION_HOLD = "hold"

# Error codes of JSON-RPC 2.0, and ours.
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
REJECTED = -32001
"""The ticket or resume token is not, or no longer, valid."""


class ProtocolError(Exception):
    """The other side sent something that is not a message; the connection is over."""


def request(number: Id, method: str, params: Message | None = None) -> Message:
    """Return a request, which the other side has to answer under the same id."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}


def notification(method: str, params: Message | None = None) -> Message:
    """Return a notification, which has no answer."""
    return {"jsonrpc": "2.0", "method": method, "params": params or {}}


def result(number: Id, value: Message | None = None) -> Message:
    """Return the answer to the request of that id."""
    return {"jsonrpc": "2.0", "id": number, "result": value or {}}


def error(number: Id | None, code: int, message: str) -> Message:
    """Return the answer to a request that could not be carried out."""
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}


def fitting(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return a text that fits into a line, in at most so many characters.

    Of one that is too long there are the beginning, which says what failed, and more of the end, which says why.
    """
    if len(text) > limit:
        gap, start = "\n[...]\n", limit // 4
        text = text[:start] + gap + text[start + len(gap) - limit :]
    return text if len(json.dumps(text)) <= TEXT_BYTES else fitting(text, len(text) // 2)


def encode(message: Message) -> bytes:
    """Return a message as a line.

    Raises
    ------
    ProtocolError
        If the line would be longer than the other side accepts.
    """
    line = json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"
    if len(line) > MAX_LINE:
        raise ProtocolError(f"a message of {len(line)} bytes exceeds the limit of {MAX_LINE}")
    return line


def decode(line: bytes) -> Message:
    """Return the message of a line.

    Raises
    ------
    ProtocolError
        If the line is not a JSON-RPC 2.0 request, notification or answer.
    """
    try:
        message = json.loads(line.decode("utf-8"))
    # Deep nesting exhausts the parser's stack.
    except (ValueError, RecursionError) as problem:
        raise ProtocolError("a line is not JSON in UTF-8") from problem
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise ProtocolError("a line is not a JSON-RPC 2.0 object")
    number = message.get("id")
    if isinstance(number, bool) or not isinstance(number, (int, str, type(None))):
        raise ProtocolError("the id of a message is neither a number nor a string")
    if "method" in message:
        if not isinstance(message["method"], str):
            raise ProtocolError("the method of a message is not a string")
        if not isinstance(message.setdefault("params", {}), dict):
            raise ProtocolError("the parameters of a message are not an object")
    elif "result" not in message and not isinstance(message.get("error"), dict):
        raise ProtocolError("a message is neither a request nor an answer")
    return message


class LineReader:
    """Turn the bytes of a connection into messages, however they are cut.

    Parameters
    ----------
    limit : int
        Longest line in bytes. It may be changed between two calls of `feed`.
    """

    def __init__(self, limit: int = MAX_LINE) -> None:
        self.limit = limit
        self._partial = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that `data` completes.

        Raises
        ------
        ProtocolError
            If a line is too long or is not a message.
        """
        *lines, rest = (bytes(self._partial) + data).split(b"\n")
        self._partial = bytearray(rest)
        if any(len(line) >= self.limit for line in (*lines, rest)):
            raise ProtocolError(f"a line is longer than {self.limit} bytes")
        return [decode(line) for line in lines if line.strip()]
