"""IRkernel through the server, on this host and without Spark: what its users meet."""

import os
import shutil
import stat
import time
from pathlib import Path

import psutil
import pytest
from client import RequestError
from conftest import change_spec
from waiting import until

RUNS = "cat('it runs\\n'); flush.console(); "

WAITS = """
found <- function(name) Find(function(frame) exists(name, frame), sys.frames())
await_request <- function(kernel = found("sockets")) {
  pbdZMQ::zmq.poll(list(get("sockets", kernel)$shell), pbdZMQ::ZMQ.PO()$POLLIN, -1L)
}
"""
FAILS_WHEN_A_REQUEST_WAITS = WAITS + "await_request(); stop('no way')"
FAILS_AND_AWAITS_A_REQUEST_AFTER_ITS_REPLY = (
    WAITS
    + """
executor <- get(".self", found("current_request"))
send <- executor$send_response
executor$send_response <- function(type, ...) {
  send(type, ...)
  if (type == "execute_reply") {
    executor$send_response <- send
    await_request()
  }
}
stop('no way')
"""
)


def interrupt_when_it_runs(kernel, code, limit=30):
    """Run a cell that says "it runs", interrupt it then, and return its result."""
    return kernel.execute(RUNS + code, limit, on_output=lambda text: kernel.interrupt())


def test_cells_share_variables_and_errors_are_those_of_the_kernel(ir):
    ir.value("kept <- 41")
    assert ir.value("cat(kept + 1)") == "42"
    result = ir.execute("stop('not today')")
    assert result.status == "error"
    assert "not today" in result.value


def test_all_characters_arrive_also_where_the_locale_has_none(ir, r_server, start):
    assert ir.value("cat(Sys.getenv('KERNEL_GREETING'))") == "grüß dich, 世界"
    r_server.install("ir_local", "--user", "--kernel-name=ir_c")
    change_spec(r_server, "ir_c", lambda spec: spec["env"].update(LC_ALL="C", LANG="C"))
    kernel = start("ir_c")
    assert kernel.value("x <- 'ä 世 🚀'; cat(x, nchar(x))") == "ä 世 🚀 5"


def test_plots_and_tables_are_shown_without_a_display(ir):
    assert "image/png" in {kind for bundle in ir.execute("plot(1:3)").bundles for kind in bundle}
    assert "text/html" in {kind for bundle in ir.execute("head(mtcars)").bundles for kind in bundle}
    assert ir.value("svg(tempfile()); plot(1); invisible(dev.off()); cat('drawn')") == "drawn"


def test_nothing_of_the_launcher_is_in_the_users_way(ir):
    assert ir.value("cat(length(grep('^ELYRA_R', names(Sys.getenv()))))") == "0"
    assert ir.value("rm(list = ls()); cat(ls(all.names = TRUE), search()[2])") == ".pbd_env jupyter:irkernel"


@pytest.mark.parametrize("code", ["repeat {}", "Sys.sleep(600)", "while (TRUE) cat('')"])
def test_an_interrupt_ends_the_cell_and_not_the_next(ir, code):
    ir.value("kept <- 7")
    for _ in range(5):
        assert interrupt_when_it_runs(ir, code).status == "abort"
        assert ir.value("cat(kept)") == "7"


def test_interrupts_at_any_moment_leave_a_kernel_that_answers(ir):
    for _ in range(20):
        ir.interrupt()  # it is idle, or in the middle of a message
        ir.execute("invisible(sum(runif(1000)))")
    time.sleep(0.1)  # the last interrupt may be for the next cell
    ir.execute("1")
    assert ir.value("cat('alive')") == "alive"


def test_native_code_answers_an_interrupt_when_it_is_done(ir):
    code = "x <- matrix(runif(160000), 400); y <- svd(x); for (i in 1:30) y <- svd(x)"
    assert interrupt_when_it_runs(ir, code, 60).status == "abort"
    assert ir.value("cat('next')") == "next"


def test_a_cell_that_waits_when_another_fails_is_aborted_and_over(ir):
    ir.begin(FAILS_WHEN_A_REQUEST_WAITS)
    assert ir.execute("cat('not to be')", 30).status == "aborted"


def test_a_request_that_waits_when_a_cell_fails_and_is_no_cell_has_its_answer(ir):
    ir.begin(FAILS_WHEN_A_REQUEST_WAITS)
    assert ir.ask("kernel_info_request", {}, limit=30)["language_info"]["name"] == "R"


def test_a_cell_that_is_sent_after_the_reply_of_one_that_failed_runs(ir):
    failed = ir.begin(FAILS_AND_AWAITS_A_REQUEST_AFTER_ITS_REPLY)
    parent, kind = "", ""
    while (parent, kind) != (failed, "execute_reply"):
        message = ir.receive(30)
        parent, kind = message["parent_header"].get("msg_id"), message["header"]["msg_type"]
    assert ir.value("cat('next')", 30) == "next"


def test_a_restart_forgets_the_session_and_the_websocket_goes_on(start):
    kernel = start("ir_local")
    kernel.value("kept <- 1")
    kernel.restart()
    assert kernel.value("cat(exists('kept'))") == "FALSE"


def test_a_killed_kernel_is_reported_and_starts_again(start, r_server):
    kernel = start("ir_local")
    pid = int(kernel.value("cat(Sys.getpid())"))
    kernel.states.clear()
    os.kill(pid, 9)
    kernel.wait_for_state("restarting")
    assert kernel.value("cat(exists('kept'))") == "FALSE"
    until(lambda: "ended by signal 9 (SIGKILL)" in r_server.log_file.read_text(), "its end in the log")


def test_the_files_of_r_are_removed_though_its_launcher_was_killed(start):
    """By the next launcher, which may be that of any other kernel."""
    killed = start("ir_local")
    files = Path(killed.value("cat(tempdir())"))
    assert files.is_dir()
    psutil.Process(int(killed.value("cat(Sys.getpid())"))).parent().kill()
    until(lambda: killed.get()["execution_state"] == "dead")
    os.utime(files.parent, (0, 0))
    start("ir_local").value("cat(1)")
    until(lambda: not files.parent.exists(), "the removal")


def test_quit_in_a_cell_ends_the_kernel_after_its_last_words(start):
    kernel = start("ir_local")
    kernel.states.clear()
    assert kernel.value("cat('last words'); quit()") == "last words"
    kernel.wait_for_state("dead")
    assert kernel.get()["reason"] == "The kernel ended by itself."


def broken_kernelspec(server, name, script, tmp_path):
    rscript = tmp_path / "Rscript"
    rscript.write_text(script)
    rscript.chmod(rscript.stat().st_mode | stat.S_IXUSR)
    server.install("ir_local", "--user", "--replace", f"--kernel-name={name}", f"--rscript={rscript}")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            f'#!/bin/sh\nexport R_LIBS_SITE=/none R_LIBS_USER=/none\nexec {shutil.which("Rscript")} "$@"\n',
            "install r-cran-irkernel, or run install.packages('IRkernel')",
        ),
        ("#!/bin/sh\necho 'libR.so: cannot open shared object file' >&2\nexit 127\n", "libR.so: cannot open"),
    ],
    ids=["no IRkernel", "R does not start"],
)
def test_a_launch_that_cannot_work_says_why_at_once(r_server, start, tmp_path, script, reason):
    broken_kernelspec(r_server, "ir_broken", script, tmp_path)
    begin = time.monotonic()
    with pytest.raises(RequestError) as caught:
        start("ir_broken")
    assert reason in caught.value.message
    assert time.monotonic() - begin < 30  # and not when the launch limit is over


def test_a_host_without_r_is_named(r_server, start):
    r_server.install("ir_local", "--user", "--kernel-name=ir_nowhere", "--rscript=/nowhere/Rscript")
    with pytest.raises(RequestError) as caught:
        start("ir_nowhere")
    assert "there is no /nowhere/Rscript" in caught.value.message
    assert "--rscript" in caught.value.message
