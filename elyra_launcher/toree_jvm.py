"""The Spark driver's JVM with Toree in it, reached over Py4J: start it, interrupt its cell, notice its exit.

There is no Java code of ours. What has to run inside the JVM while it shuts down is put together from methods that
are there already, by method handles. Only `elyra_launcher.toree_driver` imports this module.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress

from py4j.protocol import Py4JError, Py4JJavaError

from .spark_driver import CONTAINER_PROPERTIES, _Jvm
from .toree_kernel import ALTERNATE_SIGINT, BUILD_INFO, scala_version, values_of

TYPE_CHECKING = False  # importing typing would take time and memory
if TYPE_CHECKING:
    from typing import Any, Mapping, Sequence

CHATTY = "org.apache.toree.Main$$anon$1"
"""The logger to which Toree writes the connection file, its key included."""

TELL_PRIORITY, WAIT_PRIORITY = 1001, 1000
"""When the JVM exits: first it tells so, then it waits for the launcher, then comes all that is Spark's (40)."""

EXIT_PATIENCE = 20
"""Seconds for which an exiting JVM waits for the launcher's end."""

INTERRUPT_PATIENCE = 2.0
"""Seconds that an interrupted cell has to end by itself; then its thread is stopped by force."""

STOP_PATIENCE = 1.0
END_INTERVAL = 0.01
LOOK_INTERVAL = 0.1

UNSTOPPABLE = re.compile(
    r"(?!\$line).*\.<clinit>|org\.apache\.spark\.SparkContext\.<init>|scala\.tools\.nsc\.Global\$Run\."
)
"""Where a thread is never stopped by force: what it is building there would stay broken for good. A cell's own code is
no such place, though it is run by the initialiser of a class (``$line12...``)."""


class ToreeError(Exception):
    """Why there is no Toree; for the user."""


class ToreeJvm(_Jvm):
    """The JVM of the driver that started this launcher.

    Parameters
    ----------
    environ : mapping of str to str
        With Spark's gateway: ``PYSPARK_GATEWAY_PORT`` and ``PYSPARK_GATEWAY_SECRET``.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self._in_container = "CONTAINER_ID" in environ and os.path.isfile(CONTAINER_PROPERTIES)
        self._signal = "USR2"
        self._interpreter: Any = None
        self._asked_early = False

    # -- start

    def prepare(self) -> None:
        """Set right in the JVM what Toree would trip over."""
        # Whichever thread is the first to use Spark: this has to be done in one that has a class loader.
        self._class("org.apache.spark.package$")
        with suppress(Py4JError, TypeError):  # Java 8 has no modules
            # Toree looks for its magics by reflection on jar files, which Java forbids since 16.
            module = self._class("java.util.jar.JarFile").getModule()
            opens = module.getClass().getDeclaredMethod(
                "implAddOpensToAllUnnamed", self._array("java.lang.Class", [self._class("java.lang.String")])
            )
            opens.setAccessible(True)
            opens.invoke(module, self._array("java.lang.Object", ["java.util.jar"]))
        self._keep_key_out_of_log()

    def check(self) -> None:
        """See that Toree is there and made for this Scala.

        Raises
        ------
        ToreeError
            If not; it says what to do.
        """
        loader = self.java.java.lang.Thread.currentThread().getContextClassLoader()
        stream = loader.getResourceAsStream(BUILD_INFO)
        if stream is None:
            raise ToreeError(
                "Toree is not on Spark's class path: set TOREE_ASSEMBLY to its assembly jar, "
                "or install the kernelspec again with --toree-assembly=FILE"
            )
        built = scala_version(bytes(stream.readAllBytes()))
        there = str(self.companion(self.java.scala.util, "Properties").versionNumberString())
        if built and binary(built) != binary(there):
            spark = self.companion(self.java.org.apache.spark, "package").SPARK_VERSION()
            raise ToreeError(
                f"this Toree was built for Scala {built}, but Spark {spark} has Scala {there}: "
                f"use a Toree for Scala {binary(there)}, or a Spark for Scala {binary(built)}"
            )

    def run(self, options: Sequence[str]) -> None:
        """Run Toree's main class, and return when it does.

        Raises
        ------
        ToreeError
            If it failed; in its own words.
        """
        self._signal = (values_of(ALTERNATE_SIGINT, options) or [self._signal])[-1]
        try:
            self.java.org.apache.toree.Main.main(self._array("java.lang.String", options))
        except Py4JJavaError as error:
            raise ToreeError(f"Toree ended with {words_of(error)}") from error
        except Py4JError as error:  # the JVM is gone
            raise ToreeError(f"the connection to the Spark driver's JVM broke: {error}") from error

    def ready(self) -> bool:
        """Whether Toree is up: it ends its start by forbidding cells to exit."""
        return self.java.java.lang.System.getSecurityManager() is not None

    def take_over(self) -> None:
        """Take over what Toree does when it is interrupted, and let a cell end the kernel by ``sys.exit``.

        Toree would refuse the latter. The handler of its signal is what knows its interpreter.
        """
        handler = self._handle(self._signal, self.java.sun.misc.SignalHandler.SIG_IGN)
        self._handle(self._signal, handler)
        self._interpreter = _field_of_type(handler, "org.apache.toree.interpreter.Interpreter")
        self.java.java.lang.System.setSecurityManager(None)
        if self._asked_early:
            self.interrupt()

    def make_session(self) -> None:
        """Make Spark's session as Toree would on its first use."""
        conf = self.java.org.apache.spark.SparkConf().setIfMissing("spark.submit.deployMode", "client")
        self.java.org.apache.spark.sql.SparkSession.builder().config(conf).getOrCreate()

    def _keep_key_out_of_log(self) -> None:
        with suppress(Py4JError, TypeError):  # Spark 3.3 and later; before there is log4j 1
            levels = self.java.org.apache.logging.log4j.Level
            self.java.org.apache.logging.log4j.core.config.Configurator.setLevel(CHATTY, levels.WARN)
        with suppress(Py4JError, TypeError):
            levels = self.java.org.apache.log4j.Level
            self.java.org.apache.log4j.Logger.getLogger(CHATTY).setLevel(levels.WARN)

    # -- the JVM's exit

    def watch_exit(self, pipe: str) -> None:
        """Let the JVM write a byte to a pipe when it begins to exit, and then wait for the launcher's end.

        A JVM that was killed does neither. So the pipe's reader knows an exit from a crash; and YARN, who asks
        Spark how the application went, gets the answer that the launcher's own exit gives.

        Parameters
        ----------
        pipe : str
            A named pipe that is open for reading already.
        """
        self._pipe = self.java.java.io.FileOutputStream(pipe)
        hooks = self.java.org.apache.hadoop.util.ShutdownHookManager.get()
        seconds = self.java.java.util.concurrent.TimeUnit.SECONDS
        tell = self._runnable(self._pipe, "write", 1)
        hooks.addShutdownHook(tell, TELL_PRIORITY, 1, seconds)
        launcher = self._thread_of_launcher()
        if launcher is not None:
            hooks.addShutdownHook(self._runnable(launcher, "join"), WAIT_PRIORITY, EXIT_PATIENCE, seconds)
        if self._in_container:
            # YARN ends a container by SIGTERM, also one that took too much memory: that is no exit.
            self._handle("TERM", self.java.sun.misc.SignalHandler.SIG_DFL)

    def exit(self) -> None:
        """Exit the JVM; does not return before it is gone."""
        with suppress(Py4JError, OSError):
            self.java.java.lang.System.exit(0)

    def _thread_of_launcher(self) -> Any:
        """Return the thread in which Spark waits for the launcher, its Python program."""
        for entry in self.java.java.lang.Thread.getAllStackTraces().entrySet():
            if any(
                frame.getClassName().startswith("org.apache.spark.deploy.PythonRunner") for frame in entry.getValue()
            ):
                return entry.getKey()
        return None

    def _runnable(self, target: Any, method: str, *numbers: int) -> Any:
        """Return a Runnable that calls a method of an object, which returns nothing, with numbers."""
        lang = self.java.java.lang
        types = self._array("java.lang.Class", [lang.Integer.TYPE for _ in numbers])
        kind = lang.invoke.MethodType.methodType(lang.Void.TYPE, types)
        handle = lang.invoke.MethodHandles.publicLookup().findVirtual(target.getClass(), method, kind)
        bound = lang.invoke.MethodHandles.insertArguments(
            handle, 0, self._array("java.lang.Object", [target, *numbers])
        )
        return lang.invoke.MethodHandleProxies.asInterfaceInstance(self._class("java.lang.Runnable"), bound)

    # -- interrupt

    def interrupt(self) -> None:
        """Interrupt the cell that runs, and cancel its Spark jobs; without one nothing happens.

        Toree's own way asks for the SparkContext first: it waits for one that is being made, makes one where there is
        none, and does nothing where that fails. Here only a cell that makes the SparkContext itself is waited for: half
        of one would be of no use, and stay.
        """
        if self._interpreter is None:
            self._asked_early = True  # its ports answer already, but Toree is not quite up
            return
        try:
            manager = self._interpreter.taskManager()
        except Py4JError:  # SQL has none: its cell ends with its job
            self._end_jobs(self._active_jobs())
            return
        running = manager.executor()
        if not running.isDefined() or running.get().getActiveCount() == 0:
            return
        cell = running.get()
        threads = self._threads_of_cells()
        while self._make_context(threads):
            time.sleep(LOOK_INTERVAL)
        jobs = self._active_jobs()
        manager.restart()  # interrupts the threads; the next cell gets new ones
        self._end_jobs(jobs)
        limit = time.monotonic() + INTERRUPT_PATIENCE
        while not cell.isTerminated() and time.monotonic() < limit:
            # What runs now was started by the cell that ends: the next one is not even compiled.
            jobs = self._end_jobs(self._active_jobs(), jobs)
            time.sleep(END_INTERVAL)
        if not cell.isTerminated():
            self._stop(threads)

    def _handle(self, name: str, handler: Any) -> Any:
        """Set the handler of a signal and return the one before."""
        signals = self.java.sun.misc.Signal
        return signals.handle(signals(name), handler)

    def _active_jobs(self) -> set[int]:
        context = self.context()
        return set() if context is None else set(context.statusTracker().getActiveJobIds())

    def _end_jobs(self, jobs: set[int], before: set[int] = frozenset()) -> set[int]:  # type: ignore[assignment]
        """Cancel jobs that were not cancelled before, with their tasks; return all that were."""
        for job in jobs - before:
            with suppress(Py4JError):
                self._end_job(self.context(), job)
        return jobs | before

    def _end_job(self, context: Any, job: int) -> None:
        # A task that sleeps, or waits, would keep its core: Spark interrupts only those of jobs that say so.
        active = context.dagScheduler().jobIdToActiveJob().get(job)
        if active.isDefined():
            active.get().properties().setProperty("spark.job.interruptOnCancel", "true")
        context.cancelJob(job)

    def _threads_of_cells(self) -> list[Any]:
        threads = self.java.java.lang.Thread.getAllStackTraces().keySet()
        return [thread for thread in threads if thread.getName().startswith("task-manager-")]

    def _make_context(self, threads: Sequence[Any]) -> bool:
        """Whether one of these threads is making the SparkContext."""
        return any(
            frame.getClassName() == "org.apache.spark.SparkContext" and frame.getMethodName() == "<init>"
            for thread in threads
            for frame in thread.getStackTrace()
        )

    def _stop(self, threads: Sequence[Any]) -> None:
        """Stop by force what does not look whether it was interrupted, such as a tight loop."""
        for thread in threads:
            frames = [f"{frame.getClassName()}.{frame.getMethodName()}" for frame in thread.getStackTrace()]
            if not any(UNSTOPPABLE.match(frame) for frame in frames):
                with suppress(Py4JError):  # Java 20 and later cannot
                    thread.stop()

    # -- small things

    def _class(self, name: str) -> Any:
        return self.java.java.lang.Class.forName(name)

    def _array(self, kind: str, values: Sequence[Any]) -> Any:
        array = self.java.java.lang.reflect.Array.newInstance(self._class(kind), len(values))
        for index, value in enumerate(values):
            array[index] = value
        return array


def binary(version: str) -> str:
    """Return the part of a Scala version that has to fit: ``2.12`` of ``2.12.18``; all of ``3``."""
    return ".".join(version.split(".")[:2])


def words_of(error: Py4JJavaError) -> str:
    """Return an exception of Java's and its causes, without where they were."""
    lines = str(error.java_exception.toString()).splitlines()
    cause = error.java_exception.getCause()
    while cause is not None and len(lines) < 20:
        lines.append(f"caused by {cause.toString()}")
        cause = cause.getCause()
    return "\n".join(lines)


def _field_of_type(target: Any, name: str) -> Any:
    """Return the value of an object's first field of a type, whatever its name is."""
    for field in target.getClass().getDeclaredFields():
        if field.getType().getName() == name:
            field.setAccessible(True)
            return field.get(target)
    return None
