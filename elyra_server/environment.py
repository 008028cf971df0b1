"""The environment of a launch: what of the server's and of the client's reaches it.

A launch never gets the server's whole environment, which holds secrets of the
server. It gets what any process needs, where the cluster's software and
configuration are, what the operator allows by name, and the client's KERNEL_*
variables, after they were checked: those are hostile input.
"""

from __future__ import annotations

import getpass
import os
import re
import uuid
from collections.abc import Iterable, Mapping

from elyra_server.errors import InvalidRequestError

# What every process needs, and where the cluster is. Paths and names, never secrets.
BASE_VARIABLES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("JAVA_HOME", "SPARK_HOME", "SPARK_CONF_DIR", "HADOOP_HOME", "HADOOP_CONF_DIR", "YARN_CONF_DIR"),
        "KRB5_CONFIG",
    }
)
BASE_PREFIXES = ("LC_",)

KERNEL_PREFIX = "KERNEL_"
SPARK_MODES = ("lazy", "eager", "none")
MAX_VALUE = 4096
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
FORBIDDEN = {"\0": "NUL", "\r": "CR", "\n": "LF", "$": "$", "`": "a backtick"}


def check_client_environment(variables: object, allowed: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables of a client that reach its launch.

    Parameters
    ----------
    variables : object
        ``env`` of the request's body, as it came.
    allowed : iterable of str
        Names that pass beside KERNEL_*; all others are left out.

    Raises
    ------
    InvalidRequestError
        If it is not an object of strings, or a value could do harm.
    """
    if not isinstance(variables, dict):
        raise InvalidRequestError("env has to be an object whose values are strings.")
    names = frozenset(allowed)
    result = {}
    for name, value in variables.items():
        if not (name.startswith(KERNEL_PREFIX) or name in names):
            continue
        if not NAME.match(name):
            raise InvalidRequestError(f"env: {name!r} is not a name of a variable.")
        if not isinstance(value, str):
            raise InvalidRequestError(f"env: the value of {name} is not a string.")
        if name.startswith(KERNEL_PREFIX):
            check_value(name, value)
        elif "\0" in value:
            raise InvalidRequestError(f"env: the value of {name} contains NUL.")
        check_unicode(name, value)
        result[name] = value
    check_launch_timeout(result)
    mode = result.get("KERNEL_SPARK_CONTEXT_INIT_MODE")
    if mode is not None and mode not in SPARK_MODES:
        raise InvalidRequestError(
            f"env: KERNEL_SPARK_CONTEXT_INIT_MODE={mode[:60]!r} is none of {', '.join(SPARK_MODES)}."
        )
    return result


def check_value(name: str, value: str) -> None:
    """Refuse a KERNEL_* value that a shell or a template could take for more than text."""
    if len(value) > MAX_VALUE:
        raise InvalidRequestError(f"env: the value of {name} is longer than {MAX_VALUE} characters.")
    for character, description in FORBIDDEN.items():
        if character in value:
            raise InvalidRequestError(f"env: the value of {name} contains {description}, which is not allowed.")


def check_unicode(name: str, value: str) -> None:
    """Refuse halves of surrogate pairs, which JSON can hold and no process can be given."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"env: the value of {name} is not valid Unicode.") from error


def check_launch_timeout(variables: Mapping[str, str]) -> float | None:
    """Return KERNEL_LAUNCH_TIMEOUT in seconds, None if it is not set."""
    text = variables.get("KERNEL_LAUNCH_TIMEOUT")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InvalidRequestError(f"env: KERNEL_LAUNCH_TIMEOUT={text[:40]!r} is not a number of seconds above 0.")
    return seconds


def check_kernel_id(kernel_id: object, origin: str = "KERNEL_ID") -> str:
    """Return a kernel id that a client chose, if it is a UUID of version 4."""
    if isinstance(kernel_id, str):
        try:
            parsed = uuid.UUID(kernel_id)
        except ValueError:
            parsed = None
        if parsed is not None and parsed.version == 4 and str(parsed) == kernel_id.lower():
            return kernel_id
    raise InvalidRequestError(f"{origin}={str(kernel_id)[:60]!r} is not a UUID of version 4, such as {uuid.uuid4()}.")


class LaunchEnvironment(dict[str, str]):
    """The environment of a launch.

    Attributes
    ----------
    client : frozenset of str
        Names of the variables in it that a client sent.
    """

    client: frozenset[str] = frozenset()


def launch_environment(client: Mapping[str, str], inherited: Iterable[str] = ()) -> LaunchEnvironment:
    """Return the environment of a launch, before the kernelspec adds to it.

    Parameters
    ----------
    client : mapping
        What came with the request, checked.
    inherited : iterable of str
        Names of the server's variables that the operator passes on.
    """
    names = BASE_VARIABLES.union(inherited)
    result = LaunchEnvironment(
        (name, value)
        for name, value in os.environ.items()
        if (name in names or name.startswith(BASE_PREFIXES)) and name != "KG_AUTH_TOKEN"
    )
    result.update(client)
    result.client = frozenset(client)
    return result


def default_username() -> str:
    """Return KERNEL_USERNAME of a launch that names nobody: the server's user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry in passwd, as in some containers
        return str(os.getuid())
