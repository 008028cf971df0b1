"""Scala kernels as spark-submit starts them, without a server: the real Toree with a local Spark master."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "launcher"))

from fake_server import FakeServer, make_certificate
from launching import Launch
from scala_kernel import Kernel

from demo import spark_home
from demo.yarn import SHORT_LIVED
from elyra_server.install import known_kernelspecs, stage
from elyra_server.toree import add_assembly

OPTIONS = "--master local[2] --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=2"


@pytest.fixture(scope="session")
def kernelspec(tmp_path_factory):
    """The directory of a Scala kernelspec, as `jupyter elyra install` puts it together."""
    directory = tmp_path_factory.mktemp("kernelspec") / "scala"
    stage(known_kernelspecs()["spark_scala_local"], directory)
    add_assembly(directory, "", on_all_nodes=True)
    return directory


def make_launch(directory, kernelspec, *arguments, **environ):
    """Start run.sh with the name of a connection file in a private directory."""
    private = directory / f"private-{len(list(directory.iterdir()))}"
    private.mkdir(mode=0o700)
    file = private / "kernel-1.json"
    variables = {"SPARK_HOME": str(spark_home()), "SPARK_OPTS": OPTIONS, "SPARK_LOCAL_IP": "127.0.0.1"}
    variables |= {"PYSPARK_PYTHON": sys.executable, "LAUNCH_OPTS": "", "DEFAULT_INTERPRETER": "Scala"}
    variables["SPARK_SUBMIT_OPTS"] = " ".join(SHORT_LIVED)
    script = str(kernelspec / "bin" / "run.sh")
    return Launch(
        directory, script, "--profile", str(file), *arguments, python="bash", program=(), **{**variables, **environ}
    ), file


def finish(launch):
    """See that a launch left no process and no file."""
    left = launch.gone(30)
    text = launch.text
    launch.kill()
    assert left, f"the launch left processes behind:\n{text}"


@pytest.fixture
def fake_server(tmp_path):
    """What a launcher reports to."""
    server = FakeServer(make_certificate(tmp_path))
    yield server
    server.close()


@pytest.fixture
def launch(tmp_path, kernelspec):
    """Start launches that end by themselves, or by the test."""
    launches = []

    def start(*arguments, **environ):
        launches.append(make_launch(tmp_path, kernelspec, *arguments, **environ)[0])
        return launches[-1]

    yield start
    for each in launches:
        finish(each)


@pytest.fixture
def start_alone(tmp_path, kernelspec):
    """Start kernels that end by themselves, or by the test."""
    kernels = []

    def run(*arguments, **environ):
        kernels.append(Kernel(*make_launch(tmp_path, kernelspec, *arguments, **environ)))
        return kernels[-1]

    yield run
    for kernel in kernels:
        kernel.close()
        finish(kernel.launch)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory, kernelspec):
    """One kernel, for the tests that leave it usable."""
    kernel = Kernel(*make_launch(tmp_path_factory.mktemp("shared"), kernelspec))
    yield kernel
    kernel.shut_down()
    assert kernel.launch.wait() == 0, kernel.launch.text
    kernel.close()
    finish(kernel.launch)
    assert list(kernel.file.parent.iterdir()) == []
    assert str(kernel.key) not in kernel.launch.text
