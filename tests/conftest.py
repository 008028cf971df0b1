"""For all tests: nothing may be skipped, and nothing of the developer's own Jupyter is seen."""

import os

import pytest

from demo.server import without_jupyter

for name in set(os.environ) - set(without_jupyter(os.environ)) - {"ELYRA_BUILD_DIR", "PYTHONUNBUFFERED"}:
    del os.environ[name]
os.environ["ELYRA_RESPONSE_IP"] = "127.0.0.1"

pytest_plugins = ["cluster"]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """A component that is missing is a failure, not a reason to skip."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    avoided = [kind for kind in ("skipped", "xfailed", "xpassed") if reporter and reporter.stats.get(kind)]
    if avoided and exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"Failed, because there are tests that were {' or '.join(avoided)}.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
