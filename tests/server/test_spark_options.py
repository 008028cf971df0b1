"""What the server adds to SPARK_OPTS, and what it leaves as the kernelspec has it."""

import shlex
from pathlib import Path

import pytest

from elyra_server.sparkoptions import extend, leaves_start_to_us

KERNEL = "6B0BD2E6-8A0F-4BC6-9C5D-64C2CEEF1A39"


def extended(options: str, **environ: str) -> str:
    return extend(options, environ, f"{KERNEL},elyra-1", Path("/private/ticket"), Path("/private/launcher.zip"))


def test_ticket_launcher_and_tag_travel_with_the_submission():
    options = extended("--master yarn")
    assert options.startswith("--master yarn ")
    assert f"--conf spark.yarn.tags={KERNEL.lower()},elyra-1 " in options
    assert "--conf 'spark.yarn.dist.files=file:///private/ticket#elyra-ticket'" in options or (
        "--conf spark.yarn.dist.files='file:///private/ticket#elyra-ticket'" in options
    )
    assert "--conf spark.yarn.dist.pyFiles=file:///private/launcher.zip" in options


def test_what_the_kernelspec_sets_stays():
    options = extended("--conf spark.yarn.maxAppAttempts=3 --conf spark.yarn.am.waitTime=10s")
    for name in ("spark.yarn.maxAppAttempts", "spark.yarn.am.waitTime"):
        assert options.count(name) == 1


@pytest.mark.parametrize("tags", ["mine", "${KERNEL_ID:-none}"])
def test_an_application_has_the_kernels_tag_whatever_else_is_set(tags):
    options = extended(f"--conf spark.yarn.tags={tags} ${{KERNEL_EXTRA_SPARK_OPTS}}")
    _, _, after = options.partition("${KERNEL_EXTRA_SPARK_OPTS}")
    assert f"--conf spark.yarn.tags={tags},{KERNEL.lower()},elyra-1 " in after


def test_lists_of_files_are_added_to(tmp_path):
    (tmp_path / "spark-defaults.conf").write_text("spark.yarn.dist.pyFiles   hdfs:///team.zip\n")
    options = extended("--conf spark.yarn.dist.files=hdfs:///a.txt", SPARK_CONF_DIR=str(tmp_path))
    assert "hdfs:///a.txt,file:///private/ticket#elyra-ticket" in options
    assert "hdfs:///team.zip,file:///private/launcher.zip" in options


@pytest.mark.parametrize("quote", ["{}={}", '{}="{}"', "{}='{}'", '"{}={}"', "'{}={}'"])
def test_what_is_in_quotes_is_set_as_well(quote):
    files = quote.format("spark.yarn.dist.files", "hdfs:///a,hdfs:///b")
    words = shlex.split(extended(f"--conf {files}"))
    assert words[-3] == "spark.yarn.dist.files=hdfs:///a,hdfs:///b,file:///private/ticket#elyra-ticket"
    python = quote.format("spark.pyspark.python", "/opt/py/bin/python")
    assert not leaves_start_to_us(f"--conf {python}", {})


def test_variables_in_quotes_are_still_filled_in_by_the_launch_script():
    options = extended('--conf spark.yarn.dist.files="$HOME/a \\"b\\".txt"')
    assert r'"$HOME/a \"b\".txt,file:///private/ticket#elyra-ticket"' in options
