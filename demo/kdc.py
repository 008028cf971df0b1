"""A Kerberos realm of its own on this machine: MIT's KDC with its database, principals, keytabs and tickets.

Everything is private to one object of `Kdc`: a temporary directory, a free port on 127.0.0.1, and the daemon,
which ends with the process that made it, even if that is killed. ``python -m demo.kdc`` starts one by hand.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from demo import GUARDIAN

LOOPBACK = "127.0.0.1"
REALM = "ELYRA.TEST"
DOMAIN = "elyra.test"
START_LIMIT = 120.0
ATTEMPTS = 5  # to find a port that stays free until the daemon binds it
PORTS = range(20000, 30000)  # the system gives none of these to a client's connection
SBIN = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

CLIENT = """\
[libdefaults]
    default_realm = {realm}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    rdns = false
[domain_realm]
    .{domain} = {realm}
[realms]
    {realm} = {{
{kdcs}    }}
"""

DAEMON = """\
[realms]
    {realm} = {{
        database_name = {directory}/principal
        key_stash_file = {directory}/stash
        acl_file = {directory}/acl
        supported_enctypes = aes256-cts-hmac-sha1-96:normal
        kdc_listen = {address}
        kdc_tcp_listen = {address}
        max_life = 1d
        max_renewable_life = 7d
    }}
[logging]
    default = FILE:{directory}/kdc.log
"""


class KdcError(RuntimeError):
    """The KDC could not do something; the text says what."""


class Kdc:
    """A KDC, as a context manager.

    Attributes
    ----------
    realm : str
        Its realm.
    directory : Path
        Holds everything, and is gone after `stop`.
    config : Path
        krb5.conf of the clients.
    """

    def __init__(self) -> None:
        self.realm = REALM
        self.directory = Path()
        self.config = Path()
        self._address = ""
        self._guardian: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Kdc:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which programs find this realm."""
        return {"KRB5_CONFIG": str(self.config)}

    def start(self) -> None:
        """Make the database, start the daemon and return when it answers.

        Raises
        ------
        KdcError
            If a program is missing, or the daemon ends or does not answer.
        """
        for attempt in range(1, ATTEMPTS + 1):
            self.directory = Path(tempfile.mkdtemp(prefix="elyra-kdc-", dir="/var/tmp"))
            self.directory.chmod(0o755)  # for krb5.conf; what is secret is 0600
            try:
                self._address = f"{LOOPBACK}:{random.choice(PORTS)}"
                self._configure()
                self._launch()
                self._wait_until_ready()
                return
            except KdcError as error:
                self.stop()
                if attempt == ATTEMPTS or "Address already in use" not in str(error):
                    raise
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End the daemon and remove the directory; again is harmless."""
        guardian, self._guardian = self._guardian, None
        if guardian is not None:
            assert guardian.stdin is not None and guardian.stdout is not None
            guardian.stdin.close()
            guardian.wait()
            guardian.stdout.close()
        if self.directory != Path():
            shutil.rmtree(self.directory, ignore_errors=True)

    def add(self, *principals: str) -> None:
        """Add principals, with random keys."""
        self._administrate(*(f"addprinc -randkey {name}" for name in principals))

    def change_key(self, principal: str) -> None:
        """Give a principal another key, with which older keytabs and tickets do not fit."""
        self._administrate(f"change_password -randkey {principal}")

    def write_keytab(self, file: Path, *principals: str) -> Path:
        """Write the keys of principals to a keytab, and return it."""
        self._administrate(*(f"ktadd -norandkey -k {file} {name}" for name in principals))
        return file

    def kinit(self, principal: str, cache: Path, *options: str) -> None:
        """Put a new ticket of a principal into a cache, as its owner does.

        Parameters
        ----------
        principal : str
            Whose ticket.
        cache : Path
            The file.
        options : str
            More of kinit's, such as ``-l 5s`` for a short life.
        """
        keytab = self.directory / f"{principal.replace('/', '_')}.keytab"
        if not keytab.exists():
            self.write_keytab(keytab, principal)
        self._run("kinit", *options, "-k", "-t", str(keytab), "-c", str(cache), principal)

    def write_config(self, file: Path, kdcs: Sequence[str] = ()) -> Path:
        """Write a krb5.conf for this realm, by default one that names its KDC, and return it."""
        lines = "".join(f"        kdc = {kdc}\n" for kdc in kdcs or [self._address])
        file.write_text(CLIENT.format(realm=self.realm, domain=DOMAIN, kdcs=lines))
        return file

    @property
    def log(self) -> str:
        """What the daemon logged."""
        files = (self.directory / "kdc.log", self.directory / "output.log")
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def _configure(self) -> None:
        self.config = self.write_config(self.directory / "krb5.conf")
        settings = DAEMON.format(realm=self.realm, directory=self.directory, address=self._address)
        (self.directory / "kdc.conf").write_text(settings)
        self._run("kdb5_util", "-r", self.realm, "create", "-s", "-P", "master of nobody")

    def _administrate(self, *commands: str) -> None:
        """Run commands of kadmin on the database, all by one process."""
        lines = "".join(f"{command}\n" for command in commands)
        complaints = self._run("kadmin.local", "-r", self.realm, "-p", f"admin@{self.realm}", text=lines)
        # It ends with 0 whatever happens.
        failures = [line for line in complaints.splitlines() if line.startswith(("add_principal:", "kadmin.local:"))]
        if failures:
            raise KdcError("\n".join(failures))

    def _launch(self) -> None:
        daemon = {
            "argv": [_find("krb5kdc"), "-n", "-r", self.realm],
            "env": self._environ(),
            "cwd": str(self.directory),
            "log": str(self.directory / "output.log"),
        }
        job = {"directory": str(self.directory), "users": [], "daemons": {"krb5kdc": daemon}}
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", str(GUARDIAN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is for us alone
        )
        assert self._guardian.stdin is not None
        self._guardian.stdin.write(json.dumps(job).encode() + b"\n")
        self._guardian.stdin.flush()

    def _wait_until_ready(self) -> None:
        guardian = self._guardian
        assert guardian is not None and guardian.stdout is not None
        host, _, port = self._address.partition(":")
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            if select.select([guardian.stdout], [], [], 0.02)[0]:
                raise KdcError(f"The KDC ended:\n{self.log}")
            try:
                # Somebody else's answer would do as well, were it not that the daemon then ends: it says so above.
                with socket.create_connection((host, int(port)), 1):
                    if "commencing operation" in self.log:
                        return
            except OSError:  # not up yet
                continue
        raise KdcError(f"The KDC was not ready after {START_LIMIT:.0f} s:\n{self.log}")

    def _environ(self) -> dict[str, str]:
        return {"PATH": SBIN, "KRB5_KDC_PROFILE": str(self.directory / "kdc.conf"), **self.environ}

    def _run(self, *command: str, text: str = "") -> str:
        """Run a program on this realm, and return what it complained about."""
        done = subprocess.run(
            [_find(command[0]), *command[1:]],
            env=self._environ(),
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise KdcError(f"{' '.join(command)} failed: {done.stderr.strip()}")
        return done.stderr


def _find(program: str) -> str:
    found = shutil.which(program, path=SBIN)
    if found is None:
        raise KdcError(f"There is no {program}: install Debian's krb5-kdc, krb5-admin-server and krb5-user.")
    return found


def main() -> None:
    """Serve until the input ends: to try things by hand."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Kdc() as kdc:
        kdc.add("alice")
        kdc.kinit("alice", kdc.directory / "alice.cache")
        print(f"export KRB5_CONFIG={kdc.config} KRB5CCNAME=FILE:{kdc.directory}/alice.cache", flush=True)
        try:
            sys.stdin.read()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
