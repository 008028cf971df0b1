"""Call what others wrote: a hook that raises is named, one that blocks is interrupted.

Neither may leave a launch without an answer, or a kernel that nobody supervises. The package's
own kernels are trusted not to block, and spared the cost.
"""

from __future__ import annotations

from .errors import LauncherError

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from typing import Callable, TypeVar

    from .kernels import Kernel

    Result = TypeVar("Result")

HOOK_LIMIT = 10.0
"""Seconds that a hook has."""


def guarded(kernel: Kernel, name: str, function: Callable[[], Result]) -> Result:
    """Return the result of a function that calls the hook `name` of a kernel; in the main thread.

    Raises
    ------
    LauncherError
        What the hook raised itself, or an error that names the hook.
    """
    hook = f"{type(kernel).__name__}.{name}()"
    try:
        if type(kernel).__module__.startswith(__package__ + "."):
            return function()
        with _Limit(hook):
            return function()
    except LauncherError:
        raise
    except Exception as error:
        import traceback
        from contextlib import suppress

        with suppress(OSError):  # perhaps nobody reads standard error any more
            traceback.print_exc()
        raise LauncherError(f"{hook} failed: {error!r}") from error


class _Limit:
    """Interrupt a block that takes too long, whatever it waits for."""

    def __init__(self, hook: str) -> None:
        self._hook = hook

    def __enter__(self) -> None:
        import signal

        self._former = signal.signal(signal.SIGALRM, self._expire)
        signal.setitimer(signal.ITIMER_REAL, HOOK_LIMIT)

    def __exit__(self, *error: object) -> None:
        import signal

        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._former)

    def _expire(self, signum: int, frame: object) -> None:
        raise LauncherError(
            f"{self._hook} did not return within {HOOK_LIMIT:g} s: what takes long belongs into preparation()"
        )
