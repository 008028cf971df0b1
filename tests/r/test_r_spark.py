"""R under a real spark-submit, with a local master; SparkR is a stand-in, the RBackend is Spark's."""

import os
import sys

import psutil
import pytest
from conftest import NAMES, change_spec
from waiting import until

MISSING = "SparkR, the R package of Spark, is not installed"


def test_without_sparkr_the_first_cell_says_how_to_get_it_and_the_rest_works(start):
    kernel = start("spark_R_local")
    first = kernel.execute("cat(6 * 7)")
    assert MISSING in first.text
    assert "https://spark.apache.org/downloads.html" in first.text
    assert first.text.endswith("42")
    assert kernel.value("cat(1)") == "1"  # once is enough
    for name in ("spark", "sc"):
        result = kernel.execute(name)
        assert result.status == "error"
        assert MISSING in result.value
    assert kernel.value("spark <- 3; cat(spark)") == "3"


def test_the_session_is_made_on_first_use_in_the_live_application(sparkr):
    application, master, mode = sparkr.value("facts()").split()
    assert application.startswith("local-")
    assert (master, mode) == ("local[*]", "client")
    assert sparkr.value("cat(count('select * from range(1000)'))") == "1000"
    assert sparkr.value("cat(java(java(sc, 'sc'), 'appName'))") == sparkr.id


def test_a_name_that_the_user_gave_a_value_is_left_alone(sparkr):
    assert sparkr.value("spark <- 3; cat(spark); rm(spark)") == "3"
    assert sparkr.value("cat(class(spark))") == "jobj"


@pytest.mark.parametrize("attempt", range(5))
@pytest.mark.parametrize(
    "cell",
    ["hours()", "java(hours(), 'size')", "tryCatch(hours(), interrupt = function(e) stop('caught'))"],
    ids=["plain", "nested", "caught by the cell"],
)
def test_an_interrupt_ends_the_cell_and_its_job_and_the_next_cell_works(sparkr, cell, attempt):
    result = sparkr.execute(cell, on_output=lambda text: sparkr.interrupt())
    assert result.status == "abort" or "caught" in result.value
    assert sparkr.value("cat(active(), count('select * from range(10)'))") == "0 10"


def test_an_interrupt_before_spark_is_used_does_not_spoil_it(start):
    kernel = start("sparkr")
    cell = "cat('it runs\\n'); flush.console(); repeat {}"
    assert kernel.execute(cell, 30, on_output=lambda text: kernel.interrupt()).status == "abort"
    assert kernel.value("cat(SparkR::sparkR.callJMethod(spark, 'version'))").startswith("3.")


def test_an_interrupt_while_spark_starts_does_not_spoil_it(start):
    kernel = start("sparkr")
    cell = "cat('it runs\\n'); flush.console(); spark"
    assert kernel.execute(cell, on_output=lambda text: kernel.interrupt()).status == "abort"
    assert kernel.value("cat(SparkR::sparkR.callJMethod(spark, 'version'))").startswith("3.")


def test_a_restart_keeps_the_application_and_nothing_of_the_session(start):
    kernel = start("sparkr")
    kernel.execute(NAMES)
    application = kernel.value("facts()")
    kernel.value("invisible(java(query('select 1'), 'createOrReplaceTempView', 'mine'))")
    backend = kernel.value("cat(Sys.getenv('EXISTING_SPARKR_BACKEND_PORT'))")
    kernel.restart()
    kernel.execute(NAMES)
    assert kernel.value("facts()") == application
    assert "TABLE_OR_VIEW_NOT_FOUND" in kernel.execute("count('select * from mine')").value
    assert kernel.value("cat(count('select * from range(7)'))") == "7"
    old = f"tryCatch(socketConnection('localhost', {backend}), error = function(e) cat('gone'))"
    assert kernel.value(f"suppressWarnings({old})") == "gone"


def test_a_killed_kernel_keeps_the_application(start):
    kernel = start("sparkr")
    identity = "cat(SparkR::sparkR.callJMethod(SparkR::sparkR.callJMethod(sc, 'sc'), 'applicationId'))"
    application = kernel.value(identity)
    kernel.states.clear()
    os.kill(int(kernel.value("cat(Sys.getpid())")), 9)
    kernel.wait_for_state("restarting")
    assert kernel.value(identity) == application


def test_mode_none_gives_no_names_and_no_word_but_the_way_to_spark(start):
    kernel = start("sparkr", KERNEL_SPARK_CONTEXT_INIT_MODE="none")
    assert "object 'spark' not found" in kernel.execute("spark").value
    assert kernel.value("cat(SparkR::sparkR.callJMethod(SparkR::sparkR.session(), 'version'))").startswith("3.")
    quiet = start("spark_R_local", KERNEL_SPARK_CONTEXT_INIT_MODE="none")
    assert quiet.value("cat('quiet')") == "quiet"


def test_mode_eager_makes_the_context_without_being_asked(start, tmp_path):
    log = f"--conf spark.eventLog.enabled=true --conf spark.eventLog.dir={tmp_path}"
    kernel = start("spark_R_local", KERNEL_SPARK_CONTEXT_INIT_MODE="eager", KERNEL_EXTRA_SPARK_OPTS=log)
    until(lambda: list(tmp_path.iterdir()), "the file by which alone Spark tells")
    assert kernel.execute("cat(1)").text.endswith("1")


def test_sparks_own_error_is_the_cells_and_the_kernel_lives(start):
    kernel = start("sparkr", KERNEL_EXTRA_SPARK_OPTS="--conf spark.memory.fraction=nonsense")
    for _ in range(2):
        result = kernel.execute("spark")
        assert result.status == "error"
        assert "Illegal value for config key spark.memory.fraction" in result.value
    assert kernel.value("cat(1 + 1)") == "2"


def test_custom_app_name(r_server, r_library, start):
    def change(spec):
        spec["env"]["R_LIBS"] = str(r_library)
        spec["env"]["LAUNCH_OPTS"] += " --customAppName 'my analysis'"

    r_server.install("spark_R_local", "--user", "--kernel-name=named", f"--python={sys.executable}")
    change_spec(r_server, "named", change)
    kernel = start("named")
    name = "cat(SparkR::sparkR.callJMethod(SparkR::sparkR.callJMethod(sc, 'sc'), 'appName'))"
    assert kernel.value(name) == "my analysis"


def test_no_secret_on_a_command_line(sparkr):
    secret = sparkr.value("cat(Sys.getenv('SPARKR_BACKEND_AUTH_SECRET'))")
    assert len(secret) == 64
    for process in psutil.process_iter(["cmdline"]):
        assert secret not in " ".join(process.info["cmdline"] or [])
