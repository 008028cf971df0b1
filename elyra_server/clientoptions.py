"""Which Spark options a client may add to a submission that runs as another user.

Without impersonation a kernel runs as the server's user, and who may start one may do
all that this user may. With impersonation spark-submit itself still runs as the
server's user: an option that lets it read files, run code (the classes of packages and
jars too) or change the user would give the client the server's rights. So only
options that cannot do so pass.
"""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Mapping

from elyra_server.errors import InvalidRequestError

OPTIONS = frozenset(
    {
        *("--driver-memory", "--driver-cores", "--executor-memory", "--executor-cores", "--total-executor-cores"),
        *("--num-executors", "--queue", "--name"),
    }
)
"""Options with a value that pass as they are."""

PROPERTIES = (
    *("spark.sql.*", "spark.executor.*", "spark.executorEnv.*", "spark.dynamicAllocation.*", "spark.shuffle.*"),
    *("spark.driver.memory*", "spark.driver.cores", "spark.driver.maxResultSize", "spark.default.parallelism"),
    *("spark.memory.*", "spark.network.*", "spark.rpc.*", "spark.rdd.*", "spark.io.*", "spark.kryo*"),
    *("spark.serializer*", "spark.task.*", "spark.scheduler.*", "spark.speculation*", "spark.locality.*"),
    *("spark.app.name", "spark.yarn.queue"),
)
"""Patterns of properties that pass."""


def check_options(variables: Mapping[str, str]) -> None:
    """Refuse what must not reach a spark-submit that runs with more rights than the client has.

    Parameters
    ----------
    variables : mapping
        The client's variables; those whose names end in ``_OPTS`` hold options.

    Raises
    ------
    InvalidRequestError
        If one of them holds another option than those that pass; the text names it.
    """
    for name, text in variables.items():
        if name.endswith("_OPTS"):
            _check(name, text)


def _check(name: str, text: str) -> None:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidRequestError(f"env: {name} is not a list of options: {error}.") from error
    while words:
        option, equals, value = words.pop(0).partition("=")
        if not equals and not words:
            # It would take what follows for its value, --proxy-user for example; and its value then for the program.
            raise InvalidRequestError(f"env: {name} ends with {option[:60]!r}, whose value is missing.")
        if not equals:
            value = words.pop(0)
        if option in ("--conf", "-c"):
            option = value.partition("=")[0].strip()
            allowed = any(fnmatch.fnmatchcase(option, pattern) for pattern in PROPERTIES)
        else:
            allowed = option in OPTIONS
        if not allowed:
            raise InvalidRequestError(
                f"env: {name} contains {option[:60]!r}, which a client may not set while kernels run as other users."
            )
