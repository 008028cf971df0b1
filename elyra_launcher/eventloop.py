"""A small event loop: descriptors, timers, signals and results of threads.

The supervisor waits for few things and must be light: `asyncio` would cost twice
the memory that it has. Callbacks run one after the other in the thread that
called `Loop.run`; only `Loop.call_threadsafe` may be used from others.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from contextlib import suppress

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Any, Callable

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Timer:
    """A callback at a time; `cancel` takes it back."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """Wait for events and call back."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._calls: list[Callable[[], object]] = []
        self._signals: dict[int, Callable[[], object]] = {}
        self._former: dict[int, Any] = {}
        self._former_wakeup = -1
        self._running = True
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self.watch(self._wake_read, READ, self._woken)

    def watch(self, descriptor: int, events: int, callback: Callable[[], object]) -> None:
        """Call back whenever a descriptor is ready for one of the events."""
        if descriptor in self._selector.get_map():
            self._selector.modify(descriptor, events, callback)
        else:
            self._selector.register(descriptor, events, callback)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching a descriptor; before it is closed."""
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back after so many seconds."""
        timer = Timer(time.monotonic() + seconds, callback)
        self._timers.append(timer)
        return timer

    def call_threadsafe(self, callback: Callable[[], object]) -> None:
        """Call back soon; the one method that other threads may use."""
        self._calls.append(callback)
        with suppress(BlockingIOError):  # it is about to wake up anyway
            os.write(self._wake_write, b"\0")

    def in_thread(self, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run a function that blocks in a thread, then `done` with its result here.

        An `OSError` counts as a result; others are the thread's own to report.
        """
        from threading import Thread

        def run() -> None:
            value: Any = None
            try:
                value = function()
            except OSError as error:
                value = error
            finally:
                self.call_threadsafe(lambda: done(value))

        Thread(target=run, daemon=True).start()

    def handle_signals(self, handlers: dict[int, Callable[[], object]]) -> None:
        """Call back for signals; only in the main thread.

        One that is ignored (by ``nohup``, for instance) stays ignored.
        """
        self._former_wakeup = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for signum, callback in handlers.items():
            former = signal.getsignal(signum)
            if former is signal.SIG_IGN and signum != signal.SIGCHLD:
                continue
            self._former[signum] = former
            self._signals[signum] = callback
            # The handler has nothing to do: the byte in the wake-up pipe does it.
            signal.signal(signum, lambda number, frame: None)

    def run(self) -> None:
        """Serve events until `stop`, which may have been called already."""
        while self._running:
            for key, _ in self._selector.select(self._pause()):
                # An earlier callback of this round may have closed it.
                if self._running and self._selector.get_map().get(key.fd) is key:
                    key.data()
            self._run_timers()

    def stop(self) -> None:
        """Let `run` return."""
        self._running = False

    def close(self) -> None:
        """Give back signals and descriptors."""
        for signum, former in self._former.items():
            signal.signal(signum, former)
        if self._former:
            signal.set_wakeup_fd(self._former_wakeup)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _pause(self) -> float | None:
        if self._calls:
            return 0.0
        pending = [timer.when for timer in self._timers if timer.callback is not None]
        return max(0.0, min(pending) - time.monotonic()) if pending else None

    def _run_timers(self) -> None:
        now = time.monotonic()
        due = [timer for timer in self._timers if timer.when <= now]
        self._timers = [timer for timer in self._timers if timer.when > now and timer.callback is not None]
        for timer in sorted(due, key=lambda timer: timer.when):
            if self._running and timer.callback is not None:
                timer.callback()

    def _woken(self) -> None:
        # Signal numbers, and zeros for calls from threads.
        try:
            numbers = set(os.read(self._wake_read, 4096))
        except BlockingIOError:
            return
        for number in sorted(numbers - {0}):
            if number in self._signals:
                self._signals[number]()
        while self._calls:
            self._calls.pop(0)()
