"""One order to a host: `elyra_launcher.landing` through a session of an ssh connection."""

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
import threading
from collections.abc import Callable
from typing import Any

import paramiko

from elyra_server.processes import MAX_LINE
from elyra_server.ssh.pack import landing_source

NEXT_TRY = 0.2
"""Seconds after which a host that allows no more sessions than there are is asked again."""

STATUS_LIMIT = 1.0

ANSWER_LIMIT = 4.5
"""Seconds for the answer of a host that there is a connection to."""

# Reads the rest of the program from its input, and does not wait for it for ever. It has no single quotes, so that any
# shell takes it as one word.
BOOTSTRAP = (
    "import sys,signal;sys.path.pop(0);signal.alarm(30);"
    'sys.version_info>=(3,8) or sys.exit("Python %d.%d is too old: 3.8 or later is needed"%sys.version_info[:2]);'
    "f=sys.stdin.buffer;"
    'exec(compile(f.read(int(f.readline())),"elyra","exec"))'
)


class Session(threading.Thread):
    """One order to a host, in a thread: what it says comes line by line.

    Parameters
    ----------
    transport : paramiko.Transport
        The connection.
    python : str
        The Python that runs the order.
    order : dict
        What the landing is to do.
    content : bytes
        What follows it.
    on_news : callable
        Gets each report of the landing, a dict.
    on_line : callable
        Gets each other line.
    on_end : callable
        Gets the exit code, None if the connection broke, or an exception.

    The three are called in the thread.

    Attributes
    ----------
    denied : bool
        Whether it waits for the host to allow it.
    handed_over : bool
        Whether the host may have the order.
    """

    def __init__(
        self,
        transport: Any,
        python: str,
        order: dict[str, Any],
        content: bytes,
        on_news: Callable[[dict[str, Any]], None],
        on_line: Callable[[str], None],
        on_end: Callable[[int | Exception | None], None],
    ) -> None:
        super().__init__(name="elyra ssh session", daemon=True)
        self._transport = transport
        self._command = f"exec {shlex.quote(python)} -E -s -S -c '{BOOTSTRAP}'"
        self._token = secrets.token_hex(16)
        head = json.dumps({**order, "token": self._token, "packed": len(content)}).encode() + b"\n"
        source = landing_source()
        self._payload = b"%d\n" % len(source) + source + head + content
        self._on_news, self._on_line, self._on_end = on_news, on_line, on_end
        self._channel: Any = None
        self._closed = threading.Event()
        self.denied = self.handed_over = False

    @property
    def in_vain(self) -> bool:
        """Whether the connection was over before the host could have the order."""
        return not (self.handed_over or self._transport.is_active())

    @property
    def interrupted(self) -> bool:
        """Whether the connection was over once the host may have had the order: what became of it is unknown."""
        return self.handed_over and not self._transport.is_active()

    def run(self) -> None:
        outcome: int | Exception | None = None
        try:
            self._open()
            self._send()
            self._read()
            outcome = self._exit_code()
        except (paramiko.SSHException, OSError, EOFError) as error:
            outcome = error
        finally:
            self.close()
            self._on_end(outcome)

    def close(self) -> None:
        """End the session; what was started stays."""
        self._closed.set()
        if self._channel is not None:
            with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
                self._channel.close()

    def _open(self) -> None:
        while self._channel is None:
            try:
                self._channel = self._transport.open_session(timeout=ANSWER_LIMIT)
            except paramiko.SSHException as error:
                if not _is_denial(error) or not self._transport.is_active():
                    raise
                # The host allows fewer sessions than we have now: others end soon.
                self.denied = True
                if self._closed.wait(NEXT_TRY):
                    raise
        self.denied = False
        if self._closed.is_set():  # the launch was given up meanwhile: its order must not arrive
            raise EOFError("it was given up")
        self._channel.set_combine_stderr(True)
        self._channel.exec_command(self._command)

    def _send(self) -> None:
        if self._closed.is_set():
            raise EOFError("it was given up")
        self.handed_over = True
        try:
            self._channel.sendall(self._payload)
            self._channel.shutdown_write()
        except OSError:  # nobody reads it: what it says tells why
            return

    def _read(self) -> None:
        partial = b""
        while data := self._channel.recv(65536):
            *lines, partial = (partial + data).split(b"\n")
            partial = partial[-MAX_LINE:]
            for line in lines:
                self._take(line)
        if partial:
            self._take(partial)

    def _take(self, line: bytes) -> None:
        text = line[-MAX_LINE:].decode("utf-8", "replace").rstrip()
        _, found, news = text.partition(self._token + " ")
        if found:
            with contextlib.suppress(ValueError):
                self._on_news(json.loads(news))
        elif text:
            self._on_line(text)

    def _exit_code(self) -> int | None:
        """Return the exit code; None if there is none, or if the connection was over before the output.

        The order may have left a process behind, which has yet to tell how it goes.
        """
        if not (self._channel.eof_received or self._closed.is_set()):
            self._transport.join(STATUS_LIMIT)  # where the connection is over, its channels are told first
            if not self._transport.is_active():
                return None
        # It may come a little after the end of the output, if it comes.
        self._channel.status_event.wait(STATUS_LIMIT)
        code = self._channel.recv_exit_status() if self._channel.exit_status_ready() else -1
        return None if code < 0 else int(code)


def _is_denial(error: paramiko.SSHException) -> bool:
    """Say whether a host refused a channel. Of several threads that ask, paramiko tells only one the exact error."""
    return isinstance(error, paramiko.ChannelException) or str(error) == "Unable to open channel."
