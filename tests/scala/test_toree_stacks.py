"""Where a cell's thread is decides whether it may be interrupted, or stopped by force."""

import re

import pytest

from elyra_launcher.toree_interrupts import INTERRUPTIBLE, MODULES, STOPPABLE, cell_of

BASE = [
    "app//scala.tools.nsc.interpreter.IMain.interpret(IMain.scala:600)",
    "app//org.apache.toree.utils.TaskManager$$anon$2.run(TaskManager.scala:140)",
    "java.base@17.0.15/java.lang.Thread.run(Thread.java:840)",
]
CELL = [
    "$line15.$read$$iw$$iw.<init>(<console>:23)",
    "$line15.$read$.<clinit>(<console>)",
    "app//scala.tools.nsc.interpreter.IMain$ReadEvalPrint.call(IMain.scala:745)",
    *BASE,
]


def text(frames):
    """Make of frames what the JVM does."""
    return re.sub(MODULES, "", f"[{', '.join(frames)}]")


@pytest.mark.parametrize(
    ("inner", "outer", "may_interrupt", "may_stop"),
    [
        ([], CELL, True, True),
        (["java.base/java.lang.Thread.sleep(Native Method)"], CELL, True, True),
        (["com.example.Made.compute(Made.java:3)", "com.example.Made.<clinit>(Made.java:1)"], CELL, True, False),
        (["org.apache.spark.SparkContext.<init>(SparkContext.scala:600)"], CELL, False, False),
        (["app//scala.tools.nsc.Global$Run.compileUnits(Global.scala:1510)"], CELL, False, False),  # %AddJar does so
        (["app//scala.reflect.internal.Symbols$Symbol.info(Symbols.scala:1548)"], BASE, False, False),
        ([], BASE, False, False),
        ([], BASE[1:], False, False),
    ],
)
def test_only_the_code_of_a_cell_is_interrupted(inner, outer, may_interrupt, may_stop):
    stack = text(inner + outer)
    assert (bool(re.search(INTERRUPTIBLE, stack)), bool(re.search(STOPPABLE, stack))) == (may_interrupt, may_stop)


def test_the_cell_that_runs_is_told_from_those_whose_functions_it_calls():
    assert cell_of(text(["$line3.$read$$iw$$iw.help(<console>:2)", *CELL])) == "$line15"
    assert cell_of(text(BASE)) == ""
