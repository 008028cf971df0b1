"""What a kernel publishes when it publishes much: nothing is lost, doubled or out of order, whoever takes it."""

import asyncio
import itertools
import subprocess
import sys
import threading
import time

import pytest
import zmq
from jupyter_client.session import Session
from tornado.ioloop import IOLoop

from elyra_server import paced
from elyra_server.paced import PacedStream

LIMIT = 30.0

ENDLESS = """
import sys, zmq
from jupyter_client.session import Session

session = Session(key=b"key")
socket = zmq.Context().socket(zmq.PUB)
print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
message = [b"kernel.stdout", *session.serialize(session.msg("stream", {"text": "on and on"}))]
while True:
    socket.send_multipart(message)
"""


class Flood:
    """A kernel's iopub socket, and a stream that listens to it."""

    def __init__(self):
        self.context = zmq.Context()
        self.session = Session(key=b"key")
        self.kernel = self.context.socket(zmq.XPUB)
        self.kernel.set_hwm(0)
        port = self.kernel.bind_to_random_port("tcp://127.0.0.1")
        socket = self.context.socket(zmq.SUB)
        socket.set_hwm(0)
        socket.subscribe(b"")
        socket.connect(f"tcp://127.0.0.1:{port}")
        assert self.kernel.recv() == b"\1"  # it listens
        self.stream = PacedStream(socket, IOLoop.current())
        self.taken = []
        self.changed = asyncio.Event()

    def publish(self, numbers, kind="stream"):
        for number in numbers:
            self.session.send(self.kernel, kind, {"text": number}, ident=b"kernel.stdout")

    def take(self, message):
        message = self.session.deserialize(self.session.feed_identities(message)[1])
        self.taken.append(message["content"]["text"])
        self.changed.set()

    async def until(self, condition):
        async def wait():
            while not condition():
                self.changed.clear()
                await self.changed.wait()

        await asyncio.wait_for(wait(), LIMIT)

    async def begin(self):
        """Publish until the stream waits for more to gather."""
        self.stream.on_recv(self.take)
        for number in itertools.count():
            self.publish([number])
            await self.until(lambda number=number: len(self.taken) > number)
            if self.paused:
                return

    @property
    def paused(self):
        return self.stream._timer is not None

    def close(self):
        self.stream.close(0)
        self.kernel.close(0)
        self.context.term()


@pytest.fixture
def run(monkeypatch):
    """Run a coroutine with a flood, in which any pace is a flood's."""
    monkeypatch.setattr(paced, "SHARE", -1.0)

    def run(test):
        async def main():
            flood = Flood()
            try:
                await test(flood)
            finally:
                flood.close()

        asyncio.run(main())

    return run


def test_a_flood_comes_whole_and_in_order(run):
    async def test(flood):
        await flood.begin()
        more = range(len(flood.taken), 3000)
        flood.publish(more)
        await flood.until(lambda: len(flood.taken) == 3000)
        assert flood.taken == list(range(3000))

    run(test)


def test_after_a_flood_each_message_is_taken_when_it_comes(run):
    async def test(flood):
        await flood.begin()
        while flood.paused:
            await asyncio.sleep(0)
        flood.publish(["last"])
        await flood.until(lambda: flood.taken[-1] == "last")

    run(test)


def test_messages_that_tell_a_state_are_no_flood(run):
    async def test(flood):
        flood.stream.on_recv(flood.take)
        for number in range(5 * paced.RUN):
            flood.publish([number], "status" if number % paced.RUN == 0 else "stream")
            await flood.until(lambda number=number: len(flood.taken) == number + 1)
            assert not flood.paused

    run(test)


def test_who_takes_over_gets_what_has_gathered(run):
    """As Jupyter's buffer does when the last client goes."""

    async def test(flood):
        await flood.begin()
        count = len(flood.taken)
        flood.publish(range(count, count + 50))
        flood.stream.on_recv(None)
        await asyncio.sleep(2 * paced.MOMENT)
        assert len(flood.taken) == count
        flood.stream.on_recv_stream(lambda stream, message: flood.take(message))
        await flood.until(lambda: len(flood.taken) == count + 50)
        assert flood.taken == list(range(count + 50))

    run(test)


@pytest.mark.parametrize("gathering", [False, True])
def test_a_flush_takes_all_that_is_there_at_once(run, gathering):
    """As before a client is told that the kernel has died: its last words come first."""

    async def test(flood):
        if gathering:
            await flood.begin()
        else:
            flood.stream.on_recv(flood.take)
        count, some = len(flood.taken), 10 * paced.RUN
        flood.publish(range(count, count + some))
        taken = 0
        while taken < some:
            assert flood.stream.socket.poll(int(1000 * LIMIT), zmq.POLLIN)
            taken += flood.stream.flush()
        assert flood.taken == list(range(count + some))
        flood.publish([count + some])
        await flood.until(lambda: flood.taken[-1] == count + some)

    run(test)


@pytest.mark.parametrize("taken", [True, False])
def test_a_flush_ends_though_the_kernel_publishes_on_and_on(run, taken):
    """As before a client is told of a restart: the kernel that it is to end still runs, and nobody else is served."""

    async def test(flood):
        kernel = subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True)
        rescue = threading.Timer(LIMIT / 2, kernel.kill)
        rescue.start()
        try:
            flood.stream.socket.set_hwm(1000)  # as ZeroMQ has it by itself
            flood.stream.socket.connect(f"tcp://127.0.0.1:{int(kernel.stdout.readline())}")
            flood.stream.on_recv(lambda message: [flood.session.unpack(message[3]) for _ in range(20)])
            assert await asyncio.to_thread(flood.stream.socket.poll, int(1000 * LIMIT), zmq.POLLIN)
            if not taken:
                flood.stream.on_recv(None)
            begin = time.monotonic()
            assert flood.stream.flush() > 0
            assert time.monotonic() - begin < LIMIT / 3
            flood.stream.on_recv(lambda message: flood.changed.set())
            await asyncio.wait_for(flood.changed.wait(), LIMIT)
        finally:
            rescue.cancel()
            kernel.kill()
            kernel.communicate()

    run(test)


def test_a_taker_may_let_another_one_take_over(run):
    async def test(flood):
        def first(message):
            flood.take(message)
            if flood.taken[-1] == 2 * paced.RUN:
                flood.stream.on_recv(flood.take)

        flood.stream.on_recv(first)
        flood.publish(range(20 * paced.RUN))
        await flood.until(lambda: len(flood.taken) == 20 * paced.RUN)
        assert flood.taken == list(range(20 * paced.RUN))

    run(test)


def test_a_message_that_is_none_stops_nothing(run):
    async def test(flood):
        await flood.begin()
        count = len(flood.taken)
        flood.kernel.send_multipart([b"no", b"message"])
        flood.publish(range(count, count + 10))
        await flood.until(lambda: len(flood.taken) == count + 10)

    run(test)


def test_a_stream_that_is_closed_meanwhile_takes_nothing(run):
    async def test(flood):
        await flood.begin()
        flood.publish(range(10))
        count = len(flood.taken)
        flood.stream.close()
        await asyncio.sleep(2 * paced.MOMENT)
        assert len(flood.taken) == count

    run(test)
