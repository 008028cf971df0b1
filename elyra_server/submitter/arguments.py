"""Which arguments of spark-submit a warm JVM can be given, and what has to be added to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PATHS = frozenset({"--files", "--py-files", "--archives", "--jars"})
OPTIONS = PATHS | {
    *("--master", "--deploy-mode", "--class", "--name", "--conf", "-c", "--queue", "--proxy-user"),
    *("--driver-memory", "--driver-cores", "--driver-java-options", "--driver-library-path", "--driver-class-path"),
    *("--executor-memory", "--executor-cores", "--num-executors", "--total-executor-cores"),
}
"""Those that do the same in any process. Not among them: --help and its like, which only print; --packages, which
fetches; --keytab, which logs in; --properties-file; and all that Spark may bring in the future."""

PATH_PROPERTIES = re.compile(r"spark\.(yarn\.dist\.\w+|files|archives|jars|submit\.pyFiles|yarn\.jars|yarn\.archive)\Z")
REFUSED_PROPERTIES = re.compile(
    r"spark\.(jars\.(packages|excludes|repositories|ivy.*)|(yarn|kerberos)\.(principal|keytab)|yarn\.unmanagedAM\..*)\Z"
)

POLL_INTERVAL = "spark.hadoop.yarn.client.application-client-protocol.poll-interval-ms"
DEFAULTS = {POLL_INTERVAL: "20"}
"""Hadoop asks every 200 ms whether a submission was accepted, which takes about 30."""


class Refused(Exception):  # noqa: N818 - nothing is wrong, it only takes spark-submit
    """The arguments need a spark-submit of their own; the text says which of them."""


class Submission(NamedTuple):
    """Arguments of spark-submit, apart."""

    options: list[tuple[str, str]]
    rest: list[str]

    @property
    def properties(self) -> dict[str, str]:
        """What ``--conf`` sets."""
        pairs = (value.partition("=") for option, value in self.options if option in ("--conf", "-c"))
        return {name.strip(): value.strip() for name, _, value in pairs}

    def last(self, option: str) -> str:
        """Return the value of an option, the last one if there are several."""
        return ([value for name, value in self.options if name == option] or [""])[-1]


def complete(
    words: list[str], variables: Mapping[str, str], defaults: Mapping[str, str], environ: Mapping[str, str]
) -> list[str]:
    """Return the arguments for a warm JVM that do what `words` do for spark-submit.

    Parameters
    ----------
    words : list of str
        The arguments of spark-submit.
    variables : mapping
        Those variables of the launch that spark-submit hands on to the driver.
    defaults : mapping
        The properties of spark-defaults.conf.
    environ : mapping
        The JVM's environment.

    Raises
    ------
    Refused
        If they need a process of their own.
    """
    submission = split(words)
    check(submission, defaults)
    # They come first: what the arguments say themselves comes later, and wins.
    added = {name: value for name, value in DEFAULTS.items() if name not in defaults}
    for name, value in variables.items():
        # In this order Spark itself looks for them: its own property, its environment.
        if f"spark.yarn.appMasterEnv.{name}" not in defaults and name not in environ:
            added[f"spark.yarn.appMasterEnv.{name}"] = value
    return [word for name, value in added.items() for word in ("--conf", f"{name}={value}")] + words


def split(words: list[str]) -> Submission:
    """Take arguments apart as spark-submit does."""
    options: list[tuple[str, str]] = []
    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        match = re.fullmatch("(--[^=]+)=(.+)", word)
        name, value = (match[1], match[2]) if match else (word, None)
        if name not in OPTIONS:
            raise Refused(f"{name[:60]} is not an option for a warm submitter")
        if value is None:
            if not rest:
                raise Refused(f"{name} has no value")
            value = rest.pop(0)
        if name in ("--conf", "-c") and "=" not in value:
            raise Refused(f"{value[:60]} is not a property with a value")
        options.append((name, value))
    if not rest:
        raise Refused("there is no application")
    return Submission(options, rest)


def check(submission: Submission, defaults: Mapping[str, str]) -> None:
    """Refuse what is not a submission to YARN's cluster mode that depends on nothing but the arguments."""
    properties = {**defaults, **submission.properties}
    if (submission.last("--master") or properties.get("spark.master")) != "yarn":
        raise Refused("the master is not yarn")
    if (submission.last("--deploy-mode") or properties.get("spark.submit.deployMode")) != "cluster":
        raise Refused("the deploy mode is not cluster")
    if properties.get("spark.yarn.submit.waitAppCompletion", "true").lower() != "false":
        raise Refused("spark-submit is to wait for the application's end")
    for name in properties:
        if REFUSED_PROPERTIES.match(name):
            raise Refused(f"{name} is not a property for a warm submitter")
    paths = [value for option, value in submission.options if option in PATHS]
    paths += [value for name, value in submission.properties.items() if PATH_PROPERTIES.match(name)]
    for path in (each.strip() for value in [*paths, submission.rest[0]] for each in value.split(",")):
        if path and not path.startswith("/") and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", path):
            raise Refused(f"{path[:200]} is relative to the launch's directory")
    if any(re.search("[\ud800-\udfff]", word) for _, word in submission.options) or any(
        re.search("[\ud800-\udfff]", word) for word in submission.rest
    ):
        raise Refused("an argument is not valid UTF-8")


def read_defaults(directory: str) -> dict[str, str]:
    """Return the properties of spark-defaults.conf in a directory."""
    try:
        lines = (Path(directory) / "spark-defaults.conf").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    matches = (re.match(r"\s*([^\s#!=:][^\s=:]*)(?:\s*[=:]\s*|\s+|\Z)(.*)", line) for line in lines)
    return {match[1]: match[2].strip() for match in matches if match}


def fingerprint(environ: Mapping[str, str]) -> str:
    """Return what changes when the configuration does that a JVM with this environment has read."""
    names = ("SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR", "HIVE_CONF_DIR", "KRB5_CONFIG")
    places = [Path(environ[name]) for name in names if environ.get(name)]
    files = [file for place in places for file in _files(place)]
    return "\n".join(_state(path) for path in [*places, *files, Path(environ.get("SPARK_HOME", ""), "jars")])


def _files(place: Path) -> list[Path]:
    try:
        return sorted(place.iterdir()) if place.is_dir() else []
    except OSError:
        return []


def _state(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        return f"{path} {error.strerror}"
    return f"{path} {status.st_mtime_ns} {status.st_size} {status.st_ino}"
