"""Kernels on other hosts, as a user has them."""

from __future__ import annotations

from conftest import nothing_left


def test_a_kernel_on_another_host_behaves_as_any_other(start, w1):
    kernel = start("w1", KERNEL_GREETING="hello there")
    assert kernel.value("import os; print(os.uname().nodename, os.environ['KERNEL_GREETING'])") == "w1 hello there"
    kernel.value("x = 1")
    kernel.restart()
    assert kernel.execute("x").error == "NameError"
    cell = "import time; print('on', flush=True); time.sleep(100)"
    assert kernel.execute(cell, on_output=lambda _: kernel.interrupt()).error == "KeyboardInterrupt"
    assert kernel.value("6 * 7") == "42"
    kernel.delete()
    assert nothing_left(w1)
