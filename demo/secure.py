"""A YARN and an HDFS with Kerberos on this machine: what operators have, with real daemons, tokens and tickets.

Beside YARN's daemons there are a NameNode, which is the cluster's file system, and a DataNode. Each has a principal of
its own in a realm of `demo.kdc`. The ResourceManager's REST API wants SPNEGO.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from demo import BUILD, HADOOP_LIB
from demo.kdc import Kdc
from demo.yarn import JVM, LOOPBACK, Yarn, YarnError, as_xml, find_java_home, free_ports

HOST = "localhost"  # SPNEGO wants a name
HDFS = {
    "namenode": "org.apache.hadoop.hdfs.server.namenode.NameNode",
    "datanode": "org.apache.hadoop.hdfs.server.datanode.DataNode",
}
SHELL = "org.apache.hadoop.fs.FsShell"
SERVICES = ("hdfs", "yarn", "HTTP")
TOKEN = """\
import base64, gssapi
name = gssapi.Name("HTTP@localhost", gssapi.NameType.hostbased_service)
print(base64.b64encode(gssapi.SecurityContext(name=name, usage="initiate").step()).decode())
"""
"""Of a process of its own, as Kerberos is told by the environment whose ticket to use."""


class SecureYarn(Yarn):
    """A YARN of one node with an HDFS, both with Kerberos, as a context manager.

    Parameters
    ----------
    kdc : Kdc
        The realm; principals of the daemons are added to it.
    user : str
        Who may submit for others, a principal of the realm.
    hadoop_lib, heartbeat
        As for `Yarn`.
    """

    def __init__(self, kdc: Kdc, user: str, hadoop_lib: Path = HADOOP_LIB, heartbeat: float = 1.0) -> None:
        super().__init__(hadoop_lib, heartbeat)
        self.kdc = kdc
        self.user = user
        self.spark_java_options += f" {self._realm}"
        kdc.add(*(self._principal(name) for name in SERVICES))

    @property
    def hdfs(self) -> str:
        """URL of the file system."""
        return f"hdfs://{HOST}:{self._namenode}"

    def shell(self, principal: str, *words: str) -> str:
        """Run ``hdfs dfs`` as somebody and return its output.

        Raises
        ------
        YarnError
            If it fails; the text is its own.
        """
        command = [*self._java(), SHELL, "-D", "fs.permissions.umask-mode=000", *words]
        return self._run(f"hdfs dfs {' '.join(words)}", command, KRB5CCNAME=str(self._cache(principal)))

    def _authorization(self) -> dict[str, str]:
        environ = {**self.kdc.environ, "KRB5CCNAME": str(self._cache(self.user)), "PYTHONPATH": str(BUILD / "kerberos")}
        token = self._run(f"Asking for a ticket for HTTP@{HOST}", [sys.executable, "-c", TOKEN], **environ)
        return {"Authorization": f"Negotiate {token.strip()}"}

    def _run(self, what: str, command: list[str], **environ: str) -> str:
        """Run a program to its end and return its output; `what` it does is the subject of the error."""
        environ = {"PATH": os.environ["PATH"], **environ}
        done = subprocess.run(command, env=environ, cwd=self.directory, capture_output=True, text=True, check=False)
        if done.returncode:
            raise YarnError(f"{what} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def _cache(self, principal: str) -> Path:
        """Return a cache with a ticket of a principal."""
        cache = self.directory / "keytabs" / f"{principal.partition('/')[0]}.cache"
        if not cache.exists():
            self.kdc.kinit(principal, cache)
        return cache

    @property
    def _realm(self) -> str:
        return f"-Djava.security.krb5.conf={self.kdc.config}"

    def _principal(self, service: str) -> str:
        return f"{service}/{HOST}@{self.kdc.realm}"

    def _java(self) -> list[str]:
        java = find_java_home() / "bin" / "java"
        return [str(java), *JVM, self._realm, "-cp", f"{self.conf_dir}:{self.hadoop_lib}/*"]

    def _keytab(self, service: str) -> Path:
        return self.directory / "keytabs" / service

    def _configure(self) -> None:
        self._namenode, self._namenode_web = free_ports(2, self.address)
        (self.directory / "keytabs").mkdir(mode=0o700)
        for service in SERVICES:
            names = {self._principal(service), self._principal("HTTP")}
            self.kdc.write_keytab(self._keytab(service), *names)
        (self.directory / "keytabs" / "secret").write_text(secrets.token_hex())
        super()._configure()
        self.endpoint = self.endpoint.replace(self.address, HOST)
        for name in ("hdfs", "datanode"):  # their web pages are not among the jars, but have to be there
            (self.conf_dir / "webapps" / name).mkdir(parents=True)
        (self.conf_dir / "hdfs-site.xml").write_text(as_xml(self._hdfs_settings()), encoding="utf-8")
        self._run("Formatting HDFS", [*self._java(), HDFS["namenode"], "-format", "-nonInteractive"])

    def _core_settings(self) -> dict[str, object]:
        return {
            **super()._core_settings(),
            "fs.defaultFS": self.hdfs,
            "hadoop.security.authentication": "kerberos",
            "hadoop.security.authorization": "true",
        }

    def _hdfs_settings(self) -> dict[str, object]:
        principal, web = self._principal("hdfs"), self._principal("HTTP")
        keytab = self._keytab("hdfs")
        return {
            "dfs.namenode.rpc-address": f"{HOST}:{self._namenode}",
            "dfs.namenode.http-address": f"{HOST}:{self._namenode_web}",
            "dfs.namenode.name.dir": self.directory / "name",
            "dfs.namenode.kerberos.principal": principal,
            "dfs.namenode.keytab.file": keytab,
            "dfs.datanode.data.dir": self.directory / "data",
            "dfs.datanode.address": f"{LOOPBACK}:0",
            "dfs.datanode.http.address": f"{LOOPBACK}:0",
            "dfs.datanode.ipc.address": f"{LOOPBACK}:0",
            "dfs.datanode.kerberos.principal": principal,
            "dfs.datanode.keytab.file": keytab,
            "dfs.web.authentication.kerberos.principal": web,
            "dfs.web.authentication.kerberos.keytab": keytab,
            "dfs.block.access.token.enable": "true",
            "ignore.secure.ports.for.testing": "true",  # ports below 1024, by which a DataNode shows that it is root's
            "dfs.replication": 1,
            "dfs.namenode.safemode.extension": 0,
        }

    def _settings(self) -> dict[str, object]:
        principal, web = self._principal("yarn"), self._principal("HTTP")
        keytab = self._keytab("yarn")
        return {
            **super()._settings(),
            "yarn.resourcemanager.principal": principal,
            "yarn.resourcemanager.keytab": keytab,
            "yarn.nodemanager.principal": principal,
            "yarn.nodemanager.keytab": keytab,
            "yarn.resourcemanager.webapp.spnego-principal": web,
            "yarn.resourcemanager.webapp.spnego-keytab-file": keytab,
            "yarn.resourcemanager.webapp.delegation-token-auth-filter.enabled": "false",
            "hadoop.http.filter.initializers": "org.apache.hadoop.security.AuthenticationFilterInitializer",
            "hadoop.http.authentication.type": "kerberos",
            "hadoop.http.authentication.kerberos.principal": web,
            "hadoop.http.authentication.kerberos.keytab": keytab,
            "hadoop.http.authentication.signature.secret.file": self.directory / "keytabs" / "secret",
        }

    def _spark_defaults(self) -> dict[str, object]:
        defaults = super()._spark_defaults()
        del defaults["spark.yarn.stagingDir"]  # in the homes on HDFS, as it is by itself
        return defaults

    def _daemons(self, java_home: Path) -> dict[str, dict[str, Any]]:
        daemons = super()._daemons(java_home)
        daemons |= {name: self._daemon(name, main, java_home) for name, main in HDFS.items()}
        return daemons

    def _daemon(self, name: str, main: str, java_home: Path, *options: str) -> dict[str, Any]:
        return super()._daemon(name, main, java_home, self._realm, *options)

    def _wait_until_ready(self) -> None:
        super()._wait_until_ready()
        deadline = time.monotonic() + 60
        while not self._datanodes():
            if time.monotonic() > deadline:
                raise YarnError(f"HDFS is not ready:\n{self.log_tail('namenode')}\n{self.log_tail('datanode')}")
            time.sleep(0.1)  # HDFS tells nobody
        self.shell(self._principal("hdfs"), "-mkdir", "/user")

    def _datanodes(self) -> int:
        url = f"http://{HOST}:{self._namenode_web}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            request = urllib.request.Request(url, headers=self._authorization())
            with opener.open(request, timeout=10) as response:
                return int(json.load(response)["beans"][0]["NumLiveDataNodes"])
        except (OSError, ValueError, LookupError):  # not up yet
            return 0
