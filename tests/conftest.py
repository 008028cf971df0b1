"""For all tests: nothing may be skipped, and nothing of the developer's own Jupyter is seen."""

import os
import signal

import pytest
from jupyter_client.channels import HBChannel

from demo.server import without_jupyter

for name in set(os.environ) - set(without_jupyter(os.environ)) - {"ELYRA_BUILD_DIR", "PYTHONUNBUFFERED"}:
    del os.environ[name]
os.environ["ELYRA_RESPONSE_IP"] = "127.0.0.1"

# In the background of a shell, or by nohup, they would be ignored, and by all that the tests start.
for signum, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(signum) is signal.SIG_IGN:
        signal.signal(signum, handler)

# Seconds. By itself it is one, too little where others keep both cores busy: wait_for_ready() gives up then.
HBChannel.time_to_dead = 30.0

pytest_plugins = ["cluster"]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """A component that is missing is a failure, not a reason to skip."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    avoided = [kind for kind in ("skipped", "xfailed", "xpassed") if reporter and reporter.stats.get(kind)]
    if avoided and exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"Failed, because there are tests that were {' or '.join(avoided)}.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_runtest_logreport(report):
    """Say at once why a test failed: a run that is stopped later, or hangs, says nothing more."""
    if report.failed:
        lines = report.longreprtext.splitlines()
        shown = [line for line in lines if line.startswith("E  ")][:12] or lines[-12:]
        text = "\n".join(line[:300] for line in shown)
        os.write(2, f"\n{report.nodeid} ({report.when}, {report.duration:.0f} s)\n{text}\n".encode())
