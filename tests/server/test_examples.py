"""The examples of the documentation, run as they stand there."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from server_harness import FLAGS, ROOT
from waiting import until

EXAMPLES = ROOT / "docs" / "examples"
ENVIRONMENT = Path(sys.prefix)


@pytest.mark.parametrize(
    ("script", "cell", "output"),
    [
        ("launch_command/launch.py", "print(6 * 7)", "42\n"),
        ("launch_subclass/launch.py", "import os; print(os.environ['VIRTUAL_ENV'])", f"{ENVIRONMENT}\n"),
        ("report_itself/kernel.py", "print(simulation['step'])", "42\n"),
        ("echo_kernel/kernel.py", "hello there", "hello there"),
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


def test_a_kernel_that_reports_itself_is_launched_anew_when_it_restarts(server) -> None:
    server.spec("example", [sys.executable, str(EXAMPLES / "report_itself" / "kernel.py"), *FLAGS])
    kernel_id = server.start("example")
    socket = server.socket(kernel_id)
    socket.run("simulation['step'] = 43")
    assert server.rest("POST", f"/api/kernels/{kernel_id}/restart")[0] == 200
    assert socket.run("print(simulation['step'])") == "42\n"
    socket.close()
    server.delete(kernel_id)


def test_what_a_kernel_does_after_a_restart_at_other_ports_is_seen(server) -> None:
    """Nobody asked the server for this one."""
    server.spec("example", [sys.executable, str(EXAMPLES / "report_itself" / "kernel.py"), *FLAGS])
    kernel_id = server.start("example")
    socket = server.socket(kernel_id)
    socket.send_message("shutdown_request", {"restart": True}, "control")
    socket.await_state("restarting")
    assert socket.run("print(simulation['step'])") == "42\n"
    socket.send("import time; time.sleep(60)")
    until(lambda: server.kernel(kernel_id)["execution_state"] == "busy")
    socket.close()
    server.delete(kernel_id)


def test_a_subclass_that_refuses_says_why(server) -> None:
    server.spec("example", [sys.executable, str(EXAMPLES / "launch_subclass" / "launch.py"), *FLAGS])
    status, message, _ = server.fail("example", KERNEL_ENVIRONMENT="no-such-environment")
    assert status == 500
    assert "set KERNEL_ENVIRONMENT to one that exists" in message


def test_a_kernel_in_an_environment_that_the_launch_makes(make_server, tmp_path: Path) -> None:
    project = tmp_path / "projects" / "churn"
    project.mkdir(parents=True)
    server = make_server()
    argv = [sys.executable, str(EXAMPLES / "prepared_environment" / "launch.py"), *FLAGS]
    server.spec("example", argv, env={"SITE_PROJECTS": str(project.parent)})
    # pip finds nothing there, and needs no network to say so.
    (project / "requirements.txt").write_text("/no/such/package.whl\n")
    status, message, _ = server.fail("example", KERNEL_PROJECT="churn", KERNEL_LAUNCH_TIMEOUT="120")
    assert status == 500
    assert f"preparing the packages of {project}/requirements.txt ended with exit code 1" in message
    assert "/no/such/package.whl" in message
    (project / "requirements.txt").unlink()
    for _ in range(2):  # the second time it is there already
        kernel_id = server.start("example", KERNEL_PROJECT="churn", KERNEL_LAUNCH_TIMEOUT="120")
        socket = server.socket(kernel_id)
        assert socket.run("import sys; print(sys.prefix)") == f"{project / '.venv'}\n"
        socket.close()
        server.delete(kernel_id)


def test_a_preparation_that_takes_too_long_is_named(server, tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(
        "import sys, elyra_launcher\n"
        "class Slow(elyra_launcher.PythonKernel):\n"
        "    def preparation(self):\n"
        "        yield 'the reference data', ['sleep', '1000']\n"
        "sys.exit(elyra_launcher.launch(kernel=Slow))\n"
    )
    server.spec("slow", [sys.executable, str(script), *FLAGS])
    status, message, _ = server.fail("slow", KERNEL_LAUNCH_TIMEOUT="8")
    assert status == 500
    assert "not ready within 8 s" in message
    assert "preparing the reference data" in message


def test_a_kernel_within_limits(server) -> None:
    script = str(EXAMPLES / "resource_limits" / "launch.py")
    command = ["--", sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    server.spec("example", [sys.executable, script, *FLAGS, *command], env={"SITE_MEMORY_GIB": "4"})
    kernel_id = server.start("example", KERNEL_MEMORY_GIB="2")
    socket = server.socket(kernel_id)
    limits = "[resource.getrlimit(each)[0] for each in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE)]"
    assert socket.run(f"import resource; print({limits})") == f"[{2 * 2**30}, 512]\n"
    assert socket.run("x = bytearray(3 * 2**30)") == "MemoryError"
    assert socket.run("print('alive')") == "alive\n"
    socket.close()
    server.delete(kernel_id)
    status, message, _ = server.fail("example", KERNEL_MEMORY_GIB="64")
    assert status == 500
    assert "KERNEL_MEMORY_GIB is '64': ask for a number from 0.5 to 4" in message


def test_a_process_proxy_of_ones_own(make_server) -> None:
    server = make_server(PYTHONPATH=os.pathsep.join([str(ROOT), str(EXAMPLES / "wrapped")]))
    stanza = {"class_name": "wrapped_proxy.WrappedProcessProxy", "config": {"wrapper": ["nice", "-n", "5"]}}
    server.spec("wrapped", process_proxy=stanza)
    kernel_id = server.start("wrapped")
    socket = server.socket(kernel_id)
    assert socket.run("import os; print(os.nice(0))") == f"{os.nice(0) + 5}\n"
    socket.close()


def test_a_notebook_through_a_gateway(server, tmp_path: Path) -> None:
    notebook = tmp_path / "notebook.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("6 * 7")]), notebook)
    script = EXAMPLES / "through_gateway" / "run_notebook.py"
    command = [sys.executable, str(script), server.url, "python_launcher", str(notebook)]
    subprocess.run(command, check=True, timeout=120, env=server.env)
    assert nbformat.read(notebook, as_version=4).cells[0].outputs[0].data["text/plain"] == "42"
