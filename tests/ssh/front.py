"""A server with a home of its own, and looks at what is left on a host."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import sys
import threading
import time
from pathlib import Path

from client import RequestError, request
from waiting import PATIENCE, until

from demo import ROOT
from demo.server import Server
from elyra_server.install import known_kernelspecs, stage

HOSTS = ("w1", "w2", "w3")


class Front(Server):
    """A server with a home of its own, for its ``~/.ssh``."""

    def __init__(self, directory, hosts, **environ):
        home = directory / "home"
        if not (home / ".ssh").exists():
            hosts.write_client(home)
        environ = {
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "ELYRA_KERNEL_LAUNCH_TIMEOUT": "60",
            "ELYRA_RESPONSE_IP": "",
            **environ,
        }
        super().__init__(directory, environ)
        if "SSH_AUTH_SOCK" not in environ:
            self.environ.pop("SSH_AUTH_SOCK", None)
        self.home = home

    def add(self, name, base="python_distributed", change=None, **config):
        """Install a kernelspec; `config` goes into its stanza's, `change` may change all of it."""
        directory = Path(self.environ["JUPYTER_DATA_DIR"], "kernels", name)
        stage(known_kernelspecs()[base], directory)
        path = directory / "kernel.json"
        spec = json.loads(path.read_text())
        spec["env"]["PYSPARK_PYTHON"] = sys.executable
        spec["process_proxy"].setdefault("config", {}).update(config)
        if change is not None:
            change(spec)
        path.write_text(json.dumps(spec))

    def fail(self, name, **env):
        """Start a kernel that cannot be started; return the error and the seconds it took."""
        begin = time.monotonic()
        try:
            model = request(self, "POST", "/api/kernels", {"name": name, "env": env})
        except RequestError as error:
            return error, time.monotonic() - begin
        request(self, "DELETE", f"/api/kernels/{model['id']}")
        raise AssertionError(f"{name} started")


def started_when_back(start, name, **env):
    """Start a kernel on a host that was cut off, as soon as there is a way to it again."""

    def started():
        with contextlib.suppress(RequestError):
            return start(name, **env)

    return until(started, f"a kernel on {name}")


class SlowWay:
    """A port on this host that leads to another host's sshd, with so many seconds on the way in each direction."""

    def __init__(self, host, seconds):
        self._place = (host.address, host.port)
        self._seconds = seconds
        self._server = socket.create_server(("127.0.0.1", 0))
        self._socks = []
        self.port = self._server.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        for sock in (self._server, *self._socks):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                ends = self._server.accept()[0], socket.create_connection(self._place)
                self._socks += ends
                for source, target in (ends, ends[::-1]):
                    way = queue.Queue()
                    threading.Thread(target=self._take, args=(source, way), daemon=True).start()
                    threading.Thread(target=self._give, args=(way, target), daemon=True).start()

    def _take(self, source, way):
        data = b"begin"
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            way.put((time.monotonic() + self._seconds, data))

    def _give(self, way, target):
        with contextlib.suppress(OSError):
            while True:
                due, data = way.get()
                time.sleep(max(due - time.monotonic(), 0.0))
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)


def nothing_left(host, others=0, limit=PATIENCE):
    """Return whether neither a file nor a process of a launch is on a host, where some others run."""
    try:
        return until(lambda: len(host.processes()) == others and not host.files(), limit=limit)
    except AssertionError:
        raise AssertionError(f"On {host.name} are {host.processes()} and {host.files()}.") from None
