"""Questions to YARN's ResourceManager, and the one order: kill.

A thin layer over yarn-api-client, whose calls block and raise many things: here they
run in threads and raise one. Nothing in this module repeats or remembers a question;
that is `applications`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from elyra_server.addresses import address_towards
from elyra_server.environment import default_username
from elyra_server.errors import LaunchError
from elyra_server.hadoop import REST_PATH, TICKET
from elyra_server.service import in_thread
from elyra_server.settings import Settings

T = TypeVar("T")

TIMEOUT = 10.0
NO_TICKET = (
    f"it wants a Kerberos ticket, and the server has none that it takes: see {TICKET}; the address has to have the "
    "name of its principal HTTP/..."
)
FINAL_STATES = frozenset({"FINISHED", "FAILED", "KILLED"})


class ResourceManagerError(LaunchError):
    """The ResourceManager did not answer as it should; the text names it."""

    reason = "ResourceManager not usable"


@dataclass(frozen=True)
class Report:
    """What the ResourceManager says about an application."""

    id: str
    name: str
    tags: frozenset[str]
    state: str
    final_status: str
    queue: str
    diagnostics: str

    @property
    def final(self) -> bool:
        """Whether the application is over."""
        return self.state in FINAL_STATES


class ResourceManager:
    """A client of the active one of some ResourceManagers.

    Parameters
    ----------
    endpoints : sequence of str
        Their base URLs.
    settings : Settings
        How to authenticate.
    secure : bool
        Whether to, by SPNEGO.
    """

    def __init__(self, endpoints: Iterable[str], settings: Settings, secure: bool) -> None:
        self.endpoints = list(endpoints)
        self._verify: bool | str = settings.yarn_cert_bundle or True
        self._mutual = settings.yarn_mutual_authentication
        self._secure = secure
        self._client: Any = None
        self._endpoint = ""
        # A requests session, which the client has, is for one thread at a time.
        self._turn = threading.Lock()

    async def connect(self) -> None:
        """Find the active ResourceManager, unless it was found before.

        Raises
        ------
        ResourceManagerError
            If none answers; the text says what happened at each.
        """
        if self._client is None:
            await in_thread(self._connect)

    async def local_address(self) -> str:
        """Return the address of this host from which the ResourceManager is reached, where others may reach it too."""
        await self.connect()
        return await in_thread(address_towards, self._endpoint)

    async def find(self, tags: Iterable[str]) -> list[Report]:
        """Return the applications that have one of the tags, in one request."""
        wanted = list(tags)
        return await self._ask(lambda client: client.cluster_applications(application_tags=wanted), _reports)

    async def application(self, application_id: str) -> Report:
        """Return what is known about one application."""
        return await self._ask(lambda client: client.cluster_application(application_id), _report)

    async def kill(self, application_id: str) -> None:
        """Kill an application; one that is over stays as it is."""
        await self._ask(lambda client: client.cluster_application_kill(application_id), lambda data: None)

    async def _ask(self, question: Callable[[Any], Any], read: Callable[[Any], T]) -> T:
        return await in_thread(self._ask_now, question, read)

    def _ask_now(self, question: Callable[[Any], Any], read: Callable[[Any], T]) -> T:
        import requests
        from yarn_api_client.errors import APIError

        try:
            with self._turn:
                if self._client is None:  # the first question, or one after a failure
                    self._find_active()
                try:
                    return read(question(self._client).data)
                except requests.RequestException:
                    self._client = None  # perhaps another one is active now
                    raise
        except requests.RequestException as error:
            raise ResourceManagerError(self._describe({self._endpoint: _short(error)})) from error
        except (APIError, ValueError, KeyError, TypeError, AttributeError) as error:
            if self._secure and isinstance(error, APIError) and "status: 401" in str(error):
                raise ResourceManagerError(self._describe({self._endpoint: NO_TICKET})) from error
            names = ", ".join(self.endpoints)
            raise ResourceManagerError(
                f"The ResourceManager of YARN ({names}) answered something unexpected: {_short(error)}"
            ) from error

    def _connect(self) -> None:
        with self._turn:  # of many launches at once, the first one asks for all
            if self._client is None:
                self._find_active()

    def _find_active(self) -> None:
        import requests

        problems = {}
        for endpoint in self.endpoints:
            try:
                answer = requests.get(
                    f"{endpoint}{REST_PATH}/info", timeout=TIMEOUT, auth=self._auth(), verify=self._verify
                )
                answer.raise_for_status()
                info = answer.json()["clusterInfo"]
                if info.get("haState", "ACTIVE") == "ACTIVE":
                    self._client = self._make_client(endpoint)
                    self._endpoint = endpoint
                    return
                problems[endpoint] = f"it is {info.get('haState')}"
            except requests.exceptions.JSONDecodeError:
                problems[endpoint] = "what answers there is not a ResourceManager"
            except requests.RequestException as error:
                refused = self._secure and getattr(error.response, "status_code", 0) == 401
                problems[endpoint] = NO_TICKET if refused else _short(error)
            except (ValueError, KeyError, TypeError, AttributeError):
                problems[endpoint] = "what answers there is not a ResourceManager"
        raise ResourceManagerError(self._describe(problems))

    def _make_client(self, endpoint: str) -> Any:
        import yarn_api_client

        try:
            client = yarn_api_client.ResourceManager(
                [endpoint], timeout=TIMEOUT, auth=self._auth(), verify=self._verify
            )
        except Exception as error:  # that is what the library raises
            raise ResourceManagerError(self._describe({endpoint: _short(error)})) from error
        if not self._secure:
            # Without authentication the ResourceManager takes orders from users that name themselves.
            client.session.params = {"user.name": default_username()}
        return client

    def _auth(self) -> Any:
        if not self._secure:
            return None
        try:
            import requests_kerberos  # type: ignore[import-not-found]
        except ImportError as error:
            raise ResourceManagerError(
                "ELYRA_YARN_ENDPOINT_SECURITY_ENABLED needs the package requests_kerberos where the server runs."
            ) from error
        mode = requests_kerberos.REQUIRED if self._mutual else requests_kerberos.DISABLED
        return requests_kerberos.HTTPKerberosAuth(mutual_authentication=mode)

    def _describe(self, problems: dict[str, str]) -> str:
        lines = "; ".join(f"{endpoint}: {problem}" for endpoint, problem in problems.items())
        return (
            f"The ResourceManager of YARN cannot be used ({lines}). "
            "Check ELYRA_YARN_ENDPOINT, yarn_endpoint in the kernelspec, or HADOOP_CONF_DIR."
        )


def _reports(data: Any) -> list[Report]:
    apps = data["apps"]
    return [_report({"app": each}) for each in apps["app"]] if apps else []


def _report(data: Any) -> Report:
    app = data["app"]
    return Report(
        id=str(app["id"]),
        name=str(app.get("name", "")),
        tags=frozenset(filter(None, str(app.get("applicationTags", "")).lower().split(","))),
        state=str(app["state"]),
        final_status=str(app.get("finalStatus", "")),
        queue=str(app.get("queue", "")),
        diagnostics=str(app.get("diagnostics") or "").strip(),
    )


def _short(error: BaseException) -> str:
    """Return an error of the libraries in a few words, without their nested representations."""
    cause: BaseException = error
    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(reason, BaseException):
        cause = reason
    text = str(cause)
    if ": " in text and text.startswith(("<", "HTTP")) and "object at 0x" in text:
        text = text.partition(": ")[2]
    if isinstance(error, (json.JSONDecodeError, ValueError)) and "JSON" in type(error).__name__:
        return "its answer is not JSON"
    return " ".join(text.split())[:300] or type(error).__name__
