"""Elyra's own settings: each a trait with a default, a variable and a help text.

Jupyter's and the kernel gateway's settings stay where they are. The variables are
read when a setting is first asked for, never at import.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from traitlets import Bool, Float, Integer, TraitError, TraitType, Unicode
from traitlets import List as ListTrait
from traitlets.config import Configurable

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"", "0", "false", "no", "off", "none"})


def parse_bool(text: str, name: str = "value") -> bool:
    """Return what a variable means that switches something on or off.

    Raises
    ------
    ValueError
        If it is neither; the text names the variable.
    """
    word = text.strip().lower()
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise ValueError(f"{name}={text!r} is neither true nor false; use True or False.")


def split_list(text: str) -> list[str]:
    """Return the entries of a comma-separated list, without brackets, quotes and blanks."""
    entries = (entry.strip(" '\"") for entry in text.strip().strip("[]").split(","))
    return [entry for entry in entries if entry]


def from_environment(name: str, fallback: Any, parse: Callable[[str], Any] = str) -> Any:
    """Return the value of a variable, or `fallback` where it is not set."""
    text = os.environ.get(name)
    if text is None:
        return fallback
    try:
        return parse(text)
    except ValueError as error:
        raise TraitError(f"The environment variable {name}={text!r} cannot be used: {error}") from error


class _Variable:
    """Mixed into a trait: its default is what a variable says, if that is set."""

    def default(self: Any, obj: Any = None) -> Any:
        """Return the default."""
        return from_environment(self.metadata["variable"], TraitType.default(self, obj), self.metadata["parse"])


class _Unicode(_Variable, Unicode[str, str]): ...


class _Float(_Variable, Float[float, float]): ...


class _Integer(_Variable, Integer[int, int]): ...


class _Bool(_Variable, Bool[bool, bool]): ...


class _List(_Variable, ListTrait[str]): ...


def _setting(trait: Any, name: str, parse: Callable[[str], Any] = str) -> Any:
    trait.help = f"{trait.help} ({name} env var)"
    return trait.tag(config=True, variable=name, parse=parse)


def _text(name: str, fallback: str, description: str) -> Any:
    return _setting(_Unicode(fallback, help=description), name)


def _float(name: str, fallback: float, description: str) -> Any:
    return _setting(_Float(fallback, help=description), name, float)


def _integer(name: str, fallback: int, description: str) -> Any:
    return _setting(_Integer(fallback, help=description), name, int)


def _bool(name: str, description: str, fallback: bool = False) -> Any:
    return _setting(_Bool(fallback, help=description), name, lambda text: parse_bool(text, name))


def _list(name: str, description: str, fallback: list[str] | None = None) -> Any:
    return _setting(_List(Unicode(), default_value=fallback or [], help=description), name, split_list)


class Settings(Configurable):
    """What an operator decides about kernels, for all launches."""

    kernel_launch_timeout = _float(
        "ELYRA_KERNEL_LAUNCH_TIMEOUT",
        30.0,
        "Seconds that a launch may take until the kernel is ready; KERNEL_LAUNCH_TIMEOUT of a launch and "
        "launch_timeout of a kernelspec come first. A launch that takes longer is given up. A kernel that listens has "
        "as long again to answer, or MappingKernelManager.kernel_info_timeout if that is longer.",
    )
    test_block_launch = _float(
        "ELYRA_TEST_BLOCK_LAUNCH", 0.0, "Seconds to wait before each launch; for tests of slow clusters."
    )
    kernel_log_dir = _text(
        "ELYRA_KERNEL_LOG_DIR",
        "",
        "Directory for the output of launch commands and local launchers, one private file per kernel; "
        "by default only the last lines are kept, in memory, for error messages.",
    )
    proxy_launch_log = _text(
        "ELYRA_PROXY_LAUNCH_LOG",
        "",
        "The same as one file for all kernels, or as a directory.",
    )

    response_ip = _text(
        "ELYRA_RESPONSE_IP",
        "",
        "Addresses at which launchers on other hosts reach this server, comma separated, tried in that order; "
        "by default those of the host. The server listens on them, and on loopback for local launchers.",
    )
    response_port = _integer("ELYRA_RESPONSE_PORT", 8877, "First port to try for launchers' connections.")
    response_port_retries = _integer(
        "ELYRA_RESPONSE_PORT_RETRIES", 50, "How many ports after response_port to try when it is taken."
    )
    response_addr_any = _bool(
        "ELYRA_RESPONSE_ADDR_ANY",
        "Listen on all interfaces, not only on the advertised addresses; for servers behind NAT.",
    )
    prohibited_local_ips = _list(
        "ELYRA_PROHIBITED_LOCAL_IPS",
        "Addresses of this host, or patterns such as 172.17.*, that must not be advertised to launchers.",
    )
    connection_file_mode = _text(
        "ELYRA_CONNECTION_FILE_MODE",
        "socket",
        "How the connection file's content comes from a launcher: socket, over its link; or pull, by ssh from hosts of "
        "DistributedProcessProxy, so that a kernel's key is on no other way.",
    )
    lease = _float(
        "ELYRA_LEASE",
        120.0,
        "Seconds that a kernel lives on without contact to this server, before its launcher ends it.",
    )
    ping = _float("ELYRA_PING", 20.0, "Seconds between two pings of a launcher; three lost ones break the link.")
    port_range = _text(
        "ELYRA_PORT_RANGE", "0..0", "Ports that kernels may listen on, as low..high; 0..0 means any port."
    )
    min_port_range_size = _integer(
        "ELYRA_MIN_PORT_RANGE_SIZE", 1000, "How many ports a port_range has to span at least."
    )
    max_port_range_retries = _integer(
        "ELYRA_MAX_PORT_RANGE_RETRIES", 5, "How many ports of a port_range a launcher tries for each channel."
    )
    output_buffer = _integer(
        "ELYRA_OUTPUT_BUFFER",
        32 * 1024 * 1024,
        "Bytes of a kernel's messages that wait, in memory, for a client that is away or does not read as fast as they "
        "come; beyond that the oldest output is dropped, and the client told how much.",
    )

    yarn_endpoint = _text(
        "ELYRA_YARN_ENDPOINT",
        "",
        "URL of YARN's ResourceManager, such as http://host:8088/ws/v1/cluster, several with commas; "
        "by default taken from yarn-site.xml in HADOOP_CONF_DIR.",
    )
    alt_yarn_endpoint = _text("ELYRA_ALT_YARN_ENDPOINT", "", "URL of the other ResourceManager of a pair.")
    yarn_endpoint_security_enabled = _bool(
        "ELYRA_YARN_ENDPOINT_SECURITY_ENABLED", "Authenticate to the ResourceManager by SPNEGO (Kerberos)."
    )
    yarn_cert_bundle = _text(
        "ELYRA_YARN_CERT_BUNDLE", "", "File with the certificate authorities that an https endpoint is checked against."
    )
    start_before_spark = _bool(
        "ELYRA_START_BEFORE_SPARK",
        "Let launchers start with their YARN container, seconds before Spark's driver is up, where the kernelspec says "
        "start_before_spark.",
        True,
    )
    yarn_mutual_authentication = _bool(
        "ELYRA_YARN_MUTUAL_AUTHENTICATION", "Require that the ResourceManager authenticates itself as well (SPNEGO)."
    )

    warm_submitter = _bool(
        "ELYRA_WARM_SUBMITTER",
        "Submit kernels whose kernelspecs have warm_submitter by a JVM that stays, beside this server; False switches "
        "that off for all.",
        True,
    )
    warm_submitter_limit = _integer(
        "ELYRA_WARM_SUBMITTER_LIMIT",
        2,
        "How many such JVMs there may be, one for each Spark and configuration; the one least recently used ends.",
    )
    warm_submitter_idle = _float(
        "ELYRA_WARM_SUBMITTER_IDLE", 1800.0, "Seconds after its last submission that such a JVM ends."
    )
    warm_submitter_at_start = _bool(
        "ELYRA_WARM_SUBMITTER_AT_START",
        "Start such JVMs with the server, rather than after the first launch that could have used one.",
        True,
    )

    remote_hosts = _list(
        "ELYRA_REMOTE_HOSTS", "Hosts for kernels of DistributedProcessProxy; without any, this host (localhost)."
    )
    load_balancing_algorithm = _text(
        "ELYRA_LOAD_BALANCING_ALGORITHM",
        "round-robin",
        "How kernels are spread over remote_hosts: round-robin, or least-connection (the host with the fewest kernels "
        "of this server).",
    )
    remote_user = _text(
        "ELYRA_REMOTE_USER",
        "",
        "User to log in as on remote_hosts; by default that of ~/.ssh/config, else this server's. With "
        "impersonation_enabled it is KERNEL_USERNAME.",
    )
    remote_pwd = _text(
        "ELYRA_REMOTE_PWD",
        "",
        "Password for remote_hosts, where no key does; give it by the variable. Not used with impersonation_enabled.",
    )
    remote_gss_ssh = _bool("ELYRA_REMOTE_GSS_SSH", "Log in to remote_hosts by Kerberos (GSSAPI).")
    ssh_port = _integer("ELYRA_SSH_PORT", 22, "Port of sshd on remote_hosts for which ~/.ssh/config names none.")
    ssh_login_limit = _float(
        "ELYRA_SSH_LOGIN_LIMIT",
        4.5,
        "Seconds that a login to a remote host may take, through all hosts between; more for networks that are slow.",
    )
    ssh_host_key_checking = _text(
        "ELYRA_SSH_HOST_KEY_CHECKING",
        "",
        "What to do about a remote host's key that known_hosts files do not have: yes refuses it, accept-new adds it, "
        "no accepts any, also changed ones; by default as StrictHostKeyChecking in ~/.ssh/config, else yes.",
    )
    enable_tunneling = _bool(
        "ELYRA_ENABLE_TUNNELING",
        "Carry everything between this server and kernels on remote_hosts through ssh; for hosts that can be reached "
        "in no other way.",
    )
    authorized_users = _list(
        "ELYRA_AUTHORIZED_USERS",
        "Users who may start kernels; empty means everybody. KERNEL_USERNAME is checked where this or "
        "impersonation_enabled is set.",
    )
    unauthorized_users = _list(
        "ELYRA_UNAUTHORIZED_USERS", "Users who may not start kernels, where KERNEL_USERNAME is checked.", ["root"]
    )
    impersonation_enabled = _bool(
        "ELYRA_IMPERSONATION_ENABLED", "Run kernels as KERNEL_USERNAME (spark-submit --proxy-user)."
    )
    client_envs = _list("ELYRA_CLIENT_ENVS", "Variables, beside KERNEL_*, that a client may set for its kernel.")
    inherited_envs = _list(
        "ELYRA_INHERITED_ENVS",
        "Variables of this server that every launch gets, beside PATH, HOME, locale and where the cluster is.",
    )
