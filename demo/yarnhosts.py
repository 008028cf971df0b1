"""A YARN of several hosts: a ResourceManager on this host, a NodeManager on each of some test hosts.

What runs in its containers meets this host over a network alone. Files are shared, as on a cluster by NFS; nothing
names addresses for Spark: hosts find each other by their names, as with a name server.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo import HADOOP_LIB
from demo.hosts import Host, Hosts
from demo.yarn import DAEMONS, Yarn

NODE = "${elyra.node}"
"""Filled in by Hadoop, from each daemon's command line."""


class YarnOnHosts(Yarn):
    """A YARN whose NodeManagers are on test hosts, as a context manager.

    Parameters
    ----------
    hosts : Hosts
        Where they are; its directory, which all see, holds that of the YARN.
    workers : sequence of Host
        Those with a NodeManager.
    address : str
        An address of this host, for the ResourceManager, that outlives all workers.
    expiry : float
        Seconds after which the ResourceManager gives up a NodeManager that is silent; YARN's default is 600.
    """

    def __init__(
        self,
        hosts: Hosts,
        workers: Sequence[Host],
        address: str,
        expiry: float = 600.0,
        hadoop_lib: Path = HADOOP_LIB,
        heartbeat: float = 1.0,
    ) -> None:
        super().__init__(hadoop_lib, heartbeat)
        self.address = address
        self.nodes = len(workers)
        self.base = hosts.directory
        self._hosts = hosts
        self._workers = workers
        self._expiry = expiry

    def container_logs(self) -> list[Path]:
        """Return the files that containers have written to, the oldest first."""
        logs = (self.directory / "node").glob("*/logs/application_*/container_*/std*")
        return sorted((log for log in logs if log.stat().st_size), key=lambda log: log.stat().st_mtime)

    def _daemons(self, java_home: Path) -> dict[str, dict[str, Any]]:
        names = self.conf_dir / "hosts"
        names.write_text(self._hosts.names(self.address), encoding="utf-8")
        manager = self._daemon(
            "resourcemanager", DAEMONS["resourcemanager"], java_home, f"-Djdk.net.hosts.file={names}"
        )
        return {"resourcemanager": manager} | {
            f"nodemanager-{worker.name}": self._node(worker, java_home) for worker in self._workers
        }

    def _node(self, worker: Host, java_home: Path) -> dict[str, Any]:
        option = f"-Delyra.node={worker.name}"
        job = self._daemon(f"nodemanager-{worker.name}", DAEMONS["nodemanager"], java_home, option)
        return {**job, "argv": worker.command(*job["argv"])}

    def _daemon(self, name: str, main: str, java_home: Path, *options: str) -> dict[str, Any]:
        job = super()._daemon(name, main, java_home, *options)
        del job["env"]["SPARK_LOCAL_IP"]
        return job

    def _spark_env(self) -> str:
        return ""

    def _settings(self) -> dict[str, object]:
        node = self.directory / "node" / NODE
        return {
            **super()._settings(),
            "yarn.nodemanager.hostname": NODE,
            "yarn.nodemanager.address": f"{NODE}:0",
            "yarn.nodemanager.localizer.address": f"{NODE}:0",
            "yarn.nodemanager.webapp.address": f"{NODE}:0",
            "yarn.nodemanager.local-dirs": node / "local",
            "yarn.nodemanager.log-dirs": node / "logs",
            "yarn.nodemanager.env-whitelist": "JAVA_HOME,HADOOP_CONF_DIR,PATH,LANG,TZ",
            "yarn.nm.liveness-monitor.expiry-interval-ms": int(self._expiry * 1000),
        }
