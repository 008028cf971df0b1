"""The test hosts themselves."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from demo.hosts import Hosts


@pytest.mark.parametrize("place", ["/tmp", "/root"])
def test_a_clone_is_there_wherever_it_is(monkeypatch, place):
    """Of /tmp a host has another one, and in root's home only root may look; launches of all users need its Python."""
    with tempfile.TemporaryDirectory(dir=place) as directory:
        clone = Path(directory, "a", "clone")
        clone.mkdir(parents=True)
        clone.joinpath("file").write_text("hello")
        monkeypatch.setattr("demo.hosts.ROOT", clone)
        with Hosts(("",)) as hosts:
            (host,) = hosts.all
            as_alice = ["setpriv", "--reuid=7001", "--regid=7001", "--clear-groups"]
            assert host.run(*as_alice, "cat", f"{clone}/file") == "hello"
            assert host.files() == []
            host.run("touch", "/tmp/left")
            assert host.files() == ["/tmp/left"]
