"""Lines into messages, however they arrive."""

import json

import pytest

from elyra_launcher import protocol


def test_messages_survive_any_cut():
    lines = protocol.encode(protocol.request(1, "signal", {"signum": 2})) + protocol.encode(protocol.result(1))
    reader = protocol.LineReader()
    messages = [message for index in range(len(lines)) for message in reader.feed(lines[index : index + 1])]
    assert [message.get("method") for message in messages] == ["signal", None]
    assert protocol.LineReader().feed(lines) == messages


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"\xff\xfe",
        b"[]",
        b"1",
        b"null",
        b'{"jsonrpc": "1.0", "method": "x"}',
        b'{"jsonrpc": "2.0"}',
        b'{"jsonrpc": "2.0", "method": 1}',
        b'{"jsonrpc": "2.0", "method": "x", "params": []}',
        b'{"jsonrpc": "2.0", "method": "x", "id": {}}',
        b'{"jsonrpc": "2.0", "method": "x", "id": true}',
        b'{"jsonrpc": "2.0", "id": 1, "error": "x"}',
        b"[" * 30000,
    ],
)
def test_what_is_not_a_message_is_refused(line):
    with pytest.raises(protocol.ProtocolError):
        protocol.LineReader().feed(line + b"\n")


def test_a_line_at_the_limit_and_one_beyond():
    empty = protocol.encode(protocol.notification("output", {"text": ""}))
    fitting = "x" * (protocol.MAX_LINE - len(empty))
    line = protocol.encode(protocol.notification("output", {"text": fitting}))
    assert len(line) == protocol.MAX_LINE
    assert len(protocol.LineReader().feed(line)) == 1
    with pytest.raises(protocol.ProtocolError):
        protocol.encode(protocol.notification("output", {"text": fitting + "x"}))
    with pytest.raises(protocol.ProtocolError):
        protocol.LineReader().feed(line[:-2] + b"xx" + line[-2:])


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory():
    reader = protocol.LineReader(limit=100)
    reader.feed(b"x" * 99)
    with pytest.raises(protocol.ProtocolError):
        reader.feed(b"x")


def test_parameters_may_be_left_out():
    line = json.dumps({"jsonrpc": "2.0", "method": "ping", "id": 3}).encode() + b"\n"
    assert protocol.LineReader().feed(line)[0]["params"] == {}
