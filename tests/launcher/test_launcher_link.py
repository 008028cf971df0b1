"""The link to the server: proofs, hostile lines, redialling, the lease."""

import json
import signal
import socket

import psutil
import pytest
from launching import Client, server_arguments, shut_down

from elyra_launcher import dial, protocol
from elyra_launcher.eventloop import Loop

TRIED = ((socket.AF_APPLETALK, 1), (socket.AF_INET, 1))


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\n",
        b"\x00" * 100 + b"\n",
        b"{}\n",
        b'{"jsonrpc": "2.0", "method": 5}\n',
        b"x" * 70000,
        b"[" * 60000 + b"\n",
    ],
)
def test_hostile_lines_end_a_connection_but_no_kernel(server, launch, garbage):
    started = launch()
    pid = server.wait_for("connection")["connection"]["pid"]
    server.send(garbage)
    resumed = server.wait_for("hello", 2)
    assert resumed["state"] == "running"
    assert resumed["connection"]["pid"] == pid
    assert server.request("signal", {"signum": 0})["result"] == {"alive": True}
    shut_down(server, started)


def test_nothing_is_sent_to_a_server_with_another_certificate(server, launch):
    arguments = ["--public-key", "sha256:" + "0" * 64]
    started = launch(*arguments)
    assert started.wait() == 75
    assert server.raw == b""
    assert server.address in started.text
    assert "certificate" in started.text


def test_a_used_ticket_is_rejected(server, start):
    started = start(*server_arguments(server), ELYRA_LAUNCH_TICKET="0" * 64)
    assert started.wait() == 75
    assert "ticket" in started.text


def test_a_launch_survives_the_loss_of_the_answer_to_its_ticket(server, launch):
    server.loses_answers = 1
    started = launch()
    with Client(server.wait_for("connection")["connection"]) as client:
        assert client.run("1 + 1") == ("ok", "2")
    shut_down(server, started)


def end_kernel_unheard(server, started):
    """Let the kernel die while the server is away, and return its connection info."""
    connection = server.wait_for("connection")["connection"]
    server.stop_listening()
    server.cut()
    kernel = psutil.Process(connection["pid"])
    kernel.kill()
    psutil.wait_procs([kernel], 10)
    return connection


def test_a_kernel_that_dies_while_the_link_is_broken_is_reported_later(server, launch):
    started = launch()
    end_kernel_unheard(server, started)
    server.listen_again()
    assert server.wait_for("exit")["signal"] == signal.SIGKILL
    assert started.wait() == 128 + signal.SIGKILL


def test_a_kernel_that_died_while_the_link_was_broken_can_be_restarted(server, launch):
    server.on_exit = {"action": "hold", "seconds": 20}
    started = launch()
    first = end_kernel_unheard(server, started)
    server.listen_again()
    server.wait_for("exit")
    server.request("restart", {"now": True})
    second = server.wait_for("connection", 2)["connection"]
    assert second["shell_port"] == first["shell_port"]
    with Client(second) as client:
        assert client.run("1") == ("ok", "1")
    shut_down(server, started)


def test_a_launch_without_a_ticket_says_what_is_missing(server, start):
    started = start(*server_arguments(server))
    assert started.wait() == 64
    assert "ELYRA_LAUNCH_TICKET" in started.text


def test_ticket_and_variables_of_a_container_come_from_a_file(server, start, tmp_path):
    hostile = 'a "b" $(c) `d` e\''
    (tmp_path / "elyra-ticket").write_text(f"{server.ticket}\n{json.dumps({'KERNEL_A': hostile})}\n")
    started = start(*server_arguments(server), CONTAINER_ID="container_1")
    with Client(server.wait_for("connection")["connection"]) as client:
        assert client.run("import os; os.environ['KERNEL_A']") == ("ok", repr(hostile))
    assert not (tmp_path / "elyra-ticket").exists()
    assert len(list(tmp_path.glob("elyra-kernel-*/kernel-*.json"))) == 1
    shut_down(server, started)
    assert list(tmp_path.glob("elyra-kernel-*")) == []


def test_a_cut_link_is_dialled_again_and_the_kernel_does_not_notice(server, launch):
    started = launch()
    connection = server.wait_for("connection")["connection"]
    with Client(connection) as client:
        client.run("x = 1")
        server.cut()
        resumed = server.wait_for("hello", 2)
        assert "ticket" not in resumed
        assert resumed["connection"] == connection
        assert server.wait_for("connection", 2) == {"connection": connection, "restart": 0}
        assert server.request("interrupt")["result"] == {}
        assert client.run("x") == ("ok", "1")
    shut_down(server, started)


def test_a_cut_link_is_dialled_again_though_nobody_reads_standard_error(server, start, tmp_path):
    code = "import os, sys; r, w = os.pipe(); os.dup2(w, 2); os.close(r); os.close(w); "
    code += "from elyra_launcher import launch; sys.exit(launch(sys.argv[1:]))"
    started = start(*server_arguments(server), program=("-c", code), ELYRA_LAUNCH_TICKET=server.ticket)
    server.wait_for("connection")
    server.cut()
    server.wait_for("connection", 2)
    shut_down(server, started)


# The second connection, and those after it up to a number, are reset after they were made and before TLS.
RESETTING = """
import socket, ssl, struct, sys
made, wrap = [], ssl.SSLContext.wrap_socket
def reset_some(context, sock, **options):
    made.append(1)
    if 1 < len(made) <= {count}:
        sock.close()
        listener = socket.create_server(("127.0.0.1", 0))
        sock = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        sock.setblocking(False)
    return wrap(context, sock, **options)
ssl.SSLContext.wrap_socket = reset_some
from elyra_launcher import launch
sys.exit(launch(sys.argv[1:]))
"""


def test_a_connection_that_is_reset_before_tls_is_dialled_again(server, launch):
    started = launch(program=("-c", RESETTING.format(count=3)))
    connection = server.wait_for("connection")["connection"]
    with Client(connection) as client:
        client.run("x = 1")
        server.cut()
        server.wait_for("connection", 2)
        assert client.run("x") == ("ok", "1")
    shut_down(server, started)


def test_connections_that_are_all_reset_before_tls_end_with_the_lease(make_server, start):
    server = make_server(lease=0.5)
    program = ("-c", RESETTING.format(count=1000))
    started = start(*server_arguments(server), ELYRA_LAUNCH_TICKET=server.ticket, program=program)
    server.wait_for("connection")
    server.cut()
    assert started.wait(10) == 69
    assert f"{server.address}: Connection reset by peer" in started.text


# A launcher that cannot even close its link, with a Spark driver that says when it is let go.
FAILING = """
import sys
from elyra_launcher import launch, link, spark_driver
class Driver:
    def context_deadline(self): return None
    def finish(self, ordinary, exit_jvm): print("Spark is done, ordinary:", ordinary, flush=True)
def close(self): raise OSError("the link cannot be closed")
spark_driver.SparkDriver.attach = lambda environ: Driver()
link.Link.close = close
sys.exit(launch(sys.argv[1:]))
"""


def test_spark_is_let_go_of_whatever_else_fails_at_the_end(server, launch, tiny_kernel):
    started = launch(*tiny_kernel(), program=("-c", FAILING), PYSPARK_GATEWAY_PORT="1")
    server.wait_for("connection")
    server.request("shutdown", {"now": True})
    started.wait()
    assert "Spark is done, ordinary: True" in started.text


def test_every_address_of_a_name_is_tried(server, monkeypatch):
    # A family that this machine has not, an address where nobody listens, and the server's.
    found = [(family, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for family, port in TRIED]
    found.append((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.port)))
    loop, results = Loop(), []

    def done(_, problem):
        results.append(problem)
        loop.stop()

    monkeypatch.setattr(dial.socket, "getaddrinfo", lambda *args, **more: found)
    attempt = dial.Attempt(loop, ("a.name", 1), server.fingerprint, done)
    attempt.start()
    loop.run()
    attempt.give_up()
    loop.close()
    assert results == [None]


def test_an_address_of_a_name_that_does_not_answer_is_not_waited_for(server, monkeypatch):
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    # Whoever connects next gets no answer, as from an address that a firewall swallows.
    fillers = [socket.socket() for _ in range(4)]
    for each in fillers:
        each.setblocking(False)
        each.connect_ex(full.getsockname())
    places = [full.getsockname(), ("127.0.0.1", server.port)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in places]
    loop, results = Loop(), []

    def done(_, problem):
        results.append(problem)
        loop.stop()

    monkeypatch.setattr(dial.socket, "getaddrinfo", lambda *args, **more: found)
    monkeypatch.setattr(dial, "NEXT_LIMIT", 0.2)
    attempt = dial.Attempt(loop, ("a.name", 1), server.fingerprint, done)
    attempt.start()
    loop.run()
    attempt.give_up()
    loop.close()
    for each in [full, *fillers]:
        each.close()
    assert results == [None]


def test_a_silent_link_is_dialled_again(make_server, start):
    server = make_server(ping=0.1)
    started = start(*server_arguments(server), ELYRA_LAUNCH_TICKET=server.ticket)
    server.wait_for("hello", 2)
    server.wait_for("connection")
    started.process.terminate()  # an order may go into a link that is just being given up
    assert started.wait() == 143


def test_the_kernel_ends_when_the_lease_is_over(make_server, start):
    server = make_server(lease=0.5)
    started = start(*server_arguments(server), ELYRA_LAUNCH_TICKET=server.ticket)
    server.wait_for("connection")
    server.stop_listening()
    server.cut()
    assert started.wait(10) == 69
    assert server.address in started.text


def test_a_server_that_forgot_the_launcher_ends_it(server, launch):
    started = launch()
    server.wait_for("connection")
    server.accepts = False
    server.cut()
    assert started.wait(10) == 75


def test_a_server_that_cannot_be_reached_is_named_with_what_happened(start, make_server):
    gone = make_server()
    gone.stop_listening()
    arguments = [
        *("kernel.json", "--public-key", gone.fingerprint),
        *("--response-address", f"{gone.address},no-such-host.invalid:1"),
    ]
    started = start(*arguments, ELYRA_LAUNCH_TICKET="0" * 64)
    assert started.wait(25) == 69
    assert f"{gone.address}: Connection refused" in started.text
    assert "no-such-host.invalid:1: its name cannot be resolved" in started.text


def test_the_second_address_is_used_where_the_first_does_not_answer(server, make_server, start):
    gone = make_server()
    gone.stop_listening()
    arguments = server_arguments(server)
    arguments[2] = f"{gone.address},{server.address}"
    started = start(*arguments, ELYRA_LAUNCH_TICKET=server.ticket)
    server.wait_for("connection")
    shut_down(server, started)


def test_a_link_without_pings_for_a_while_stays(make_server, start):
    server = make_server(ping=60)
    started = start(*server_arguments(server), ELYRA_LAUNCH_TICKET=server.ticket)
    server.wait_for("connection")
    # Longer than the time that hello may take to be answered.
    with pytest.raises(AssertionError):
        server.wait_for("hello", 2, timeout=protocol.HELLO_TIMEOUT + 1)
    shut_down(server, started)
