"""The virtual environment of the other server, made when it is missing."""

import pytest

from benchmarks.environments import ENTERPRISE_GATEWAY, environment


@pytest.fixture(scope="session")
def enterprise_gateway():
    """Return the ``bin`` directory of an environment with Enterprise Gateway."""
    return environment("eg-venv", ENTERPRISE_GATEWAY)
