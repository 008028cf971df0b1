"""A fake spark-submit: no Spark, no YARN, but the launcher in a "container" where one is wanted.

FAKE_SUBMIT says what it does; it writes down its command line for the tests to read.
"""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

mode = os.environ.get("KERNEL_SUBMIT", "")
place = Path(os.environ["FAKE_PLACE"])
options = shlex.split(os.environ["SPARK_OPTS"])
(place / "options.new").write_text("\n".join(options))
(place / "options.new").rename(place / "options")

if mode == "fails":
    print('Exception in thread "main" java.lang.IllegalArgumentException: no queue named nowhere', file=sys.stderr)
    sys.exit(3)
if mode == "slow":
    time.sleep(600)
print("26/11/23 INFO Client: Requesting a new application", file=sys.stderr)
if mode != "unnamed":
    print("INFO YarnClientImpl: Submitted application application_1700000000000_0001", file=sys.stderr)
if mode == "container":
    time.sleep(float(os.environ.get("KERNEL_DELAY", "0")))
    properties = dict(word.split("=", 1) for word in options if word.startswith("spark."))
    source = urlsplit(properties["spark.yarn.dist.files"].split(",")[-1])
    container = place / "container"
    container.mkdir(exist_ok=True)
    (container / source.fragment).write_text(Path(source.path).read_text())
    (container / source.fragment).chmod(0o500)
    zipped = urlsplit(properties["spark.yarn.dist.pyFiles"]).path
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "ELYRA_TEST_MARKER")}
    env = {**kept, "CONTAINER_ID": "container_1", "PYTHONPATH": zipped}
    told, tell = os.pipe()
    # Whose child it is: a container's parent is the NodeManager, which is there before it and stays.
    if os.fork() == 0:
        os.setsid()
        os.closerange(0, 3)
        process = subprocess.Popen(
            [sys.executable, "-m", "elyra_launcher", *sys.argv[1:]],
            cwd=container,
            env=env,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(container / "stderr").open("w"),
        )
        (place / "pid").write_text(str(process.pid))
        os.close(tell)
        process.wait()
        os._exit(0)
    os.close(tell)
    os.read(told, 1)
sys.exit(0)
