import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_server import FakeServer, make_certificate
from launching import TINY_KERNEL, Launch, server_arguments


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def make_server(certificate):
    """Make fake servers, each on a port of its own."""
    servers = []

    def make(**options):
        servers.append(FakeServer(certificate, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def server(make_server):
    return make_server()


@pytest.fixture
def start(tmp_path):
    """Start launchers, and see that each leaves no process and no file."""
    launches = []

    def run(*arguments, **options):
        launches.append(Launch(tmp_path, *arguments, **options))
        return launches[-1]

    yield run
    for launch in launches:
        alive = launch.process.poll() is None
        launch.kill() if alive else None
        assert not alive, f"still running at the end of the test:\n{launch.text}"
        left = launch.gone()
        launch.kill()
        assert left, f"the launcher left processes behind:\n{launch.text}"
        if not getattr(launch, "was_killed", False):
            assert launch.files() == []


@pytest.fixture
def launch(start, server):
    """Start a launcher that reports to the fake server."""

    def run(*arguments, **options):
        return start(*server_arguments(server), *arguments, ELYRA_LAUNCH_TICKET=server.ticket, **options)

    return run


@pytest.fixture
def tiny_kernel(tmp_path):
    """The command of a kernel that any Python runs."""
    path = tmp_path / "tiny_kernel.py"
    path.write_text(TINY_KERNEL)

    def command(seconds=60, code=0, python=sys.executable):
        return ["--", python, str(path), "{connection_file}", str(seconds), str(code)]

    return command
