"""What Spark leaves on the server's own host when its JVM is killed."""

import signal
import sys

import psutil
from client import Kernel
from waiting import until

from demo.server import Server


def test_what_a_killed_spark_keeps_goes_with_its_launch(tmp_path):
    for name in ("data", "runtime", "config", "tmp"):
        (tmp_path / name).mkdir(mode=0o700)
    server = Server(tmp_path, {"ELYRA_KERNEL_LAUNCH_TIMEOUT": "150", "SPARK_LOCAL_IP": "127.0.0.1"})
    server.install("spark_python_local", "--user", f"--python={sys.executable}")
    with server:
        kernel = Kernel(server, "spark_python_local")
        assert kernel.value("spark.range(10).count()") == "10"
        assert files_of_spark(tmp_path)
        (jvm,) = [each for each in psutil.Process(server.process.pid).children() if each.name() == "java"]
        jvm.send_signal(signal.SIGKILL)
        kernel.wait_for_state("dead")
        kernel.delete()
        until(lambda: not files_of_spark(tmp_path), "the removal of its files")


def files_of_spark(directory):
    return [*directory.glob("tmp/**/blockmgr-*")]
