"""How Spark's driver reaches a launcher that started before it, in the same container.

The early launcher listens on a socket in the container's directory, which only its user may use. What the driver starts
in its time connects to it, gives the way to the driver's JVM, and stays until the launcher ended, with the same exit
code: to Spark it is the program that runs.
"""

from __future__ import annotations

import os
import socket

from .early import COMMAND
from .errors import INTERNAL, OK
from .ticket import take_ticket

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Callable

    from .eventloop import Loop

SOCKET = "elyra-spark"
"""Relative, as the directory of a container may have a name too long for a socket's address."""

VARIABLES = ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET")
"""By which the JVM of a Spark driver is reached."""

GREETING_LIMIT = 5.0

AWAIT_CODE = f"""
read -r code <&3 && exit "$code"
echo "elyra_launcher: the kernel's launcher is gone: it was killed, or it crashed" >&2
exit {INTERNAL}
"""


def launch_in_container(launch: Callable[[str, Offer | None], int]) -> int:
    """Launch, or leave that to the launcher of this container that is there already; return the exit code.

    Parameters
    ----------
    launch : callable
        Gets the ticket, and for a launcher that is earlier than Spark's driver its offer to that.
    """
    if not os.environ.pop(COMMAND, ""):
        if is_offered():
            return give()
        ticket = take_ticket(os.environ)
        if not ticket and is_offered():  # it came just now
            return give()
        return launch(ticket, None)
    offer = Offer()
    ticket = take_ticket(os.environ)
    code = None
    try:
        # Without a ticket the driver's own was faster, on a machine that is very busy.
        code = launch(ticket, offer) if ticket else OK
    finally:
        offer.close(code)
    return code


def is_offered() -> bool:
    """Whether Spark started this process, and a launcher is there already that wants to know."""
    return all(name in os.environ for name in ("CONTAINER_ID", *VARIABLES)) and os.path.exists(SOCKET)


def give() -> int:
    """Give Spark to the launcher that is there, and become a shell that ends as it does; return only if it is gone."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(SOCKET)
            sock.sendall("".join(f"{os.environ[name]}\n" for name in VARIABLES).encode())
        except OSError as error:
            os.write(2, f"elyra_launcher: the kernel's launcher cannot be reached: {error.strerror}\n".encode())
            return INTERNAL
        os.dup2(sock.fileno(), 3)
        os.set_inheritable(3, True)
        # It waits for hours, perhaps, and takes a small part of this interpreter's memory.
        os.execv("/bin/sh", ["sh", "-c", AWAIT_CODE])


class Offer:
    """The early launcher's side: waits for the driver.

    Attributes
    ----------
    taken : bool
        Whether the driver came.
    """

    def __init__(self) -> None:
        self.taken = False
        self._server = socket.socket(socket.AF_UNIX)
        self._driver: socket.socket | None = None
        mask = os.umask(0o177)
        try:
            self._server.bind(SOCKET)
        finally:
            os.umask(mask)
        self._server.listen(1)

    def watch(self, loop: Loop, arrived: Callable[[dict[str, str]], object]) -> None:
        """Call `arrived` with the variables by which the driver's JVM is reached, once it is there."""
        from .eventloop import READ

        self._server.setblocking(False)

        def accept() -> None:
            variables = self._accept()
            if variables:
                loop.unwatch(self._server.fileno())
                arrived(variables)

        loop.watch(self._server.fileno(), READ, accept)

    def wait(self) -> dict[str, str]:
        """Wait for the driver without doing anything else; return the same."""
        while True:
            variables = self._accept()
            if variables:
                return variables

    def close(self, exit_code: int | None = None) -> None:
        """Tell the driver how it ended, if that is known, and let go."""
        if self._driver is not None:
            try:
                if exit_code is not None:
                    self._driver.sendall(f"{exit_code}\n".encode())
            except OSError:
                pass  # it is gone, and so is its JVM
            self._driver.close()
        self._server.close()
        try:
            os.unlink(SOCKET)
        except OSError:
            return

    def _accept(self) -> dict[str, str]:
        try:
            sock, _ = self._server.accept()
        except BlockingIOError:  # it is gone again
            return {}
        sock.settimeout(GREETING_LIMIT)
        text = b""
        try:
            while text.count(b"\n") < len(VARIABLES):
                data = sock.recv(4096)
                if not data:
                    break
                text += data
        except OSError:
            text = b""
        values = text.decode("utf-8", "replace").splitlines()
        if len(values) != len(VARIABLES):
            sock.close()
            return {}
        self._driver = sock
        self.taken = True
        return dict(zip(VARIABLES, values))
