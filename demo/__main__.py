"""``make demo``: a notebook as a Spark application in YARN's cluster mode, on this machine alone."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from demo.notebook import connect, run
from demo.server import Server, ServerError
from demo.yarn import Yarn
from elyra_server.install import known_kernelspecs

NOTEBOOK = Path(__file__).with_name("example.ipynb")
KERNEL = "spark_python_yarn_cluster"
LAUNCH_LIMIT = 150  # seconds; a busy machine takes longer than the server's default of 30
END_LIMIT = 30.0


class DemoError(RuntimeError):
    """The demonstration did not do what it has to; the text says what."""


class Demo:
    """One demonstration, from an empty directory to an empty directory."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.yarn = Yarn()
        self.server: Server | None = None

    def say(self, text: str) -> None:
        """Print a step with the time since the beginning."""
        lines = text.splitlines() or [""]
        print(f"{time.monotonic() - self.begin:6.1f} s  {lines[0]}", flush=True)
        for line in lines[1:]:
            print(f"          {line}", flush=True)

    def start(self) -> Server:
        """Start YARN and the server."""
        self.say("Starting YARN: a ResourceManager and a NodeManager ...")
        self.yarn.start()
        self.say(f"YARN is up, with one active node: {self.yarn.endpoint}")
        environ = {**self.yarn.environ, "ELYRA_KERNEL_LAUNCH_TIMEOUT": str(LAUNCH_LIMIT)}
        # In YARN's directory, which goes even if this process is killed.
        self.server = Server(self.yarn.server_directory, environ, token=os.environ.get("KG_AUTH_TOKEN", ""))
        names = usable_kernelspecs()
        self.server.install(*names, "--user", f"--python={sys.executable}", "--local-jars")
        self.say(f"jupyter elyra install {' '.join(names)}")
        self.server.start()
        self.say(f"jupyter elyra serves at {self.server.url}")
        return self.server

    async def run_notebook(self, server: Server) -> str:
        """Run the example notebook and return its application's id."""
        os.environ["KERNEL_USERNAME"] = self.yarn.user
        manager = connect(server.url, server.token)
        self.say(f"POST /api/kernels: {KERNEL} ...")
        await manager.start_kernel(kernel_name=KERNEL)
        try:
            application = self._application_of(str(manager.kernel_id))
            self.say(f"Kernel {manager.kernel_id} is ready: {application['id']}, {application['state']}")
            outputs = await run(NOTEBOOK, manager, self.say)
        finally:
            begin = time.monotonic()
            await manager.shutdown_kernel()
            self.say(f"DELETE /api/kernels/{manager.kernel_id}: answered after {time.monotonic() - begin:.2f} s")
        self._check(outputs, application["id"])
        await self._wait_until_succeeded(application["id"])
        self.say(f"YARN says that {application['id']} is FINISHED, SUCCEEDED.")
        return str(application["id"])

    def serve(self, server: Server) -> None:
        """Wait for Ctrl-C; the end of the server is a failure."""
        assert server.process is not None
        code = server.process.wait()
        raise ServerError(f"jupyter elyra ended with code {code}.")

    def show_how_to_attach(self, server: Server) -> None:
        """Print the command that uses this server from a JupyterLab."""
        self.say("To attach a JupyterLab:")
        print(f"jupyter lab --gateway-url={server.url}", flush=True)
        if server.token:
            self.say("with JUPYTER_GATEWAY_AUTH_TOKEN set to what KG_AUTH_TOKEN is here.")
        else:
            self.say("Whoever can log in to this machine can use it; KG_AUTH_TOKEN=... make demo asks for a token.")

    def stop(self) -> None:
        """End everything that was started; again is harmless."""
        if self.server is not None:
            self.server.stop()
        self.yarn.stop()

    def explain(self, error: BaseException) -> None:
        """Print why it failed, and the logs, which are gone afterwards."""
        if self.server is not None:
            self._show_log(str(self.server.log_file), self.server.log_tail())
        for log in self.yarn.container_logs():
            self._show_log(str(log), "\n".join(log.read_text(errors="replace").splitlines()[-15:]))
        self.say(f"The demonstration failed. {type(error).__name__}: {error}")

    def _application_of(self, kernel_id: str) -> dict[str, Any]:
        tagged = [each for each in self.yarn.applications() if kernel_id in each["applicationTags"]]
        if len(tagged) != 1:
            raise DemoError(f"YARN has {len(tagged)} applications with the tag {kernel_id} instead of 1.")
        return tagged[0]

    def _check(self, outputs: list[str], application_id: str) -> None:
        found = re.search(r"(application_\d+_\d+) (\S+) (\S+)", outputs[-1])
        if found is None or found.groups() != (application_id, "yarn", "cluster"):
            raise DemoError(f"The notebook's last output is {outputs[-1]!r}, not {application_id} yarn cluster.")
        self.say(f"The notebook's result: {outputs[-2].strip()}")
        self.say(f"It came from {application_id}, master yarn, deploy mode cluster.")

    async def _wait_until_succeeded(self, application_id: str) -> None:
        deadline = time.monotonic() + END_LIMIT
        while True:
            state = await asyncio.to_thread(self.yarn.application, application_id)
            if state["state"] in ("FINISHED", "FAILED", "KILLED"):
                break
            if time.monotonic() > deadline:
                raise DemoError(f"{application_id} is still {state['state']} {END_LIMIT:.0f} s after its kernel's end.")
            await asyncio.sleep(0.1)
        if state["finalStatus"] != "SUCCEEDED":
            raise DemoError(f"{application_id} is {state['state']}, {state['finalStatus']}: {state['diagnostics']}")

    @staticmethod
    def _show_log(name: str, tail: str) -> None:
        if tail:
            print(f"--- {name}\n{tail}\n---", flush=True)


def usable_kernelspecs() -> list[str]:
    """Return the kernelspecs for which this machine has what they need: R's want an R with IRkernel."""
    found = known_kernelspecs()
    command = ["Rscript", "-e", "library(IRkernel)"]
    has_r = shutil.which(command[0]) and subprocess.run(command, capture_output=True, check=False).returncode == 0
    return [name for name, source in found.items() if has_r or source.parent.name != "r"]


def interrupted(*_: object) -> NoReturn:
    """Treat the signals that end a program as Ctrl-C."""
    raise KeyboardInterrupt


def main() -> None:
    """Run the demonstration; with ``--once`` exit after the notebook."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="exit after the notebook; 0 only if all of it worked")
    once = parser.parse_args().once
    # SIGINT too: a shell starts what runs in the background with that ignored.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, interrupted)
    demo = Demo()
    code = 1
    application = ""
    try:
        server = demo.start()
        application = asyncio.run(demo.run_notebook(server))
        demo.show_how_to_attach(server)
        if not once:
            demo.say("Serving until Ctrl-C.")
            demo.serve(server)
        code = 0
    except KeyboardInterrupt:
        code = 130 if once else 0
    except Exception as error:  # noqa: BLE001 - the outer edge: whatever it was, the logs are shown before they go
        demo.explain(error)
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        demo.say("Ending the server, its kernels and YARN ...")
        demo.stop()
    if demo.yarn.endpoint and demo.yarn.directory.exists():
        demo.say(f"{demo.yarn.directory} was left behind.")
        code = 1
    else:
        demo.say("Nothing is left.")
    if once and code == 0:
        print(f"demo: ok {application} yarn cluster", flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
