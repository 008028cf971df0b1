"""Scala in a JVM with a local Spark master: cells, magics, interrupts, and every way to end. One kernel for most."""

import os
import signal
import threading

import pytest
from launching import server_arguments

# They come in this order: Spark is not there before one of them uses it.

SLEEP = 'println("runs"); Thread.sleep(600000)'
BUSY = 'println("runs"); while (!Thread.currentThread.isInterrupted) {}; throw new Exception("seen")'
TIGHT = 'println("runs"); var count = 0L; while (true) count += 1'
COMPUTE = """
println("runs")
var (i, x) = (0L, 1L)
while (x != 0) { i += 1; x = (x * 31 + i) | 1 }
"""
LOADS = """
println("runs")
val jar = classOf[org.codehaus.janino.Parser].getProtectionDomain.getCodeSource.getLocation
val end = System.nanoTime + 4000000000L
while (System.nanoTime < end) new java.net.URLClassLoader(Array(jar), null).loadClass("org.codehaus.janino.Parser")
println("over")
"""
JOB = 'println("runs"); sc.parallelize(1 to 4, 4).map { x => Thread.sleep(600000); x }.sum'
JOBS = 'println("runs"); while (true) sc.parallelize(1 to 1000, 2).map(_ * 2).sum'
THREADS = """
println("runs")
(1 to 2).par.foreach { _ => sc.parallelize(1 to 2, 2).map { x => Thread.sleep(600000); x }.sum }
"""


@pytest.mark.parametrize("again", range(3))
@pytest.mark.parametrize("cell", [SLEEP, BUSY, TIGHT, COMPUTE], ids=["sleep", "busy", "tight loop", "compute"])
def test_an_interrupt_before_spark_ends_the_cell_and_leaves_the_kernel_usable(kernel, cell, again):
    status, _ = kernel.run(cell, on_output=kernel.interrupt)
    assert status == "error"
    assert kernel.value("println(6 * 7)") == "42"


def test_an_interrupt_without_a_cell_leaves_the_kernel_usable(kernel):
    kernel.interrupt()
    status, text = kernel.run('Thread.sleep(300); println("done")')  # it may still be under way, and meet this cell
    assert (status, text.strip()) == ("ok", "done") or (status == "error" and "nterrupt" in text)
    assert kernel.value("println(6 * 7)") == "42"


def test_an_interrupt_while_a_cell_is_compiled_ends_it_and_leaves_the_kernel_usable(kernel):
    classes = "".join(f"case class C{number}(a: Int, b: String)\n" for number in range(40))
    status, text = kernel.run(classes + SLEEP, on_input=kernel.interrupt)
    assert status == "error" and "InterruptedException" in text
    assert kernel.value("println(6 * 7)") == "42"


def test_a_cell_that_loads_classes_is_not_stopped_by_force_before_it_is_through(kernel):
    status, text = kernel.run(LOADS, on_output=kernel.interrupt)
    assert status == "ok" and "over" in text
    assert kernel.value("println(6 * 7)") == "42"


@pytest.mark.parametrize("wait", [0.0, 0.05, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("cell", ['println("short")', 'throw new Exception("short")', 'val x: Int = "short"'])
def test_an_interrupt_at_any_moment_leaves_the_kernel_usable(kernel, cell, wait):
    timer = threading.Timer(wait, kernel.interrupt)
    status, text = kernel.run(cell, on_input=timer.start)
    timer.join()
    assert status in ("ok", "error")
    assert "short" in text or "nterrupt" in text
    status, text = kernel.run("println(6 * 7)")  # which the interrupt may meet
    assert (status, text.strip()) == ("ok", "42") or (status == "error" and "nterrupt" in text)
    assert kernel.value("println(6 * 7)") == "42"


@pytest.mark.parametrize("again", range(3))
def test_an_interrupt_while_spark_starts_leaves_spark_usable(kernel, again):
    start = "if (org.apache.spark.SparkContext.getOrCreate != null) spark.range(7).count()"
    status, text = kernel.run(f'println("runs"); {start}; Thread.sleep(600000)', on_output=kernel.interrupt)
    assert status == "error", text
    assert kernel.value("println(spark.range(1000).count())").endswith("1000")
    kernel.do("spark.stop()")


def test_spark_is_the_one_of_the_submission(kernel):
    assert kernel.value("println(sc.applicationId, sc.master, sc.deployMode)").startswith("(local-")
    assert kernel.value("println(sc.master, sc.deployMode)") == "(local[2],client)"
    assert kernel.value("println(sc.parallelize(0 until 10).map(_ * 2).sum().toLong)") == "90"


@pytest.mark.parametrize("again", range(3))
@pytest.mark.parametrize("cell", [JOB, JOBS, THREADS], ids=["a job", "one after the other", "in threads"])
def test_an_interrupt_ends_the_jobs_and_frees_their_cores(kernel, cell, again):
    status, text = kernel.run(cell, on_output=kernel.interrupt)
    assert status == "error", text
    kernel.do("while (sc.statusTracker.getActiveJobIds.nonEmpty) Thread.sleep(10)")  # it lags behind
    assert kernel.value("println(sc.parallelize(0 until 10, 4).sum().toLong)") == "45"


def test_state_output_and_errors_are_toree_s(kernel):
    kernel.do("val kept = 40")
    assert kernel.value("println(kept + 2)") == "42"
    assert "grüße 世界" in kernel.value('println("grüße 世界")')
    status, text = kernel.run('throw new IllegalStateException("no way")')
    assert status == "error" and "no way" in text


def test_an_error_that_is_not_shown_is_an_answer_all_the_same(kernel):
    kernel.do("%ShowOutput off")
    status, text = kernel.run('throw new IllegalStateException("no way")')
    assert status == "error" and "%ShowOutput" in text
    kernel.do("%ShowOutput on")
    assert kernel.value("println(kept)") == "40"


@pytest.mark.parametrize("again", range(3))
def test_a_cell_is_over_when_all_that_it_printed_is_there(kernel, again):
    assert len(kernel.value('println("0123456789" * 200000)')) == 2000000
    for number in range(10):
        assert kernel.value(f"println({number})") == str(number)
        kernel.do(f'println("x"); {number}')
        assert kernel.last_result == str(number)


def test_magics_work(kernel, tmp_path):
    kernel.do('spark.range(3).createOrReplaceTempView("numbers")')
    kernel.do("%%sql\nselect count(*) as n from numbers")
    assert "|  3|" in kernel.last_result
    jar = tmp_path / "added.jar"
    make_jar(jar)
    kernel.do(f"%AddJar file:{jar}")
    assert kernel.value('println(sc.listJars().exists(_.endsWith("added.jar")))') == "true"
    code = 'scala.io.Source.fromInputStream(getClass.getClassLoader.getResourceAsStream("word.txt")).mkString'
    assert kernel.value(f"println({code})") == "added"


def make_jar(path):
    import zipfile

    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("word.txt", "added")


def test_a_cell_that_exits_ends_everything_in_an_orderly_way(start_alone):
    kernel = start_alone()
    kernel.value("println(spark.range(10).count())")
    kernel.send("sys.exit(0)")
    assert kernel.launch.wait(60) == 0, kernel.launch.text


def test_eager_mode_has_a_session_that_nobody_asked_for_and_sigterm_ends_it_well(start_alone):
    kernel = start_alone(LAUNCH_OPTS="--RemoteProcessProxy.spark-context-initialization-mode eager")
    code = "while (org.apache.spark.sql.SparkSession.getDefaultSession.isEmpty) Thread.sleep(100); println(sc.master)"
    assert kernel.value(code) == "local[2]"
    os.kill(kernel.child.pid, signal.SIGTERM)
    assert kernel.launch.wait(60) == 0, kernel.launch.text


def test_a_jvm_that_was_killed_leaves_nothing_and_is_the_reason(start_alone, fake_server):
    kernel = start_alone(*server_arguments(fake_server)[1:], ELYRA_LAUNCH_TICKET=fake_server.ticket)
    assert fake_server.wait_for("hello")["restarts_in_place"] is False
    kernel.jvm.kill()
    assert "the Spark driver's JVM, to which the kernel belongs, is gone" in fake_server.wait_for("error")["message"]
    assert kernel.launch.wait(60) == -signal.SIGKILL
    assert kernel.launch.gone(30)


def test_a_child_that_was_killed_takes_the_jvm_along(start_alone):
    kernel = start_alone()
    kernel.child.kill()
    assert kernel.launch.wait(60) != 0
