import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from server_harness import Server


@pytest.fixture
def make_server(tmp_path):
    """Start servers, and see that each ends cleanly and leaves no process and no file."""
    servers = []

    def make(*options, **variables):
        server = Server(tmp_path / f"server{len(servers)}", *options, **variables)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.close()
        assert server.process.returncode == 0, server.text()
        assert server.leftovers() == []


@pytest.fixture
def server(make_server):
    """A server with one kernelspec: a Python kernel by the real launcher."""
    server = make_server()
    server.spec("python_launcher")
    return server
