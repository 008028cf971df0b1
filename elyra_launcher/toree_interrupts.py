"""Interrupts of Toree's cells: of the code that a user wrote, never of the compiler before or after it.

Toree's own way interrupts whatever a cell's thread does. Scala's compiler then gives the cell up without a word, for
which Toree has no answer: neither that cell nor any later one gets one. And what waits for the thread is lost.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress

from py4j.protocol import Py4JError

from .toree_handles import Handles

TYPE_CHECKING = False  # importing typing would take time and memory
if TYPE_CHECKING:
    from typing import Any

    from .toree_jvm import ToreeJvm

PATIENCE = 2.0
"""Seconds that an interrupted cell has to end by itself; then its thread is stopped by force."""

REST_PATIENCE = 10.0
"""Seconds that Spark may take to tell of a job that a cell started when it was interrupted."""

STEADY_TIME = 0.1
"""Seconds of a processor's time that a thread computes, while no class is loaded, before it is stopped by force."""

LOOK_INTERVAL = 0.02
END_INTERVAL = 0.01

MODULES = r"(?<=[\[ ])(?:[\w.@-]*/)+"
"""What Java 9 and later put before the class of a frame: its loader and its module."""

NOT_YET = (
    r"scala\.tools\.nsc\.|scala\.reflect\.(?:internal|io)\.|org\.apache\.toree\.kernel\.interpreter\.scala\."
    r"|org\.apache\.spark\.SparkContext\.<init>"
)
"""Where an interrupt waits: in the compiler, and in a SparkContext that starts, half of which would stay for good."""

INITIALISER = r"(?!\$line)[^,(]*\.<clinit>"
"""Where a thread is never stopped by force: what it is building there would stay broken for good. A cell's own code is
no such place, though it is run by the initialiser of a class (``$line12...``)."""

INTERRUPTIBLE = rf"^\[(?:(?!\$line|{NOT_YET})[^,]*, )*\$line"
"""The stack of a thread that runs a cell's code, or what that called, and nothing that must not be interrupted."""

STOPPABLE = rf"^(?!.*[\[ ]{INITIALISER}){INTERRUPTIBLE[1:]}"
"""The stack of a thread that can be stopped by force."""


class Interrupts:
    """Interrupts the cells of Toree; is made before that is up, so that its first cells do not wait.

    Parameters
    ----------
    jvm : ToreeJvm
        Where Toree runs.

    Attributes
    ----------
    interpreter : Interpreter
        Its default one.
    """

    def __init__(self, jvm: ToreeJvm) -> None:
        self._jvm = jvm
        self.interpreter: Any = None
        self._threads = jvm.companion(jvm.java.org.apache.toree.utils, "TaskManager").DefaultThreadGroup()
        self._handles = Handles(jvm.java)
        self._thread = self._handles.kind("java.lang.Thread")
        stack = self._handles.cast(self._make_stack(), self._handles.object, self._handles.object)
        self._stack = self._handles.implement(self._handles.kind("java.util.function.Function"), stack)
        self._stop_there: Any = None
        with suppress(Py4JError):  # Java 20 and later cannot
            self._stop_there = self._make_stop()
        self._steadiness = Steadiness(jvm.java, self._handles)
        self._one_at_a_time = threading.Lock()
        self._under_way: set[str | int] = set()

    def interrupt(self) -> None:
        """Interrupt the cell that runs, and cancel its Spark jobs; without one nothing happens.

        Returns when the cell is over, unless it withstands all. May be called by several threads.
        """
        try:
            executor = self.interpreter.taskManager().executor()
        except Py4JError:  # SQL has none: its cell ends with its job
            self._end_jobs(self._active_jobs(self._jobs_so_far()), set())
            return
        if not executor.isDefined():
            return
        asked = self._cell(executor.get())
        if asked is None or asked in self._under_way:
            return
        self._under_way.add(asked)
        try:
            with self._one_at_a_time:  # one of a cell before may not be through
                self._interrupt(executor.get(), asked)
        finally:
            self._under_way.discard(asked)

    def _cell(self, executor: Any) -> str | int | None:
        """Return the name of the cell that runs; while it has none, how many will be over with it."""
        cells = self._running()
        if cells:
            return min(cells)
        while True:
            before, running = executor.getCompletedTaskCount(), executor.getActiveCount()
            if before == executor.getCompletedTaskCount():
                return before + running if running else None

    def _interrupt(self, executor: Any, asked: str | int) -> None:
        cells = self._interrupt_code(executor, asked)
        if cells:
            self._end(cells)

    def _interrupt_code(self, executor: Any, asked: str | int) -> set[str]:
        """Interrupt the cell as soon as its own code runs, unless it ends before; return its name."""
        while (asked in self._running()) if isinstance(asked, str) else (executor.getCompletedTaskCount() < asked):
            found = [
                (thread, cell)
                for thread, cell in self._threads_in(INTERRUPTIBLE)
                if asked == cell or isinstance(asked, int)
            ]
            for thread, _ in found:
                thread.interrupt()
            if found:
                return {cell for _, cell in found}
            time.sleep(LOOK_INTERVAL)
        return set()

    def _end(self, cells: set[str]) -> None:
        """Wait for the end of a cell, which may take that of its jobs, or force."""
        ended: set[int] = set()
        before = self._jobs_so_far()
        stopped, limit = False, time.monotonic() + PATIENCE
        while True:
            now = self._jobs_so_far()
            running = self._running()
            if not running & cells:
                self._end_rest(cells, before, ended)
                return
            before = now
            self._end_jobs(self._active_jobs(before) - ended, ended)
            if time.monotonic() > limit:
                if stopped:  # it took no notice of that either
                    return
                stopped = self._stop(cells)
                limit += PATIENCE if stopped else 0
            time.sleep(END_INTERVAL)

    def _end_rest(self, cells: set[str], before: int, ended: set[int]) -> None:
        """End what a cell left behind: the first jobs, and those of the others that are its own, not the next one's."""
        count = self._jobs_so_far()
        limit = time.monotonic() + REST_PATIENCE
        told = count == 0
        while True:
            # Spark tells of a job only some time after its start.
            told = told or self._jvm.context().statusTracker().getJobInfo(count - 1).isDefined()
            jobs = self._active_jobs(count) - ended
            self._end_jobs({job for job in jobs if job < before or self._is_of(job, cells)}, ended)
            if told or time.monotonic() > limit:
                return
            time.sleep(END_INTERVAL)

    def _is_of(self, job: int, cells: set[str]) -> bool:
        active = self._jvm.context().dagScheduler().jobIdToActiveJob().get(job)
        if not active.isDefined():
            return False
        lines = str(active.get().callSite().longForm())
        return "$line" not in lines or any(f"{cell}." in lines for cell in cells)

    def _running(self) -> set[str]:
        return {cell for _, cell in self._threads_in() if cell}

    def _stop(self, cells: set[str]) -> bool:
        """Stop by force what does not look whether it was interrupted; return False to be called again."""
        if self._stop_there is None:
            return True
        threads = [thread for thread, cell in self._threads_in(STOPPABLE) if cell in cells]
        threads = [thread for thread in threads if self._steadiness.has_come_to(thread)]
        pattern = self._pattern(STOPPABLE)
        return bool([thread for thread in threads if self._stop_there.test(thread, pattern)])

    def _threads_in(self, place: str = "") -> list[tuple[Any, str]]:
        """Return the threads of cells whose stack is such a one, each with its cell."""
        array = self._handles.array("java.lang.Thread", [None] * (self._threads.activeCount() + 8))
        threads = [array[index] for index in range(self._threads.enumerate(array))]
        found = [(each, str(self._stack.apply(each))) for each in threads if each.getName().startswith("task-manager-")]
        return [(thread, cell_of(stack)) for thread, stack in found if re.search(place, stack)]

    def _pattern(self, pattern: str) -> Any:
        return self._jvm.java.java.util.regex.Pattern.compile(pattern).asPredicate()

    def _make_stack(self) -> Any:
        """Return the handle that makes text of a thread's stack."""
        handles = self._handles
        stack = handles.method(self._thread, "getStackTrace", handles.kind("[Ljava.lang.StackTraceElement;"))
        text = handles.static(handles.kind("java.util.Arrays"), "toString", handles.string, handles.objects)
        replace = handles.method(handles.string, "replaceAll", handles.string, handles.string, handles.string)
        return handles.then(handles.then(stack, text), handles.bind(replace, 1, MODULES, ""))

    def _make_stop(self) -> Any:
        """Return a BiPredicate that stops a thread if its stack is as a Predicate wants it, and says whether it was.

        The thread must not move between the look and the stop: to be stopped in an initialiser or in the compiler would
        break them. So it is suspended meanwhile; and as it may hold any lock, nothing is done then that was not done
        before, for which Java could want to load a class.
        """
        handles, thread = self._handles, self._thread
        predicate, truth = handles.kind("java.util.function.Predicate"), self._jvm.java.java.lang.Boolean.TYPE
        stop = thread.getDeclaredMethod("stop0", handles.array("java.lang.Class", [handles.object]))
        stop.setAccessible(True)
        stop = handles.bind(handles.unreflect(stop), 1, self._jvm.java.java.lang.ThreadDeath())
        stop = handles.ignore(handles.then(stop, handles.constant(True, truth)), 1, predicate)
        leave = handles.constant(False, truth)
        test = handles.method(predicate, "test", truth, handles.object)
        test = handles.order(test, (1, 0), handles.object, predicate)
        test = handles.filter(test, 0, handles.cast(self._make_stack(), handles.object, thread))
        look = handles.choose(test, stop, handles.ignore(leave, 0, thread, predicate))
        look = handles.caught(look, handles.ignore(leave, 0, handles.throwable))
        stopped = handles.ignore(handles.identity(truth), 0, thread)
        stopped = handles.before(stopped, handles.method(thread, "resume", handles.void))
        look = handles.before(handles.order(stopped, (1, 0), truth, thread, predicate), look)
        look = handles.before(look, handles.method(thread, "suspend", handles.void))
        kind = handles.kind("java.util.function.BiPredicate")
        made = handles.implement(kind, handles.cast(look, truth, handles.object, handles.object))
        for pattern in ("", "x"):
            made.test(self._jvm.java.java.lang.Thread(), self._pattern(pattern))
        return made

    def _jobs_so_far(self) -> int:
        context = self._jvm.context()
        return 0 if context is None else int(context.dagScheduler().numTotalJobs())

    def _active_jobs(self, count: int) -> set[int]:
        """Return those that are active of the first jobs."""
        context = self._jvm.context()
        jobs = () if context is None else context.statusTracker().getActiveJobIds()
        return {job for job in jobs if job < count}

    def _end_jobs(self, jobs: set[int], ended: set[int]) -> None:
        """Cancel jobs with their tasks."""
        for job in jobs:
            with suppress(Py4JError):
                self._end_job(self._jvm.context(), job)
                ended.add(job)

    def _end_job(self, context: Any, job: int) -> None:
        # A task that sleeps, or waits, would keep its core: Spark interrupts only those of jobs that say so.
        active = context.dagScheduler().jobIdToActiveJob().get(job)
        if active.isDefined():
            active.get().properties().setProperty("spark.job.interruptOnCancel", "true")
        context.cancelJob(job)


class Steadiness:
    """Tells the threads that only go on with what they did before from those that use something for the first time.

    A stack does not show that the JVM is about to run an initialiser. Stopped there, a thread leaves a class that is
    broken for good: of the compiler of Spark's queries, for example, which is hundreds of classes.

    Parameters
    ----------
    java : py4j's view of the JVM
        Whose threads they are.
    handles : Handles
        Reach what Java keeps from reflection.
    """

    def __init__(self, java: Any, handles: Handles) -> None:
        beans, long = java.java.lang.management.ManagementFactory, java.java.lang.Long.TYPE
        classes, threads = (handles.kind(f"java.lang.management.{name}MXBean") for name in ("ClassLoading", "Thread"))
        loaded = handles.method(classes, "getTotalLoadedClassCount", long)
        loaded = handles.bind(loaded, 0, beans.getClassLoadingMXBean())
        self._loaded = handles.implement(handles.kind("java.util.function.LongSupplier"), loaded)
        time_of = handles.method(threads, "getThreadCpuTime", long, long)
        time_of = handles.bind(time_of, 0, beans.getThreadMXBean())
        self._time_of = handles.implement(handles.kind("java.util.function.LongUnaryOperator"), time_of)
        self._seen: dict[int, tuple[int, int]] = {}

    def has_come_to(self, thread: Any) -> bool:
        """Whether a thread waits for something, or computed for a while in which no class was loaded."""
        if thread.getState().name() != "RUNNABLE":
            return True
        number, loaded = thread.getId(), self._loaded.getAsLong()
        used = self._time_of.applyAsLong(number)
        if self._seen.get(number, (-1, 0))[0] != loaded:
            self._seen[number] = loaded, used
        return bool(used - self._seen[number][1] >= STEADY_TIME * 1e9)


def cell_of(stack: str) -> str:
    """Return the name of the cell that a thread runs, or nothing; functions of other cells may be what it called."""
    cells: list[str] = re.findall(r"(?<=[\[ ])\$line\w+", stack)
    return cells[-1] if cells else ""
