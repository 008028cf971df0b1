"""The listener among strangers: silence, noise, replays and crowds."""

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import threading
import time
import uuid

import pytest

from elyra_launcher import protocol
from elyra_server.certificate import make_certificate
from elyra_server.launchers import PORTS
from elyra_server.listener import MAX_UNAUTHENTICATED, Listener
from elyra_server.service import Service
from elyra_server.settings import Settings


@pytest.fixture
async def listener(request):
    """A listener on the service's loop, with settings that a test may change, and where it listens."""
    changes = getattr(request, "param", {})
    service = Service.instance()

    async def make():
        made = Listener(Settings(response_port=18877, **changes))
        host, port = made.response_address(local=True).split(":")
        return made, (host, int(port))

    made, address = await service.call(make())
    made.address = address
    yield made
    await service.call(made.close())


class Peer:
    """A launcher's end of a connection, by hand."""

    def __init__(self, address, context=None):
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(socket.create_connection(address, timeout=10))

    def send(self, message):
        self.sock.sendall(protocol.encode(message))

    def receive(self):
        data = b""
        while not data.endswith(b"\n"):
            chunk = self.sock.recv(65536)
            if not chunk:
                return None
            data += chunk
        return protocol.decode(data)

    def hello(self, **params):
        self.send(protocol.request(1, "hello", {"version": 2, "host": "here", "state": "starting", **params}))
        return self.receive()

    def closed(self):
        with contextlib.suppress(OSError):
            return self.sock.recv(1) == b""
        return True


async def register(listener):
    kernel_id = str(uuid.uuid4())

    async def make():
        return listener.register(kernel_id)

    return await Service.instance().call(make())


async def peer(listener):
    return await asyncio.to_thread(Peer, listener.address)


async def test_the_certificate_is_pinned_and_only_tls_1_3_is_spoken(listener):
    one = await peer(listener)
    assert one.sock.version() == "TLSv1.3"
    import hashlib

    digest = hashlib.sha256(one.sock.getpeercert(binary_form=True)).hexdigest()
    assert listener.fingerprint == f"sha256:{digest}"
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode, old.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(Peer, listener.address, old)
    assert make_certificate().fingerprint != listener.fingerprint


async def test_a_ticket_is_good_once_and_a_resume_token_after_it(listener):
    launcher = await register(listener)
    ticket = launcher.ticket
    first = await peer(listener)
    answer = await asyncio.to_thread(lambda: first.hello(kernel_id=launcher.kernel_id, ticket=ticket))
    token = answer["result"]["resume"]
    assert answer["result"]["lease"] > 0 and token != ticket
    again = await peer(listener)
    answer = await asyncio.to_thread(lambda: again.hello(kernel_id=launcher.kernel_id, ticket=ticket))
    assert answer["error"]["code"] == protocol.REJECTED and again.closed()
    back = await peer(listener)
    answer = await asyncio.to_thread(lambda: back.hello(kernel_id=launcher.kernel_id, resume=token))
    assert "result" in answer
    assert await asyncio.to_thread(first.closed)


async def test_a_ticket_is_good_again_for_the_launcher_that_never_heard_the_answer(listener):
    launcher = await register(listener)
    proof = {"kernel_id": launcher.kernel_id, "ticket": launcher.ticket}

    async def say_hello(nonce):
        one = await peer(listener)
        return one, await asyncio.to_thread(lambda: one.hello(**proof, nonce=nonce))

    _, lost = await say_hello("mine")
    assert "result" in lost
    for nonce in ("another's", "", None):
        _, answer = await say_hello(nonce)
        assert answer["error"]["code"] == protocol.REJECTED
    linked, answer = await say_hello("mine")
    assert "result" in answer
    # What it says now it says since it heard the answer: the ticket is spent for it too.
    linked.send(protocol.request(7, protocol.PHASE, {"phase": "kernel"}))
    assert (await asyncio.to_thread(linked.receive))["id"] == 7
    _, answer = await say_hello("mine")
    assert answer["error"]["code"] == protocol.REJECTED


async def test_a_resume_token_is_good_until_a_later_one_is_shown(listener):
    launcher = await register(listener)

    async def show(**proof):
        one = await peer(listener)
        answer = await asyncio.to_thread(lambda: one.hello(kernel_id=launcher.kernel_id, **proof))
        return answer["result"]["resume"] if "result" in answer else answer["error"]["code"]

    first = await show(ticket=launcher.ticket)
    lost, heard, late = given = [await show(resume=first) for _ in range(3)]
    assert protocol.REJECTED not in given
    newest = await show(resume=heard)
    assert [await show(resume=old) for old in (first, lost)] == [protocol.REJECTED] * 2
    assert isinstance(await show(resume=newest), str)
    assert [await show(resume=old) for old in (first, heard, late)] == [protocol.REJECTED] * 3


async def test_the_resume_tokens_that_nobody_shows_do_not_pile_up(listener):
    launcher = await register(listener)
    proof = {"kernel_id": launcher.kernel_id}

    async def show(**more):
        one = await peer(listener)
        return (await asyncio.to_thread(lambda: one.hello(**proof, **more))).get("result", {}).get("resume")

    first = await show(ticket=launcher.ticket)
    given = [await show(resume=first) for _ in range(20)]
    assert await show(resume=given[0]) is None
    assert await show(resume=first)
    assert await show(resume=given[-1])


@pytest.mark.parametrize(
    "params",
    [
        {"ticket": "0" * 64},
        {"ticket": ""},
        {"ticket": None},
        {"ticket": ["x"]},
        {"resume": ""},
        {"resume": "x"},
        {"ticket": "\u00e9" * 64},
        {},
    ],
)
async def test_without_the_right_ticket_nobody_comes_in(listener, params):
    launcher = await register(listener)
    one = await peer(listener)
    answer = await asyncio.to_thread(lambda: one.hello(kernel_id=launcher.kernel_id, **params))
    assert answer["error"]["code"] == protocol.REJECTED
    assert launcher.ticket is not None and launcher.link is None


NOISE = [
    b"\0" * 100,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01" + os.urandom(500),
    os.urandom(5000),
    b"\n" * 5000,
]
LINES = [
    b"\n\n{}\n",
    b"[]\n",
    b"nonsense\n",
    b'{"jsonrpc":"2.0","id":1,"method":"exit","params":{}}\n',
    b'{"jsonrpc":"2.0","method":"hello","params":{}}\n',
    b'{"jsonrpc":"2.0","id":1,"method":"hello","params":[]}\n',
    b'{"jsonrpc":"2.0","id":{},"method":"hello"}\n',
    b'{"jsonrpc":"2.0","id":1,"method":"hello","params":{"version":99}}\n',
    b'{"jsonrpc":"2.0","id":1,"method":"hello","params":{"version":2,"kernel_id":[1]}}\n',
    b"[" * 4000 + b"\n",
    b"x" * 5000,
    b"\xff\xfe\n",
]


async def test_noise_ends_only_its_own_connection(listener):
    launcher = await register(listener)
    good = await peer(listener)
    await asyncio.to_thread(lambda: good.hello(kernel_id=launcher.kernel_id, ticket=launcher.ticket))

    def disturb():
        for noise in NOISE:
            with contextlib.suppress(OSError), socket.create_connection(listener.address, timeout=10) as sock:
                sock.sendall(noise)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(1000):
                    pass
        for line in LINES:
            one = Peer(listener.address)
            with contextlib.suppress(OSError):
                one.sock.sendall(line)
                one.sock.recv(1000)
            assert one.closed(), line

    await asyncio.to_thread(disturb)
    answer = asyncio.ensure_future(Service.instance().call(launcher.request("signal", {"signum": 0})))
    message = await asyncio.to_thread(good.receive)
    assert message["method"] == "signal"
    good.send(protocol.result(message["id"], {"alive": True}))
    assert await answer == {"alive": True}


async def test_bytes_in_small_pieces_are_a_message_all_the_same(listener):
    launcher = await register(listener)
    one = await peer(listener)
    params = {"version": 2, "kernel_id": launcher.kernel_id, "ticket": launcher.ticket}

    def trickle():
        for byte in protocol.encode(protocol.request(1, "hello", params)):
            one.sock.sendall(bytes([byte]))
        return one.receive()

    assert "result" in await asyncio.to_thread(trickle)


async def test_a_stranger_has_five_seconds_in_all(listener):
    began = time.monotonic()
    one = await peer(listener)

    def dawdle():
        """Send a byte now and then; return when that is not taken any more, None if it always was."""
        try:
            while time.monotonic() - began < 20:
                one.sock.sendall(b" ")
                time.sleep(0.5)
        except OSError:
            return time.monotonic()
        return None

    ended = await asyncio.to_thread(dawdle)
    assert ended is not None and ended - began > protocol.HELLO_TIMEOUT - 0.1


async def test_a_broken_link_is_known_to_those_who_wait_for_an_answer(listener):
    launcher = await register(listener)
    one = await peer(listener)
    await asyncio.to_thread(lambda: one.hello(kernel_id=launcher.kernel_id, ticket=launcher.ticket))
    answer = asyncio.ensure_future(Service.instance().call(launcher.request("restart", timeout=30)))
    await asyncio.to_thread(one.receive)
    one.sock.close()
    with pytest.raises(Exception, match="broke"):
        await answer


@pytest.mark.parametrize("listener", [{"ping": 1.0}, {"ping": 2.0}], indirect=True)
async def test_a_launcher_that_answers_to_no_ping_is_given_up_and_others_are_not(listener):
    async def linked():
        launcher, one = await register(listener), await peer(listener)
        await asyncio.to_thread(lambda: one.hello(kernel_id=launcher.kernel_id, ticket=launcher.ticket))
        return launcher, one

    def answer():
        with contextlib.suppress(OSError):
            while message := lively.receive():
                lively.send(protocol.result(message["id"]))

    def pings():
        count = 0
        while message := silent.receive():
            count += message["method"] == "ping"
        return count

    silent_launcher, silent = await linked()
    lively_launcher, lively = await linked()
    answering = threading.Thread(target=answer)
    answering.start()
    assert await asyncio.to_thread(pings) == 3
    await asyncio.wait_for(Service.instance().call(silent_launcher.lost.wait()), 10)
    assert silent_launcher.link is None
    assert lively_launcher.link is not None
    lively.sock.shutdown(socket.SHUT_RDWR)
    answering.join()


async def test_a_crowd_of_silent_connections_delays_nobody(make_server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    server = make_server()
    server.spec("python_launcher")
    server.delete(server.start("python_launcher"))
    alone = []
    for _ in range(3):
        began = time.monotonic()
        kernel_id = server.start("python_launcher")
        alone.append(time.monotonic() - began)
        server.delete(kernel_id)
    port = int(server.text().rpartition("Listening for launchers at 127.0.0.1:")[2].split()[0])
    crowd, stop = [], threading.Event()

    def gather():
        while not stop.is_set():
            with contextlib.suppress(OSError):
                crowd.append(socket.create_connection(("127.0.0.1", port), timeout=5))
            if len(crowd) > 2000:
                stop.wait(0.01)
            if len(crowd) > 4000:
                return

    thread = threading.Thread(target=gather)
    thread.start()
    try:
        while len(crowd) < 2000:
            await asyncio.sleep(0.05)
        among = []
        for _ in range(3):
            began = time.monotonic()
            kernel_id = server.start("python_launcher")
            among.append(time.monotonic() - began)
            server.delete(kernel_id)
    finally:
        stop.set()
        thread.join()
        for sock in crowd:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert MAX_UNAUTHENTICATED < 2000
    assert min(among) < 2 * min(alone) + 1.0, (alone, among)  # who is held up waits for 5 s


async def test_blank_lines_count_as_bytes_without_a_hello(listener):
    one = await peer(listener)
    began = time.monotonic()
    with contextlib.suppress(OSError):
        await asyncio.to_thread(one.sock.sendall, b"\n" * 200_000)
    assert await asyncio.to_thread(one.closed)
    assert time.monotonic() - began < protocol.HELLO_TIMEOUT / 2


async def test_a_ticket_that_is_no_unicode_is_rejected_like_any_other(listener, caplog):
    launcher = await register(listener)
    one = await peer(listener)
    answer = await asyncio.to_thread(lambda: one.hello(kernel_id=launcher.kernel_id, ticket="\ud800"))
    assert answer["error"]["code"] == protocol.REJECTED
    assert "exception" not in caplog.text.lower()


async def test_restarts_that_overlap_are_all_answered_by_the_next_report(listener):
    launcher = await register(listener)
    info = {**dict.fromkeys(PORTS, 4711), "ip": "127.0.0.1", "key": "k", "transport": "tcp", "signature_scheme": "s"}

    class Agrees:
        open = True

        async def request(self, method, params, timeout):
            return {}

        def close(self):
            pass

    async def restart_twice():
        launcher.link = Agrees()
        launcher.receive(protocol.CONNECTION, {"connection": info})
        both = [asyncio.ensure_future(launcher.restart(now=True)) for _ in range(2)]
        await asyncio.sleep(0.05)
        launcher.receive(protocol.CONNECTION, {"connection": info, "restart": 1})
        return await asyncio.wait_for(asyncio.gather(*both), 2)

    assert await Service.instance().call(restart_twice()) == [info, info]
