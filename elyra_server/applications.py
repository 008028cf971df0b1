"""The YARN applications that somebody waits for, asked for together.

While launches wait, or a link to a launcher is lost, their applications are looked up
in one request for all of them, at most two in a second. Otherwise nothing is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter

from elyra_server.resourcemanager import Report, ResourceManager, ResourceManagerError
from elyra_server.settings import Settings

INTERVAL = 0.5

log = logging.getLogger("elyra.applications")


class Application:
    """A kernel's application: how to recognise it, and what is known.

    Parameters
    ----------
    tag : str
        The tag of this one submission, in lower case, as YARN keeps it. Nothing else will do: ids of kernels, and so
        names and other tags, may be of a client's choice, and then stand at somebody else's application too.
    """

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.id: str | None = None
        self.report: Report | None = None
        self.problem = ""
        self.over: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self.asked = asyncio.Event()

    def matches(self, report: Report) -> bool:
        """Say whether a report is about this application.

        An id that only the submitter wrote proves nothing: options of a client are in its output too.
        """
        if self.report is not None:
            return report.id == self.report.id
        return self.tag in report.tags

    def note(self, report: Report) -> None:
        """Take in what the ResourceManager says."""
        self.id, self.report, self.problem = report.id, report, ""
        if report.final and not self.over.done():
            self.over.set_result(report)

    def describe(self) -> str:
        """Return what is known, in sentences."""
        if self.report is None:
            known = f"Its application is {self.id}." if self.id else "YARN knows no application of it yet."
            return f"{known} {self.problem}".strip()
        place = f" in queue {self.report.queue}" if self.report.queue else ""
        status = f" ({self.report.final_status})" if self.report.final else ""
        says = f" YARN says: {self.report.diagnostics[:2000]}" if self.report.diagnostics else ""
        problem = f" {self.problem}" if self.problem else ""
        return f"Application {self.report.id} is {self.report.state}{status}{place}.{says}{problem}"


class ApplicationWatch:
    """Asks one ResourceManager about all applications that are waited for."""

    _shared: dict[tuple[object, ...], ApplicationWatch] = {}  # noqa: RUF012 - one for the process

    def __init__(self, manager: ResourceManager) -> None:
        self.manager = manager
        self._watched: Counter[Application] = Counter()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def shared(cls, endpoints: list[str], settings: Settings, secure: bool) -> ApplicationWatch:
        """Return the watch over an endpoint, the same for all its kernels; on the service's loop."""
        key = (*endpoints, settings.yarn_cert_bundle, settings.yarn_mutual_authentication, secure)
        if key not in cls._shared:
            cls._shared[key] = cls(ResourceManager(endpoints, settings, secure))
        return cls._shared[key]

    def watch(self, application: Application) -> None:
        """Ask for an application from now on, until as many calls of `unwatch` as of this."""
        self._watched[application] += 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def unwatch(self, application: Application) -> None:
        """Ask for it no more, unless others still watch it."""
        self._watched[application] -= 1
        if self._watched[application] <= 0:
            del self._watched[application]

    async def ask_once(self, application: Application) -> None:
        """See that the application was asked for once from now; errors are noted in it."""
        application.asked.clear()
        self.watch(application)
        try:
            await application.asked.wait()
        finally:
            self.unwatch(application)

    async def kill(self, application: Application, patience: float) -> bool:
        """Kill an application, and see its end; False if that was not to be seen in time."""
        deadline = time.monotonic() + patience
        while application.id is not None and not application.over.done() and time.monotonic() < deadline:
            if application.report is None:  # it is not known whether it is this kernel's
                await self.ask_once(application)
                if application.report is None:
                    await asyncio.sleep(1.0)
                continue
            try:
                await self.manager.kill(application.id)
            except (ResourceManagerError, OSError, RuntimeError) as error:  # also a server without threads or files
                log.warning("Application %s could not be killed, which is tried again: %s", application.id, error)
                await asyncio.sleep(1.0)
                continue
            await self.ask_once(application)
            if not application.over.done():
                await asyncio.sleep(INTERVAL)
        return application.over.done()

    async def _run(self) -> None:
        while self._watched:
            started = time.monotonic()
            watched = list(self._watched)
            try:
                await self._ask(watched)
            except ResourceManagerError as error:
                for application in watched:
                    application.problem = str(error)
            except Exception as error:  # the edge of a loop: those who wait are not left waiting
                log.exception("YARN could not be asked")
                for application in watched:
                    application.problem = f"YARN could not be asked: {error!r}"
            for application in watched:
                application.asked.set()
            await asyncio.sleep(max(INTERVAL - (time.monotonic() - started), 0.05))

    async def _ask(self, watched: list[Application]) -> None:
        reports = await self.manager.find(each.tag for each in watched)
        for application in watched:
            for report in reports:
                if application.matches(report):
                    application.note(report)
                    break
            else:
                if application.id is not None:  # such as one that the ResourceManager does not list any more
                    with contextlib.suppress(ResourceManagerError):
                        await self._ask_for(application, application.id)

    async def _ask_for(self, application: Application, application_id: str) -> None:
        report = await self.manager.application(application_id)
        if application.matches(report):
            application.note(report)
        else:
            log.warning("%s is not the application with the tag %s.", application_id, application.tag)
            application.id = None
