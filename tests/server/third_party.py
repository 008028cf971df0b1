"""Process proxies as others write them, by the contract's words alone."""

import errno
import os
import signal
import subprocess
import time

from elyra_server.processproxies.processproxy import BaseProcessProxyABC, RemoteProcessProxy
from elyra_server.processproxies.yarn import YarnClusterProcessProxy


class PlainProxy(BaseProcessProxyABC):
    """Plain methods that block, and a local process."""

    process = None

    def launch_process(self, kernel_cmd, **kw):
        super().launch_process(kernel_cmd, **kw)
        assert kw["env"]["KERNEL_ID"] == self.kernel_id
        time.sleep(3.0)
        kw["env"]["BY_THIRD_PARTY"] = "plain"
        self.process = subprocess.Popen(kernel_cmd, env=kw["env"], start_new_session=True)

    def poll(self):
        return None if self.process.poll() is None else False

    def wait(self):
        self.process.wait()

    def send_signal(self, signum):
        if self.poll() is False:
            return False
        if signum:
            os.killpg(self.process.pid, signum)
        return None

    def kill(self):
        if self.send_signal(signal.SIGKILL) is None:
            self.process.wait()
            return None
        return False


class RemoteProxy(RemoteProcessProxy):
    """Plain methods, a launcher that reports, and the two methods of a remote one."""

    process = None
    local = True

    def launch_process(self, kernel_cmd, **kw):
        super().launch_process(kernel_cmd, **kw)
        kw["env"]["BY_THIRD_PARTY"] = "remote"
        self.process = subprocess.Popen(kernel_cmd, env=kw["env"], start_new_session=True)
        self.confirm_remote_startup(kernel_cmd, **kw)

    def confirm_remote_startup(self, kernel_cmd, **kw):
        while not self.wait_for_report(0.1):
            self.handle_timeout()

    def handle_timeout(self):
        super().handle_timeout()

    def poll(self):
        return None if self.process.poll() is None else False

    def wait(self):
        self.process.wait()

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return None


class CoroutineProxy(PlainProxy):
    """The same with coroutines, where it likes."""

    async def launch_process(self, kernel_cmd, **kw):
        await BaseProcessProxyABC.launch_process(self, kernel_cmd, **kw)
        kw["env"]["BY_THIRD_PARTY"] = "coroutine"
        self.process = subprocess.Popen(kernel_cmd, env=kw["env"], start_new_session=True)

    async def poll(self):
        return None if self.process.poll() is None else False

    def send_signal(self, signum):
        if signum and self.process.poll() is None:
            os.killpg(self.process.pid, signum)
        return None


class Duck:
    """Not derived from anything of Elyra's."""

    def __init__(self, kernel_manager):
        self.process = None

    def launch_process(self, kernel_cmd, **kw):
        kw["env"]["BY_THIRD_PARTY"] = "duck"
        self.process = subprocess.Popen(kernel_cmd, env=kw["env"])

    def poll(self):
        return None if self.process.poll() is None else False

    def wait(self):
        self.process.wait()

    def send_signal(self, signum):
        if signum:
            self.process.send_signal(signum)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Exhausted(YarnClusterProcessProxy):
    """On a server that is out of open files when the kernel is to end."""

    def run_command(self, *arguments, **kw):
        command = super().run_command(*arguments, **kw)
        command.stop = command.terminate = self.fail
        return command

    async def fail(self, patience=0.0):
        raise OSError(errno.EMFILE, "Too many open files")


class Failing(PlainProxy):
    """Raises something of its own."""

    def launch_process(self, kernel_cmd, **kw):
        raise OSError("the scheduler is on holiday")
