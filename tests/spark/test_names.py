"""Which cells make Spark start, and which must not."""

import ast

import pytest

from elyra_launcher.spark_driver import DEFAULT_WAIT, wait_time
from elyra_launcher.spark_names import names_needed

NAMES = ("spark", "sc", "sqlContext")


@pytest.mark.parametrize(
    ("cell", "needed"),
    [
        ("1 + 1", set()),
        ("spark", {"spark"}),
        ("spark.range(10).count()", {"spark"}),
        ("df = spark.createDataFrame(sc.parallelize([(1,)]))", {"spark", "sc"}),
        ("sqlContext.sql('select 1')", {"sqlContext"}),
        ("def f():\n    return spark.range(3)", {"spark"}),
        ("x.spark.sc", set()),
        ("'spark'", set()),
        ("# spark", set()),
        ("d = {'spark': 1}; d['spark']", set()),
        ("f(spark=1)", set()),
        ("def f(spark):\n    return spark.range(3)", set()),
        ("def f(spark):\n    return spark\nf(spark)", {"spark"}),
        ("(lambda sc: sc)(1)", set()),
        ("[sc for sc in range(3)]", set()),
        ("from pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()\nspark.range(3)", set()),
        ("import spark", set()),
        ("from tools import make as spark\nspark()", set()),
        ("for sc in range(3):\n    print(sc)", set()),
        ("with open('x') as sc:\n    sc.read()", set()),
        ("class A:\n    def f(self):\n        return sc", {"sc"}),
        ("await spark.something()", {"spark"}),
        ("if x:\n    spark.range(1)", {"spark"}),
        ("get_ipython().run_cell_magic('prun', '', 'spark.range(10).count()')", {"spark"}),
        ("get_ipython().run_line_magic('pinfo', 'sc')", {"sc"}),
        ("spark = spark.newSession()", {"spark"}),
        ("spark.stop()\nspark = None", {"spark"}),
        ("spark = make()\nspark = spark.newSession()", set()),
        ("sc += 1", {"sc"}),
        ("for sc in sc.glom():\n    print(sc)", {"sc"}),
        ("spark.conf.set('a', 1)\nx = [spark for spark in range(3)]", {"spark"}),
        ("[sc for x in sc for sc in x]", {"sc"}),
        ("{sc: spark for sc in y}", {"spark"}),
        ("(sc := 1)\nsc", set()),
        ("spark: object\nspark.range(3)", {"spark"}),
        ("def f():\n    return spark\nspark = 1\nf()", set()),
        ("class A:\n    spark = 1\nspark.range(3)", {"spark"}),
        ("try:\n    pass\nexcept OSError as sc:\n    print(sc)", set()),
        ("eval('sc.version')", {"sc"}),
        ("exec('print(sc)')", {"sc"}),
        ("def f():\n    return eval('spark')", {"spark"}),
    ],
)
def test_a_cell_needs_the_names_that_it_reads_and_does_not_bind(cell: str, needed: set[str]) -> None:
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    assert names_needed(compile(cell, "<cell>", "exec", flags=flags), NAMES) == needed


@pytest.mark.parametrize(
    ("cell", "needed"),
    [
        ("spark.range(1){chain}", {"spark"}),
        ("df = spark.range(1){chain}\nsc", {"spark", "sc"}),
        ("def f():\n    return spark.range(1){chain}", {"spark"}),
        ("[x{chain} for x in sc]", {"sc"}),
        ("eval('sc'){chain}", {"sc"}),
        ("frame{chain}\nspark.range(1)", {"spark"}),
        ("from tools import make\nspark = make(){chain}\nspark.range(3)", set()),
        ("spark = make()\nspark.range(1){chain}", set()),
    ],
)
def test_a_chain_of_calls_may_be_long(cell: str, needed: set[str]) -> None:
    assert names_needed(ast.parse(cell.format(chain=".f(1)" * 300)), NAMES) == needed


def test_a_program_that_is_run_gets_what_it_reads(tmp_path):
    (tmp_path / "job.py").write_text("print(spark.range(3).count())")
    cell = f"get_ipython().run_line_magic('run', '-i {tmp_path}/job.py x')"
    assert names_needed(ast.parse(cell), NAMES) == {"spark"}
    assert names_needed(ast.parse("get_ipython().run_line_magic('run', 'missing.py')"), NAMES) == set()


@pytest.mark.parametrize(
    ("properties", "seconds"),
    [
        ("spark.yarn.am.waitTime=480s", 480.0),
        ("spark.app.name=x\nspark.yarn.am.waitTime=100000\n", 100.0),
        ("spark.yarn.am.waitTime=2min\n", 120.0),
        ("spark.yarn.am.waitTime=2500ms\n", 2.5),
        ("spark.app.name=x\n", DEFAULT_WAIT),
        ("spark.yarn.am.waitTime=soon\n", DEFAULT_WAIT),
    ],
)
def test_the_time_that_yarn_waits_for_a_context_is_read_from_the_containers_properties(
    properties: str, seconds: float
) -> None:
    assert wait_time(properties) == seconds
