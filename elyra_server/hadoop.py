"""Where YARN's ResourceManager is, by the operator's word or Hadoop's configuration, and what Hadoop's errors mean."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from elyra_server.errors import LaunchError
from elyra_server.settings import split_list

REST_PATH = "/ws/v1/cluster"

NO_LOG_IN = re.compile(
    "Client cannot authenticate via:|GSS initiate failed|SIMPLE authentication is not enabled|Kerberos credentials"
)
TICKET = "`klist` with the server's KRB5CCNAME, which has to be a file (Java reads no other cache), and `kinit`"


def explain(output: Iterable[str]) -> str:
    """Return, as a sentence, what the operator can do about Hadoop's words, where those do not say it."""
    if not any(NO_LOG_IN.search(line) for line in output):
        return ""
    return f" Hadoop could not log in by Kerberos; perhaps the server has no valid ticket: see {TICKET}."


def endpoints(configured: list[str], environ: Mapping[str, str]) -> list[str]:
    """Return the base URLs of the ResourceManagers, the first to try first.

    Parameters
    ----------
    configured : list of str
        What the kernelspec or the operator says; each may hold several with commas.
    environ : mapping
        The launch's environment, whose HADOOP_CONF_DIR is read where nothing is configured.

    Raises
    ------
    LaunchError
        If there is none, or one is not a URL.
    """
    named = [entry for text in configured if text for entry in split_list(text)]
    if named:
        return [normalise(entry) for entry in named]
    directory = environ.get("YARN_CONF_DIR") or environ.get("HADOOP_CONF_DIR") or os.environ.get("HADOOP_CONF_DIR")
    if not directory:
        raise LaunchError(
            "The ResourceManager of YARN is not known: set ELYRA_YARN_ENDPOINT (http://host:8088/ws/v1/cluster), "
            "yarn_endpoint in the kernelspec, or HADOOP_CONF_DIR."
        )
    return from_configuration(Path(directory) / "yarn-site.xml")


def normalise(text: str) -> str:
    """Return an endpoint as a base URL, without the path of the REST interface.

    Raises
    ------
    LaunchError
        If it is not a URL of a host.
    """
    url = text.strip() if "://" in text else f"http://{text.strip()}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise LaunchError(f"The YARN endpoint {text!r} is not a URL such as http://host:8088{REST_PATH}.")
    return f"{parts.scheme}://{parts.netloc}"


def from_configuration(path: Path) -> list[str]:
    """Return the endpoints that a yarn-site.xml says.

    Raises
    ------
    LaunchError
        If it cannot be read, or says none.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise LaunchError(
            f"The ResourceManager of YARN is not known: {path} cannot be read ({error}). "
            "Set ELYRA_YARN_ENDPOINT, or HADOOP_CONF_DIR to the right directory."
        ) from error
    values = {
        (item.findtext("name") or "").strip(): (item.findtext("value") or "").strip() for item in root.iter("property")
    }
    secure = values.get("yarn.http.policy", "").upper() == "HTTPS_ONLY"
    ids = split_list(values.get("yarn.resourcemanager.ha.rm-ids", ""))
    found = [_address(values, secure, f".{each}" if each else "") for each in ids or [""]]
    result = [f"{'https' if secure else 'http'}://{address}" for address in found if address]
    if not result:
        raise LaunchError(
            f"{path} does not say where the ResourceManager is (yarn.resourcemanager.webapp.address). "
            "Set ELYRA_YARN_ENDPOINT."
        )
    return result


def _address(values: Mapping[str, str], secure: bool, suffix: str) -> str:
    kind = "webapp.https.address" if secure else "webapp.address"
    address = values.get(f"yarn.resourcemanager.{kind}{suffix}", "")
    host = values.get(f"yarn.resourcemanager.hostname{suffix}", "")
    if not address and host:
        address = f"{host}:{8090 if secure else 8088}"
    return address.replace("${yarn.resourcemanager.hostname}", host) if "${" in address else address
