"""Signals to the server, at moments that a test of the whole server meets by chance only."""

import logging

from elyra_server.app import ElyraApp


class Loop:
    """Keeps what is to be called later."""

    def __init__(self):
        self.callbacks = []

    def add_callback_from_signal(self, callback, *arguments):
        self.callbacks.append((callback, arguments))


class BusyLog(logging.Handler):
    """A log whose stream is being written to, as a signal handler finds it that interrupts a log line."""

    busy = True

    def emit(self, record):
        if self.busy:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")


def test_a_signal_in_the_middle_of_a_log_line_is_not_lost():
    app, handler = ElyraApp(), BusyLog()
    app.io_loop, app.log = Loop(), logging.Logger("busy")
    app.log.addHandler(handler)
    app._signal_stop(15, None)
    handler.busy = False  # the line was written; the loop goes on
    ((callback, arguments),) = app.io_loop.callbacks
    callback(*arguments)
    assert [each[0] for each in app.io_loop.callbacks[1:]] == [app._stop]
