"""Runs all tests in parts, side by side: two that two cores bear, and the part that mostly waits.

``python tests/side_by_side.py [pytest's options]``. What a part says goes to a file in the build directory and is shown
when the part is over; what fails is said at once.
"""

import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from demo import BUILD
from demo.server import end_with_parent

TESTS = Path(__file__).parent

BUSY = {"matrix": ["matrix"], "server": ["server"], "cluster": ["yarn", "scala", "secure"], "r": ["r"]}
"""Parts that keep a core busy, the longest first. Two of them run at a time, and `REST` is the last one."""

WAITING = {"hosts": ["ssh"]}
"""Parts that wait for outages to be over."""

REST = "rest"

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Parts:
    """All parts: those to come, those that run, and the codes of those that are over."""

    def __init__(self, options):
        self.options = options
        self.codes = []
        self._running = []
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, names):
        """Run parts, one after the other, until none is left or all is stopped."""
        while True:
            try:
                name, directories = names.get_nowait()
            except queue.Empty:
                return
            begin = time.monotonic()
            process, report = self._start(name, directories)
            if process is None:
                return
            code = process.wait()
            with self._lock:
                self.codes.append(code)
                show(f"{name}: {time.monotonic() - begin:.0f} s, code {code}", report)

    def stop(self, *_):
        """End all, as Ctrl-C does: then pytest ends what its tests have started."""
        self._stopped = True
        for process in list(self._running):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)

    def _start(self, name, directories):
        report = BUILD / f"{name}.log"
        with self._lock, report.open("wb") as output:
            if self._stopped:
                return None, report
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *directories, *self.options],
                cwd=TESTS.parent,
                stdout=output,  # and not its errors: conftest says there what fails
                start_new_session=True,  # a Ctrl-C is passed on to it, and reaches it once
                preexec_fn=lambda: end_with_parent(signal.SIGINT),
            )
            self._running.append(process)
            if self._stopped:  # while it was started
                process.send_signal(signal.SIGINT)
            print(f"{name} begins: {report}", flush=True)
            return process, report


def main(options):
    """Run all parts and return the exit code; that one of them has none of the tests asked for is no failure."""
    BUILD.mkdir(parents=True, exist_ok=True)
    parts = Parts(options)
    busy, waiting = queue.Queue(), queue.Queue()
    for names, lane in ((BUSY, busy), (WAITING, waiting)):
        for name, directories in names.items():
            lane.put((name, [str(TESTS / each) for each in directories]))
    named = [each for names in (BUSY, WAITING) for directories in names.values() for each in directories]
    busy.put((REST, [str(TESTS), *(f"--ignore={TESTS / each}" for each in named)]))
    workers = [threading.Thread(target=parts.run, args=(lane,)) for lane in (busy, busy, waiting)]
    for signum in SIGNALS:
        signal.signal(signum, parts.stop)
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    empty = pytest.ExitCode.NO_TESTS_COLLECTED
    failed = [code for code in parts.codes if code not in (0, empty)]
    return failed[0] if failed else min(parts.codes, default=pytest.ExitCode.INTERRUPTED)


def show(title, report):
    """Write a report to standard output."""
    sys.stdout.write(f"\n===== {title}\n")
    sys.stdout.flush()
    with report.open("rb") as file:
        while data := file.read(65536):
            sys.stdout.buffer.write(data)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
