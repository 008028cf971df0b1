"""Jupyter's public test suite for kernels, run here as a program: for a bare kernel, and through the server."""

from __future__ import annotations

import json
import queue
import sys
import time
import unittest
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import jupyter_kernel_test
from client import Kernel
from jupyter_client import BlockingKernelClient, KernelManager
from jupyter_client.jsonutil import json_default
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_kernel_test import KernelTests

from demo import spark_home

START_LIMIT = 120
NOT_ASKED = "not asked"
MESSAGE = {"header", "parent_header", "metadata", "content", "buffers"}
PATIENCE = 20.0
"""Seconds that a message may take. The suite's own 0.1 s measure the machine, not the kernel."""

SILENCE = 1.0
"""Seconds after which nothing more is expected."""

IDLE = {"header": {"msg_type": "status"}, "content": {"execution_state": "idle"}}

SAMPLES: dict[str, dict[str, Any]] = {
    "python": {
        "language_name": "python",
        "file_extension": ".py",
        "code_hello_world": "print('hello, world')",
        "code_stderr": "import sys; print('trouble', file=sys.stderr)",
        "completion_samples": [{"text": "enum", "matches": ["enumerate"]}],
        "complete_code_samples": ["1 + 1", "for i in range(3):\n    print(i)\n"],
        "incomplete_code_samples": ["for i in range(3):", "'''one"],
        "invalid_code_samples": ["import = 7q"],
        "code_page_something": "zip?",
        "code_generate_error": "1 / 0",
        "code_execute_result": [{"code": "6 * 7", "result": "42"}, {"code": "'a' * 2", "result": "'aa'"}],
        "code_display_data": [{"code": "display({'text/html': '<b>x</b>'}, raw=True)", "mime": "text/html"}],
        "code_history_pattern": "6 ? 7",
        "supported_history_operations": ("tail", "search"),
        "code_inspect_sample": "zip",
        "code_clear_output": "from IPython.display import clear_output; clear_output()",
    },
    "scala": {
        "language_name": "scala",
        "file_extension": ".scala",
        "code_hello_world": 'println("hello, world")',
        "code_stderr": 'Console.err.println("trouble")',
        "completion_samples": [{"text": "Math.floorM", "matches": ["floorMod"]}],
        "complete_code_samples": ["val a = 1", "println(1)"],
        "incomplete_code_samples": ["def f(", "val a = {"],
        "invalid_code_samples": ["val = 7q"],
        "code_generate_error": 'throw new RuntimeException("no way")',
        "code_execute_result": [{"code": "6 * 7", "result": "42"}, {"code": '"a" * 2', "result": "aa"}],
        "code_display_data": [{"code": 'kernel.display.html("<b>x</b>")', "mime": "text/html"}],
        "code_history_pattern": "6 ? 7",
        "supported_history_operations": ("tail",),
        "code_inspect_sample": "println",
        "code_clear_output": "kernel.display.clear()",
    },
    "r": {
        "language_name": "R",
        "file_extension": ".r",
        "code_hello_world": "cat('hello, world\\n')",
        "code_stderr": "message('trouble')",
        "completion_samples": [{"text": "seq_al", "matches": ["seq_along"]}],
        "complete_code_samples": ["1 + 1", "f <- function(x) x"],
        "incomplete_code_samples": ["function(x) {", "'one"],
        "invalid_code_samples": ["1 1"],
        "code_page_something": "?cat",
        "code_generate_error": "stop('no way')",
        "code_execute_result": [{"code": "6 * 7", "result": "[1] 42"}],
        "code_display_data": [{"code": "IRdisplay::display_html('<b>x</b>')", "mime": "text/html"}],
        "code_history_pattern": "6 ? 7",
        "supported_history_operations": ("tail",),
        "code_inspect_sample": "cat",
        "code_clear_output": "IRdisplay::clear_output()",
    },
}


def bare_command(language: str) -> list[str]:
    """Return the command that starts a language's kernel without Elyra, as its own installer would write it."""
    if language == "python":
        return [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    if language == "r":
        return ["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"]
    import toree

    (jar,) = Path(toree.__file__).parent.glob("lib/toree-assembly-*.jar")
    main = ["--class", "org.apache.toree.Main", str(jar), "--profile", "{connection_file}"]
    return [str(spark_home() / "bin" / "spark-submit"), "--master", "local[*]", *main]


class Suite(KernelTests):
    """The suite, with patience for messages that have to come, and an order in which they may come.

    Toree publishes the messages of a cell in any order, the state ``idle`` not always as the last one. What a cell
    gives is collected first, and handed to the suite in the order that it expects.
    """

    def execute_helper(self, *args: Any, **options: Any) -> Any:
        channel = self.kc.iopub_channel
        get = channel.get_msg
        collected: list[dict[str, Any]] = []

        def collected_first(timeout: float) -> dict[str, Any]:
            if not collected:
                collected.extend(sorted(self.of_cell(get), key=rank))
            if not collected:
                raise queue.Empty
            return collected.pop(0)

        channel.get_msg = collected_first
        try:
            return super().execute_helper(*args, **{"timeout": START_LIMIT, **options})
        finally:
            channel.get_msg = get

    def get_non_kernel_info_reply(self, timeout: float | None = None) -> dict[str, Any] | None:
        reply = super().get_non_kernel_info_reply(timeout=timeout or PATIENCE)
        self.cell = reply["parent_header"].get("msg_id") if reply else None
        return reply

    def of_cell(self, get: Any) -> Iterator[dict[str, Any]]:
        """Yield the messages of the cell that was answered, until its state is idle and nothing follows."""
        idle = False
        while True:
            try:
                message = get(timeout=SILENCE if idle else PATIENCE)
            except queue.Empty:
                return
            if message["parent_header"].get("msg_id") == self.cell:
                idle = idle or rank(message) == rank(IDLE)
                yield message

    @classmethod
    def settle(cls) -> None:
        """Drop what the kernel's start left in the channels."""
        for channel in (cls.kc.shell_channel, cls.kc.iopub_channel):
            with suppress(queue.Empty):
                while True:
                    channel.get_msg(timeout=SILENCE)


def rank(message: dict[str, Any]) -> int:
    """Return the place of a message among those of its cell."""
    kind = message["header"]["msg_type"]
    if kind == "status":
        return 0 if message["content"]["execution_state"] == "busy" else 3
    return 1 if kind == "execute_input" else 2


def bare_suite(language: str, directory: Path) -> type[Suite]:
    """Return the suite for a kernel that jupyter_client starts.

    Parameters
    ----------
    language : str
        The language's id.
    directory : Path
        An empty one, for its kernelspec.
    """
    (directory / "bare").mkdir(parents=True)
    spec = {"argv": bare_command(language), "display_name": "bare", "language": language}
    (directory / "bare" / "kernel.json").write_text(json.dumps(spec))

    class Bare(Suite):
        @classmethod
        def setUpClass(cls) -> None:
            specs = KernelSpecManager(kernel_dirs=[str(directory)], ensure_native_kernel=False)
            cls.km = KernelManager(kernel_name="bare", kernel_spec_manager=specs)
            cls.km.start_kernel()
            cls.kc = cls.km.blocking_client()
            cls.kc.start_channels(hb=False)  # the manager knows whether it lives
            cls.kc.wait_for_ready(timeout=START_LIMIT)
            cls.settle()

        @classmethod
        def tearDownClass(cls) -> None:
            cls.kc.stop_channels()
            cls.km.shutdown_kernel(now=True)

    return type("Bare", (Bare,), dict(SAMPLES[language]))


class Channel:
    """A channel of jupyter_client's that is one of a websocket's."""

    def __init__(self, client: WebsocketClient, name: str) -> None:
        self._client = client
        self._name = name
        self.messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def send(self, message: dict[str, Any]) -> None:
        text = json.dumps({**message, "channel": self._name}, default=json_default)
        self._client.kernel.socket.send(text)

    def get_msg(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the next message; queue.Empty if none comes in time."""
        deadline = time.monotonic() + (START_LIMIT if timeout is None else timeout)
        while self.messages.empty():
            try:
                message = self._client.kernel.receive(max(deadline - time.monotonic(), 0.001))
            except TimeoutError:
                raise queue.Empty from None
            self._client.channel(message["channel"]).messages.put(message)
        return self.messages.get()


class WebsocketClient(BlockingKernelClient):  # type: ignore[misc]
    """A client of jupyter_client's whose channels are a websocket."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        for name in ("shell", "iopub", "stdin", "control"):
            setattr(self, f"_{name}_channel", Channel(self, name))

    def channel(self, name: str) -> Channel:
        found: Channel = getattr(self, f"_{name}_channel")
        return found


def gateway_suite(language: str, kernel: Kernel) -> type[Suite]:
    """Return the suite for a kernel of the server."""

    class Gateway(Suite):
        @classmethod
        def setUpClass(cls) -> None:
            cls.kc = WebsocketClient(kernel)
            cls.settle()

        @classmethod
        def tearDownClass(cls) -> None:
            kernel.delete()

    return type("Gateway", (Gateway,), dict(SAMPLES[language]))


def outcomes(suite: type[Suite]) -> dict[str, str]:
    """Run a suite and return what came of its tests: ok, not asked (by the samples), or what went wrong."""
    tests = unittest.defaultTestLoader.loadTestsFromTestCase(suite)
    found = {name_of(test): "ok" for test in tests}
    result = unittest.TestResult()
    with mock.patch.object(jupyter_kernel_test, "validate_message", validate):
        tests.run(result)
    for test, reason in result.skipped:
        found[name_of(test)] = f"{NOT_ASKED}: {reason}"
    for test, text in [*result.failures, *result.errors]:
        found[name_of(test)] = text.strip().splitlines()[-1]
    return found


def validate(message: dict[str, Any], *expected: Any) -> None:
    """Validate what a kernel sent, without the keys that clients add: the suite rejects them where it is strict."""
    jupyter_kernel_test.msgspec_v5.validate_message({key: message[key] for key in MESSAGE & message.keys()}, *expected)


def failed(found: dict[str, str]) -> set[str]:
    """Return the names of those that were neither ok nor not asked."""
    return {name for name, outcome in found.items() if outcome != "ok" and not outcome.startswith(NOT_ASKED)}


def name_of(test: Any) -> str:
    """Return the name of a test, or of a part of one."""
    return str(test.id()).partition(".test_")[2] or str(test.id())
