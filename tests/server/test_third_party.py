"""Process proxies of others, and the names of ours."""

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from server_harness import FLAGS, LAUNCHER

from elyra_server.errors import KernelSpecError
from elyra_server.kernelspecs import proxy_class, stanza_of
from elyra_server.processproxies.distributed import DistributedProcessProxy
from elyra_server.processproxies.processproxy import LocalProcessProxy
from elyra_server.processproxies.yarn import YarnClusterProcessProxy

IPYKERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]


@pytest.fixture
def others(make_server):
    here = Path(__file__).parent
    server = make_server(PYTHONPATH=f"{here.parent.parent}:{here}")
    for name in ("PlainProxy", "CoroutineProxy", "Duck", "Failing", "RemoteProxy"):
        argv = [*LAUNCHER, *FLAGS] if name == "RemoteProxy" else IPYKERNEL
        server.spec(name.lower(), argv, process_proxy={"class_name": f"third_party.{name}"})
    return server


@pytest.mark.parametrize("name", ["plain", "coroutine", "duck", "remote"])
def test_it_runs_interrupts_restarts_and_ends_a_kernel(others, name):
    kernel_id = others.start("duck" if name == "duck" else f"{name}proxy")
    socket = others.socket(kernel_id)
    assert socket.run("import os; print(os.environ['BY_THIRD_PARTY'])") == f"{name}\n"
    number = socket.send("import time\nprint('begins')\ntime.sleep(60)")
    while socket.receive()["msg_type"] != "stream":
        pass
    assert others.rest("POST", f"/api/kernels/{kernel_id}/interrupt")[0] == 204
    assert socket.result(number) == "KeyboardInterrupt"
    assert others.rest("POST", f"/api/kernels/{kernel_id}/restart")[0] == 200
    assert socket.run("print('x' in dir())") == "False\n"
    socket.close()
    others.delete(kernel_id)


def test_plain_methods_do_not_stall_the_server(others):
    thread = threading.Thread(target=others.start, args=("plainproxy",))
    thread.start()
    slowest = 0.0
    while thread.is_alive():
        began = time.monotonic()
        others.rest("GET", "/api")
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 2.5  # launching takes 3 s


def test_its_error_is_the_answer(others):
    status, message, _ = others.fail("failing")
    assert status == 500 and "the scheduler is on holiday" in message


@pytest.mark.parametrize("package", ["elyra.services", "enterprise_gateway.services", "elyra_server"])
def test_all_names_of_our_classes_are_the_same_classes(package):
    for name, expected in (
        ("processproxy.LocalProcessProxy", LocalProcessProxy),
        ("distributed.DistributedProcessProxy", DistributedProcessProxy),
        ("yarn.YarnClusterProcessProxy", YarnClusterProcessProxy),
    ):
        stanza = {"class_name": f"{package}.processproxies.{name}"}
        top = SimpleNamespace(process_proxy=stanza, metadata={}, resource_dir="")
        below = SimpleNamespace(process_proxy={}, metadata={"process_proxy": stanza}, resource_dir="")
        assert proxy_class(top) is proxy_class(below) is expected


def test_without_a_stanza_a_kernel_is_local():
    spec = SimpleNamespace(process_proxy={}, metadata={}, resource_dir="")
    assert proxy_class(spec) is LocalProcessProxy and stanza_of(spec).config == {}


def test_a_module_that_fails_on_import_is_named_with_what_it_ran_into(tmp_path, monkeypatch):
    (tmp_path / "their_proxies.py").write_text("import os\nos.environ['THEIR_SETTING']\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = SimpleNamespace(process_proxy={"class_name": "their_proxies.Proxy"}, metadata={}, resource_dir="")
    with pytest.raises(
        KernelSpecError, match=r"'their_proxies.Proxy' cannot be imported \(KeyError\('THEIR_SETTING'\)"
    ):
        proxy_class(spec)
