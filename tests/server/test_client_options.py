"""Options of clients where spark-submit runs with more rights than they have."""

import pytest

from elyra_server.clientoptions import check_options
from elyra_server.errors import InvalidRequestError


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--executor-memory 2g --num-executors=4",
        "--conf spark.sql.shuffle.partitions=7 -c spark.executor.memoryOverhead=1g",
        "--driver-memory 1g --queue research",
    ],
)
def test_options_that_size_the_application_pass(options: str) -> None:
    check_options({"KERNEL_EXTRA_SPARK_OPTS": options, "KERNEL_USERNAME": "--proxy-user"})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--proxy-user hdfs", "--proxy-user"),
        ("--num-executors 2 /tmp/evil.py", "/tmp/evil.py"),
        ("--files /etc/shadow", "--files"),
        ("--conf spark.submit.deployMode=client", "spark.submit.deployMode"),
        ("--conf=spark.driver.extraJavaOptions=-javaagent:/tmp/evil.jar", "spark.driver.extraJavaOptions"),
        ("--conf 'spark.yarn.dist.files=/etc/shadow'", "spark.yarn.dist.files"),
        ("--master local", "--master"),
        ("--properties-file /tmp/evil", "--properties-file"),
        ("--packages org.example:example_2.12:1.0", "--packages"),
        ("--conf spark.pyspark.driver.python=/tmp/evil", "spark.pyspark.driver.python"),
        ("--keytab /etc/server.keytab", "--keytab"),
        ("--verbose", "--verbose"),
        ("--conf", "--conf"),
        ("--driver-memory 1g --name", "--name"),
    ],
)
def test_options_that_would_give_the_client_the_servers_rights_are_refused_by_name(options: str, named: str) -> None:
    with pytest.raises(InvalidRequestError, match="KERNEL_EXTRA_SPARK_OPTS") as refused:
        check_options({"KERNEL_EXTRA_SPARK_OPTS": options})
    assert named in str(refused.value)


def test_unbalanced_quotes_are_no_options() -> None:
    with pytest.raises(InvalidRequestError, match="not a list of options"):
        check_options({"KERNEL_EXTRA_SPARK_OPTS": "--name 'x"})
