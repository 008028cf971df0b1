"""A fake launcher: speaks the protocol, badly where a test asks for it.

The real launcher is used wherever a test is about kernels. This one is for what a real
one never does. How it misbehaves is said by the variable KERNEL_FAKE of the launch.
"""

import contextlib
import hashlib
import json
import os
import socket
import ssl
import sys
import time


def option(name):
    return sys.argv[sys.argv.index(f"--RemoteProcessProxy.{name}") + 1]


def call():
    host, port = option("response-address").split(",")[0].rsplit(":", 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sock = context.wrap_socket(socket.create_connection((host, int(port))))
    pinned = "sha256:" + hashlib.sha256(sock.getpeercert(binary_form=True)).hexdigest()
    assert pinned == option("public-key")
    return sock


def send(sock, method, params, number=None):
    message = {"jsonrpc": "2.0", "method": method, "params": params}
    if number is not None:
        message["id"] = number
    sock.sendall(json.dumps(message).encode() + b"\n")


def hello(sock, ticket):
    params = {
        "version": 2,
        "kernel_id": option("kernel-id"),
        "ticket": ticket,
        "launcher": "fake",
        "host": "fakehost",
        "pid": os.getpid(),
        "state": "starting",
    }
    send(sock, "hello", params, 1)
    return sock.recv(65536)


def main():
    mode = os.environ.get("KERNEL_FAKE", "")
    if mode == "silent":
        time.sleep(600)
    elif mode == "exits":
        print("first line\nthe worker has no disk left", file=sys.stderr)
        sys.exit(42)
    elif mode == "wrong-ticket":
        answer = hello(call(), "0" * 64)
        print("rejected" if b"error" in answer else "accepted", file=sys.stderr)
        sys.exit(75)
    sock = call()
    answer = hello(sock, os.environ["ELYRA_LAUNCH_TICKET"])
    assert b"result" in answer, answer
    if mode == "stuck":
        send(sock, "phase", {"phase": "spark", "detail": "waiting for executors"})
        time.sleep(600)
    elif mode == "error":
        send(sock, "error", {"code": "ports", "message": "no free port in 40000..40010", "output": []})
        sock.close()
        sys.exit(73)
    elif mode == "no-ports":
        send(sock, "connection", {"connection": {"shell_port": "x"}, "restart": 0})
        time.sleep(600)
    elif mode == "flood":
        with contextlib.suppress(OSError):  # the server hangs up in the middle of it
            sock.sendall(b"x" * 1_000_000)
        time.sleep(600)


if __name__ == "__main__":
    main()
