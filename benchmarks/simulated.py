"""Simulated launchers, for more kernels than a machine can run: ``python -m benchmarks.simulated PIPE``.

One process stands for all of them. A line that comes through the named pipe is one launch; it gets a TLS connection of
its own, which speaks version 2 of the protocol as a launcher does. Behind it stands no kernel but two ZeroMQ sockets,
which answer to `kernel_info_request`, so that the server does all that it does for a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import resource
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio
from jupyter_client.session import Session

from elyra_launcher import protocol

KEY = "simulated"
FILES = 60000

#: The command of a kernelspec: it hands the launch over, and then only stays, as a launcher would.
HAND_OVER = """
echo "$$ $ELYRA_LAUNCH_TICKET $1 $2 $3 $4" >"$0"
exec sleep 3600
"""


class Kernel:
    """What a server sees of a kernel: sockets that say idle."""

    def __init__(self, context: zmq.asyncio.Context, ports: dict[str, int]) -> None:
        self._session = Session(key=KEY.encode())
        self._publisher = context.socket(zmq.PUB)
        self._shell = context.socket(zmq.ROUTER)
        own = {name: _bind(each) for name, each in (("iopub_port", self._publisher), ("shell_port", self._shell))}
        self.info = {**ports, **own, "ip": "127.0.0.1", "key": KEY}
        self.info.update(transport="tcp", signature_scheme="hmac-sha256", kernel_name="")

    async def run(self) -> None:
        """Answer whatever is asked as if it were about the kernel."""
        while True:
            identities, frames = self._session.feed_identities(await self._shell.recv_multipart())
            message = self._session.deserialize(frames)
            kind = message["header"]["msg_type"].replace("_request", "_reply")
            for state in ("busy", "idle"):
                self._session.send(self._publisher, "status", {"execution_state": state}, message)
            self._session.send(self._shell, kind, {"status": "ok", "execution_count": 1}, message, ident=identities)

    def close(self) -> None:
        """Close its sockets."""
        self._publisher.close(0)
        self._shell.close(0)


class Launcher:
    """One launcher: it proves itself, reports, and answers until it is told to end."""

    def __init__(self, kernel_id: str, fingerprint: str, ticket: str) -> None:
        self._kernel_id = kernel_id
        self._fingerprint = fingerprint
        self._ticket = ticket

    async def run(self, host: str, port: int, info: dict[str, Any]) -> None:
        """Live a launcher's life."""
        context = client_context()
        reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=protocol.MAX_LINE)
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if self._fingerprint != "sha256:" + hashlib.sha256(certificate).hexdigest():
            raise RuntimeError("the server is another one")
        proof = {"version": protocol.VERSION, "kernel_id": self._kernel_id, "ticket": self._ticket}
        who = {"launcher": "simulated", "host": "simulated", "pid": os.getpid(), "state": protocol.STARTING}
        writer.write(protocol.encode(protocol.request(0, protocol.HELLO, {**proof, **who})))
        answer = json.loads(await reader.readline())
        if "result" not in answer:
            raise RuntimeError(f"the server rejected a launcher: {answer}")
        report = {"connection": info, "restart": 0}
        writer.write(protocol.encode(protocol.notification(protocol.CONNECTION, report)))
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                message = json.loads(line)
                writer.write(protocol.encode(protocol.result(message["id"])))
                if message["method"] == protocol.SHUTDOWN:
                    writer.write(protocol.encode(protocol.request(1, protocol.EXIT, {"code": 0})))
                    await writer.drain()
                    break
        writer.transport.abort()


class Simulation:
    """All launchers of this process, and what they share.

    A line of the pipe has the process to end with the launcher (0 for none), ticket, kernel, the server's address and
    fingerprint, and when to dial: by the system's monotonic clock, or so many seconds from now (``+0.5``). The word
    ``link`` behind it says that nobody will speak to the kernel, which then has no sockets.
    """

    def __init__(self, pipe: Path) -> None:
        self._pipe = pipe
        self._context = zmq.asyncio.Context()
        self._context.set(zmq.MAX_SOCKETS, FILES)
        self._tasks: set[asyncio.Task[None]] = set()
        # They answer to nothing: one for all.
        kinds = {"stdin_port": zmq.ROUTER, "hb_port": zmq.REP, "control_port": zmq.ROUTER}
        self._shared = {name: self._context.socket(kind) for name, kind in kinds.items()}
        self._ports = {name: _bind(each) for name, each in self._shared.items()}

    async def run(self) -> None:
        """Start a launcher for each line of the pipe."""
        # For reading and writing, so that it does not end with the first writer.
        descriptor = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0))
        print("ready", flush=True)
        while line := await reader.readline():
            task = loop.create_task(self._launch(*line.decode().split()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _launch(
        self, pid: str, ticket: str, kernel_id: str, address: str, fingerprint: str, delay: str, form: str = "kernel"
    ) -> None:
        await asyncio.sleep(float(delay) if delay.startswith("+") else float(delay) - time.monotonic())
        host, _, port = address.partition(",")[0].rpartition(":")
        launcher = Launcher(kernel_id, fingerprint, ticket)
        if form == "link":  # nobody will speak to its kernel
            await launcher.run(host, int(port), link_info(self._ports))
            return
        kernel = Kernel(self._context, self._ports)
        answers = asyncio.ensure_future(kernel.run())
        try:
            await launcher.run(host, int(port), kernel.info)
        finally:
            answers.cancel()
            kernel.close()
            if int(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGTERM)


def link_info(ports: dict[str, int]) -> dict[str, Any]:
    """Return the connection info of a kernel that does not exist."""
    info = {**ports, "shell_port": 1, "iopub_port": 1, "ip": "127.0.0.1", "key": KEY}
    return {**info, "transport": "tcp", "signature_scheme": "hmac-sha256", "kernel_name": ""}


def client_context() -> ssl.SSLContext:
    """Return the TLS settings of a launcher; the certificate is compared by whoever uses it."""
    if not hasattr(client_context, "made"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client_context.made = context  # type: ignore[attr-defined]
    return client_context.made  # type: ignore[attr-defined,no-any-return]


def _bind(socket: zmq.asyncio.Socket) -> int:
    return int(socket.bind_to_random_port("tcp://127.0.0.1", min_port=20000, max_port=32000, max_tries=2000))


# -- for those who measure -----------------------------------------------------------------------


@contextmanager
def simulation(directory: Path) -> Iterator[Path]:
    """Run the process that simulates launchers; give the pipe by which it gets launches."""
    directory.mkdir(parents=True, exist_ok=True)
    pipe = directory / "launches"
    os.mkfifo(pipe)
    with (directory / "simulated.log").open("wb") as log:
        command = [sys.executable, "-m", "benchmarks.simulated", str(pipe)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"no launchers are simulated:\n{(directory / 'simulated.log').read_text()[-2000:]}")
        yield pipe
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
        pipe.unlink()


def kernelspec(directory: Path, pipe: Path, delay: float = 0.0, name: str = "simulated") -> dict[str, str]:
    """Write a kernelspec with simulated launchers and return the variable by which a server finds it."""
    path = directory / "share" / "kernels" / name
    path.mkdir(parents=True)
    placeholders = ["{kernel_id}", "{response_address}", "{public_key}"]
    proxy = {"class_name": "elyra_server.processproxies.distributed.DistributedProcessProxy"}
    content = {
        "argv": ["/bin/sh", "-c", HAND_OVER, str(pipe), *placeholders, f"+{delay}"],
        "display_name": "Simulated",
        "language": "python",
        "process_proxy": {**proxy, "config": {"remote_hosts": "localhost"}},
    }
    (path / "kernel.json").write_text(json.dumps(content))
    return {"JUPYTER_PATH": str(directory / "share")}


def raise_file_limit() -> None:
    """Allow this process, and what it starts, as many open files as the system lets it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard) if hard >= 0 else FILES, hard))


def until(condition: Any, limit: float, what: str) -> None:
    """Wait for something that no event announces."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come within {limit:g} s")
        time.sleep(0.05)


if __name__ == "__main__":
    raise_file_limit()
    asyncio.run(Simulation(Path(sys.argv[1])).run())
