"""The Spark driver's JVM with Toree in it, reached over Py4J: start it, interrupt its cell, notice its exit.

Only `elyra_launcher.toree_driver` imports this module.
"""

from __future__ import annotations

import os
from contextlib import suppress

from py4j.protocol import Py4JError, Py4JJavaError

from .spark_driver import CONTAINER_PROPERTIES, _Jvm
from .toree_handles import Handles, field, field_of_type
from .toree_interrupts import Interrupts
from .toree_kernel import ALTERNATE_SIGINT, BUILD_INFO, scala_version, values_of
from .toree_mends import Mends

TYPE_CHECKING = False  # importing typing would take time and memory
if TYPE_CHECKING:
    from typing import Any, Mapping, Sequence

CHATTY = "org.apache.toree.Main$$anon$1"
"""The logger to which Toree writes the connection file, its key included."""

TELL_PRIORITY, WAIT_PRIORITY = 1001, 1000
"""When the JVM exits: first it tells so, then it waits for the launcher, then comes all that is Spark's (40)."""

EXIT_PATIENCE = 20
"""Seconds for which an exiting JVM waits for the launcher's end."""


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
        self._handles = Handles(self.java)
        self._mends: Mends | None = None
        self._tool: Interrupts | None = None
        self._interrupts: Interrupts | None = None
        self._asked_early = False

    # -- start

    def prepare(self) -> None:
        """Set right in the JVM what Toree would trip over."""
        # Whichever thread is the first to use Spark: this has to be done in one that has a class loader.
        self._handles.kind("org.apache.spark.package$")
        with suppress(Py4JError, TypeError):  # Java 8 has no modules
            # Toree looks for its magics by reflection on jar files, which Java forbids since 16.
            module = self._handles.kind("java.util.jar.JarFile").getModule()
            opens = module.getClass().getDeclaredMethod(
                "implAddOpensToAllUnnamed",
                self._handles.array("java.lang.Class", [self._handles.kind("java.lang.String")]),
            )
            opens.setAccessible(True)
            opens.invoke(module, self._handles.array("java.lang.Object", ["java.util.jar"]))
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
            self.java.org.apache.toree.Main.main(self._handles.array("java.lang.String", options))
        except Py4JJavaError as error:
            raise ToreeError(f"Toree ended with {words_of(error)}") from error
        except Py4JError as error:  # the JVM is gone
            raise ToreeError(f"the connection to the Spark driver's JVM broke: {error}") from error

    def ready(self) -> bool:
        """Whether Toree is up: it ends its start by forbidding cells to exit."""
        return self.java.java.lang.System.getSecurityManager() is not None

    def get_ready(self) -> None:
        """Make what `mend` and `take_over` need, while Toree starts; they tell what is wrong with it."""
        with suppress(Exception):
            self._mends = Mends(self.java)
            self._tool = Interrupts(self)

    def allow_exit(self) -> None:
        """Let a cell end the kernel by ``sys.exit``, which Toree would refuse; it has to be up."""
        self.java.java.lang.System.setSecurityManager(None)

    def mend(self) -> None:
        """Mend Toree; it has to be up."""
        mends = self._mends or Mends(self.java)
        mends.apply(field(self._handler(), "$outer"))

    def take_over(self) -> None:
        """Take over what Toree does when it is interrupted; it has to be up."""
        interrupts = self._tool or Interrupts(self)
        interrupts.interpreter = field_of_type(self._handler(), "org.apache.toree.interpreter.Interpreter")
        self._interrupts = interrupts
        if self._asked_early:
            self.interrupt()

    def interrupt(self) -> None:
        """Interrupt the cell that runs.

        Toree's own way asks for the SparkContext first: it waits for one that is being made, makes one where there is
        none, and does nothing where that fails.
        """
        if self._interrupts is None:
            self._asked_early = True  # its ports answer already, but Toree is not quite up
        else:
            self._interrupts.interrupt()

    def make_session(self) -> None:
        """Make Spark's session as Toree would on its first use."""
        conf = self.java.org.apache.spark.SparkConf().setIfMissing("spark.submit.deployMode", "client")
        self.java.org.apache.spark.sql.SparkSession.builder().config(conf).getOrCreate()

    def _handler(self) -> Any:
        """Return Toree's handler of its signal, which knows its parts."""
        handler = self._handle(self._signal, self.java.sun.misc.SignalHandler.SIG_IGN)
        self._handle(self._signal, handler)
        return handler

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
        tell = self._handles.runnable(self._pipe, "write", 1)
        hooks.addShutdownHook(tell, TELL_PRIORITY, 1, seconds)
        launcher = self._thread_of_launcher()
        if launcher is not None:
            hooks.addShutdownHook(self._handles.runnable(launcher, "join"), WAIT_PRIORITY, EXIT_PATIENCE, seconds)
        if self._in_container:
            # YARN ends a container by SIGTERM, also one that took too much memory: that is no exit.
            self._handle("TERM", self.java.sun.misc.SignalHandler.SIG_DFL)

    def answers(self) -> bool:
        """Whether the JVM can be reached; where Spark makes it exit, it closes its gateway first."""
        try:
            self.java.java.lang.System.nanoTime()
        except (Py4JError, OSError):
            return False
        return True

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

    def _handle(self, name: str, handler: Any) -> Any:
        """Set the handler of a signal and return the one before."""
        signals = self.java.sun.misc.Signal
        return signals.handle(signals(name), handler)


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
