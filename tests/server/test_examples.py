"""The examples of the documentation, run as they stand there."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from server_harness import FLAGS, ROOT

EXAMPLES = ROOT / "docs" / "examples"
ENVIRONMENT = Path(sys.prefix)


@pytest.mark.parametrize(
    ("script", "cell", "output"),
    [
        ("launch_command/launch.py", "print(6 * 7)", "42\n"),
        ("launch_subclass/launch.py", "import os; print(os.environ['VIRTUAL_ENV'])", f"{ENVIRONMENT}\n"),
        ("report_itself/kernel.py", "print(simulation['step'])", "42\n"),
    ],
)
def test_embedding(make_server, script: str, cell: str, output: str) -> None:
    server = make_server(PATH=f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ['PATH']}")
    site = {"SITE_ENVIRONMENTS": str(ENVIRONMENT.parent)}
    server.spec("example", [sys.executable, str(EXAMPLES / script), *FLAGS], env=site)
    kernel_id = server.start("example", KERNEL_ENVIRONMENT=ENVIRONMENT.name)
    socket = server.socket(kernel_id)
    assert socket.run(cell) == output
    socket.close()
    server.delete(kernel_id)


def test_a_subclass_that_refuses_says_why(server) -> None:
    server.spec("example", [sys.executable, str(EXAMPLES / "launch_subclass" / "launch.py"), *FLAGS])
    status, message, _ = server.fail("example", KERNEL_ENVIRONMENT="no-such-environment")
    assert status == 500
    assert "set KERNEL_ENVIRONMENT to one that exists" in message


def test_a_process_proxy_of_ones_own(make_server) -> None:
    server = make_server(PYTHONPATH=os.pathsep.join([str(ROOT), str(EXAMPLES / "wrapped")]))
    stanza = {"class_name": "wrapped_proxy.WrappedProcessProxy", "config": {"wrapper": ["nice", "-n", "5"]}}
    server.spec("wrapped", process_proxy=stanza)
    kernel_id = server.start("wrapped")
    socket = server.socket(kernel_id)
    assert socket.run("import os; print(os.nice(0))") == "5\n"
    socket.close()


def test_a_notebook_through_a_gateway(server, tmp_path: Path) -> None:
    notebook = tmp_path / "notebook.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("6 * 7")]), notebook)
    script = EXAMPLES / "through_gateway" / "run_notebook.py"
    command = [sys.executable, str(script), server.url, "python_launcher", str(notebook)]
    subprocess.run(command, check=True, timeout=120, env=server.env)
    assert nbformat.read(notebook, as_version=4).cells[0].outputs[0].data["text/plain"] == "42"
