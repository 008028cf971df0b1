"""What the cells of the matrix say in each language, and what they are answered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Missing:
    """What a language does not have, and why: the matrix has no test there but a dash."""

    reason: str


@dataclass(frozen=True)
class Language:
    """One language, and its cells for the rows of the matrix.

    A cell that does something for long prints "it runs" first. Texts of expected answers are found somewhere in what
    the user sees, unless the name says more.
    """

    id: str
    title: str
    kernelspec: str  # its name, with {} for the place
    info: str  # language_info's name

    remember: str  # keeps 42
    recall: str  # shows it
    forgotten: str  # the error of `recall` in a new session
    html: str  # displays <b>bold</b>
    error: str
    error_name: str
    error_text: str
    text: str  # prints "grüße, 世界 🚀"
    read: str | Missing  # asks for a line and prints it, in capitals

    busy: str
    sleep: str
    native: str | Missing  # a tight loop of native code
    interrupted: tuple[str, str]  # status of an interrupted cell, and what is shown for it

    facts: str  # prints application, master, deploy mode, address of Spark's UI
    count: str  # counts 1000 rows in Spark
    closure: str | Missing  # runs code of the cell on the executors: 90
    job: str  # a Spark job that takes hours
    no_spark: str  # names Spark where it has not been given a name: an error; empty if it always has one
    no_spark_text: str
    get_spark: str  # what a user writes in mode none

    make_view: str
    views: str  # prints "views: N"
    pid: str  # prints "pid: N"
    quit: str
    memory: str | Missing  # takes gigabytes

    stderr: str = "stderr"  # where an error stream's text arrives
    restarts_in_place: bool = True  # else by a new JVM, a new application

    def kernel(self, place: str) -> str:
        """Return the name of the kernelspec for a place."""
        return self.kernelspec.format(place)


PYTHON = Language(
    id="python",
    title="Python",
    kernelspec="spark_python_{}",
    info="python",
    remember="kept = 42",
    recall="kept",
    forgotten="NameError",
    html="from IPython.display import HTML\nHTML('<b>bold</b>')",
    error="1 / 0",
    error_name="ZeroDivisionError",
    error_text="division by zero",
    text="print('grüße, 世界 🚀')",
    read="print(input('name? ').upper())",
    busy="print('it runs', flush=True)\nwhile True:\n    pass",
    sleep="import time\nprint('it runs', flush=True)\ntime.sleep(600)",
    native="import hashlib\nprint('it runs', flush=True)\nhashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)",
    interrupted=("error", "KeyboardInterrupt"),
    facts="print(sc.applicationId, sc.master, sc.getConf().get('spark.submit.deployMode'), sc.uiWebUrl)",
    count="print(spark.range(1000).count())",
    closure="print(sc.parallelize(range(10)).map(lambda x: x * 2).sum())",
    job="spark.range(0, 10**13, 1, 4).selectExpr('sum(id * id % 7)').collect()",
    no_spark="spark",
    no_spark_text="name 'spark' is not defined",
    get_spark="""
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
sc = spark.sparkContext
""",
    make_view="spark.range(3).createOrReplaceTempView('mine')",
    views="print('views:', len(spark.catalog.listTables()))",
    pid="import os\nprint('pid:', os.getpid())",
    quit="quit()",
    memory="taken = bytearray(3 * 2**30)\nfor i in range(0, len(taken), 4096):\n    taken[i] = 1",
)


SCALA = Language(
    id="scala",
    title="Scala",
    kernelspec="spark_scala_{}",
    info="scala",
    remember="val kept = 42",
    recall="println(kept)",
    forgotten="not found: value kept",
    html='kernel.display.html("<b>bold</b>")',
    error='throw new IllegalStateException("no way")',
    error_name="java.lang.IllegalStateException",
    error_text="no way",
    text='println("grüße, 世界 🚀")',
    # Its read(array) would ask until the array is full.
    read="val typed = kernel.in\nprintln(Array.fill(3)(typed.read().toChar).mkString.toUpperCase)",
    busy='println("it runs")\nwhile (true) {}',
    sleep='println("it runs")\nThread.sleep(600000)',
    native="""
println("it runs")
var (i, x) = (0L, 1L)
while (x != 0) { i += 1; x = (x * 31 + i) | 1 }
""",
    interrupted=("error", ""),
    facts="""
println(s"${sc.applicationId} ${sc.master} ${sc.getConf.get("spark.submit.deployMode")} ${sc.uiWebUrl.get}")
""",
    count="println(spark.range(1000).count())",
    closure="println(sc.parallelize(0 until 10).map(_ * 2).sum().toLong)",
    job='spark.range(0, 10000000000000L, 1, 4).selectExpr("sum(id * id % 7)").collect()',
    no_spark="",
    no_spark_text="",
    get_spark="",
    make_view='spark.range(3).createOrReplaceTempView("mine")',
    views='println("views: " + spark.catalog.listTables().count())',
    pid='println("pid: " + ProcessHandle.current.pid)',
    quit="sys.exit(0)",
    memory="""
val field = classOf[sun.misc.Unsafe].getDeclaredField("theUnsafe")
field.setAccessible(true)
val unsafe = field.get(null).asInstanceOf[sun.misc.Unsafe]
unsafe.setMemory(unsafe.allocateMemory(3L << 30), 3L << 30, 1)
""",
    stderr="stdout",
    restarts_in_place=False,
)

R = Language(
    id="r",
    title="R",
    kernelspec="spark_R_{}",
    info="R",
    remember="kept <- 42",
    recall="print(kept)",
    forgotten="object 'kept' not found",
    html="IRdisplay::display_html('<b>bold</b>')",
    error="stop('no way')",
    error_name="ERROR",
    error_text="no way",
    text="cat('grüße, 世界 🚀')",
    read="cat(toupper(readline('name? ')))",
    busy="cat('it runs')\nwhile (TRUE) {}",
    sleep="cat('it runs')\nSys.sleep(600)",
    native="large <- matrix(rnorm(4e6), 2000)\ncat('it runs')\nlarge <- svd(large)",
    interrupted=("abort", ""),
    facts="""
call <- SparkR::sparkR.callJMethod
context <- call(sc, "sc")
cat(call(context, "applicationId"), call(context, "master"),
    call(call(context, "getConf"), "get", "spark.submit.deployMode"), call(call(context, "uiWebUrl"), "get"))
""",
    count="""
call <- SparkR::sparkR.callJMethod
cat(call(call(spark, "sql", "select * from range(1000)"), "count"))
""",
    closure=Missing("SparkR's own R workers would do it, and SparkR is on no registry"),
    job="""
SparkR::sparkR.callJMethod(
  SparkR::sparkR.callJMethod(spark, "sql", "select sum(id * id % 7) from range(0, 10000000000000, 1, 4)"), "collect")
""",
    no_spark="spark",
    no_spark_text="object 'spark' not found",
    get_spark="""
spark <- SparkR::sparkR.session(enableHiveSupport = FALSE)
sc <- SparkR::sparkR.callJStatic("org.apache.spark.sql.api.r.SQLUtils", "getJavaSparkContext", spark)
""",
    make_view="""
call <- SparkR::sparkR.callJMethod
invisible(call(call(spark, "sql", "select 1"), "createOrReplaceTempView", "mine"))
""",
    views="""
call <- SparkR::sparkR.callJMethod
cat("views:", call(call(call(spark, "catalog"), "listTables"), "count"))
""",
    pid="cat('pid:', Sys.getpid())",
    quit="quit()",
    memory="taken <- rep(1, 4e8)",
)

LANGUAGES = [PYTHON, SCALA, R]
