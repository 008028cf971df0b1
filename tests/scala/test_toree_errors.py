"""What is wrong with a Scala launch is said at once, and what to do about it."""

import shutil
import subprocess
import zipfile

import pytest

from elyra_launcher.toree_kernel import BUILD_INFO, scala_version, values_of
from elyra_server.toree import add_assembly, packaged_assembly, scala_of


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--default-interpreter", "Klingon"], ["no interpreter 'Klingon'", "Scala or SQL"]),
        (["--stdin-port", "many"], ["Toree ended with", "many"]),
    ],
    ids=["interpreter", "option"],
)
def test_what_toree_does_not_take_ends_the_launch_with_the_reason(launch, arguments, words):
    started = launch(*arguments, DEFAULT_INTERPRETER="")
    assert started.wait(300) != 0
    for word in words:
        assert word in started.text


def test_a_cell_says_why_spark_could_not_be_started_and_the_kernel_lives(start_alone):
    options = "--master local[2] --conf spark.ui.enabled=false --conf spark.memory.fraction=7"
    kernel = start_alone(SPARK_OPTS="", __TOREE_SPARK_OPTS__=options)
    for _ in range(2):
        status, text = kernel.run("spark.range(10).count()")
        assert status == "error" and "spark.memory.fraction" in text
    assert kernel.value("println(6 * 7)") == "42"
    kernel.shut_down()
    kernel.launch.wait(60)


@pytest.fixture
def run(kernelspec, tmp_path):
    """Run a copy of run.sh with a Spark that is only a script; return its exit code and words."""
    spark, copy = tmp_path / "spark", tmp_path / "scala"
    shutil.copytree(kernelspec, copy)
    (spark / "bin").mkdir(parents=True)
    (spark / "jars").mkdir()
    (spark / "conf").mkdir()
    submit = spark / "bin" / "spark-submit"
    submit.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    submit.chmod(0o755)

    def run_script(change=lambda spark, copy: None, **environ):
        change(spark, copy)
        variables = {"SPARK_HOME": str(spark), "PATH": "/usr/bin:/bin", **environ}
        done = subprocess.run(
            ["bash", str(copy / "bin" / "run.sh"), "--profile", "k.json"], env=variables, capture_output=True, text=True
        )
        return done.returncode, done.stderr or done.stdout

    return run_script


def test_no_assembly_says_where_to_get_one(run):
    code, text = run(lambda spark, copy: shutil.rmtree(copy / "lib"))
    assert code == 78 and "pip install toree" in text and "--toree-assembly" in text


def test_an_assembly_that_is_not_there_is_named(run):
    code, text = run(TOREE_ASSEMBLY="/nowhere/toree.jar")
    assert code == 78 and "/nowhere/toree.jar" in text and "TOREE_ASSEMBLY" in text


def test_a_script_that_cannot_be_read_is_named(run):
    code, text = run(lambda spark, copy: (copy / "scripts" / "launch_toree.py").unlink())
    assert code == 78 and "launch_toree.py" in text


def test_a_scala_that_does_not_fit_is_told_with_both_versions(run):
    code, text = run(lambda spark, copy: (spark / "jars" / "scala-library-2.13.8.jar").touch())
    assert code == 78 and "Scala 2.12.15" in text and "Scala 2.13.8" in text


def test_a_scala_that_fits_is_no_obstacle(run):
    code, text = run(lambda spark, copy: (spark / "jars" / "scala-library-2.12.99.jar").touch())
    assert code == 0 and "--jars" in text


def test_a_scala_that_only_the_driver_can_see_is_told_with_both_versions(launch, tmp_path):
    changed = tmp_path / "toree-assembly-other.jar"
    with zipfile.ZipFile(packaged_assembly()) as jar, zipfile.ZipFile(changed, "w") as other:
        other.writestr(BUILD_INFO, jar.read(BUILD_INFO).replace(b"2.12.15", b"2.11.12"))
    started = launch(TOREE_ASSEMBLY=str(changed))
    assert started.wait(300) != 0
    assert "built for Scala 2.11.12" in started.text and "has Scala 2.12." in started.text


def test_the_jars_of_others_stay_with_toree_s(run):
    def words(options, defaults=""):
        def change(spark, copy):
            (spark / "conf" / "spark-defaults.conf").write_text(defaults)

        code, text = run(change, SPARK_OPTS=options, TOREE_ASSEMBLY="hdfs:///toree.jar")
        assert code == 0, text
        lines = text.splitlines()
        return lines[len(lines) - 1 - lines[::-1].index("--jars") + 1]

    assert words("--master yarn") == "hdfs:///toree.jar"
    assert words("--jars a.jar,b.jar") == "a.jar,b.jar,hdfs:///toree.jar"
    assert words("--conf spark.jars=c.jar") == "c.jar,hdfs:///toree.jar"
    assert words("", "spark.jars   d.jar\nspark.x y") == "d.jar,hdfs:///toree.jar"


def test_the_variables_of_the_field_work(run):
    code, text = run(
        __TOREE_SPARK_OPTS__="--master yarn --name ${KERNEL_ID:-ERROR__NO__KERNEL_ID}",
        __TOREE_OPTS__="--magic-url x -- -Xlint",
        DEFAULT_INTERPRETER="SQL",
        KERNEL_ID="the id",
    )
    assert code == 0
    lines = text.splitlines()
    assert lines[:4] == ["--master", "yarn", "--name", "the id"]
    assert lines[-8:] == ["--profile", "k.json", "--default-interpreter", "SQL", "--magic-url", "x", "--", "-Xlint"]


def test_the_options_of_the_moment_come_before_those_of_the_installation(run):
    code, text = run(
        SPARK_OPTS="--master local",
        __TOREE_SPARK_OPTS__="--master yarn",
        TOREE_OPTS="--default-interpreter=SQL",
        __TOREE_OPTS__="--no",
        DEFAULT_INTERPRETER="Scala",
    )
    assert code == 0 and "yarn" not in text and "--no" not in text.splitlines()
    assert text.splitlines()[-1] == "--default-interpreter=SQL" and "Scala" not in text.splitlines()


def test_the_scala_of_an_assembly_is_read_from_it(tmp_path):
    assert scala_of(packaged_assembly()).startswith("2.12.")
    (tmp_path / "no.jar").write_bytes(b"no jar")
    assert scala_of(tmp_path / "no.jar") == "" and scala_version(b"nothing") == ""


def test_an_assembly_elsewhere_is_taken_as_it_is(tmp_path):
    add_assembly(tmp_path, "hdfs:///lib/toree.jar", on_all_nodes=False)
    assert (tmp_path / "lib" / "toree-assembly").read_text() == "hdfs:///lib/toree.jar\n\n"


def test_options_are_found_in_both_spellings():
    assert values_of("--a", ["--a", "1", "--a=2", "--b", "--", "--a", "3"]) == ["1", "2"]
