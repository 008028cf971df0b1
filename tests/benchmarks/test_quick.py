"""That the benchmarks run and give the figures that they promise; never how fast they are."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LOCAL = {
    "launcher exec to connection info sent",
    "POST to first reply, python_local",
    "POST to first reply, python_local, beside a KernelManager alone",
    "GET /api with 2 kernels",
    "supervisor's proportional memory",
    "DELETE of python_local, to its answer, later than by SIGTERM",
    "DELETE of python_local, to its answer, later than by a shutdown_request",
    "DELETE of python_local, to the end of its processes, later than by a shutdown_request",
    "shutdown_request to python_local, to its process's end, later than to a bare one",
    "server idle with 2 kernels",
    "execute round trip",
    "execute round trip, beside direct ZMQ",
    "50 flushed prints",
    "50 flushed prints, beside direct ZMQ",
    "1 MB of output",
    "1 MB of output, beside direct ZMQ",
    "20 small executes at once",
    "20 small executes at once, beside direct ZMQ",
    "2 POSTs at once, python_local, all answering",
}

SIMULATED = {
    "server memory per kernel (simulated)",
    "GET /api with 3 kernels (simulated)",
    "GET /api with 12 kernels (simulated)",
    "GET /api/kernels with 3 kernels (simulated)",
    "GET /api/kernels with 12 kernels (simulated)",
    "server idle with 12 kernels (simulated)",
    "50 simulated launchers within a second: lost",
    "50 simulated launchers within a second: p99 from dialling to its report",
    "100 held links (simulated): lost",
    "100 held links (simulated): p99 of a request to one",
    "100 held links (simulated): memory of each",
    "requests to YARN while 5 launches wait (simulated)",
    "requests to YARN while 8 kernels run (simulated)",
}


@pytest.mark.parametrize(
    ("suites", "expected"),
    [(["local", "messages", "together"], LOCAL), (["many", "links", "questions"], SIMULATED)],
    ids=["local", "simulated"],
)
def test_the_quick_form_gives_every_figure(tmp_path, suites, expected):
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--results", str(results), *suites]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=560)
    assert answer.returncode == 0, answer.stderr[-4000:]
    figures = {each["name"]: each for each in json.loads(results.read_text())}
    assert set(figures) == expected
    for each in figures.values():
        numbers = [each["value"], each["ratio"], each["target"], *([each["floor"]] if each["floor"] else [])]
        assert all(math.isfinite(number) for number in numbers), each
    lost = [each for each in figures.values() if each["name"].endswith("lost")]
    assert all(each["value"] == 0 for each in lost)


def test_the_growth_of_a_server_is_measured(tmp_path):
    results = tmp_path / "growth.json"
    command = [sys.executable, "-m", "benchmarks.growth", "--quick", "--results", str(results)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=560)
    assert answer.returncode == 0, answer.stderr[-4000:]
    rows = json.loads(results.read_text())
    assert [(each["kind"], each["kernels"]) for each in rows] == [("simulated", number) for number in (0, 5, 5)]
    assert not [each for each in rows if "broke" in each]
