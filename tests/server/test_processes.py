"""Launch commands as processes of this host, at their edges."""

import os
import subprocess
import sys

import pytest

import elyra_server.processes
from elyra_server.errors import LaunchError
from elyra_server.processes import LocalProcess, log_path
from elyra_server.service import Service


async def on_service(coroutine):
    return await Service.instance().call(coroutine)


async def test_a_process_that_got_the_number_of_one_that_ended_is_not_signalled():
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)

    async def run():
        command = LocalProcess(["true"], {"PATH": "/usr/bin:/bin"})
        await command.ended
        command.process.pid = other.pid
        await command.terminate()

    try:
        await on_service(run())
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


async def test_what_a_command_left_behind_in_its_group_is_ended_with_it():
    async def run():
        command = LocalProcess(["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"], {"PATH": "/usr/bin:/bin"})
        await command.ended
        child = int(command.lines[0])
        assert elyra_server.processes._exists(child)
        await command.terminate()
        return child

    child = await on_service(run())
    subprocess.run(["timeout", "5", "tail", f"--pid={child}", "-f", "/dev/null"], check=True)


async def test_a_full_disk_ends_the_launch_log_and_not_the_command(tmp_path, monkeypatch):
    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(elyra_server.processes, "_open_private", lambda path: Full())
    script = "print('x' * 300000); print('done')"

    async def run():
        command = LocalProcess([sys.executable, "-c", script], {}, log_file=tmp_path / "log")
        return await command.ended, command.lines[-1]

    assert await on_service(run()) == (0, "done")


async def test_a_launch_log_that_is_no_file_holds_nobody_up(tmp_path):
    assert log_path("", os.devnull, "x") is None
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "read")
    reader = os.open(tmp_path / "read", os.O_RDONLY | os.O_NONBLOCK)

    async def run(name):
        LocalProcess(["true"], {}, log_file=tmp_path / name)

    for name in ("pipe", "read"):
        with pytest.raises(LaunchError, match=f"The launch log {tmp_path / name} cannot be written"):
            await on_service(run(name))
    os.close(reader)
