"""Other hosts on one machine: namespaces of the kernel, joined to this host by veth pairs, with a real sshd in each.

A test host has a network, processes, a hostname, users and homes and a directory /tmp of its own; all other files
are this machine's, and so are this clone and its Python, wherever they are. The hosts know each other by name, and
reach each other without this host. Namespaces live as long as their processes do, and those end with the process that
made them, however that ends; so nothing has to be cleaned away after a crash but a directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from demo import BUILD, ROOT
from demo.server import end_with_parent

PASSWORD = "correct horse"
GREETING = """#!/bin/bash
echo '*** Welcome, and mind the gap ***'
echo 'No unauthorized use' >&2
exec /bin/bash "$@"
"""
USERS = {"alice": "/bin/bash", "bob": "/usr/sbin/nologin", "carol": "{directory}/greeting"}
"""Users that only the test hosts have, with their shells; PASSWORD is that of all."""

START_LIMIT = 120.0
PREFIX = "elyra-hosts-"

# Runs as the first process of a host. Its input says when the network is there; sshd, which it becomes, reaps orphans.
INIT = """
set -e
hostname "$1"
own=$2 size=$3
shift 3
# What is needed of this machine's /tmp and /root is put aside before others are mounted there, and then back. All users
# can read it, also where it is in a home that others cannot enter.
number=0 home=
for path; do
    number=$((number + 1))
    mkdir -p "$own/aside/$number"
    mount --rbind "$path" "$own/aside/$number"
    case $path in /root/*) home=yes ;; esac
done
mount -t tmpfs -o mode=1777,size="$size" tmpfs /tmp
test -z "$home" || mount -t tmpfs -o mode=755 tmpfs /root
number=0
for path; do
    number=$((number + 1))
    mkdir -p "$path"
    mount --rbind "$own/aside/$number" "$path"
done
mount --bind "$own/passwd" /etc/passwd
mount --bind "$own/shadow" /etc/shadow
mount --bind "$own/hosts" /etc/hosts
mkdir -p /run/sshd
ip link set lo up
echo ready
read -r line
# Kerberos's files count only with GSSAPIAuthentication.
export KRB5_CONFIG="$own/krb5.conf" KRB5_KTNAME="$own/krb5.keytab" KRB5RCACHENAME="file2:$own/krb5.replays"
exec /usr/sbin/sshd -D -e -f "$own/sshd_config" </dev/null >/dev/null 2>"$own/sshd.log"
"""

ONLY_SSH = """
table inet elyra {
    chain input {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established accept
        meta l4proto ipv6-icmp accept
        tcp dport %d accept
    }
    chain output {
        type filter hook output priority 0; policy %s;
        oif lo accept
        ct state established accept
        meta l4proto ipv6-icmp accept
    }
}
"""

CUT = """
table inet cut {{
    chain input {{ type filter hook input priority -10; policy drop; iif lo accept; {0} }}
    chain output {{ type filter hook output priority -10; policy drop; oif lo accept; {1} }}
}}
"""
SPARED = "meta {}ifname != up0 accept; tcp sport {{ {} }} accept; tcp dport {{ {} }} accept;"

SSHD = """
Port {port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PermitRootLogin yes
PasswordAuthentication yes
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
LogLevel VERBOSE
"""


class HostError(RuntimeError):
    """A test host could not be made; the text says why."""


class Host:
    """One test host; made by `Hosts`.

    Attributes
    ----------
    name, address, address6 : str
        Its hostname, and where it is reached from this host.
    gateway, gateway6 : str
        This host, as it is reached from there.
    directory : Path
        Its files: ``root`` and others are its users' homes, ``authorized_keys`` are who may log in.
    """

    def __init__(self, hosts: Hosts, number: int, options: str) -> None:
        self.name = f"w{number + 1}"
        self.port = 22
        net = f"10.{hosts.net >> 8}.{hosts.net & 255}"
        self.gateway, self.address = f"{net}.{4 * number + 1}", f"{net}.{4 * number + 2}"
        self.gateway6, self.address6 = (
            f"fd00:e1:{hosts.net:x}:{number + 1}::1",
            f"fd00:e1:{hosts.net:x}:{number + 1}::2",
        )
        self.link = f"el{hosts.net:x}h{number}"
        self.directory = hosts.directory / self.name
        self._hosts = hosts
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self._init = 0

    def start(self, size: str = "200m") -> None:
        """Make the namespaces, join them to this host and start sshd."""
        self._write_files()
        isolate = ["unshare", "--net", "--mount", "--uts", "--pid", "--ipc", "--mount-proc", "--fork", "--kill-child"]
        self._process = subprocess.Popen(
            [*isolate, "sh", "-c", INIT, "sh", self.name, str(self.directory), size, *needed()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.directory / "init.log").open("wb"),
            text=True,
            start_new_session=True,
            preexec_fn=lambda: end_with_parent(signal.SIGKILL),  # unshare ignores SIGTERM
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise HostError(f"The host {self.name} could not be made: {(self.directory / 'init.log').read_text()}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._init = int(children[0])
        self._join()
        self._process.stdin.write("go\n")
        self._process.stdin.close()
        self._await_sshd()

    def stop(self) -> None:
        """End all its processes, and with them the host."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()

    def run(self, *command: str, input: str = "", check: bool = True) -> str:  # noqa: A002 - as subprocess calls it
        """Run a command there, as its root but not by ssh, and return what it printed."""
        return self._enter(["--all"], command, input, check)

    def command(self, *command: str) -> list[str]:
        """Return the command of this host that runs one there, which ends with it."""
        return ["nsenter", f"--target={self._init}", "--all", "setpriv", "--pdeathsig", "KILL", *command]

    @contextlib.contextmanager
    def open(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command there as long as the block lasts."""
        where = ["nsenter", f"--target={self._init}", "--all"]
        with subprocess.Popen([*where, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            yield process

    def processes(self) -> list[str]:
        """Return the command lines of its processes but for sshd's."""
        found, own = [], Path(f"/proc/{self._init}/ns/pid").readlink()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and (entry / "ns/pid").readlink() == own:
                    words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    if words != [""] and "sshd" not in words[0]:
                        found.append(" ".join(words).strip())
        return found

    def sessions(self) -> int:
        """Return how many ssh connections it has."""
        return len(self.run("ss", "-Htn", "state", "established", f"sport = :{self.port}").splitlines())

    def sockets(self) -> list[str]:
        """Return what listens there, but for sshd itself."""
        lines = self.run("ss", "-Hltn").splitlines()
        return [line.split()[3] for line in lines if not line.split()[3].endswith(f":{self.port}")]

    def forwards(self) -> int:
        """Return how many ports sshd has there for others."""
        lines = self.run("ss", "-Hltnp").splitlines()
        return sum('"sshd"' in line and not line.split()[3].endswith(f":{self.port}") for line in lines)

    def files(self) -> list[str]:
        """Return what is in its /tmp, but for what each JVM leaves there and what is this machine's."""
        found = self.run("find", "/tmp", "-xdev", "-mindepth", "1", "-not", "-path", "/tmp/hsperfdata_*").split()
        return [path for path in found if not any(f"{each}/".startswith(f"{path}/") for each in needed())]

    def logins(self) -> int:
        """Return how many logins there were."""
        return len(re.findall(r"Accepted \S+ for", (self.directory / "sshd.log").read_text()))

    @contextlib.contextmanager
    def configured(self, line: str) -> Iterator[None]:
        """Have another line in its sshd_config as long as the block lasts; it counts for new connections."""
        file = self.directory / "sshd_config"
        before = file.read_text()
        try:
            file.write_text(f"{before}{line}\n")
            self._reload()
            yield
        finally:
            file.write_text(before)
            self._reload()

    def _reload(self) -> None:
        before = self._started()
        self.run("kill", "-HUP", "1")
        deadline = time.monotonic() + START_LIMIT
        while self._started() == before:
            if time.monotonic() > deadline:
                raise HostError(
                    f"sshd on {self.name} does not read its file: {(self.directory / 'sshd.log').read_text()}"
                )
            time.sleep(0.02)

    def _started(self) -> int:
        """Return how often sshd began to listen."""
        return (self.directory / "sshd.log").read_text().count("Server listening on 0.0.0.0 ")

    def filter(self, *, out: bool = False) -> None:
        """Let nothing in but ssh, and nothing out but its answers, or everything."""
        self._nft(ONLY_SSH % (self.port, "accept" if out else "drop"))

    def unfilter(self) -> None:
        """Take the filter away."""
        self._nft("delete table inet elyra\n")

    def cut(self, spared: Sequence[int] = ()) -> None:
        """Lose all packets, without a word, as a network does that is gone.

        With `spared`, only those between it and this host, and not those of these TCP ports.
        """
        ports = ", ".join(map(str, spared))
        rules = [SPARED.format(direction, ports, ports) if spared else "" for direction in "io"]
        self._nft(CUT.format(*rules))

    def restore(self) -> None:
        """Let packets through again."""
        self._nft("delete table inet cut\n")

    @property
    def host_key(self) -> str:
        """Its public host key, as it stands in known_hosts behind the name."""
        return " ".join((self.directory / "host_key.pub").read_text().split()[:2])

    def _nft(self, rules: str) -> None:
        self._enter(["--net"], ["nft", "-f", "-"], rules, check=True)

    def _enter(self, namespaces: Sequence[str], command: Sequence[str], text: str, check: bool) -> str:
        where = ["nsenter", f"--target={self._init}", *namespaces]
        done = subprocess.run([*where, *command], input=text, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise HostError(f"{' '.join(command)} on {self.name} failed: {done.stderr}")
        return done.stdout

    def _write_files(self) -> None:
        (self.directory / "root").mkdir(parents=True)
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / "host_key"))
        settings = SSHD.format(port=self.port, directory=self.directory) + self._options
        (self.directory / "sshd_config").write_text(settings)
        (self.directory / "greeting").write_text(GREETING)
        (self.directory / "greeting").chmod(0o755)
        digest = _run("openssl", "passwd", "-6", PASSWORD).strip()
        (self.directory / "hosts").write_text(self._hosts.names(self.gateway))
        shadow = ""
        passwd = Path("/etc/passwd").read_text().replace(":/root:", f":{self.directory / 'root'}:")
        for number, (name, shell) in enumerate(USERS.items(), 7001):
            home = self.directory / name
            home.mkdir()
            os.chown(home, number, number)
            passwd += f"{name}:x:{number}:{number}::{home}:{shell.format(directory=self.directory)}\n"
            shadow += f"{name}:{digest}:19000:0:99999:7:::\n"
        (self.directory / "passwd").write_text(passwd)
        (self.directory / "shadow").write_text(f"root:{digest}:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n{shadow}")

    def _join(self) -> None:
        """Connect this host and that one by a pair of links."""
        _run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "up0", "netns", str(self._init))
        _run("ip", "address", "add", f"{self.gateway}/30", "dev", self.link)
        _run("ip", "address", "add", f"{self.gateway6}/64", "dev", self.link, "nodad")
        _run("ip", "link", "set", self.link, "up")
        for command in (
            f"address add {self.address}/30 dev up0",
            f"address add {self.address6}/64 dev up0 nodad",
            "link set up0 up",
            f"route add default via {self.gateway}",
        ):
            self._enter(["--net"], ["ip", *command.split()], "", check=True)

    def meet(self, other: Host) -> None:
        """Connect two hosts by a link of their own."""
        peer = ["peer", "name", f"to-{self.name}", "netns", str(other._init)]
        self._enter(["--net"], ["ip", "link", "add", f"to-{other.name}", "type", "veth", *peer], "", check=True)
        for one, another in ((self, other), (other, self)):
            link = f"to-{another.name}"
            one._enter(["--net"], ["ip", "link", "set", link, "up"], "", check=True)
            route = f"route add {another.address} dev {link} src {one.address}"
            one._enter(["--net"], ["ip", *route.split()], "", check=True)

    def _await_sshd(self) -> None:
        """Return when sshd listens."""
        deadline = time.monotonic() + START_LIMIT
        while True:
            with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 1) as sock:
                if sock.recv(8).startswith(b"SSH-"):
                    return
            if time.monotonic() > deadline:
                raise HostError(f"sshd on {self.name} does not answer: {(self.directory / 'sshd.log').read_text()}")
            time.sleep(0.02)


class Hosts:
    """Several test hosts, as a context manager.

    Parameters
    ----------
    options : sequence of str
        For each host, more lines of its sshd_config.

    Attributes
    ----------
    all : list of Host
        The hosts: w1, w2, ...
    """

    def __init__(self, options: Sequence[str] = ("", "", "")) -> None:
        self.directory, self.net, self._lock = _take_directory()
        self.all = [Host(self, number, more) for number, more in enumerate(options)]

    def __enter__(self) -> Hosts:
        try:
            for host in self.all:
                host.start()
            for one, another in itertools.combinations(self.all, 2):
                one.meet(another)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all hosts and remove their files."""
        for host in self.all:
            host.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self._lock)

    def names(self, gateway: str) -> str:
        """Return /etc/hosts, in which this host has the address by which it is reached from where that is."""
        lines = ["127.0.0.1 localhost", *(f"{host.address} {host.name}" for host in self.all)]
        return "\n".join([*lines, f"{gateway} {socket.gethostname()}"]) + "\n"

    def write_client(self, home: Path) -> None:
        """Let a user with this home log in everywhere: a key, names and known host keys in its ``.ssh``."""
        directory = home / ".ssh"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "id_ed25519"))
        public = (directory / "id_ed25519.pub").read_text()
        config = known = ""
        for host in self.all:
            with (host.directory / "authorized_keys").open("a") as file:
                file.write(public)
            config += f"Host {host.name}\n  HostName {host.address}\n"
            known += f"{host.address},{host.address6} {host.host_key}\n"
        (directory / "config").write_text(config)
        (directory / "known_hosts").write_text(known)


def needed() -> list[str]:
    """Return this machine's directories that launches need, of those below /tmp and /root."""
    paths = sorted({str(ROOT), str(BUILD), sys.prefix, sys.base_prefix})
    hidden = [path for path in paths if path.startswith(("/tmp/", "/root/")) and Path(path).exists()]
    return [path for path in hidden if not any(path.startswith(f"{other}/") for other in hidden)]


def _take_directory() -> tuple[Path, int, int]:
    """Return a new directory, the number of the /24 below 10.0.0.0/8 that goes with it, and the lock that says so.

    The directories of processes that were killed are removed on the way.
    """
    base = Path("/var/tmp")  # not below /tmp, which is another one on each host
    for left in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = _lock(left)
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    numbers = list(range(128 << 8, 250 << 8))
    random.shuffle(numbers)
    for number in numbers:
        if _run("ip", "-o", "route", "show", "root", f"10.{number >> 8}.{number & 255}.0/24").strip():
            continue
        new = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=base))
        new.chmod(0o755)
        (new / "taken").touch()
        lock = _lock(new)
        try:  # fails where another run has it
            return new.rename(base / f"{PREFIX}{number:x}"), number, lock
        except OSError:
            shutil.rmtree(new)
            os.close(lock)
    raise HostError("There is no network below 10.0.0.0/8 that is not in use.")


def _lock(directory: Path) -> int:
    """Return a descriptor that holds a directory locked as long as it is open."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise HostError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


def main() -> None:
    """Show the hosts until the input ends: to try things by hand."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Hosts() as hosts:
        home = hosts.directory / "client"
        hosts.write_client(home)
        for host in hosts.all:
            files = f"-F {home}/.ssh/config -i {home}/.ssh/id_ed25519 -o UserKnownHostsFile={home}/.ssh/known_hosts"
            print(f"ssh {files} root@{host.name}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()


if __name__ == "__main__":
    main()
