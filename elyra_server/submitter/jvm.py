"""The JVM of a warm submitter: how it is started, and one submission in it.

It is the JVM that spark-submit would start, with the same class path, options and
environment, but its main class is py4j's gateway, which ends with its standard input.
What it prints between two marks on its standard error belongs to the submission
between them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

MAIN = "org.apache.spark.deploy.SparkSubmit"
FORM = (MAIN, "--master", "yarn", "--deploy-mode", "cluster", "--class", "none", "none.jar")
"""A submission for which Spark's launcher is asked how spark-submit would start Java."""

HEAP = ("-Xms32m", "-Xmx512m")
OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-XX:MinHeapFreeRatio=20", "-XX:MaxHeapFreeRatio=40")
COLLECTOR = "-XX:+UseSerialGC"
"""For a small process that mostly waits; where the operator chose other ones (SPARK_SUBMIT_OPTS), those."""

TOKEN = re.compile(rb"[A-Za-z0-9+/=]{40,}")
MAX_LINE = 65536

EXIT = "org.apache.spark.SparkUserAppException"
"""Spark's way to end with an exit code inside of a process: after --help, or an option that it does not know."""

WARM_UP = "elyra-warm-up.py"


class JvmError(RuntimeError):
    """The JVM does not start, or ended."""


class Outcome(NamedTuple):
    """How a submission ended.

    Attributes
    ----------
    code : int or None
        The exit code that spark-submit would have had; None where spark-submit itself has to say what is wrong.
    broken : bool
        Whether the JVM is no good any more.
    """

    code: int | None
    broken: bool = False


async def command(environ: Mapping[str, str]) -> list[str]:
    """Return how spark-submit starts Java with this environment.

    Raises
    ------
    JvmError
        If Spark's launcher does not say so.
    """
    java = f"{environ['JAVA_HOME']}/bin/java" if environ.get("JAVA_HOME") else "java"
    jars = f"{environ['SPARK_HOME']}/jars/*"
    launcher = [java, "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", jars, "org.apache.spark.launcher.Main", *FORM]
    process = await asyncio.create_subprocess_exec(
        *launcher, env=dict(environ), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    # What a variable such as SPARK_PRINT_LAUNCH_COMMAND makes it print stands before.
    words = [word.decode() for word in output.rpartition(b"\0\n")[2].split(b"\0")]
    if process.returncode or MAIN not in words:
        raise JvmError(f"Spark's launcher ended with exit code {process.returncode}.")
    return words[: words.index(MAIN)]


def tuned(java: list[str], temporary: Path) -> list[str]:
    """Return a Java command with options for a small process, except where it has such ones."""
    options = [f"-Djava.io.tmpdir={temporary}", *OPTIONS]
    if not any(word.startswith("-Xmx") for word in java):
        options += HEAP
    if not any(re.match(r"-XX:\+Use\w*GC\Z", word) for word in java):
        options.append(COLLECTOR)
    return [*java, *options]


class Jvm:
    """A JVM in which submissions are made, one at a time.

    Parameters
    ----------
    environ : mapping
        Its environment.
    directory : Path
        Its own, for temporary files.
    """

    def __init__(self, environ: Mapping[str, str], directory: Path) -> None:
        self.environ = environ
        self.local, self.temporary = directory / "local", directory / "tmp"
        self.process: asyncio.subprocess.Process | None = None
        self.announces = False
        """Whether it prints that it is about to submit an application, by Spark's log."""
        self._thread = ThreadPoolExecutor(1)  # py4j has a connection per thread, and the JVM a thread per connection
        self._gateway: Any = None
        self._submit: Any = None
        self._ended: asyncio.Task[None] | None = None
        self._partial = b""
        self._mark = b""
        self._sink: Callable[[bytes], None] | None = None
        self._drained: asyncio.Future[None] | None = None

    # -- its life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start it and have it load all that a submission needs.

        Raises
        ------
        JvmError
            If it does not come up.
        """
        for place in (self.local, self.temporary):
            place.mkdir()
        java = tuned(await command(self.environ), self.temporary)
        # Its own place for temporary files also where spark.local.dir has another.
        environ = {**self.environ, "SPARK_LOCAL_DIRS": str(self.local)}
        self.process = process = await asyncio.create_subprocess_exec(
            *(*java, "py4j.GatewayServer", "--die-on-broken-pipe", "--enable-auth", "0"),
            env=environ,
            cwd=self.temporary.parent,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=MAX_LINE,
        )
        port, token = await self._handshake(process)
        self._ended = asyncio.create_task(self._read(process))
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._connect, port, token)
        await self._warm_up()

    async def wait(self) -> None:
        """Return when it ended."""
        if self._ended is not None:
            await asyncio.shield(self._ended)

    async def end(self) -> None:
        """End it now: there is nothing in it that would have to be kept."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()

    async def _handshake(self, process: asyncio.subprocess.Process) -> tuple[int, str]:
        """Read port and token, which come first; before them there may be warnings."""
        assert process.stdout is not None
        port = 0
        while line := (await process.stdout.readline()).strip():
            if port and TOKEN.fullmatch(line):
                return port, line.decode()
            if line.isdigit():
                port = int(line)
            else:
                print(line.decode("utf-8", "replace"), file=sys.stderr)
        raise JvmError("The JVM ended before its gateway was ready.")

    def _connect(self, port: int, token: str) -> None:
        archives = sorted(Path(self.environ["SPARK_HOME"], "python", "lib").glob("py4j-*-src.zip"))
        if not archives:
            raise JvmError("SPARK_HOME has no python/lib/py4j-*-src.zip.")
        sys.path.insert(0, str(archives[-1]))
        from py4j.java_gateway import GatewayParameters, JavaGateway

        self._gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auth_token=token))
        jvm = self._gateway.jvm
        self._submit = jvm.org.apache.spark.deploy.InProcessSparkSubmit.main
        self._loader = jvm.Thread.currentThread().getContextClassLoader()

    async def _warm_up(self) -> None:
        """Submit what does not exist: all of Spark's client is loaded then, and YARN has no application more."""
        # Spark's jars are not uploaded for it, wherever they are.
        nothing = ("--conf", "spark.yarn.jars=local:/none", str(self.temporary / WARM_UP))
        words = [*FORM[1:5], "--conf", "spark.yarn.submit.waitAppCompletion=false", *nothing]
        await self.submit(words, lambda data: None)
        loop = asyncio.get_running_loop()
        self.announces = await loop.run_in_executor(self._thread, self._logs_submissions)

    def _logs_submissions(self) -> bool:
        name = "org.apache.spark.deploy.yarn.Client"
        return bool(self._gateway.jvm.org.slf4j.LoggerFactory.getLogger(name).isInfoEnabled())

    # -- a submission ------------------------------------------------------------------------------

    async def submit(self, words: list[str], on_output: Callable[[bytes], None]) -> Outcome:
        """Submit an application.

        Parameters
        ----------
        words : list of str
            The arguments of spark-submit.
        on_output : callable
            Gets what is printed, as it comes.

        Raises
        ------
        JvmError
            If the JVM ended.
        """
        loop = asyncio.get_running_loop()
        # Unknown to the submission, whose output might have it otherwise.
        self._mark = f"elyra-{secrets.token_hex(16)}".encode()
        self._sink, self._on_output, self._drained = None, on_output, loop.create_future()
        call = loop.run_in_executor(self._thread, self._call, words, self._mark.decode())
        waiting: set[asyncio.Future[Any]] = {call, self._drained}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
        if not call.done():  # the JVM ended, which the call may notice later
            call.add_done_callback(lambda future: future.exception())
            await self._drained
        try:
            return await call
        finally:
            self._sink = None

    async def clean_up(self) -> None:
        """Remove what spark-submit would at its end."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._clean_up)

    def _call(self, words: list[str], mark: str) -> Outcome:
        from py4j.protocol import Py4JError, Py4JJavaError

        jvm = self._gateway.jvm
        try:
            array = self._array(jvm.String, words)
            jvm.System.err.println(mark)
            try:
                self._submit(array)
                return Outcome(0)
            except Py4JJavaError as error:
                return self._failed(error.java_exception)
            finally:
                jvm.System.out.flush()
                jvm.System.err.println(mark)
        except Py4JError as error:
            raise JvmError(str(error)) from error

    def _failed(self, exception: Any) -> Outcome:
        """Print an exception as the JVM does for its main thread."""
        jvm = self._gateway.jvm
        if exception.getClass().getName() == EXIT:
            return Outcome(None)  # what spark-submit prints before, only its own main class does
        self._trim(exception)
        jvm.System.err.print('Exception in thread "main" ')
        exception.printStackTrace()
        return Outcome(1, broken=bool(jvm.Class.forName("java.lang.Error").isInstance(exception)))

    def _array(self, kind: Any, values: Sequence[Any]) -> Any:
        array = self._gateway.new_array(kind, len(values))
        for index, value in enumerate(values):
            array[index] = value
        return array

    def _trim(self, exception: Any) -> None:
        """Take from a stack trace what is below Spark, which says nothing, and would be the end that is quoted."""
        while exception is not None:
            frames = list(exception.getStackTrace())
            while frames and not frames[-1].getClassName().startswith("org.apache.spark."):
                frames.pop()
            if frames:
                exception.setStackTrace(self._array(self._gateway.jvm.java.lang.StackTraceElement, frames))
            exception = exception.getCause()

    def _clean_up(self) -> None:
        jvm = self._gateway.jvm
        thread = jvm.Thread.currentThread()
        loader = thread.getContextClassLoader()
        thread.setContextClassLoader(self._loader)
        if loader.getClass().getName().startswith("org.apache.spark.util."):
            loader.close()  # that of the application's jars
        # Each user that is impersonated, and each submission of theirs, has file systems of its own.
        jvm.org.apache.hadoop.fs.FileSystem.closeAll()
        for path in self.temporary.iterdir():
            jvm.org.apache.spark.util.ShutdownHookManager.removeShutdownDeleteDir(jvm.java.io.File(str(path)))
            _remove(path)
        # Spark keeps the directories in there for its next submission.
        for path in self.local.glob("*/*"):
            _remove(path)
        del thread, loader
        gc.collect()  # what is not used here any more, the JVM may forget

    # -- its output --------------------------------------------------------------------------------

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while data := await process.stdout.read(MAX_LINE):
            *lines, self._partial = (self._partial + data).split(b"\n")
            for line in lines:
                self._take(line + b"\n")
            if len(self._partial) > MAX_LINE:
                self._take(self._partial)
                self._partial = b""
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(JvmError("The JVM ended."))
            self._drained.exception()  # whoever waits gets it, or there is nobody

    def _take(self, line: bytes) -> None:
        before, mark, _ = line.partition(self._mark) if self._mark else (line, b"", b"")
        if self._sink is not None and before:
            self._sink(before)
        if mark and self._sink is None:
            self._sink = self._on_output
        elif mark and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
