"""A single-node YARN on this machine: a ResourceManager and a NodeManager as real daemons.

Everything is private to one object of `Yarn`: a temporary directory, free ports on 127.0.0.1, and the processes,
which end with the process that made it, even if that is killed. ``python -m demo.yarn`` starts one by hand.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.sax.saxutils import escape

from demo import GUARDIAN, HADOOP_LIB, spark_home

LOOPBACK = "127.0.0.1"
START_LIMIT = 300.0  # seconds; 4 to 12 are usual
ATTEMPTS = 3  # to find ports that stay free until the daemons bind them
DAEMONS = {
    "resourcemanager": "org.apache.hadoop.yarn.server.resourcemanager.ResourceManager",
    "nodemanager": "org.apache.hadoop.yarn.server.nodemanager.NodeManager",
}
SHORT_LIVED = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
"""For JVMs that share few cores and end before better code would pay: two thirds of the processor time, in Spark's."""

JVM = [
    "-Xmx512m",
    *SHORT_LIVED,
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
]
SPARK_ENV = """\
export SPARK_LOCAL_IP={}
export SPARK_SUBMIT_OPTS="-Djava.io.tmpdir={} {} $SPARK_SUBMIT_OPTS"
"""
LOG4J = """\
log4j.rootLogger=INFO,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n
"""


class YarnError(RuntimeError):
    """YARN could not be started; the text says why, with the daemons' last lines."""


class Yarn:
    """A YARN of one node, as a context manager.

    Parameters
    ----------
    hadoop_lib : Path, optional
        Directory of Hadoop's jars (``make hadoop`` fills it).
    heartbeat : float
        Seconds between two heartbeats of the NodeManager, at which containers are assigned; YARN's default is 1.

    Attributes
    ----------
    directory : Path
        Holds everything, and is gone after `stop`.
    conf_dir : Path
        HADOOP_CONF_DIR of this YARN.
    endpoint : str
        URL of the ResourceManager's REST API, as in ELYRA_YARN_ENDPOINT.
    user : str
        Whose applications these are.
    ports : list of int
        The ResourceManager's.
    """

    address = LOOPBACK
    """Where the ResourceManager listens."""
    nodes = 1
    base: Path | None = None
    """Where the directory is made; by default where temporary files are."""
    spark_java_options = " ".join(SHORT_LIVED)
    """For the JVMs of Spark's applications, and for spark-submit."""

    def __init__(self, hadoop_lib: Path = HADOOP_LIB, heartbeat: float = 1.0) -> None:
        self.hadoop_lib = hadoop_lib
        self.heartbeat = heartbeat
        self.directory = Path()
        self.conf_dir = Path()
        self.endpoint = ""
        self.user = getpass.getuser()
        self.ports: list[int] = []
        self._guardian: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Yarn:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which Hadoop's and Spark's programs, and `jupyter elyra`, find this YARN."""
        return {
            "HADOOP_CONF_DIR": str(self.conf_dir),
            "YARN_CONF_DIR": str(self.conf_dir),
            "SPARK_CONF_DIR": str(self.conf_dir),
            "ELYRA_YARN_ENDPOINT": self.endpoint,
        }

    def start(self) -> None:
        """Start the daemons and return when each NodeManager is active in the ResourceManager.

        Raises
        ------
        YarnError
            If a daemon ends or does not become ready.
        """
        java_home = find_java_home()
        if not any(self.hadoop_lib.glob("hadoop-yarn-server-nodemanager-*.jar")):
            raise YarnError(f"No Hadoop jars in {self.hadoop_lib}: run `make hadoop`.")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._launch(java_home)
                self._wait_until_ready()
                return
            except YarnError as error:
                self.stop()
                if attempt == ATTEMPTS or "BindException" not in str(error):
                    raise
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End the daemons and all containers, and remove the directory; again is harmless."""
        guardian, self._guardian = self._guardian, None
        if guardian is None:
            return
        assert guardian.stdin is not None and guardian.stdout is not None
        guardian.stdin.close()
        guardian.wait()
        guardian.stdout.close()

    def applications(self) -> list[dict[str, Any]]:
        """Return the ResourceManager's list of applications, in the words of its REST API."""
        return (self.get("/apps")["apps"] or {}).get("app", [])

    def application(self, application_id: str) -> dict[str, Any]:
        """Return what the ResourceManager says about one application."""
        found: dict[str, Any] = self.get(f"/apps/{application_id}")["app"]
        return found

    def kill(self, application_id: str) -> None:
        """Ask the ResourceManager to kill an application."""
        self._request(f"/apps/{application_id}/state", json.dumps({"state": "KILLED"}).encode())

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON of one path of the ResourceManager's REST API."""
        return json.loads(self._request(path))  # type: ignore[no-any-return]

    def log_tail(self, daemon: str, lines: int = 25) -> str:
        """Return the last lines of a daemon's log."""
        try:
            text = (self.directory / f"{daemon}.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def container_logs(self) -> list[Path]:
        """Return the files that containers have written to, the oldest first."""
        logs = (self.directory / "node" / "logs").glob("application_*/container_*/std*")
        return sorted((log for log in logs if log.stat().st_size), key=lambda log: log.stat().st_mtime)

    @property
    def server_directory(self) -> Path:
        """Where a server can have its files, which then ends with this YARN, and all that it has started."""
        return self.directory / "elyra"

    def _request(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(
            self.endpoint + path,
            data=body,
            method="GET" if body is None else "PUT",
            headers={"Accept": "application/json", "Content-Type": "application/json", **self._authorization()},
        )
        # Without the proxies that a machine may have for the world.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as response:
            return bytes(response.read())

    def _authorization(self) -> dict[str, str]:
        """Return the header by which the ResourceManager knows who asks."""
        return {}

    def _launch(self, java_home: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="elyra-yarn-", dir=self.base))
        self.conf_dir = self.directory / "conf"
        try:
            self._configure()
            job = {
                "directory": str(self.directory),
                "users": [str(self.directory / "node"), str(self.server_directory)],
                "daemons": self._daemons(java_home),
            }
            self._guardian = subprocess.Popen(
                [sys.executable, "-I", str(GUARDIAN)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C in the terminal is for us alone
            )
            assert self._guardian.stdin is not None
            self._guardian.stdin.write(json.dumps(job).encode() + b"\n")
            self._guardian.stdin.flush()
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def _daemons(self, java_home: Path) -> dict[str, dict[str, Any]]:
        """Return the jobs of the daemons."""
        return {name: self._daemon(name, main, java_home) for name, main in DAEMONS.items()}

    def _daemon(self, name: str, main: str, java_home: Path, *options: str) -> dict[str, Any]:
        environ = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "USER") if key in os.environ}
        return {
            "argv": [
                str(java_home / "bin" / "java"),
                *JVM,
                *options,
                f"-Djava.io.tmpdir={self.directory / 'tmp'}",
                "-cp",
                f"{self.conf_dir}:{self.hadoop_lib}/*",
                main,
            ],
            "env": {
                **environ,
                "JAVA_HOME": str(java_home),
                "HADOOP_CONF_DIR": str(self.conf_dir),
                "SPARK_LOCAL_IP": LOOPBACK,  # for the containers, by the whitelist in yarn-site.xml
            },
            "cwd": str(self.directory),
            "log": str(self.directory / f"{name}.log"),
        }

    def _configure(self) -> None:
        for name in ("conf", "tmp", "node", "staging"):
            (self.directory / name).mkdir()
        self.ports = free_ports(5, self.address)
        client, scheduler, tracker, admin, web = (f"{self.address}:{port}" for port in self.ports)
        self.endpoint = f"http://{web}/ws/v1/cluster"
        addresses = {
            "yarn.resourcemanager.address": client,
            "yarn.resourcemanager.scheduler.address": scheduler,
            "yarn.resourcemanager.resource-tracker.address": tracker,
            "yarn.resourcemanager.admin.address": admin,
            "yarn.resourcemanager.webapp.address": web,
        }
        (self.conf_dir / "core-site.xml").write_text(as_xml(self._core_settings()), encoding="utf-8")
        (self.conf_dir / "yarn-site.xml").write_text(as_xml({**addresses, **self._settings()}), encoding="utf-8")
        (self.conf_dir / "capacity-scheduler.xml").write_text(as_xml(QUEUES), encoding="utf-8")
        (self.conf_dir / "log4j.properties").write_text(LOG4J, encoding="utf-8")
        (self.conf_dir / "spark-env.sh").write_text(self._spark_env(), encoding="utf-8")
        lines = (f"{key} {value}\n" for key, value in self._spark_defaults().items())
        (self.conf_dir / "spark-defaults.conf").write_text("".join(lines), encoding="utf-8")

    def _core_settings(self) -> dict[str, object]:
        return {
            "fs.defaultFS": "file:///",
            "hadoop.tmp.dir": self.directory / "tmp",
            "hadoop.http.staticuser.user": self.user,
            # Who runs this may submit for others: spark-submit --proxy-user.
            **{f"hadoop.proxyuser.{self.user}.{what}": "*" for what in ("hosts", "groups")},
        }

    def _spark_defaults(self) -> dict[str, object]:
        return {
            "spark.yarn.stagingDir": f"file://{self.directory / 'staging'}",
            "spark.yarn.jars": f"local:{spark_home()}/jars/*",
            "spark.executor.instances": 1,
            "spark.executor.memory": "512m",
            "spark.driver.memory": "512m",
            "spark.driver.extraJavaOptions": self.spark_java_options,
            "spark.executor.extraJavaOptions": self.spark_java_options,
            "spark.ui.showConsoleProgress": "false",
        }

    def _spark_env(self) -> str:
        """Return Spark's own part of SPARK_CONF_DIR: everything on loopback, nothing outside the directory."""
        return SPARK_ENV.format(LOOPBACK, self.directory / "tmp", self.spark_java_options)

    def _settings(self) -> dict[str, object]:
        return {
            "yarn.resourcemanager.hostname": self.address,
            "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms": int(self.heartbeat * 1000),
            "yarn.resourcemanager.connect.retry-interval.ms": 500,
            "yarn.resourcemanager.am.max-attempts": 1,
            "yarn.nodemanager.hostname": LOOPBACK,
            "yarn.nodemanager.address": f"{LOOPBACK}:0",
            "yarn.nodemanager.localizer.address": f"{LOOPBACK}:0",
            "yarn.nodemanager.webapp.address": f"{LOOPBACK}:0",
            "yarn.nodemanager.local-dirs": self.directory / "node" / "local",
            "yarn.nodemanager.log-dirs": self.directory / "node" / "logs",
            "yarn.nodemanager.env-whitelist": "JAVA_HOME,HADOOP_CONF_DIR,PATH,LANG,TZ,SPARK_LOCAL_IP",
            # What a real cluster forbids so that tenants stay apart would only make a small machine slow.
            "yarn.nodemanager.resource.memory-mb": 16384,
            "yarn.nodemanager.resource.cpu-vcores": 32,
            "yarn.scheduler.minimum-allocation-mb": 128,
            "yarn.nodemanager.pmem-check-enabled": "false",
            "yarn.nodemanager.vmem-check-enabled": "false",
            "yarn.nodemanager.disk-health-checker.enable": "false",
            # A container's log outlives it until `stop`: it is what explains a failure.
            "yarn.nodemanager.log.retain-seconds": 86400,
        }

    def _wait_until_ready(self) -> None:
        guardian = self._guardian
        assert guardian is not None and guardian.stdout is not None
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            # The end of a daemon is an event; readiness is not, so the ResourceManager is asked.
            if select.select([guardian.stdout], [], [], 0.1)[0]:
                words = guardian.stdout.readline().decode().split() or ["exited", "guardian", "?"]
                raise YarnError(f"YARN's {words[1]} ended with code {words[2]}:\n{self.log_tail(words[1])}")
            try:
                if self.get("/metrics")["clusterMetrics"]["activeNodes"] == self.nodes:
                    return
            except (OSError, ValueError):  # not up yet
                continue
        names = sorted(log.stem for log in self.directory.glob("*.log"))
        tails = "\n".join(f"{name}:\n{self.log_tail(name, 10)}" for name in names)
        raise YarnError(f"YARN was not ready after {START_LIMIT:.0f} s.\n{tails}")


# Applications wait for ever in queue `full`: it exists, but may use nothing.
QUEUES = {
    "yarn.scheduler.capacity.root.queues": "default,full",
    "yarn.scheduler.capacity.root.default.capacity": 100,
    "yarn.scheduler.capacity.root.full.capacity": 0,
    "yarn.scheduler.capacity.root.full.maximum-capacity": 0.001,
    "yarn.scheduler.capacity.root.full.maximum-applications": 100,
    "yarn.scheduler.capacity.maximum-am-resource-percent": 1.0,
    "yarn.scheduler.capacity.resource-calculator": "org.apache.hadoop.yarn.util.resource.DefaultResourceCalculator",
}


def as_xml(settings: dict[str, Any]) -> str:
    """Return a Hadoop configuration file."""
    properties = (
        f"  <property><name>{name}</name><value>{escape(str(value))}</value></property>\n"
        for name, value in settings.items()
    )
    return "<configuration>\n" + "".join(properties) + "</configuration>\n"


def free_ports(count: int, address: str = LOOPBACK) -> list[int]:
    """Return ports of an address that nobody listens on at this moment, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((address, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def find_java_home() -> Path:
    """Return the directory of the Java that JAVA_HOME or PATH names."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin" if home else None)
    if java is None:
        where = f"JAVA_HOME={home}" if home else "PATH"
        raise YarnError(f"No java in {where}: install a JDK 11 or 17, or set JAVA_HOME.")
    return Path(java).resolve().parent.parent


USAGE = """\
Start a single-node YARN on 127.0.0.1 and serve until Ctrl-C.

The first lines of the output are shell commands that set the variables of a client:

  $ python -m demo.yarn            # in one terminal
  $ export HADOOP_CONF_DIR=...     # in another: paste what it prints, then for example
  $ spark-submit --master yarn --deploy-mode cluster script.py

Containers' logs are in $HADOOP_CONF_DIR/../node/logs while it serves. Applications in queue
`full` (spark-submit --queue full) wait for ever.
"""


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.yarn", description=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hadoop-lib", type=Path, default=HADOOP_LIB, help="directory of Hadoop's jars (%(default)s)")
    parser.add_argument("--heartbeat", type=float, default=1.0, help="seconds (%(default)s, as YARN's default)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    try:
        with Yarn(arguments.hadoop_lib, arguments.heartbeat) as yarn:
            for name, value in yarn.environ.items():
                print(f"export {name}={value}", flush=True)
            print("# ready; Ctrl-C ends it", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass
    except YarnError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
