"""One connection to one launcher: requests, their answers, and whether it lives."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from elyra_launcher import protocol
from elyra_server.errors import LinkError, LinkSilentError
from elyra_server.tls import Connection

Handler = Callable[[str, protocol.Message], protocol.Message]

READ_SIZE = 65536
# More than any number of messages in flight; a peer that does not read ends there.
WRITE_LIMIT = 4 * protocol.MAX_LINE
LAST_ANSWER = 0.5
"""Of the time between two pings, what the answer to the last one may take."""


class Link:
    """An authenticated connection, which speaks JSON-RPC in both directions.

    Parameters
    ----------
    connection : Connection
        The TLS connection.
    lines : protocol.LineReader
        Holds what was read beyond ``hello``.
    handler : callable
        Gets method and parameters of each message and returns the answer.
    """

    def __init__(
        self,
        connection: Connection,
        lines: protocol.LineReader,
        handler: Handler,
    ) -> None:
        self._connection = connection
        self._lines = lines
        self._handler = handler
        self._ids = itertools.count(1)
        self._answers: dict[protocol.Id, asyncio.Future[protocol.Message]] = {}
        self._heard = 0.0
        self.open = True

    async def run(self, early: list[protocol.Message]) -> None:
        """Serve the connection until it ends.

        Raises
        ------
        protocol.ProtocolError
            If the launcher sent something that is not a message.
        """
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        try:
            for message in early:
                self._receive(message)
            while data := await self._connection.read(READ_SIZE):
                self._heard = loop.time()
                for message in self._lines.feed(data):
                    self._receive(message)
        except OSError:
            return  # a broken connection is a closed one
        finally:
            self.close()

    def ping(self, seconds: float) -> None:
        """Ask whether the launcher is there, as is done every so many seconds; end what was silent for too long.

        Whatever it says is an answer.
        """
        silence = asyncio.get_running_loop().time() - self._heard
        if silence > (protocol.SILENCE + LAST_ANSWER) * seconds:
            self.close()
        elif self.open:
            self._send(protocol.request(next(self._ids), protocol.PING_METHOD))

    async def request(
        self, method: str, params: protocol.Message | None = None, timeout: float = 10.0
    ) -> protocol.Message:
        """Ask the launcher for something and return its answer.

        Raises
        ------
        LinkError
            If it refused, did not answer in time, or the connection broke.
        """
        if not self.open:
            raise LinkError(f"The launcher was not asked to {method}: the connection to it is closed.")
        number = next(self._ids)
        answer: asyncio.Future[protocol.Message] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._send(protocol.request(number, method, params))
            message = await asyncio.wait_for(answer, timeout)
        except asyncio.TimeoutError as error:
            raise LinkSilentError(f"The launcher did not answer to {method} within {timeout:g} s.") from error
        finally:
            self._answers.pop(number, None)
        if "error" in message:
            raise LinkError(f"The launcher refused to {method}: {message['error'].get('message')}")
        value = message.get("result")
        return value if isinstance(value, dict) else {}

    def close(self) -> None:
        """End the connection and everything that waits for it."""
        if not self.open:
            return
        self.open = False
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(LinkError("The connection to the launcher broke."))
                answer.exception()  # the one who waits may be gone
        self._connection.abort()

    def _receive(self, message: protocol.Message) -> None:
        number = message.get("id")
        if "method" not in message:
            answer = self._answers.get(number) if number is not None else None
            if answer is not None and not answer.done():
                answer.set_result(message)
            return
        value = self._handler(message["method"], message["params"])
        if number is not None:
            self._send(protocol.result(number, value))

    def _send(self, message: protocol.Message) -> None:
        self._connection.write(protocol.encode(message))
        if self._connection.unsent > WRITE_LIMIT:
            self.close()


def text_of(params: dict[str, Any], name: str, limit: int = protocol.TEXT_LIMIT) -> str:
    """Return a text out of a launcher's parameters, whatever came there."""
    value = params.get(name)
    return value[:limit] if isinstance(value, str) else ""


def lines_of(params: dict[str, Any], name: str) -> list[str]:
    """Return a list of lines out of a launcher's parameters, whatever came there."""
    value = params.get(name)
    if isinstance(value, str):
        value = value.splitlines()
    return [line[:1000] for line in value if isinstance(line, str)] if isinstance(value, list) else []
