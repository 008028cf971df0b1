"""A submitter: a process with a warm JVM, and a socket on which launch commands ask it to submit.

It ends with its standard input, and so with the server, however that ends; the JVM
ends with this process in the same way. On its standard output it says what the server
has to know: `ready`, and `stale` where the configuration changed that it had read.
Only processes of the same user can reach the socket, and no others are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from elyra_server.kerberos import Tickets
from elyra_server.submitter.arguments import Refused, complete, fingerprint, read_defaults
from elyra_server.submitter.jvm import Jvm, JvmError, Outcome

SOCKET = "socket"
MAX_REQUEST = 4 * 1024 * 1024
REQUEST_PATIENCE = 5.0

BUSY_PATIENCE = 10.0
"""Seconds that a submission waits for those before it, until spark-submit does it sooner."""

GIVEN_UP = 10.0
"""Seconds that a submission has left after its launch command ended."""

SUBMITTING = b"Submitting application application_"
"""What Spark's log says before there is an application."""

FROM_LAUNCH = "elyra: as in the launch"
LAUNCHS_OWN = ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON")
"""Variables of a launch that spark-env.sh may set: they come with this value, and if they still have it, it did not."""


class Submitter:
    """Answers launch commands, one after the other.

    Parameters
    ----------
    environ : dict
        The JVM's environment.
    """

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ
        self.jvm = Jvm(environ, Path.cwd())
        self.socket = Path(SOCKET)
        self.over = asyncio.Event()
        self._turn = asyncio.Lock()
        self._open: set[asyncio.Task[Any]] = set()
        self._ending: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until standard input or the JVM ends."""
        parent = asyncio.create_task(self._follow_server())
        self._fingerprint, self._tickets = fingerprint(self.environ), Tickets(self.environ)
        self._defaults = read_defaults(self.environ.get("SPARK_CONF_DIR") or f"{self.environ['SPARK_HOME']}/conf")
        starting = asyncio.create_task(self._serve())
        over = asyncio.create_task(self.over.wait())
        done, _ = await asyncio.wait({parent, starting, over}, return_when=asyncio.FIRST_COMPLETED)
        try:
            if starting in done:
                starting.result()
                over_or_dead = {parent, over, asyncio.create_task(self.jvm.wait())}
                await asyncio.wait(over_or_dead, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self.jvm.end()

    async def _serve(self) -> None:
        await self.jvm.start()
        await self.jvm.clean_up()
        self._server = await asyncio.start_unix_server(self._answer, SOCKET, limit=MAX_REQUEST)
        self.socket.chmod(0o600)
        print("ready", flush=True)

    async def _follow_server(self) -> None:
        """Return when the server ended, or told this process to end once it has answered everybody."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        if await reader.readline():
            self.socket.unlink(missing_ok=True)
            while self._open:
                await asyncio.wait(self._open)
            self.over.set()
        await reader.read()

    # -- one launch command ------------------------------------------------------------------------

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if _peer(writer) == os.getuid():
                await self._answer_request(reader, writer)
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            print(f"A launch command was not answered: {error!r}", file=sys.stderr)
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked, variables = _request(await asyncio.wait_for(reader.readline(), REQUEST_PATIENCE))
        gone = asyncio.create_task(reader.read())
        try:
            words = complete(asked, variables, self._defaults, self.environ)
            self._refuse_if_stale()
            try:
                await asyncio.wait_for(self._turn.acquire(), BUSY_PATIENCE)
            except asyncio.TimeoutError:
                raise Refused("others take too long") from None
            try:
                if not gone.done():
                    await self._submit(words, writer, gone)
            finally:
                self._turn.release()
        except Refused as reason:
            print(f"Left to spark-submit: {reason}.", file=sys.stderr)
            _say(writer, refused=str(reason))
        finally:
            gone.cancel()

    def _refuse_if_stale(self) -> None:
        changed = fingerprint(self.environ) != self._fingerprint or self._tickets.are_others()
        if changed and self._ending is None:
            print("stale", flush=True)
            self._ending = asyncio.create_task(self._end_after_others())
        if self._ending is not None or self.over.is_set():
            raise Refused("the configuration changed, or there is a new ticket")

    async def _end_after_others(self) -> None:
        """End once the submissions are over that had begun before."""
        async with self._turn:
            self.over.set()

    async def _submit(self, words: list[str], writer: asyncio.StreamWriter, gone: asyncio.Task[bytes]) -> None:
        if self.over.is_set():
            raise Refused("the JVM ended")
        may_exist = not self.jvm.announces
        _say(writer, may_exist=may_exist)

        def on_output(data: bytes) -> None:
            nonlocal may_exist
            may_exist = may_exist or SUBMITTING in data
            _say(writer, output=data.decode("utf-8", "replace"), may_exist=may_exist)

        submission = asyncio.create_task(self.jvm.submit(words, on_output))
        await asyncio.wait({submission, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not submission.done():
            await asyncio.wait({submission}, timeout=GIVEN_UP)
        if not submission.done():
            print("A submission that was given up does not end; the JVM ends with it.", file=sys.stderr)
            self.over.set()
            await self.jvm.end()
        try:
            outcome = await submission
        except JvmError as error:
            print(error, file=sys.stderr)
            self.over.set()
            if not may_exist:
                raise Refused("the JVM ended") from error
            return
        await self._conclude(outcome, may_exist, writer)

    async def _conclude(self, outcome: Outcome, may_exist: bool, writer: asyncio.StreamWriter) -> None:
        if outcome.broken:
            self.over.set()
        if outcome.code is None or (outcome.broken and not may_exist):
            _say(writer, refused="spark-submit says it better")
        else:
            _say(writer, code=outcome.code)
        with contextlib.suppress(OSError):
            await writer.drain()
        try:
            if not self.over.is_set():
                await self.jvm.clean_up()
        except Exception as error:  # noqa: BLE001 - whatever it was, what is left would grow
            print(f"The JVM could not be cleaned up: {error!r}", file=sys.stderr)
            self.over.set()


def _request(line: bytes) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the variables of a launch's command."""
    request = json.loads(line)
    try:
        words, variables = request["words"], request["variables"]
        texts = [*words, *variables, *variables.values()]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"The request has no {error}.") from error
    if not (isinstance(words, list) and all(isinstance(text, str) for text in texts)):
        raise ValueError("The request is not one of texts.")
    return words, variables


def _say(writer: asyncio.StreamWriter, **answer: object) -> None:
    if not writer.is_closing():
        writer.write(json.dumps(answer).encode() + b"\n")


def _peer(writer: asyncio.StreamWriter) -> int:
    """Return the user of the process at the other end."""
    connection: socket.socket = writer.get_extra_info("socket")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def environment() -> dict[str, str]:
    """Return the JVM's environment: this process's, in which spark-env.sh has set what it does."""
    environ = dict(os.environ)
    for name in LAUNCHS_OWN:
        if environ.get(name) == FROM_LAUNCH:
            del environ[name]
    return environ


def main(directory: str) -> int:
    """Be a submitter in a directory of its own, which goes with it."""
    os.chdir(directory)
    logging.disable()  # py4j writes a page for each call after the JVM's end
    try:
        asyncio.run(_run())
    except (JvmError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        os.chdir("/")
        shutil.rmtree(directory, ignore_errors=True)
        # The server's own, if that was killed, or removed it meanwhile; there is more in it otherwise.
        with contextlib.suppress(OSError):
            Path(directory).parent.rmdir()
    return 0


async def _run() -> None:
    await Submitter(environment()).run()
