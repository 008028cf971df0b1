"""The server's submitters: one for each Spark and configuration, started ahead of the launches that use them.

A launch never waits for one. It uses one that is ready, or submits by spark-submit as if
there were none; and once its kernel is up, one is started for those that come after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import IO, Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

from elyra_server import shipping
from elyra_server.kernelspecs import stanza_of
from elyra_server.processes import describe_end, process_end
from elyra_server.service import in_thread
from elyra_server.settings import Settings, parse_bool
from elyra_server.submitter.process import FROM_LAUNCH, LAUNCHS_OWN, SOCKET

OPTION = "warm_submitter"
"""In a kernelspec's process_proxy.config: whether its launches want one."""

SOCKET_VARIABLE = "ELYRA_SUBMITTER"
CLIENT_VARIABLE = "ELYRA_SUBMITTER_CLIENT"
PYTHON_VARIABLE = "ELYRA_SUBMITTER_PYTHON"

MAX_USES = 200
MAX_AGE = 3600.0
"""Seconds, and uses, after which a submitter is replaced: whatever may grow in it, and its Kerberos tickets."""

RETRY = 60.0
"""Seconds until one that could not start is tried again."""

END_PATIENCE = 5.0

NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "CLASSPATH", "_JAVA_OPTIONS"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "MASTER", "DEPLOY_MODE", "PYTHONPATH", "PYSPARK_ARCHIVES_PATH"),
    }
)
PREFIXES = ("SPARK_", "HADOOP_", "YARN_", "HDFS_", "HIVE_", "HBASE_", "KRB5", "JAVA_", "JDK_", "LC_", "AWS_")
LAUNCHES = frozenset({"SPARK_OPTS"})
"""What has such a name, but is another for each launch, and is read by run.sh alone."""

# Once spark-env.sh has set what it sets, as for spark-submit.
START = 'source "$SPARK_HOME/bin/load-spark-env.sh" </dev/null >&2 && exec "$@"'
RUN = (
    "import sys; sys.path.insert(0, sys.argv[1]); from elyra_server.submitter.process import main; "
    "sys.exit(main(sys.argv[2]))"
)
ROOT = Path(__file__).resolve().parent.parent.parent

log = logging.getLogger("elyra.submitter")


def submitter_environment(env: Mapping[str, str], inherited: Iterable[str] = ()) -> dict[str, str]:
    """Return what of a launch's environment a submission by Spark reads.

    The rest is the kernel's or the launch's own: its tickets, and what a client said.

    Parameters
    ----------
    env : mapping
        The launch's environment.
    inherited : iterable of str
        Names of the server's variables that the operator passes on to launches.
    """
    names = NAMES.union(inherited) - LAUNCHES
    return {
        name: value
        for name, value in env.items()
        if (name in names or (name.startswith(PREFIXES) and name not in LAUNCHES))
        and not name.startswith(("KERNEL_", "ELYRA_", "EG_", "KG_"))
    }


class Submitter:
    """A submitter as the server sees it: a process that becomes ready, is used, and ends.

    Parameters
    ----------
    env : mapping
        Its environment; also what it is known by.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = dict(env)
        self.began = self.used = time.monotonic()
        self.uses = 0
        self.ready = asyncio.Event()
        self.stale = False
        self.directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._words = ""
        self.stopped = False
        self.life = asyncio.create_task(self._live(), name="submitter")

    @property
    def usable(self) -> bool:
        """Whether a launch can use it now."""
        return self.ready.is_set() and not self.stale and not self.life.done()

    @property
    def worn(self) -> bool:
        """Whether it is time for another one."""
        return self.uses >= MAX_USES or time.monotonic() - self.began > MAX_AGE

    @property
    def failed(self) -> bool:
        """Whether it could not start, and it is too soon to try that again."""
        return self.life.done() and not self.ready.is_set() and time.monotonic() - self.began < RETRY

    def use(self) -> Path:
        """Return its socket."""
        assert self.directory is not None
        self.uses += 1
        self.used = time.monotonic()
        return self.directory / SOCKET

    def retire(self) -> None:
        """Let it end when it has answered everybody."""
        self.stopped = True
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._process.stdin.write(b"end\n")

    async def end(self) -> None:
        """End it now."""
        self.stopped = True
        if self._process is None:
            self.life.cancel()
        else:
            self._hang_up(self._process)
        _, pending = await asyncio.wait({self.life}, timeout=END_PATIENCE)
        if pending and self._process is not None:
            self._process.kill()
            await asyncio.wait({self.life}, timeout=END_PATIENCE)

    async def _live(self) -> None:
        try:
            directory = Path(await in_thread(tempfile.mkdtemp, None, "submitter-", shipping.private_directory()))
            if self.stopped:
                return
            self.directory, self._process = directory, self._start(directory)
        except OSError as error:
            log.warning("A warm submitter cannot be started: %s", error)
            return
        await self._see_end(self._process)
        await in_thread(shutil.rmtree, directory, ignore_errors=True)  # it does so itself, unless it was killed

    async def _see_end(self, process: subprocess.Popen[bytes]) -> None:
        reports = asyncio.create_task(self._follow(process.stdout, self._note))
        words = asyncio.create_task(self._follow(process.stderr, self._note_words))
        try:
            code = await process_end(process)
        finally:
            self._hang_up(process)
            await asyncio.wait({reports, words}, timeout=1.0)
        if not (self.stopped or self.stale):
            log.warning("A warm submitter %s. Launches go by spark-submit. %s", describe_end(code), self._words)

    def _start(self, directory: Path) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-I", "-c", RUN, str(ROOT), str(directory)]
        return subprocess.Popen(
            ["bash", "-c", START, "bash", *words],
            env={**self.env, **dict.fromkeys(LAUNCHS_OWN, FROM_LAUNCH)},
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )

    async def _follow(self, pipe: Any, note: Any) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            while data := await reader.read(65536):
                for line in data.decode("utf-8", "replace").splitlines():
                    note(line)
        finally:
            transport.close()

    def _note(self, line: str) -> None:
        if line == "ready":
            log.info("A warm submitter is ready after %.1f s.", time.monotonic() - self.began)
            self.ready.set()
        elif line == "stale":
            self.stale = True

    def _note_words(self, line: str) -> None:
        log.debug("Submitter: %s", line)
        if line.strip():
            self._words = f"Its last words: {line[:500]}"

    @staticmethod
    def _hang_up(process: subprocess.Popen[bytes]) -> None:
        stdin: IO[bytes] | None = process.stdin
        if stdin is not None:
            with contextlib.suppress(OSError):
                stdin.close()


class SubmitterPool:
    """All submitters of this process; only for the service's loop.

    Parameters
    ----------
    settings : Settings
        How many there may be, and for how long.
    """

    _shared: SubmitterPool | None = None

    def __init__(self, settings: Settings) -> None:
        self.limit = settings.warm_submitter_limit
        self.idle = settings.warm_submitter_idle
        self._current: dict[frozenset[tuple[str, str]], Submitter] = {}
        self._successors: dict[frozenset[tuple[str, str]], Submitter] = {}
        self._all: set[Submitter] = set()
        self._reaper: asyncio.Task[None] | None = None

    @classmethod
    def shared(cls, settings: Settings) -> SubmitterPool:
        """Return the one of this process."""
        if cls._shared is None:
            cls._shared = cls(settings)
        return cls._shared

    @classmethod
    async def close_shared(cls) -> None:
        """End all submitters, with the server."""
        if cls._shared is not None:
            pool, cls._shared = cls._shared, None
            await pool.close()

    @property
    def has_room(self) -> bool:
        """Whether another one may be started without one that goes for it."""
        return len(self._current) < int(self.limit)

    def find(self, env: Mapping[str, str]) -> Path | None:
        """Return the socket of a submitter for an environment, None if none is ready."""
        key = frozenset(env.items())
        successor = self._successors.get(key)
        if successor is not None and (successor.usable or successor.life.done()):
            del self._successors[key]
            if successor.usable:
                self._current[key].retire()
                self._current[key] = successor
        submitter = self._current.get(key)
        if submitter is None or not submitter.usable:
            return None
        if submitter.worn and key not in self._successors:
            self._successors[key] = self._begin(env)
        return submitter.use()

    def start(self, env: Mapping[str, str]) -> Submitter | None:
        """See that there is a submitter for an environment, which becomes ready later, or None if there cannot be."""
        key = frozenset(env.items())
        submitter = self._current.get(key)
        if submitter is not None and not submitter.life.done():
            return submitter
        if submitter is not None and submitter.failed:
            return None
        if submitter is None and not self._make_room():
            return None
        self._current[key] = submitter = self._begin(env)
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.create_task(self._reap(), name="idle submitters")
        return submitter

    async def close(self) -> None:
        """End all of them."""
        if self._reaper is not None:
            self._reaper.cancel()
        await asyncio.gather(*(submitter.end() for submitter in self._all))

    def _begin(self, env: Mapping[str, str]) -> Submitter:
        submitter = Submitter(env)
        self._all.add(submitter)
        submitter.life.add_done_callback(lambda _: self._ended(submitter))
        return submitter

    def _ended(self, submitter: Submitter) -> None:
        """Have another one ready for the next launch where one was, and ended by itself."""
        self._all.discard(submitter)
        key = frozenset(submitter.env.items())
        # One that nobody used may have what it died of again.
        used = submitter.ready.is_set() and (submitter.uses > 0 or submitter.stale)
        if self._current.get(key) is submitter and used and not submitter.stopped:
            self._current[key] = self._begin(submitter.env)

    def _make_room(self) -> bool:
        """Let the one go that was not used for the longest time, if there are too many."""
        if self.limit <= 0:
            return False
        while len(self._current) >= self.limit:
            self._drop(min(self._current, key=lambda key: self._current[key].used))
        return True

    def _drop(self, key: frozenset[tuple[str, str]]) -> None:
        for submitters in (self._current, self._successors):
            submitter = submitters.pop(key, None)
            if submitter is not None:
                submitter.retire()

    async def _reap(self) -> None:
        """Let those go that nobody uses, as long as there are any."""
        while self._current:
            oldest = min(submitter.used for submitter in self._current.values())
            await asyncio.sleep(max(oldest + self.idle - time.monotonic(), 1.0))
            for key, submitter in list(self._current.items()):
                if time.monotonic() - submitter.used >= self.idle:
                    self._drop(key)


async def warm(specs: KernelSpecManager, environ: Mapping[str, str], settings: Settings) -> None:
    """Start the submitters that the first launches of the installed kernelspecs would start.

    Parameters
    ----------
    specs : KernelSpecManager
        Where the kernelspecs are.
    environ : mapping
        The environment of a launch, without what its kernelspec and its client add.
    settings : Settings
        The operator's settings.
    """
    pool = SubmitterPool.shared(settings)
    for spec in await in_thread(_wanting, specs):
        env = {**environ, **{name: Template(value).safe_substitute(environ) for name, value in spec.env.items()}}
        if env.get("SPARK_HOME") and pool.has_room:
            pool.start(submitter_environment(env, settings.inherited_envs))


def _wanting(specs: KernelSpecManager) -> list[KernelSpec]:
    """Return the kernelspecs that want a warm submitter; one that cannot be used is none of them."""
    found = []
    for name in specs.find_kernel_specs():
        with contextlib.suppress(Exception):
            spec = specs.get_kernel_spec(name)
            class_name, config = stanza_of(spec)
            if class_name.endswith(".YarnClusterProcessProxy") and parse_bool(str(config.get(OPTION, False)), OPTION):
                found.append(spec)
    return found


def offer(env: dict[str, str], settings: Settings, wanted: bool) -> None:
    """Tell a launch's command where a warm submitter is, if it wants one and one is ready.

    Parameters
    ----------
    env : dict
        The launch's environment, which is changed.
    settings : Settings
        The operator's settings.
    wanted : bool
        Whether the kernelspec wants one.
    """
    for name in (SOCKET_VARIABLE, CLIENT_VARIABLE, PYTHON_VARIABLE):
        env.pop(name, None)
    if wanted and settings.warm_submitter:
        socket = SubmitterPool.shared(settings).find(submitter_environment(env, settings.inherited_envs))
        if socket is None:
            return
        env[SOCKET_VARIABLE] = str(socket)
        env[CLIENT_VARIABLE] = str(Path(__file__).with_name("client.py"))
        env[PYTHON_VARIABLE] = sys.executable


def prepare(env: Mapping[str, str], settings: Settings, wanted: bool) -> None:
    """Have a submitter ready for the next launch like this one, which is over: now it is in nobody's way.

    Parameters
    ----------
    env, settings, wanted
        As for `offer`.
    """
    if wanted and settings.warm_submitter and env.get("SPARK_HOME"):
        SubmitterPool.shared(settings).start(submitter_environment(env, settings.inherited_envs))
