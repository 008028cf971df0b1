"""What travels with a launch is what is in the kernelspec's directory now."""

from __future__ import annotations

import os
import zlib

import pytest

from elyra_server.ssh.pack import KERNELSPEC, pack


def content(directory):
    """Return the kernelspec's files as they travel."""
    packed = pack(str(directory))
    data, files = zlib.decompress(packed.content), {}
    for name, mode, size in packed.files:
        files[name], data = (data[:size].decode(errors="replace"), oct(mode)), data[size:]
    prefix = f"{KERNELSPEC}/"
    return {name.removeprefix(prefix): value for name, value in files.items() if name.startswith(prefix)}


@pytest.fixture
def directory(tmp_path):
    for name in ("kernel.json", "run.sh", "bin/words.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(0o644)
        os.utime(tmp_path / name, (1000, 2000))
    assert content(tmp_path)["run.sh"] == ("run.sh", "0o644")
    return tmp_path


def test_a_file_that_was_replaced_by_an_older_one(directory):
    """As by a package manager, which keeps the times of the files."""
    (directory / "run.sh").write_text("other")
    os.utime(directory / "run.sh", (1000, 1500))
    assert content(directory)["run.sh"] == ("other", "0o644")


def test_a_file_that_was_renamed(directory):
    (directory / "run.sh").rename(directory / "start.sh")
    assert sorted(content(directory)) == ["bin/words.sh", "kernel.json", "start.sh"]


def test_a_file_that_went(directory):
    (directory / "bin/words.sh").unlink()
    assert sorted(content(directory)) == ["kernel.json", "run.sh"]


def test_a_mode_that_changed(directory):
    (directory / "run.sh").chmod(0o755)
    assert content(directory)["run.sh"] == ("run.sh", "0o755")


def test_what_did_not_change_is_not_packed_again(directory):
    assert pack(str(directory)) is pack(str(directory))
