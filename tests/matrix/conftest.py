"""The matrix: every language in every place, each row a test on the real thing.

A test says by ``@pytest.mark.row(title, needs=..., places=..., why=...)`` which row it is, what attribute of a
`Language` it needs, and in which places it makes sense; it gets a parameter for each cell where it does. All tests of
one cell run together, and share the kernels that they do not end.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import pytest
from client import RequestError
from places import CELLS, PLACES
from subject import Subject
from table import Table, missing_of

table = Table()


def pytest_configure(config):
    config.addinivalue_line("markers", "row(title, needs, places, why): the row of the matrix that a test is")
    config.pluginmanager.register(table, "matrix")


def pytest_generate_tests(metafunc):
    marker = metafunc.definition.get_closest_marker("row")
    if marker is None or "cell" not in metafunc.fixturenames:
        return
    places = marker.kwargs.get("places", PLACES)
    cells, missing = [], {}
    for cell in CELLS:
        reason = missing_of(marker.kwargs.get("needs", ""), cell)
        if reason is not None:
            missing[cell.language.title] = reason
        elif cell.place in places:
            cells.append(cell)
        else:
            missing[cell.place.title] = marker.kwargs["why"]
    table.expect(marker.args[0], cells, missing)
    metafunc.parametrize("cell", cells, ids=str, indirect=True, scope="session")


def pytest_itemcollected(item):
    marker = item.get_closest_marker("row")
    if marker is not None and "cell" in item.callspec.params:
        item.user_properties.append(("matrix", (marker.args[0], str(item.callspec.params["cell"]))))


@pytest.fixture(scope="session")
def cell(request):
    """The language and place of this test."""
    return request.param


@pytest.fixture(scope="session")
def sparkr(server, tmp_path_factory):
    """Give the kernelspecs of R the stand-in for SparkR, which is on no registry."""
    library = tmp_path_factory.mktemp("library")
    package = Path(__file__).parents[1] / "r" / "SparkR"
    subprocess.run(["R", "CMD", "INSTALL", f"--library={library}", str(package)], check=True, capture_output=True)
    for path in Path(server.environ["JUPYTER_DATA_DIR"]).glob("kernels/spark_[rR]_*/kernel.json"):
        spec = json.loads(path.read_text())
        spec["env"]["R_LIBS"] = str(library)
        spec["env"]["SPARK_OPTS"] += f" --conf spark.yarn.appMasterEnv.R_LIBS={library}"
        path.write_text(json.dumps(spec))


@pytest.fixture(scope="session")
def begin(server, yarn, sparkr, tmp_path_factory):
    """Start kernels of cells."""

    def begin_kernel(cell, options="", **env):
        return Subject(server, yarn, cell, tmp_path_factory.mktemp("events"), options, **env)

    return begin_kernel


def ended(kernel):
    """Lend a kernel, and end it when nobody uses it any more."""
    yield kernel
    try:
        kernel.delete()
    except RequestError as error:
        assert error.status == 404


@pytest.fixture(scope="session")
def kernel(begin, cell):
    """One kernel of the cell, mode lazy, which its tests leave usable."""
    yield from ended(begin(cell))


@pytest.fixture(scope="session")
def first_use(kernel):
    """What was seen of `kernel` when it first used Spark, right after an interrupt."""
    seen = {"before": kernel.uses_spark, "interrupted": kernel.interrupted(kernel.language.busy)}
    seen["still"] = kernel.uses_spark
    seen["count"] = kernel.result_of(kernel.begin(kernel.language.count), text="1000")
    return {**seen, "after": kernel.uses_spark}


@pytest.fixture(scope="session")
def eager(begin, cell):
    """A kernel in mode eager."""
    yield from ended(begin(cell, KERNEL_SPARK_CONTEXT_INIT_MODE="eager"))


@pytest.fixture(scope="session")
def bare(begin, cell):
    """A kernel in mode none."""
    yield from ended(begin(cell, KERNEL_SPARK_CONTEXT_INIT_MODE="none"))


@pytest.fixture
def start_cell(begin, cell):
    """Start kernels of the cell that end with the test."""
    lent = []

    def start(options="", **env):
        lent.append(ended(begin(cell, options, **env)))
        return next(lent[-1])

    yield start
    for each in lent:
        assert list(itertools.islice(each, 1)) == []
