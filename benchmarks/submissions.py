"""Many submissions by one warm submitter: how long each takes, and what is left in its JVM.

    python -m benchmarks.submissions [COUNT]

A table with a row for every fiftieth. Nine of ten are accepted by a real YARN and killed at once, in turn as the
server's user and as ten others; the tenth is refused by YARN. Every twentieth runs, as a kernel would.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil

from demo import spark_home
from demo.yarn import Yarn
from elyra_server.settings import Settings
from elyra_server.submitter import pool as pools

CLIENT = Path(pools.__file__).with_name("client.py")
SUBMIT = ["--master", "yarn", "--deploy-mode", "cluster", "--conf", "spark.yarn.submit.waitAppCompletion=false"]
ROW = "{:>5} {:>8} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7}"
HEAD = ("count", "median s", "max s", "RSS MB", "heap MB", "files", "threads", "in tmp")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with Yarn(heartbeat=0.25) as yarn:
        asyncio.run(run(yarn, count))


async def run(yarn: Yarn, count: int) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env = {**kept, **yarn.environ, "SPARK_HOME": str(spark_home())}
    script = yarn.directory / "application.py"
    script.write_text("from pyspark.sql import SparkSession\nSparkSession.builder.getOrCreate().stop()\n")
    submitter = pools.SubmitterPool.shared(Settings()).start(pools.submitter_environment(env))
    assert submitter is not None
    began = time.monotonic()
    await submitter.ready.wait()
    print(f"ready after {time.monotonic() - began:.1f} s")
    print(ROW.format(*HEAD))
    env["ELYRA_SUBMITTER"] = str(submitter.use())
    times: list[float] = []
    for number in range(1, count + 1):
        times.append(await asyncio.to_thread(submit, yarn, env, str(script), number))
        if number % 50 == 0 or number in (1, 10):
            assert submitter.directory is not None
            print(ROW.format(number, *figures(times[-50:], submitter.directory)), flush=True)
    await asyncio.sleep(15)  # Hadoop's connections are closed after 10 s without use
    assert submitter.directory is not None
    print(ROW.format("idle", *figures(times, submitter.directory)))
    await pools.SubmitterPool.close_shared()


def submit(yarn: Yarn, env: dict[str, str], script: str, number: int) -> float:
    """Submit one, see that it ends, and return how long the submission took."""
    refused, real = number % 10 == 0, number % 20 == 1
    queue = "nowhere" if refused else "default" if real else "full"
    user = ["--proxy-user", f"user{number % 10}"] if number % 2 == 0 else []
    name = ["--queue", queue, "--name", f"number {number}"]
    command = [sys.executable, "-I", "-S", str(CLIENT), "/bin/false", *SUBMIT, *name, *user, script]
    began = time.monotonic()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    assert done.returncode == refused, done.stderr
    if not refused:
        application = next(word for word in done.stderr.split() if word.startswith("application_"))
        if not real:
            yarn.kill(application)
        while yarn.application(application)["state"] not in ("FINISHED", "FAILED", "KILLED"):
            time.sleep(0.02)
    return seconds


def figures(times: list[float], directory: Path) -> list[str]:
    """Return a row: times, and the JVM's state after a garbage collection."""
    java = next(each for each in psutil.process_iter(["name", "cmdline"]) if is_jvm(each, directory))
    subprocess.run(["jcmd", str(java.pid), "GC.run"], capture_output=True, check=True)
    heap = subprocess.run(["jcmd", str(java.pid), "GC.heap_info"], capture_output=True, text=True, check=True).stdout
    used = sum(int(line.split("used ")[1].split("K")[0]) for line in heap.splitlines() if " total " in line)
    files = sum(1 for path in directory.rglob("*") if path.is_file())
    return [
        f"{statistics.median(times):.3f}",
        f"{max(times):.3f}",
        f"{java.memory_info().rss / 2**20:.0f}",
        f"{used / 1024:.0f}",
        str(java.num_fds()),
        str(java.num_threads()),
        str(files),
    ]


def is_jvm(process: psutil.Process, directory: Path) -> bool:
    words = process.info["cmdline"] or []
    return process.info["name"] == "java" and f"-Djava.io.tmpdir={directory / 'tmp'}" in words


if __name__ == "__main__":
    main()
