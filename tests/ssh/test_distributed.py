"""Kernels on other hosts, as a user has them."""

from __future__ import annotations

import os
import re
import sys

from client import Kernel
from front import Front, nothing_left
from waiting import until

from elyra_server.ssh.hosts import HostChoice


def test_a_kernel_on_another_host_behaves_as_any_other(start, w1):
    kernel = start("w1", KERNEL_GREETING="hello there")
    assert kernel.value("import os; print(os.uname().nodename, os.environ['KERNEL_GREETING'])") == "w1 hello there"
    kernel.value("x = 1")
    kernel.restart()
    assert kernel.execute("x").error == "NameError"
    cell = "import time; print('on', flush=True); time.sleep(100)"
    assert kernel.execute(cell, on_output=lambda _: kernel.interrupt()).error == "KeyboardInterrupt"
    assert kernel.value("6 * 7") == "42"
    kernel.delete()
    assert nothing_left(w1)


def test_nothing_of_a_launch_is_visible_on_the_host(start, server, w1):
    kernel = start("w1", KERNEL_PASSWORD="open sesame")
    lines = "\n".join(w1.processes())
    assert kernel.id in lines
    assert "open sesame" not in lines
    assert "ticket" not in lines.lower()
    # Where it was unpacked nobody else can look.
    (place,) = w1.run("sh", "-c", "stat -c %a:%n /tmp/elyra-*").split()
    assert re.fullmatch(r"1?700:/tmp/elyra-landing-\w+", place)
    variables = kernel.value("import os; print(*os.environ)")
    assert "TICKET" not in variables
    assert "JUPYTER_DATA_DIR" not in variables
    assert kernel.value("import os; print(os.environ['HOME'])") == str(w1.directory / "root")
    assert "elyra-landing" not in kernel.value("import sys; print(sys.path, os.environ.get('PYTHONPATH'))")


def test_launches_share_one_connection(start, hosts, w1):
    start("w1")
    before = w1.logins()
    start("w1")
    start("w1")
    assert w1.logins() == before
    assert w1.sessions() == 1


def test_the_worker_needs_no_package_of_ours(start, server, w2):
    def bare(spec):
        spec["argv"] = [
            *("/usr/bin/env", "-u", "ELYRA_LAUNCHER_PATH", sys.executable, "-m", "elyra_launcher"),
            *("{connection_file}", "--RemoteProcessProxy.response-address", "{response_address}"),
        ]

    server.add("bare", change=bare, remote_hosts="w2")
    kernel = start("bare")
    found = kernel.value("import psutil; print(psutil.Process().parent().environ().get('PYTHONPATH'))")
    assert found.startswith("/tmp/elyra-landing-")
    kernel.delete()
    assert nothing_left(w2)


def test_round_robin_takes_the_hosts_in_turn(start):
    names = [start("spread").value("import os; print(os.uname().nodename)") for _ in range(6)]
    assert sorted(names) == ["w1", "w1", "w2", "w2", "w3", "w3"]
    assert names[:3] == names[3:]


def test_least_connection_evens_out(start, server, w1, w2):
    assert nothing_left(w1) and nothing_left(w2)
    server.add("least", remote_hosts="w1,w2", load_balancing_algorithm="least-connection")
    first = [start("w1"), start("w1")]
    assert {start("least").value("import os; print(os.uname().nodename)") for _ in range(2)} == {"w2"}
    for kernel in first:
        kernel.delete()
    until(lambda: start("least").value("import os; print(os.uname().nodename)") == "w1")


def test_a_client_chooses_among_the_hosts_and_no_other(start, server):
    kernel = start("spread", KERNEL_REMOTE_HOST="w2")
    assert kernel.value("import os; print(os.uname().nodename)") == "w2"
    error, _ = server.fail("spread", KERNEL_REMOTE_HOST="elsewhere.example")
    assert error.status == 400
    assert "KERNEL_REMOTE_HOST='elsewhere.example' is not one of this kernelspec's hosts" in error.message


def test_this_host_is_started_on_without_ssh(start, server, w1):
    server.add("here", remote_hosts=f"{w1.gateway}")
    before = w1.logins()
    kernel = start("here")
    assert kernel.value("import os; print(os.uname().nodename)") == os.uname().nodename
    assert w1.logins() == before


def test_a_launcher_that_is_killed_is_noticed_and_cleared_away(start, w1):
    kernel = start("w1")
    pid = kernel.value("import os; print(os.getppid())")
    w1.run("kill", "-KILL", pid)
    until(lambda: kernel.get()["execution_state"] == "dead")
    assert "on host w1 ended without a word" in kernel.get()["reason"]
    assert nothing_left(w1)


def test_a_launcher_that_ends_otherwise_is_quoted(start, w1):
    kernel = start("w1")
    kernel.value("import sys; print('no more', file=sys.__stderr__, flush=True)")
    w1.run("kill", "-USR1", kernel.value("import os; print(os.getppid())"))
    until(lambda: kernel.get()["execution_state"] == "dead")
    reason = kernel.get()["reason"]
    assert "The launcher on host w1 was ended by SIGUSR1. Its last lines:" in reason
    assert "no more" in reason
    assert nothing_left(w1)


def test_a_keeper_that_is_killed_takes_its_kernel_along(start, w1):
    kernel = start("w1")
    launcher = kernel.value("import os; print(os.getppid())")
    keeper = w1.run("ps", "-o", "ppid=", launcher).strip()
    w1.run("kill", "-KILL", keeper)
    until(lambda: kernel.get()["execution_state"] == "dead")
    kernel.delete()
    assert nothing_left(w1)


def test_what_a_cell_started_ends_also_where_nobody_is_left_to_end_it(start, w1):
    kernel = start("w1")
    kernel.value("import os, subprocess; subprocess.Popen(['sleep', '4243'], start_new_session=True).pid")
    kernel.value("subprocess.Popen(['sleep', '4244']).pid")
    launcher = kernel.value("print(os.getppid())")
    w1.run("kill", "-KILL", w1.run("ps", "-o", "ppid=", launcher).strip(), launcher)
    until(lambda: kernel.get()["execution_state"] == "dead")
    kernel.delete()
    assert nothing_left(w1)


def test_the_server_s_end_is_that_of_its_kernels(hosts, tmp_path, w1, w2):
    with Front(tmp_path, hosts) as server:
        server.add("both", remote_hosts="w1,w2")
        for _ in range(4):
            Kernel(server, "both")
        assert server.stop() == 0
    assert nothing_left(w1)
    assert nothing_left(w2)
    until(lambda: w1.sessions() + w2.sessions() == 0)


def test_output_of_the_launch_is_kept_on_the_host(hosts, tmp_path, w1):
    logs = w1.directory / "root" / "logs"
    with Front(tmp_path, hosts, ELYRA_KERNEL_LOG_DIR="~/logs") as server:
        server.add("w1", remote_hosts="w1")
        kernel = Kernel(server, "w1")
        kernel.value("import os; os.system('echo written by the kernel')")
        kernel.delete()
        (log,) = logs.iterdir()
        until(lambda: "written by the kernel" in log.read_text())
        assert log.name == f"kernel-{kernel.id}.log"
        assert oct(log.stat().st_mode)[-3:] == "600"


def test_a_log_that_is_a_pipe_holds_up_no_launch(hosts, tmp_path, w1):
    pipe = w1.directory / "root" / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with Front(tmp_path, hosts, ELYRA_PROXY_LAUNCH_LOG="~/pipe") as server:
        server.add("w1", remote_hosts="w1")
        error, seconds = server.fail("w1")
        assert f"the launch log {pipe} cannot be written: it is no file of this user's" in error.message
        os.close(reader)
        error, more = server.fail("w1")
        assert f"the launch log {pipe} cannot be written: No such device or address" in error.message
        assert seconds + more < 40  # and not the launch limit each
    assert nothing_left(w1)


def test_where_no_host_is_well_launches_still_spread():
    choice = HostChoice()
    for name in ("a", "b", "c"):
        choice.failed(name)
    assert [next(choice.candidates(["a", "b", "c"], "round-robin")) for _ in range(4)] == ["a", "b", "c", "a"]


def test_what_a_cell_leaves_behind_ends_with_its_kernel(start, w1):
    kernel = start("w1")
    kernel.value("import subprocess; subprocess.Popen(['sleep', '4242'], start_new_session=True).pid")
    assert any("4242" in line for line in w1.processes())
    kernel.delete()
    assert nothing_left(w1)


def test_what_a_cell_leaves_behind_and_ends_is_no_zombie(start, w1):
    kernel = start("w1")
    left = kernel.value("import subprocess; print(subprocess.getoutput('sleep 4245 >&- 2>&- & echo $!'))")
    launcher = kernel.value("import os; print(os.getppid())")
    keeper = w1.run("ps", "-o", "ppid=", launcher)
    until(lambda: w1.run("ps", "-o", "ppid=", left) == keeper)
    w1.run("kill", left)
    until(lambda: left not in w1.run("ps", "-o", "pid=", "-e").split())
    assert kernel.value("6 * 7") == "42"


def test_a_tmp_where_nothing_can_be_executed_is_no_obstacle(start, w1):
    w1.run("mount", "-o", "remount,noexec", "/tmp")
    try:
        kernel = start("w1")
        assert kernel.value("import os; print(os.uname().nodename)") == "w1"
        kernel.delete()
        assert nothing_left(w1)
        home = w1.directory / "root" / ".cache"
        until(lambda: not list(home.glob("elyra-landing-*")))
    finally:
        w1.run("mount", "-o", "remount,exec", "/tmp")


def test_any_python_is_that_of_the_host(server, w1):
    """jupyter_client makes the server's own of it."""

    def change(spec):
        spec["argv"] = ["python3", "-c", "import sys; sys.exit('It is ' + sys.executable)", "{connection_file}"]
        spec["env"]["PATH"] = "/usr/bin:/bin"

    server.add("any", change=change, remote_hosts="w1")
    error, _ = server.fail("any")
    assert "It is /usr/bin/python3" in error.message
