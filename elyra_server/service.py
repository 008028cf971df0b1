"""The thread on which everything runs that outlives a single call.

Process proxies, the listener, links to launchers and the watch over applications
need an event loop that always runs. Jupyter's own loop is not that: a synchronous
`KernelManager` runs one only during its calls, nbclient makes a new one per
notebook. So there is one daemon thread per process with a loop of its own; `call`
takes a coroutine there from any other loop, and back comes its result.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 15.0
"""Seconds that the end of the process waits for what ends by itself: a launcher, then its application."""

HURRY = 10.0
"""Seconds more in which what did not is killed."""

log = logging.getLogger("elyra.service")


async def in_thread(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run a blocking function in a thread of its own and return its result.

    The thread is a daemon: a client library that never returns holds up neither
    other calls nor the end of the process.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(setter: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            setter(value)

    def run() -> None:
        try:
            outcome: tuple[Callable[[Any], None], Any] = (
                future.set_result,
                function(*args, **kwargs),
            )
        except BaseException as error:  # noqa: BLE001 - it is raised where the call was made
            outcome = (future.set_exception, error)
        try:
            loop.call_soon_threadsafe(finish, *outcome)
        except RuntimeError:  # the loop was closed: nobody waits any more
            return

    name = getattr(function, "__qualname__", "call")
    threading.Thread(target=run, name=f"elyra {name}", daemon=True).start()
    return await future


async def in_thread_within(limit: float, fallback: T, function: Callable[..., T], *args: Any) -> T:
    """Do the same for at most so many seconds; then the result is `fallback`, and the call goes on by itself."""
    try:
        return await asyncio.wait_for(in_thread(function, *args), limit)
    except asyncio.TimeoutError:
        return fallback


async def invoke(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a method that may be plain or a coroutine; a plain one in a thread."""
    if inspect.iscoroutinefunction(method):
        return await method(*args, **kwargs)
    result = await in_thread(method, *args, **kwargs)
    return await result if inspect.isawaitable(result) else result


async def _noted(coroutine: Coroutine[Any, Any, T], started: list[asyncio.Task[Any]]) -> T:
    """Run a coroutine and note the task that does."""
    task = asyncio.current_task()
    assert task is not None
    started.append(task)
    return await coroutine


class Service:
    """An event loop on a daemon thread, and the tasks that run there."""

    _instance: Service | None = None
    _guard = threading.Lock()

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.hurried: asyncio.Future[None] = self.loop.create_future()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="elyra service", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @classmethod
    def instance(cls) -> Service:
        """Return the service of this process, started at its first use."""
        with cls._guard:
            if cls._instance is None or not cls._instance._thread.is_alive():
                cls._instance = cls()
            return cls._instance

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the service's loop and return its result."""
        if asyncio.get_running_loop() is self.loop:
            return await coroutine
        started: list[asyncio.Task[Any]] = []
        future = asyncio.run_coroutine_threadsafe(_noted(coroutine, started), self.loop)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            # The caller waits no more, but `drain` does: a launch that is given up has to clear away what it started.
            self.loop.call_soon_threadsafe(self._given_up, coroutine, started)
            raise

    def call_and_wait(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Do the same from a thread without a loop, blocking it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start a task that nobody waits for; only from the service's loop.

        `drain` waits for these tasks, so they have to end by themselves.
        """
        task = self.loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    async def drain(self, timeout: float) -> bool:
        """Wait until the spawned tasks are done; return False if some were not."""
        return await self.call(self._drain(timeout))

    async def hurry(self, timeout: float = HURRY) -> bool:
        """Let the tasks wait for nothing any more that may end by itself, and drain."""
        return await self.call(self._hurry(timeout))

    async def patiently(self, future: asyncio.Future[Any], patience: float) -> bool:
        """Wait for a future: so many seconds, or until there is no time left for patience; from the service's loop."""
        await asyncio.wait({future, self.hurried}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        return future.done()

    def close(self) -> None:
        """Drain, then stop the thread; at the end of the process."""
        if not self._thread.is_alive():
            return
        patience, hurry = (0.0, 1.0) if self.hurried.done() else (PATIENCE, HURRY)
        try:
            done = self.call_and_wait(self._end(patience, hurry), patience + hurry + 2.0)
        except (asyncio.TimeoutError, TimeoutError, RuntimeError):
            done = False
        if not done:
            log.warning("Some kernels were still being ended when the process was.")
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(1.0)

    def _given_up(self, coroutine: Coroutine[Any, Any, Any], started: list[asyncio.Task[Any]]) -> None:
        if not started:  # nor will it be
            coroutine.close()
        for task in started:
            if not task.done():
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _drain(self, timeout: float) -> bool:
        deadline = self.loop.time() + timeout
        while self._tasks:  # the end of one may be the beginning of another
            left = deadline - self.loop.time()
            if left <= 0:
                return False
            await asyncio.wait(set(self._tasks), timeout=left)
        return True

    async def _hurry(self, timeout: float) -> bool:
        if not self.hurried.done():
            self.hurried.set_result(None)
        return await self._drain(timeout)

    async def _end(self, patience: float, hurry: float) -> bool:
        """Drain, then end what would go on for ever, such as the listener; unless somebody may still need that."""
        if not await self._drain(patience) and not await self._hurry(hurry):
            return False
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=1.0)
        return True

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("Task %r failed", task.get_name(), exc_info=error)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
