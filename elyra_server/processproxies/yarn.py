"""Kernels as Spark applications in YARN's cluster mode."""

from __future__ import annotations

import asyncio
import getpass
import itertools
import re
import secrets
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from elyra_server import shipping, sparkoptions
from elyra_server.applications import Application, ApplicationWatch
from elyra_server.arguments import PORT_LIMITS, fill
from elyra_server.environment import KERNEL_PREFIX
from elyra_server.errors import LaunchError
from elyra_server.hadoop import endpoints, explain
from elyra_server.kernelspecs import switch
from elyra_server.launchers import KernelEnd
from elyra_server.listener import current_listener
from elyra_server.processes import exit_code
from elyra_server.processproxies.processproxy import RemoteProcessProxy
from elyra_server.resourcemanager import Report, ResourceManagerError
from elyra_server.service import in_thread
from elyra_server.submitter.client import LOST
from elyra_server.submitter.pool import OPTION, offer, prepare

SUBMITTED = re.compile(r"\b(application_\d+_\d+)\b")

END_PATIENCE = 10.0
"""Seconds for which a kernel's end waits for what YARN knows of it."""

FINISH_PATIENCE = 30.0
"""Seconds that an application has for its own end, once its launcher is gone, before it is killed: the launcher's last
step, which stops Spark, may take 25."""

DRIVER_PATIENCE = 120.0
"""Seconds more for one whose driver is not there yet, on a busy cluster: the kernel may be gone before it comes."""

KILL_PATIENCE = 30.0
LATE_PATIENCE = 10.0
"""Seconds to look for an application whose submission was stopped half way."""

LINK_CHECKS = (0.5, 2.0, 5.0)
"""Pauses, the last one again and again, after which YARN is asked for the application whose link was lost."""


class YarnClusterProcessProxy(RemoteProcessProxy):
    """Submits the launcher to YARN, finds its application, and kills that when it must."""

    names_response_address = True
    command_is_kernel = False
    application: Application
    applications: ApplicationWatch
    _explained: KernelEnd | None = None

    async def launch_process(self, kernel_cmd: list[str], **kw: Any) -> None:
        """Submit the application, and see that its kernel comes up."""
        super().launch_process(kernel_cmd, **kw)
        env = kw["env"]
        self.application = Application(f"elyra-{secrets.token_hex(8)}")
        self.applications = ApplicationWatch.shared(self._endpoints(env), self.settings, self._secure())
        # A wrong endpoint has to be known before anything is submitted that could not be killed.
        await self.applications.manager.connect()
        kernel_cmd = fill(kernel_cmd, {"response_address": await self._response_address()})
        await in_thread(self._ship_launcher, env)
        warm = switch(self.proxy_config, OPTION)
        offer(env, self.settings, warm)
        self._staging = _staging_directories(env)
        self.run_command(kernel_cmd, env, kw.get("cwd"), on_line=self._read_submitter)
        await self.confirm_remote_startup(kernel_cmd, **kw)
        prepare(env, self.settings, warm)

    async def confirm_remote_startup(self, kernel_cmd: list[str], **kw: Any) -> None:
        """Wait for the launcher's report, the end of its submission or application, or of the limit."""
        over = asyncio.ensure_future(self._application_over())
        self.applications.watch(self.application)
        try:
            while not await self.receive_connection_info(self.remaining(), over):
                self.handle_timeout()
        finally:
            over.cancel()
            self.applications.unwatch(self.application)
            self._remove_ticket()

    def handle_timeout(self) -> None:
        """Give the launch up when its time is over."""
        super().handle_timeout()

    def describe_progress(self) -> str:
        """Return what is known about a launch that is not ready, YARN's word included."""
        return f"{self.application.describe()} {super().describe_progress()}"

    async def ended(self) -> KernelEnd:
        """Return when the kernel ended; where the launcher was killed, with what YARN knows of that."""
        end = await super().ended()
        if end.restartable or end.code == 0 or self.launcher.ending or self._explained:
            return self._explained or end
        await self._ask_until_over(END_PATIENCE)
        self._explained = replace(end, reason=f"{end.reason} {self.application.describe()}")
        if not self.application.over.done():  # such as one whose host is gone, which YARN waits for much longer
            self.service.spawn(self.finish(), f"end of {self.application.id}")
        return self._explained

    async def kill_without_link(self) -> None:
        """Kill the application, when its launcher cannot be asked."""
        self.launcher.end("The kernel's application was killed; its launcher could not be reached.")
        self.service.spawn(self.applications.kill(self.application, KILL_PATIENCE), f"kill {self.application.id}")

    def explain_output(self, lines: list[str]) -> str:
        """Return what Hadoop's words in the output of a failed launch command mean to an operator."""
        return explain(lines)

    def watch(self) -> None:
        """Ask YARN for the cause when the link to the launcher is lost."""
        super().watch()
        self._watches.append(self.service.loop.create_task(self._watch_link()))

    async def finish(self) -> None:
        """See the application's end: by itself, or killed."""
        if not hasattr(self, "applications"):
            return
        try:
            self._remove_ticket()
        finally:
            await self._see_application_end()

    async def _see_application_end(self) -> None:
        if self.application.report is None and self._may_exist():
            await self._find_late()
        if self.application.id is None:
            return
        if not self.application.over.done() and self.launcher.connection is not None:
            await self._ask_until_over(FINISH_PATIENCE)
            if self.application.report is not None and self.application.report.state == "ACCEPTED":
                await self._ask_until_over(DRIVER_PATIENCE)  # its launcher waits for Spark's driver
        if not self.application.over.done() and not await self.applications.kill(self.application, KILL_PATIENCE):
            self.log.error("Application %s could not be killed: %s", self.application.id, self.application.problem)
        if self.application.report is None:
            return
        # spark-submit and YARN leave the staging directory of a killed application behind.
        for directory in self._staging:
            await in_thread(shutil.rmtree, directory / self.application.report.id, ignore_errors=True)

    # -- parts -------------------------------------------------------------------------------------

    async def _response_address(self) -> str:
        """Return where the launcher calls: YARN chooses its host, which is likely to be near the ResourceManager."""
        first = await self.applications.manager.local_address()
        return await current_listener(self.settings).remote_response_address(first)

    def _endpoints(self, env: dict[str, str]) -> list[str]:
        config = self.proxy_config
        own = [str(config.get(name) or "") for name in ("yarn_endpoint", "alt_yarn_endpoint")]
        operator = [self.settings.yarn_endpoint, self.settings.alt_yarn_endpoint]
        return endpoints(own if any(own) else operator, env)

    def _secure(self) -> bool:
        return switch(
            self.proxy_config, "yarn_endpoint_security_enabled", bool(self.settings.yarn_endpoint_security_enabled)
        )

    def _starts_before_spark(self, options: str, env: dict[str, str]) -> bool:
        wanted = switch(self.proxy_config, "start_before_spark") and bool(self.settings.start_before_spark)
        return wanted and sparkoptions.leaves_start_to_us(options, env)

    def _ship_launcher(self, env: dict[str, str]) -> None:
        """Let Spark bring ticket and launcher to the worker."""
        variables = {
            name: value for name, value in env.items() if name.startswith(KERNEL_PREFIX) or name in PORT_LIMITS
        }
        self._ticket = shipping.write_ticket(self.kernel_id, env.pop("ELYRA_LAUNCH_TICKET"), variables)
        launcher = shipping.launcher_zip()
        env["ELYRA_LAUNCHER_PATH"] = str(launcher)
        options = sparkoptions.options_of(env)
        tags = f"{self.kernel_id},{self.application.tag}"
        early = shipping.early_script() if self._starts_before_spark(options, env) else None
        env["SPARK_OPTS"] = sparkoptions.extend(options, env, tags, self._ticket, launcher, early)

    def _remove_ticket(self) -> None:
        if hasattr(self, "_ticket"):
            self._ticket.unlink(missing_ok=True)

    def _read_submitter(self, line: str) -> None:
        match = SUBMITTED.search(line)
        if match and self.application.id is None:
            self.application.id = match[1]
            self.log.info("Kernel %s is %s", self.kernel_id, match[1])

    async def _application_over(self) -> None:
        report = await asyncio.shield(self.application.over)
        # The launcher's own last words say more, and may be on their way.
        await asyncio.wait({self.launcher.reported}, timeout=0.5)
        raise LaunchError(f"The application ended before its kernel was ready. {self._describe_end(report)}")

    async def _watch_link(self) -> None:
        while True:
            await self.launcher.lost.wait()
            if self.launcher.gone.is_set():
                return
            for pause in itertools.chain(LINK_CHECKS, itertools.repeat(LINK_CHECKS[-1])):
                await asyncio.sleep(pause)
                if not self.launcher.lost.is_set() or self.launcher.gone.is_set():
                    break
                await self.applications.ask_once(self.application)
                if self.application.over.done():
                    report = self.application.over.result()
                    self._explained = KernelEnd(f"The kernel's application ended. {self._describe_end(report)}")
                    self.launcher.end(self._explained.reason)
                    return

    async def _ask_until_over(self, patience: float) -> None:
        self.applications.watch(self.application)
        try:
            await self.service.patiently(self.application.over, patience)
        finally:
            self.applications.unwatch(self.application)

    def _may_exist(self) -> bool:
        """Whether there may be an application that was not seen: not if its submission failed by itself."""
        if self.command is None:
            return False
        code = exit_code(self.command)
        return self.application.id is not None or code is None or code <= 0 or code == LOST

    async def _find_late(self) -> None:
        """Look for the application of a submission that was stopped: it may exist all the same."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LATE_PATIENCE
        while self.application.report is None and loop.time() < deadline:
            await self.applications.ask_once(self.application)
            if self.application.report is None:
                await asyncio.sleep(0.5)

    @staticmethod
    def _describe_end(report: Report) -> str:
        says = f" YARN says: {report.diagnostics[:4000]}" if report.diagnostics else ""
        return f"{report.id} is {report.state} ({report.final_status}).{says}"


def _staging_directories(env: dict[str, str]) -> list[Path]:
    """Return where Spark stages submissions if the cluster's file system is the local one."""
    configured = sparkoptions.lookup(sparkoptions.options_of(env), env, "spark.yarn.stagingDir")
    match = re.fullmatch(r"(?:file:(?://)?)?(/.*)", configured)
    # Below a configured directory each user has one; only this server's own and an impersonated one can be meant.
    users = (getpass.getuser(), env.get("KERNEL_USERNAME", ""))
    bases = (
        [Path(match[1]) / name for name in users if "/" not in name and name.strip(".")]
        if match
        else [Path(env.get("HOME") or "/")]
    )
    return [base / ".sparkStaging" for base in bases]


__all__ = ["ResourceManagerError", "YarnClusterProcessProxy"]
