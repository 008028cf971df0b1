"""The command line of the launcher: every spelling of it, and what it means.

The flags of the field are accepted with and without their ``RemoteProcessProxy.``
prefix and with dashes or underscores; what is not ours goes to the kernel in the
order it came. `argparse` knows neither and is not cheap to import.
"""

from __future__ import annotations

import os

from . import __version__
from .errors import UsageError

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Mapping, Sequence, Tuple

    Address = Tuple[str, int]

PREFIX = "remoteprocessproxy."

FINGERPRINT_PREFIX = "sha256:"
"""What a public key starts with that is the fingerprint of a certificate."""

# Flag (in lower case, with dashes) and the attribute of Options it sets.
FLAGS = {
    "response-address": "response_address",
    "kernel-id": "kernel_id",
    "public-key": "public_key",
    "port-range": "port_range",
    "spark-context-initialization-mode": "spark_mode",
    "cluster-type": "cluster_type",
    "kernel-class-name": "kernel_class_name",
    "profile": "connection_file",
}

SPARK_MODES = ("lazy", "eager", "none")
CLUSTER_TYPES = ("spark", "dask", "none")

MIN_PORT_RANGE_SIZE = 1000
MAX_PORT_RANGE_RETRIES = 5

USAGE = """\
usage: python -m elyra_launcher [options] CONNECTION_FILE [kernel's options]
       python -m elyra_launcher [options] [CONNECTION_FILE] -- COMMAND... {connection_file}

Start a Jupyter kernel here, report it to its server and look after it until it
ends: ipykernel without a COMMAND, any other kernel with one. CONNECTION_FILE does
not exist yet and may be left out with --kernel-id; where its directory does not exist
here or is open to others, the file gets its name in a private directory. Each --x-y may also be written
--x_y and --RemoteProcessProxy.x-y, with its value after a space or an equals sign.

options:
  --response-address HOST:PORT[,...]  the server's listener; without it the kernel
                                      is supervised and nobody is told
  --public-key KEY                    sha256:<fingerprint of the server's
                                      certificate>; an RSA key of Enterprise Gateway or
                                      gateway_provisioners selects their protocol
  --kernel-id ID                      default: from the name of the connection file
  --port-range LOW..HIGH              ports for the kernel (default: any)
  --profile FILE                      the connection file, by name
  --kernel-class-name CLASS           Python: subclass of ipykernel's kernel
  --spark-context-initialization-mode MODE
                                      lazy, eager or none (default)
  --cluster-type TYPE                 spark (default), dask or none
  --version, --help
"""


class Options:
    """What was asked for on the command line and in the environment.

    Attributes
    ----------
    connection_file : str
        The path that was named, or a name for the file where none was.
    kernel_id : str
        Empty if it was not given and the connection file's name does not tell it.
    addresses : list of (str, int)
        The server's listener; empty to supervise without a server.
    public_key : str
        What the server is recognised by; it also selects the protocol.
    port_range : (int, int) or None
        Lowest and highest port, both included; None for any.
    port_retries : int
        How many ports of the range are tried before it counts as exhausted.
    spark_mode : str
        ``lazy``, ``eager`` or ``none``.
    cluster_type : str
        ``spark``, ``dask`` or ``none``.
    kernel_class_name : str
        Empty for ipykernel's own.
    kernel_arguments : list of str
        What was not ours, for the kernel.
    command : list of str
        What stood behind ``--``: the command of a generic kernel.
    """

    def __init__(self) -> None:
        self.connection_file = ""
        self.kernel_id = ""
        self.addresses: list[Address] = []
        self.public_key = ""
        self.port_range: tuple[int, int] | None = None
        self.port_retries = MAX_PORT_RANGE_RETRIES
        self.spark_mode = "none"
        self.cluster_type = "spark"
        self.kernel_class_name = ""
        self.kernel_arguments: list[str] = []
        self.command: list[str] = []

    @property
    def protocol_version(self) -> int:
        """What the server speaks: 2, 1 (Enterprise Gateway, gateway_provisioners), or 0 without one."""
        if not self.addresses:
            return 0
        return 2 if self.public_key.startswith(FINGERPRINT_PREFIX) else 1


class InformationRequested(Exception):  # noqa: N818 - not an error
    """The text that ``--help`` or ``--version`` asked for."""


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Options:
    """Return the options of a command line.

    Parameters
    ----------
    argv : sequence of str
        The arguments, without the program's name.
    environ : mapping of str to str
        The launch's environment, for what was not given as an argument.

    Raises
    ------
    UsageError
        If they do not make a launch.
    InformationRequested
        If help or the version was asked for.
    """
    ours, options = _split(argv)
    options.kernel_id = ours.get("kernel_id", "") or _kernel_id_of(options.connection_file)
    options.public_key = ours.get("public_key", "")
    options.kernel_class_name = ours.get("kernel_class_name", "") or environ.get("KERNEL_CLASS_NAME", "")
    mode = ours.get("spark_mode", "") or environ.get("KERNEL_SPARK_CONTEXT_INIT_MODE", "")
    options.spark_mode = _choice("spark-context-initialization-mode", mode or "none", SPARK_MODES)
    options.cluster_type = _choice("cluster-type", ours.get("cluster_type", "") or "spark", CLUSTER_TYPES)
    options.port_range = port_range(ours.get("port_range", ""), environ)
    options.port_retries = _number(environ, "MAX_PORT_RANGE_RETRIES", MAX_PORT_RANGE_RETRIES)
    if ours.get("response_address"):
        options.addresses = addresses(ours["response_address"])
        if not options.public_key:
            raise UsageError("--response-address needs --public-key, by which the server is recognised")
    if not options.connection_file and not options.command and not options.kernel_id:
        raise UsageError("name the connection file that is to be made, for instance kernel-<id>.json")
    options.connection_file = options.connection_file or f"kernel-{options.kernel_id or os.getpid()}.json"
    return options


def server_of(argv: Sequence[str]) -> Options | None:
    """Return as much of wrong arguments as it takes to tell the server about them; None if they lack it."""
    try:
        ours, options = _split([*argv, ""])  # the last flag may lack its value
        options.addresses = addresses(ours.get("response_address", ""))
    except (UsageError, InformationRequested):
        return None
    options.public_key = ours.get("public_key", "")
    options.kernel_id = ours.get("kernel_id", "") or _kernel_id_of(options.connection_file)
    return options if options.protocol_version == 2 and options.kernel_id else None


def _split(argv: Sequence[str]) -> tuple[dict[str, str], Options]:
    """Return the values of our flags, and options with what is positional."""
    ours: dict[str, str] = {}
    options = Options()
    arguments = list(argv)
    while arguments:
        argument = arguments.pop(0)
        if argument == "--":
            options.command = arguments
            break
        flag, equals, value = argument.partition("=")
        attribute = _attribute(flag)
        if attribute is not None:
            if not equals:
                if not arguments:
                    raise UsageError(f"{flag} needs a value")
                value = arguments.pop(0)
            ours[attribute] = value
        elif argument in ("--help", "-h"):
            raise InformationRequested(USAGE)
        elif argument == "--version":
            raise InformationRequested(f"elyra_launcher {__version__}\n")
        elif not options.connection_file and _is_connection_file(argument, options.kernel_arguments):
            options.connection_file = argument
        else:
            options.kernel_arguments.append(argument)
    if ours.get("connection_file"):
        if options.connection_file:
            options.kernel_arguments.insert(0, options.connection_file)
        options.connection_file = ours["connection_file"]
    return ours, options


def _is_connection_file(argument: str, before: Sequence[str]) -> bool:
    # Behind an option of the kernel's it may be that option's value.
    return not argument.startswith("-") and (not before or argument.endswith(".json"))


def _attribute(flag: str) -> str | None:
    if not flag.startswith("--"):
        return None
    name = flag[2:].lower()
    if name.startswith(PREFIX):
        name = name[len(PREFIX) :]
    return FLAGS.get(name.replace("_", "-"))


def _kernel_id_of(path: str) -> str:
    """Return the UUID in ``kernel-<uuid>.json``, or nothing."""
    name = path.rsplit("/", 1)[-1]
    name = name[: -len(".json")] if name.endswith(".json") else name
    name = name[len("kernel-") :] if name.startswith("kernel-") else name
    digits = name.replace("-", "")
    return name if len(digits) == 32 and all(digit in "0123456789abcdefABCDEF" for digit in digits) else ""


def _choice(flag: str, value: str, choices: Sequence[str]) -> str:
    if value.lower() not in choices:
        raise UsageError(f"--{flag} is {value!r}; it can be {', '.join(choices[:-1])} or {choices[-1]}")
    return value.lower()


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name) or environ.get("ELYRA_" + name) or environ.get("EG_" + name) or str(default)
    if not value.isdecimal():
        raise UsageError(f"the environment variable {name} is {value!r}; it has to be a number")
    return int(value)


def addresses(text: str) -> list[Address]:
    """Return the addresses of a list like ``10.0.0.1:8877,[fd00::1]:8877``.

    Raises
    ------
    UsageError
        If one of them is not HOST:PORT.
    """
    found = []
    for item in text.split(","):
        host, _, port = item.strip().rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = ""
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(
                f"--response-address has {item.strip()!r}; each address has to be HOST:PORT, "
                "several are separated by commas"
            )
        found.append((host, int(port)))
    return found


def port_range(text: str, environ: Mapping[str, str]) -> tuple[int, int] | None:
    """Return lowest and highest port of a range ``low..high``; None for any port.

    Raises
    ------
    UsageError
        If it is not a range of ports, or smaller than a kernel's luck needs.
    """
    if not text:
        return None
    low_text, dots, high_text = text.partition("..")
    if not dots or not low_text.strip().isdecimal() or not high_text.strip().isdecimal():
        raise UsageError(f"--port-range is {text!r}; it has to be LOW..HIGH, for instance 40000..42000")
    low, high = int(low_text), int(high_text)
    if low == high == 0:
        return None
    size = _number(environ, "MIN_PORT_RANGE_SIZE", MIN_PORT_RANGE_SIZE)
    if not 1024 <= low <= 65535 or not 1024 <= high <= 65535:
        raise UsageError(f"--port-range is {text!r}; its ports have to be between 1024 and 65535")
    if high - low < size:
        raise UsageError(
            f"--port-range is {text!r}; it has to span {size} ports or more (environment variable MIN_PORT_RANGE_SIZE)"
        )
    return low, high
