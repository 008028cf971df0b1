"""``jupyter elyra install``: the kernelspecs are where Jupyter looks, and say what was asked for."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo import ROOT

PLACES = ("local", "yarn_client", "yarn_cluster")
NAMES = ["python_distributed", "python_local", *(f"spark_python_{place}" for place in PLACES)]
NAMES += ["R_distributed", "ir_local", *(f"spark_R_{place}" for place in PLACES)]
NAMES += [f"spark_scala_{place}" for place in PLACES]
JUPYTER = str(Path(sys.executable).with_name("jupyter"))


@pytest.fixture
def jupyter(tmp_path):
    """Run a command of Jupyter with private directories."""
    environ = {**os.environ, "JUPYTER_DATA_DIR": str(tmp_path / "data"), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}

    def run(*arguments):
        return subprocess.run([JUPYTER, *arguments], env=environ, capture_output=True, text=True, timeout=60)

    return run


def spec(done):
    """Return the kernel.json of what was installed."""
    assert done.returncode == 0, done.stderr
    return json.loads((Path(done.stdout.split(" in ")[-1].strip()) / "kernel.json").read_text())


def test_jupyter_lists_what_was_installed(jupyter):
    done = jupyter("elyra", "install", *NAMES, "--user")
    assert done.returncode == 0, done.stderr
    listed = json.loads(jupyter("kernelspec", "list", "--json").stdout)["kernelspecs"]
    installed = [name.lower() for name in NAMES]  # as Jupyter writes all names
    assert set(installed) <= set(listed)
    for name in installed:
        directory = Path(listed[name]["resource_dir"])
        assert os.access(directory / "bin" / "run.sh", os.X_OK)
        assert list((directory / "scripts").glob("launch_*.py"))
        assert directory.stat().st_mode & 0o777 == 0o755
        # The directory can move: argv names it by a placeholder.
        assert listed[name]["spec"]["argv"][0] == "{resource_dir}/bin/run.sh"


def test_the_options_go_into_the_kernelspec(jupyter, tmp_path):
    spark = tmp_path / "spark"
    (spark / "bin").mkdir(parents=True)
    (spark / "bin" / "spark-submit").touch()
    result = spec(
        jupyter(
            "elyra", "install", "spark_python_yarn_cluster", f"--prefix={tmp_path / 'prefix'}", f"--spark-home={spark}",
            "--python=/opt/python3", "--yarn-endpoint=http://rm:8088/ws/v1/cluster", "--launch-timeout=90",
            "--kernel-name=mine", "--display-name=My Spark", "--spark-init-mode=eager",
            "--extra-spark-opts=--conf 'a=b c'", "--local-jars",
        )
    )  # fmt: skip
    assert (tmp_path / "prefix/share/jupyter/kernels/mine").is_dir()
    assert result["display_name"] == "My Spark"
    assert result["env"]["LAUNCH_OPTS"].endswith("initialization-mode ${KERNEL_SPARK_CONTEXT_INIT_MODE:-eager}")
    assert result["env"]["SPARK_HOME"] == str(spark)
    assert result["env"]["PYSPARK_PYTHON"] == "/opt/python3"
    assert result["process_proxy"]["config"] == {
        "warm_submitter": True,
        "launch_timeout": 90.0,
        "yarn_endpoint": "http://rm:8088/ws/v1/cluster",
        "start_before_spark": True,
    }
    options = result["env"]["SPARK_OPTS"]
    assert options.endswith(
        "--conf spark.yarn.jars=local:${SPARK_HOME}/jars/* --conf 'a=b c' ${KERNEL_EXTRA_SPARK_OPTS}"
    )


def test_the_local_kernel_runs_in_the_python_that_installed_it(jupyter, tmp_path):
    result = spec(jupyter("elyra", "install", "python_local", f"--prefix={tmp_path}"))
    python = Path(result["env"]["PYSPARK_PYTHON"])
    assert python.parent == Path(sys.executable).parent and os.access(python, os.X_OK)


def test_a_kernelspec_is_replaced_only_on_request(jupyter):
    assert jupyter("elyra", "install", "python_local", "--user").returncode == 0
    again = jupyter("elyra", "install", "python_local", "--user")
    assert again.returncode == 1
    assert "--replace" in again.stderr
    assert jupyter("elyra", "install", "python_local", "--user", "--replace").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["spark_pithon"], f"Unknown kernelspec spark_pithon. Known are: {', '.join(NAMES)}."),
        ([], f"Name at least one kernelspec to install: {', '.join(NAMES)}."),
        (["python_local", "--spark-home=/nowhere"], "/nowhere has no bin/spark-submit"),
        (["python_local", "--launch-timeout=-1"], "--launch-timeout=-1.0"),
        (["python_local", "--user", "--prefix=/x"], "Choose one of"),
        (["python_local", "spark_python_yarn_client", "--kernel-name=x"], "one kernelspec at a time"),
        (["python_local", "--kernel-name=a b", "--user"], "a b"),
        (["python_local", "--spark-init-mode=never"], "lazy"),
        (["python_local", "--prefix=/proc"], "Choose another place"),
    ],
)
def test_a_mistake_is_explained(jupyter, arguments, message):
    done = jupyter("elyra", "install", *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_the_kernelspecs(jupyter):
    done = jupyter("elyra", "install", "--help")
    assert done.returncode == 0
    assert all(name in done.stdout.replace("\n", " ") for name in NAMES)
    assert jupyter("elyra", "install", "--list").stdout.split() == NAMES


def test_an_installed_wheel_brings_the_kernelspecs(tmp_path):
    source = tmp_path / "source"
    for name in ("elyra_launcher", "elyra_server", "kernels"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    target = tmp_path / "target"
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", target, source], check=True)
    environ = {**os.environ, "PYTHONPATH": str(target)}
    command = [sys.executable, "-m", "elyra_server", "install", "python_local", f"--prefix={tmp_path}"]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.access(tmp_path / "share/jupyter/kernels/python_local/bin/run.sh", os.X_OK)
    origin = subprocess.run(
        [sys.executable, "-c", "import elyra_server.install as i; print(i.kernels_directory())"],
        env=environ, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert origin.stdout.startswith(str(target))


def test_the_r_to_run_is_an_option_of_the_launcher(jupyter):
    done = jupyter("elyra", "install", "spark_R_local", "--user", "--rscript=/opt/R 4/bin/Rscript")
    assert spec(done)["env"]["LAUNCH_OPTS"].endswith(" --rscript '/opt/R 4/bin/Rscript'")
