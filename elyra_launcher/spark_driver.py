"""The supervisor's hand on the Spark driver it runs in.

A launcher that Spark started shares its life with the driver's JVM: jobs have to be cancelled for a kernel that died,
the context has to be cleaned before a new kernel attaches to it, and at the end YARN has to be told the truth. Each of
these is rare, so each runs as a short process of its own (``python -m elyra_launcher.spark_driver VERB``) that loads
py4j, which the supervisor therefore never holds in memory.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping, Sequence

#: Where Spark's ApplicationMaster finds the application's configuration, relative to the container's directory.
CONTAINER_PROPERTIES = os.path.join("__spark_conf__", "__spark_conf__.properties")

#: The share of ``spark.yarn.am.waitTime`` after which a context that nobody has asked for is made all the same: the
#: ApplicationMaster ends an application that has none when that time is over.
WAIT_SHARE = 0.7

#: The system property of the driver that names the RBackend of an R kernel, as `r_kernel.R` sets it.
R_BACKEND = "elyra.rbackend"

#: Spark's own default of ``spark.yarn.am.waitTime``, in seconds.
DEFAULT_WAIT = 100.0

#: Seconds that a process has for what it is to do in the driver, a busy JVM's first py4j included; and for its end.
VERB_LIMIT, FINISH_LIMIT = 20.0, 25.0

_UNITS = {"": 0.001, "us": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


class SparkDriver:
    """The Spark driver whose JVM started this launcher.

    Parameters
    ----------
    environ : mapping of str to str
        The launcher's environment, with ``PYSPARK_GATEWAY_PORT`` and ``PYSPARK_GATEWAY_SECRET``, as Spark's
        ``PythonRunner`` sets them.

    Notes
    -----
    All methods but :meth:`attach` and :meth:`context_deadline` block; none raises: what goes wrong is written to
    standard error, which is the driver's log.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self._started = time.monotonic()

    @classmethod
    def attach(cls, environ: Mapping[str, str]) -> SparkDriver | None:
        """Return the driver that started this process, or None when Spark did not start it."""
        return cls(environ) if environ.get("PYSPARK_GATEWAY_PORT") else None

    @property
    def in_container(self) -> bool:
        """Whether the driver is YARN's ApplicationMaster (deploy mode ``cluster``)."""
        return "CONTAINER_ID" in self._environ and os.path.isfile(CONTAINER_PROPERTIES)

    def context_deadline(self) -> float | None:
        """Return the seconds from now by which :meth:`ensure_context` has to be called; None when never."""
        if not self.in_container:
            return None
        with open(CONTAINER_PROPERTIES, encoding="utf-8", errors="replace") as file:
            wait = wait_time(file.read())
        return max(0.0, wait * WAIT_SHARE - (time.monotonic() - self._started))

    def interrupted(self) -> None:
        """Cancel the running jobs of a kernel that cannot do it itself."""
        self._run("cancel", timeout=VERB_LIMIT)

    def restarting(self) -> None:
        """Clear what the kernel that is gone left in the context: jobs, cached data, temporary views, streams."""
        self._run("clear", timeout=VERB_LIMIT)

    def ensure_context(self) -> None:
        """Make a SparkContext if there is none: the ApplicationMaster does not wait for one for ever."""
        self._run("context", timeout=120)

    def finish(self, ordinary: bool, exit_jvm: bool = False) -> None:
        """Stop the context, so that the application can end.

        Parameters
        ----------
        ordinary : bool
            True when the kernel's end was an ordinary one. YARN then says SUCCEEDED, also for a kernel that never used
            Spark: an application without a context is otherwise a failed one.
        exit_jvm : bool
            True to let the JVM exit after an ordinary end, whatever threads the kernel left in it.
        """
        self._run("finish" if ordinary else "stop", *(["exit"] if ordinary and exit_jvm else []), timeout=FINISH_LIMIT)

    def _run(self, *verbs: str, timeout: float) -> None:
        import subprocess

        verb = verbs[0]
        command = [sys.executable, "-m", __name__, *verbs]
        try:
            subprocess.run(command, env=self._environ, stdin=subprocess.DEVNULL, timeout=timeout, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            reason = getattr(error, "returncode", None)
            detail = f"exit code {reason}, see above" if reason is not None else str(error)
            print(f"elyra_launcher: Spark driver: {verb} did not work: {detail}", file=sys.stderr, flush=True)


def wait_time(properties: str) -> float:
    """Return ``spark.yarn.am.waitTime`` in seconds.

    Parameters
    ----------
    properties : str
        The text of a Java properties file, as Spark writes it for its ApplicationMaster.
    """
    import re

    match = re.search(r"^spark\.yarn\.am\.waitTime[=:\s]\s*(\d+)\s*([a-z]*)\s*$", properties, re.M | re.I)
    if not match or match.group(2).lower() not in _UNITS:
        return DEFAULT_WAIT
    return int(match.group(1)) * _UNITS[match.group(2).lower()]


class _Jvm:
    """The driver's JVM, reached through py4j from a short process."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        from py4j.java_gateway import GatewayParameters, JavaGateway

        self._gateway = JavaGateway(
            gateway_parameters=GatewayParameters(
                port=int(environ["PYSPARK_GATEWAY_PORT"]),
                auth_token=environ["PYSPARK_GATEWAY_SECRET"],
                auto_convert=True,
            )
        )
        self.java: Any = self._gateway.jvm

    def companion(self, package: Any, name: str) -> Any:
        """Return a Scala object, the singleton that holds what Java would call static methods."""
        return getattr(getattr(package, name + "$"), "MODULE$")

    def context(self) -> Any:
        """Return the live SparkContext, or None; does not wait for one that is being made, which may take long."""
        companion = self.companion(self.java.org.apache.spark, "SparkContext")
        # What getActive() reads, without the lock that is held while a context is made.
        context = getattr(companion, "org$apache$spark$SparkContext$$activeContext")().get()
        return None if context is None or context.isStopped() else context

    def finished_context(self) -> Any:
        """Return the live SparkContext, or None; waits for one that is being made."""
        active = self.companion(self.java.org.apache.spark, "SparkContext").getActive()
        context = active.get() if active.isDefined() else None
        return None if context is None or context.isStopped() else context

    def cancel(self) -> None:
        context = self.context()
        if context is not None:
            context.cancelAllJobs()

    def close_r_backend(self) -> None:
        """Let go of what an R kernel had in this JVM, if it was one: its threads would keep the JVM alive."""
        name = self.java.System.clearProperty(R_BACKEND)
        if not name:
            return
        from py4j.java_gateway import JavaObject
        from py4j.protocol import Py4JError

        backend: Any = JavaObject(name, self._gateway._gateway_client)
        try:
            group = backend.getClass().getDeclaredField("bossGroup")
            group.setAccessible(True)
            if group.get(backend) is not None:
                # Before it does so itself, with two seconds of patience.
                group.get(backend).shutdownGracefully(0, 0, self.java.java.util.concurrent.TimeUnit.SECONDS)
            backend.close()
        except Py4JError as error:  # in another Spark; what else is to be done is done all the same
            print(f"elyra_launcher: the RBackend could not be closed: {error}", file=sys.stderr, flush=True)

    def clear(self) -> None:
        self.close_r_backend()
        context = self.context()
        if context is None:
            return
        sessions = self.companion(self.java.org.apache.spark.sql, "SparkSession")
        default = sessions.getDefaultSession()
        if default.isDefined():
            session = default.get()
            for query in session.streams().active():
                query.stop()
            session.sharedState().globalTempViewManager().clear()
            session.sharedState().cacheManager().clearCache()
            sessions.setDefaultSession(session.newSession())
        context.cancelAllJobs()
        wrapped = self.java.org.apache.spark.api.java.JavaSparkContext.fromSparkContext(context)
        for rdd in wrapped.getPersistentRDDs().values():
            rdd.unpersist(False)

    def make_context(self) -> None:
        conf = self.java.org.apache.spark.SparkConf()
        # What pyspark itself sets for every context of a Python program.
        conf.setIfMissing("spark.serializer.objectStreamReset", "100")
        conf.setIfMissing("spark.rdd.compress", "true")
        self.companion(self.java.org.apache.spark, "SparkContext").getOrCreate(conf)

    def stop(self) -> bool:
        """Stop the context; False when there is none."""
        self.close_r_backend()
        context = self.finished_context()
        if context is None:
            return False
        context.stop()
        return True

    def exit(self) -> None:
        # It waits for this launcher's end (see toree_jvm.py), so there is no answer to wait for.
        import threading

        thread = threading.Thread(target=self.java.java.lang.System.exit, args=(0,), daemon=True)
        thread.start()
        thread.join(0.2)

    def finish(self) -> None:
        if not self.stop() and os.path.isfile(CONTAINER_PROPERTIES):
            self._succeed_without_context()

    def _succeed_without_context(self) -> None:
        # YARN believes only an ApplicationMaster that registered, and Spark's registers when a context is made.
        yarn = self.java.org.apache.hadoop.yarn
        client = yarn.client.api.AMRMClient.createAMRMClient()
        client.init(yarn.conf.YarnConfiguration())
        client.start()
        client.registerApplicationMaster("", 0, "")
        succeeded = yarn.api.records.FinalApplicationStatus.SUCCEEDED
        client.unregisterApplicationMaster(succeeded, "The kernel ended; it had not used Spark.", "")
        client.stop()


def main(arguments: Sequence[str]) -> int:
    """Do things in the driver's JVM.

    Parameters
    ----------
    arguments : sequence of str
        Of ``cancel``, ``clear``, ``context``, ``stop``, ``finish`` and ``exit``.

    Returns
    -------
    int
        The exit code: 0 when it was done, 64 when there is no such verb.
    """
    verbs: dict[str, Callable[[_Jvm], object]] = {
        "cancel": _Jvm.cancel,
        "clear": _Jvm.clear,
        "context": _Jvm.make_context,
        "stop": _Jvm.stop,
        "finish": _Jvm.finish,
        "exit": _Jvm.exit,
    }
    unknown = [verb for verb in arguments if verb not in verbs]
    if unknown or not arguments:
        named = repr(unknown[0]) if unknown else "none given"
        print(f"elyra_launcher.spark_driver: no such verb: {named}; there are {', '.join(verbs)}", file=sys.stderr)
        return 64
    jvm = _Jvm(os.environ)
    for verb in arguments:
        verbs[verb](jvm)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
