"""A submitter with a fake JVM, which does what the last argument of a submission says.

It ends as the real one does, with its standard input.
"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from elyra_server.submitter import process
from elyra_server.submitter.jvm import JvmError, Outcome

ABOUT_TO = b"INFO Client: Submitting application application_1_1 to ResourceManager\n"


class FakeJvm:
    """Has the methods of a `Jvm`; `announces` unless it is told to be silent."""

    def __init__(self, environ, directory):
        self.announces = environ.get("SPARK_LOG") != "silent"
        self.ended = asyncio.Event()

    async def start(self):
        pass

    async def wait(self):
        await self.ended.wait()

    async def end(self):
        self.ended.set()

    async def submit(self, words, on_output):
        what = words[-1]
        on_output(f"{what} begins\n".encode())
        if what.endswith("-late"):
            on_output(ABOUT_TO)
        if what.startswith("die"):
            self.ended.set()
        if what.startswith(("die", "hang")):
            await self.ended.wait()
            raise JvmError("The JVM ended.")
        if what == "slow":
            await asyncio.sleep(1.0)
        if what == "unknown":
            return Outcome(None)
        return Outcome(1 if what == "fails" else 0, broken=what.startswith("broken"))

    async def clean_up(self):
        pass


if __name__ == "__main__":
    process.Jvm = FakeJvm
    process.GIVEN_UP = process.BUSY_PATIENCE = 0.5
    sys.exit(process.main(sys.argv[1]))
