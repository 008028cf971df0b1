"""What YARN's ResourceManager is asked: by 50 launches at once, and while 200 kernels run.

A machine that runs 50 Spark applications is not at hand, so YARN and the launchers are simulated. The server and its
process proxy for YARN are real: they submit by a script that only hands the launch over, and ask a ResourceManager that
says of each application that it is accepted, and counts.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from .figures import Figure, figure
from .many import SETTLE, start
from .servers import elyra
from .simulated import raise_file_limit, simulation

NAME = "simulated_yarn"
WAIT = 6.0
"""Seconds from a submission to its launcher's report, about what YARN takes; in the quick form 1."""

#: Finds the ticket where a NodeManager finds it, and hands it over.
SUBMIT = """
files=${SPARK_OPTS##*spark.yarn.dist.files=}
files=${files#*file://}
read -r ticket <"${files%%#elyra-ticket*}"
echo "0 $ticket $1 $2 $3 $4" >"$0"
"""


class ResourceManager:
    """The part of the REST interface that is asked, and how often it was."""

    def __init__(self) -> None:
        self.asked = 0
        self.state = "ACCEPTED"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.asked += 1
                body = json.dumps(answer(self.path, outer.state)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/ws/v1/cluster"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def answer(path: str, state: str) -> dict[str, Any]:
    """Return what YARN says: of every application that is asked for, that it is in this state."""
    query = parse_qs(urlsplit(path).query)
    if "applicationTags" not in query:
        return {"clusterInfo": {"haState": "ACTIVE"}}
    tags = query["applicationTags"][0].split(",")
    final = "SUCCEEDED" if state == "FINISHED" else "UNDEFINED"
    fixed = {"name": "x", "state": state, "finalStatus": final, "queue": "root.default", "diagnostics": ""}
    ids = (f"application_1_{int(re.sub('[^0-9a-f]', '', tag)[-6:] or '0', 16):07}" for tag in tags)
    apps = [{**fixed, "id": number, "applicationTags": tag} for number, tag in zip(ids, tags, strict=True)]
    return {"apps": {"app": apps}}


def measure(runs: int, directory: Path) -> Iterator[Figure]:
    """Yield the figures, as they come."""
    launches, kernels, seconds, wait = (50, 200, 20.0, WAIT) if runs > 1 else (5, 8, 1.0, 1.0)
    raise_file_limit()
    with ExitStack() as stack:
        manager = stack.enter_context(ResourceManager())
        pipe = stack.enter_context(simulation(directory / "simulation"))
        paths = kernelspec(directory / "kernels", pipe, wait)
        server = stack.enter_context(elyra(directory / "server", ELYRA_YARN_ENDPOINT=manager.url, **paths))
        start(server, 1, NAME)  # the first launch of a server asks which ResourceManager is the active one
        asked, begin = manager.asked, time.perf_counter()
        start(server, launches, NAME, launches)
        rate = (manager.asked - asked) / (time.perf_counter() - begin)
        yield figure(f"requests to YARN while {launches} launches wait (simulated)", "/s", [rate], None, 2.0)
        start(server, kernels - launches - 1, NAME, launches)
        threading.Event().wait(SETTLE)
        asked = manager.asked
        threading.Event().wait(seconds)
        rate = (manager.asked - asked) / seconds
        yield figure(f"requests to YARN while {kernels} kernels run (simulated)", "/s", [rate], None, 0)
        manager.state = "FINISHED"  # so that the server sees its applications end


def kernelspec(directory: Path, pipe: Path, wait: float) -> dict[str, str]:
    """Write a kernelspec for the process proxy for YARN; return the variable by which a server finds it."""
    path = directory / "share" / "kernels" / NAME
    path.mkdir(parents=True)
    placeholders = ["{kernel_id}", "{response_address}", "{public_key}"]
    content = {
        "argv": ["/bin/sh", "-c", SUBMIT, str(pipe), *placeholders, f"+{wait}"],
        "display_name": "Simulated on YARN",
        "language": "python",
        "env": {"SPARK_OPTS": "--master yarn --deploy-mode cluster"},
        "process_proxy": {"class_name": "elyra_server.processproxies.yarn.YarnClusterProcessProxy"},
    }
    (path / "kernel.json").write_text(json.dumps(content))
    return {"JUPYTER_PATH": str(directory / "share")}
