"""run.sh: its interface, and that nothing a client sends is run, split or expanded."""

import json
from pathlib import Path

import pytest

HOSTILE = {
    "semicolon": "x; touch MARK",
    "substitution": "$(touch MARK)",
    "backticks": "`touch MARK`",
    "double quotes": '"; touch MARK; "',
    "single quotes": "'; touch MARK; '",
    "newline": "x\ntouch MARK\n",
    "pipe": "x | touch MARK",
    "ampersand": "x & touch MARK &",
    "redirection": "x > MARK",
    "arithmetic": "$((touch=1)) a[$(touch MARK)]",
    "indirection": "${!KERNEL_*} ${IFS}touch${IFS}MARK",
    "glob": "* ? [a-z]* /*",
    "spaces": "  several   words  ",
    "backslashes": "\\$(touch MARK) \\\\ \\",
    "options": "--conf spark.submit.pyFiles=/evil.py",
    "braces": "} ${KERNEL_ID} {a,b} ~",
    "unicode": "Ünïcödé 雪",
}


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE.keys())
def hostile(request, tmp_path):
    """A value that a shell would act on; acting on it would leave a file."""
    mark = tmp_path / "mark"
    yield request.param.replace("MARK", str(mark))
    assert not mark.exists()


@pytest.mark.parametrize(
    "template", ["--name ${X}", "--name $X", '--name "$X"', "--name ${X:-other}", "--name ${U:-$X}"]
)
def test_a_hostile_value_is_one_word_of_spark_opts(run_script, hostile, template):
    template = template.replace("X", "KERNEL_X").replace("${U", "${KERNEL_U")
    options = run_script.options(f"--master yarn {template} --last", KERNEL_X=hostile)
    assert options == ["--master", "yarn", "--name", hostile, "--last"]


def test_a_hostile_value_in_the_kernelspec_as_installed_is_text(run_script, prefix, hostile):
    spec = json.loads((prefix / "share/jupyter/kernels/spark_python_yarn_cluster/kernel.json").read_text())
    names = ("KERNEL_ID", "KERNEL_USERNAME", "KERNEL_QUEUE", "KERNEL_DRIVER_MEMORY", "KERNEL_NODE_LABEL")
    called = run_script(
        "connection.json", SPARK_OPTS=spec["env"]["SPARK_OPTS"], **dict.fromkeys((*names, "KERNEL_OTHER"), hostile)
    )
    argv = called["argv"]
    assert argv[argv.index("--name") + 1] == argv[argv.index("--queue") + 1] == hostile
    assert f"spark.yarn.tags={hostile}" in argv
    assert argv[-1] == "connection.json"


def test_a_hostile_value_in_launch_opts_is_text(run_script, hostile):
    called = run_script("connection.json", LAUNCH_OPTS="--a=${KERNEL_X} --b", KERNEL_X=hostile)
    assert called["argv"][-3:] == [f"--a={hostile}", "--b", "connection.json"]


def test_a_hostile_value_of_the_local_kernel_is_text(run_script, hostile):
    called = run_script("connection.json", name="python_local", LAUNCH_OPTS="--a=${KERNEL_X}", KERNEL_X=hostile)
    assert called["argv"][1:] == [f"--a={hostile}", "connection.json"]


def test_a_hostile_argument_stays_one_argument(run_script, hostile):
    assert run_script(hostile, SPARK_OPTS="--x")["argv"][-1] == hostile
    assert run_script(hostile, name="python_local")["argv"][-1] == hostile


def test_a_hostile_user_is_text(run_script, hostile):
    options = run_script.options("--x", ELYRA_IMPERSONATION_ENABLED="True", KERNEL_USERNAME=hostile)
    assert options == ["--x", "--proxy-user", hostile]


def test_hostile_extra_options_are_split_and_no_more(run_script, tmp_path):
    mark = tmp_path / "mark"
    extra = f"--conf 'a=b c' --conf \"d=$(touch {mark})\" $KERNEL_ID `touch` ; * \\$x"
    options = run_script.options("--x ${KERNEL_EXTRA_SPARK_OPTS} --y", KERNEL_EXTRA_SPARK_OPTS=extra, KERNEL_ID="i")
    assert options[:5] == ["--x", "--conf", "a=b c", "--conf", f"d=$(touch {mark})"]
    assert options[5:] == ["$KERNEL_ID", "`touch`", ";", "*", "$x", "--y"]
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("--a  --b\t--c\n--d", ["--a", "--b", "--c", "--d"]),
        ("--conf 'a=b c'", ["--conf", "a=b c"]),
        ("--conf a='b c'd", ["--conf", "a=b cd"]),
        ('--conf "a=\'b\' \\"c\\" \\$d"', ["--conf", "a='b' \"c\" $d"]),
        ("--conf a=\\ \\'b", ["--conf", "a= 'b"]),
        ('--empty ""', ["--empty", ""]),
        ("'${KERNEL_A}'", ["${KERNEL_A}"]),
        ("${KERNEL_A}-$KERNEL_A.x", ["one two-one two.x"]),
        ("$KERNEL_EMPTY ${KERNEL_EMPTY} ${KERNEL_UNSET}", []),
        ('"$KERNEL_EMPTY"', [""]),
        ("${KERNEL_UNSET:-a} ${KERNEL_EMPTY:-b} ${KERNEL_A:-c}", ["a", "b", "one two"]),
        ("${KERNEL_UNSET-a} x${KERNEL_EMPTY-b} ${KERNEL_A-c}", ["a", "x", "one two"]),
        ("${KERNEL_UNSET:-a b} ${KERNEL_UNSET:-'c d'}", ["a", "b", "c d"]),
        ('"${KERNEL_UNSET:-a b}"', ["a b"]),
        ("${KERNEL_UNSET:-${KERNEL_EMPTY:-${KERNEL_A}}}", ["one two"]),
        ("${KERNEL_A:+--q ${KERNEL_A}} ${KERNEL_UNSET:+--r} ${KERNEL_EMPTY:+--s} x${KERNEL_EMPTY+--t}", None),
        ("{{JAVA_HOME}} /jars/* ~ $ 5$ #tag", ["{{JAVA_HOME}}", "/jars/*", "~", "$", "5$", "#tag"]),
        ("--name é\u2603", ["--name", "é\u2603"]),
    ],
)
def test_spark_opts_are_read_as_a_shell_reads_words(run_script, text, words):
    words = ["--q", "one two", "x--t"] if words is None else words
    assert run_script.options(text, KERNEL_A="one two", KERNEL_EMPTY="") == words


@pytest.mark.parametrize(
    "text",
    [
        "$(date)",
        "`date`",
        "${KERNEL_A//a/b}",
        "${!KERNEL_A}",
        "$((1+1))",
        "'open",
        '"open',
        "${KERNEL_A",
        "${KERNEL_A:-x",
    ],
)
def test_what_would_need_a_shell_is_refused(run_script, text):
    assert "options contain" in run_script.error("connection.json", SPARK_OPTS=f"--master yarn {text}", KERNEL_A="a")


def test_the_order_is_options_script_launch_opts_arguments(run_script):
    called = run_script(
        "/run/kernel-1.json",
        "--RemoteProcessProxy.response-address",
        "h:1",
        SPARK_OPTS="--master yarn",
        LAUNCH_OPTS="--l",
    )
    *spark, script, option, connection_file, flag, address = called["argv"]
    assert spark == ["--master", "yarn"]
    assert Path(script).is_file()
    assert (option, connection_file, address) == ("--l", "/run/kernel-1.json", "h:1")
    assert flag == "--RemoteProcessProxy.response-address"


@pytest.mark.parametrize("variable", ["ELYRA_IMPERSONATION_ENABLED", "EG_IMPERSONATION_ENABLED"])
@pytest.mark.parametrize(("value", "on"), [("True", True), ("1", True), ("on", True), ("False", False), ("", False)])
def test_impersonation_adds_the_user(run_script, variable, value, on):
    options = run_script.options("--x ${KERNEL_EXTRA_SPARK_OPTS}", **{variable: value}, KERNEL_USERNAME="ann",
                                 KERNEL_EXTRA_SPARK_OPTS="--proxy-user root")  # fmt: skip
    assert options == ["--x", "--proxy-user", "root", *(["--proxy-user", "ann"] if on else [])]


def test_a_warm_submitter_gets_the_very_words_of_spark_submit(run_script, hostile):
    words = {"SPARK_OPTS": "--name ${KERNEL_X} --last", "LAUNCH_OPTS": "--a=${KERNEL_X}", "KERNEL_X": hostile}
    submitter = {"ELYRA_SUBMITTER": "/socket", "ELYRA_SUBMITTER_CLIENT": "/client.py"}
    plain = run_script("c", **words)["argv"]
    warm = run_script("c", **words, **submitter, ELYRA_SUBMITTER_PYTHON=str(run_script.directory / "python"))
    assert warm["argv"] == ["-I", "-S", "/client.py", str(run_script.spark_home / "bin/spark-submit"), *plain]


def test_a_warm_submitter_whose_python_is_gone_is_not_missed(run_script):
    submitter = {"ELYRA_SUBMITTER": "/socket", "ELYRA_SUBMITTER_PYTHON": "/nowhere/python"}
    assert run_script("c", SPARK_OPTS="--x", **submitter)["argv"][0] == "--x"


def test_impersonation_without_a_user_is_refused(run_script):
    assert "KERNEL_USERNAME" in run_script.error("c", ELYRA_IMPERSONATION_ENABLED="True")


@pytest.mark.parametrize("value", ["{{(touch mark)}}", "{{PATH}}", "a}}", "<LOG_DIR>", "x<CPS>"])
def test_what_yarn_would_replace_is_no_option_of_the_launcher(run_script, value):
    assert "YARN" in run_script.error("c", LAUNCH_OPTS="--mode ${KERNEL_A}", KERNEL_A=value)


def test_the_kernels_variables_are_on_no_command_line(run_script):
    variables = {"KERNEL_A": "a", "KERNEL_API_TOKEN": "t"}
    assert run_script.options("--deploy-mode cluster", **variables) == ["--deploy-mode", "cluster"]


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"SPARK_HOME": None}, ["SPARK_HOME is not set", "--spark-home"]),
        ({"SPARK_HOME": "/nowhere"}, ["/nowhere/bin/spark-submit", "SPARK_HOME"]),
        ({"JAVA_HOME": "/nowhere"}, ["/nowhere/bin/java", "JAVA_HOME"]),
    ],
)
def test_what_is_missing_is_said_in_one_line(run_script, environ, names):
    error = run_script.error("connection.json", **environ)
    assert all(name in error for name in names)


def test_a_missing_java_is_said_in_one_line(run_script, tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ("bash", "env"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    assert "no java" in run_script.error("connection.json", PATH=str(tmp_path / "bin"))


def test_a_missing_python_is_said_in_one_line(run_script):
    error = run_script.error("connection.json", name="python_local", PYSPARK_PYTHON="/nowhere/python")
    assert "/nowhere/python" in error and "PYSPARK_PYTHON" in error


def test_a_place_with_blanks_is_no_problem(run_script, tmp_path):
    place = tmp_path / "a kernels' place"
    run_script.kernels.joinpath("spark_python_yarn_cluster").rename(place)
    try:
        (tmp_path / "place").symlink_to(place)
        run_script.kernels, installed = tmp_path, run_script.kernels
        called = run_script("c", name="a kernels' place", SPARK_OPTS="--x")
        assert Path(called["argv"][1]).is_file()
    finally:
        place.rename(installed / "spark_python_yarn_cluster")
