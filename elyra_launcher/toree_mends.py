"""What is mended in a running Toree: each cell gets an answer, and the word that it is over comes after its outputs.

Where its interpreter throws something, Toree 0.5 answers neither that cell nor any later one: each request waits for
the one before. And it sends a cell's messages by several ways at once, so that ``idle``, after which clients stop to
listen, overtakes outputs.
"""

from __future__ import annotations

from .toree_handles import Handles, field, set_field

TYPE_CHECKING = False  # importing typing would take time and memory
if TYPE_CHECKING:
    from typing import Any

UNANSWERED = "the cell was interrupted, or %ShowOutput hides its error; Toree's own words are: "
"""What stands before the exception that Toree would have kept for itself."""

ON_IOPUB = ("status", "execute_input", "stream", "display_data", "execute_result", "error", "clear_output")
"""The messages whose order matters."""

SIGNING_LIMIT = 600
"""Seconds that the signature of a message may take. Toree allows 5, which a long one on a busy machine can need, and
sends nothing any more when they are over."""

FLUSH_LIMIT = 60
"""Seconds after which a cell ends though its last output was not sent yet."""


class Mends:
    """Mends a Toree; is made before that is up, so that its first cells do not wait.

    Parameters
    ----------
    java : py4j's view of the JVM
        Where it runs.
    """

    def __init__(self, java: Any) -> None:
        self._java = java
        self._handles = handles = Handles(java)
        nothing = handles.ignore(handles.nothing(), 0, handles.throwable)
        no_completion = handles.constant(java.scala.Tuple2(0, self._nil()))
        unknown = handles.constant(java.scala.Tuple2("unknown", ""))
        self._tasks = (
            ("execute_request_task", self._error(), handles.caught(self._flush(), nothing)),
            ("code_complete_task", handles.ignore(no_completion, 0, handles.throwable), None),
            ("is_complete_task", handles.ignore(unknown, 0, handles.throwable), None),
        )

    def apply(self, bootstrap: Any) -> None:
        """Mend the Toree of a ``KernelBootstrap``."""
        actors = field(bootstrap, "actorSystem").provider().guardian()
        interpreter = actors.getSingleChild("interpreter").underlying()
        for task, answer, after in self._tasks:
            self._guard(interpreter.getChild(task).underlying().actor(), answer, after)
        self._send_in_order(actors.getSingleChild("kernel_message_relay").underlying().actor())

    def _send_in_order(self, relay: Any) -> None:
        """Let one actor handle all messages of the IOPub channel; Toree has one for each type."""
        ways = field(relay, "outgoingSpecialCases")
        for kind in ON_IOPUB:
            ways = ways.updated(kind, "stream")
        set_field(relay, "outgoingSpecialCases", ways)
        duration = self._java.scala.concurrent.duration.FiniteDuration(SIGNING_LIMIT, self._seconds())
        set_field(relay, "timeout", self._java.akka.util.Timeout(duration))

    def _guard(self, actor: Any, answer: Any, after: Any) -> None:
        """Give an actor an interpreter that gives an answer where its own throws an exception."""
        interpreter = field(actor, "interpreter")
        handles = self._handles
        method = handles.kind("java.lang.reflect.Method")
        call = handles.method(method, "invoke", handles.object, handles.object, handles.objects)
        call = handles.caught(handles.bind(call, 1, interpreter), answer)
        if after is not None:
            result = handles.identity(handles.object)
            result = handles.ignore(handles.ignore(result, 0, handles.objects), 2, method)
            result = handles.before(result, after)
            result = handles.order(result, (2, 0, 1), handles.object, method, handles.objects)
            call = handles.before(result, call)
        handler = handles.implement(
            handles.kind("java.lang.reflect.InvocationHandler"), handles.ignore(call, 0, handles.object)
        )
        kinds = handles.array("java.lang.Class", [handles.kind("org.apache.toree.interpreter.Interpreter")])
        loader = interpreter.getClass().getClassLoader()
        set_field(actor, "interpreter", self._java.java.lang.reflect.Proxy.newProxyInstance(loader, kinds, handler))

    def _error(self) -> Any:
        """Return what makes of an exception the error of a cell."""
        handles = self._handles
        cause = handles.method(handles.throwable, "getCause", handles.throwable)
        name = handles.then(
            handles.method(handles.object, "getClass", handles.kind("java.lang.Class")),
            handles.method(handles.kind("java.lang.Class"), "getName", handles.string),
        )
        text = handles.then(
            handles.method(handles.object, "toString", handles.string),
            handles.bind(handles.method(handles.string, "concat", handles.string, handles.string), 0, UNANSWERED),
        )
        error = handles.kind("org.apache.toree.interpreter.ExecuteError")
        make = handles.constructor(
            error, handles.string, handles.string, handles.kind("scala.collection.immutable.List")
        )
        make = handles.bind(make, 2, self._nil())
        make = handles.filter(make, 0, name, text)
        make = handles.order(make, (0, 0), handles.object)
        right = handles.constructor(handles.kind("scala.util.Right"), handles.object)
        pair = handles.constructor(handles.kind("scala.Tuple2"), handles.object, handles.object)
        failed = getattr(self._java.org.apache.toree.interpreter, "Results$Error$")
        pair = handles.bind(pair, 0, getattr(failed, "MODULE$"))
        result = handles.then(handles.then(handles.then(cause, make), right), pair)
        return handles.cast(result, handles.object, handles.throwable)

    def _flush(self) -> Any:
        """Return what sends all that a cell printed, given the arguments of ``Interpreter.interpret``.

        Threads of a scheduler send it from time to time. With one of them, to wait for a task of its is to wait for
        what it has begun to send before: then nothing can come after the next flush, or before the one it began.
        """
        scheduled = getattr(getattr(self._java.org.apache.toree, "global"), "ScheduledTaskManager$")
        scheduler = getattr(scheduled, "MODULE$").instance()._scheduler()
        scheduler.setCorePoolSize(1)
        handles = self._handles
        future = handles.kind("java.util.concurrent.Future")
        unit = handles.kind("java.util.concurrent.TimeUnit")
        submit = handles.method(scheduler.getClass(), "submit", future, handles.kind("java.lang.Runnable"))
        nothing = handles.runnable(self._java.java.util.concurrent.CountDownLatch(0), "countDown")
        get = handles.method(future, "get", handles.object, self._java.java.lang.Long.TYPE, unit)
        get = handles.bind(get, 1, FLUSH_LIMIT, self._seconds())
        wait = handles.cast(handles.then(handles.bind(submit, 0, scheduler, nothing), get), handles.void)
        stream = handles.then(handles.element(2), handles.method(handles.kind("scala.Option"), "get", handles.object))
        flush = handles.then(stream, handles.method(handles.kind("java.io.OutputStream"), "flush", handles.void))
        return handles.then(handles.before(flush, wait), wait)

    def _seconds(self) -> Any:
        return self._java.java.util.concurrent.TimeUnit.SECONDS

    def _nil(self) -> Any:
        return getattr(getattr(self._java.scala.collection.immutable, "Nil$"), "MODULE$")
