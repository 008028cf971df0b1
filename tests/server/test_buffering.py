"""Output that nobody reads: bounded in the server's memory, and what is there in the end is what matters most."""

import re
import threading
from collections import deque
from pathlib import Path

import pytest
from jupyter_client.session import Session
from waiting import until

from elyra_server.buffering import OVERHEAD, Backlog

LIMIT = 2_000_000
FLOOD = """
import os, sys, time
while not os.path.exists({go!r}):
    time.sleep(0.01)
for number in range({count}):
    sys.stdout.write(f"{{number}} {{'x' * {size}}}\\n")  # not in pieces, so that a message has whole lines
    sys.stdout.flush()
os.remove({go!r})
while not os.path.exists({go!r}):
    time.sleep(0.01)
sys.stdout.write("{count} is the end\\n")
"""


@pytest.fixture
def server(make_server):
    # A client that reads nothing answers no ping either.
    server = make_server("--KernelGatewayApp.ws_ping_interval=0", ELYRA_OUTPUT_BUFFER=str(LIMIT))
    server.spec("python_launcher")
    return server


def peak_of(server):
    """Return the most memory that a server had, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status)[1])


def end(server, kernel_id, go):
    """Let a flood end, once all of it is taken: ZeroMQ drops what is too much for a busy machine, the end above all."""
    until(lambda: not go.exists(), "the flood's end", 300)
    seen = deque(maxlen=20)

    def over():
        seen.append(server.rest("GET", f"/api/kernels/{kernel_id}", timeout=10)[1]["last_activity"])
        return len(seen) == seen.maxlen and len(set(seen)) == 1

    until(over, "silence", 60)
    go.touch()


def read(socket, request):
    """Return a cell's notices and lines, in their order, up to its reply and its end."""
    notices, lines, left = [], [], {"execute_reply", "idle"}
    while left:
        message = socket.receive()
        content = message["content"]
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["msg_type"] == "stream" and content["name"] == "stderr":
            notices.append((len(lines), content["text"]))
        elif message["msg_type"] == "stream":
            lines += content["text"].splitlines()
        left -= {message["msg_type"], content.get("execution_state")}
    return notices, lines


@pytest.mark.parametrize("away", [True, False])
def test_output_that_nobody_reads_is_bounded_and_its_end_comes(server, tmp_path, away):
    """The client's socket is closed during a flood, or it is open and the client does not read."""
    count, size, go = 30_000, 6_000, tmp_path / "go"
    kernel_id = server.start("python_launcher")
    socket = server.socket(kernel_id, "the-session")
    request = socket.send(FLOOD.format(go=str(go), count=count, size=size))
    socket.await_state("busy")
    if away:
        socket.close()
        until(lambda: server.kernel(kernel_id)["connections"] == 0, "its absence")
    until(lambda: server.kernel(kernel_id)["execution_state"] == "busy", "the kernel's work")
    before = peak_of(server)
    go.touch()
    end(server, kernel_id, go)
    until(lambda: server.kernel(kernel_id)["execution_state"] == "idle", "the cell's end")
    assert peak_of(server) - before < count * size / 2
    if away:
        socket = server.socket(kernel_id, "the-session")
    notices, lines = read(socket, request)
    numbers = [int(line.split()[0]) for line in lines]
    assert numbers == sorted(set(numbers)) and numbers[-1] == count
    place, text = notices[0]
    assert re.match(r"\d+ messages of output are missing here", text)
    assert numbers[place] > ([-1, *numbers][place]) + 1
    assert socket.run("print('on')") == "on\n"
    socket.close()


def test_a_client_that_returns_during_a_flood_gets_all_in_order_and_nobody_waits(make_server, tmp_path):
    server = make_server()
    server.spec("python_launcher")
    count, go = 10_000, tmp_path / "go"
    kernel_id = server.start("python_launcher")
    socket = server.socket(kernel_id, "the-session")
    request = socket.send(FLOOD.format(go=str(go), count=count, size=500))
    socket.await_state("busy")
    socket.close()
    until(lambda: server.kernel(kernel_id)["connections"] == 0, "its absence")
    begin = server.kernel(kernel_id)["last_activity"]
    go.touch()
    until(lambda: server.kernel(kernel_id)["last_activity"] > begin, "output")
    socket = server.socket(kernel_id, "the-session")
    result = []
    reader = threading.Thread(target=lambda: result.append(read(socket, request)))
    reader.start()
    end(server, kernel_id, go)
    reader.join()
    notices, lines = result[0]
    numbers = [int(line.split()[0]) for line in lines]
    assert notices == [] and numbers == sorted(set(numbers)) and numbers[-1] == count
    socket.close()


def test_a_backlog_drops_the_oldest_output_first():
    session = Session(key=b"key")
    backlog = Backlog(40 * (OVERHEAD + 1000))
    parents = [session.msg("execute_request") for _ in range(2)]

    def add(channel, kind, content, parent):
        backlog.append((channel, [b"identity", *session.serialize(session.msg(kind, content, parent=parent))]))

    for number, parent in enumerate(parents):
        add("iopub", "status", {"execution_state": "busy"}, parent)
        add("iopub", "execute_input", {"code": '"stream"'}, parent)
        for line in range(100):
            add("iopub", "stream", {"name": "stdout", "text": f"{number} {line}"}, parent)
        add("shell", "execute_reply", {"status": "ok"}, parent)
        add("iopub", "status", {"execution_state": "idle"}, parent)
    missing = {session.unpack(parent)["msg_id"]: count for parent, count in backlog.missing.items()}
    kept = [session.deserialize(session.feed_identities(message)[1]) for _, message in backlog]
    of_last = [message["content"]["text"] for message in kept if message["msg_type"] == "stream"]
    assert of_last == [f"1 {line}" for line in range(100 - len(of_last), 100)] and of_last
    assert missing == {parents[0]["msg_id"]: 100, parents[1]["msg_id"]: 100 - len(of_last)}
    others = ["status", "execute_input", "execute_reply", "status"]
    assert [message["msg_type"] for message in kept if message["msg_type"] != "stream"] == others * 2


def test_a_backlog_of_whatever_is_bounded_and_has_the_newest():
    session = Session(key=b"key")
    backlog = Backlog(10_000)
    for _ in range(100):
        backlog.append(("shell", session.serialize(session.msg("comm_info_reply"))))
    assert 1 < len(backlog) < 20
    large = session.serialize(session.msg("execute_reply", {"payload": "x" * 20_000}))
    backlog.append(("shell", large))
    assert list(backlog) == [("shell", large)] and not backlog
