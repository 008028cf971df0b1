"""Sessions through REST: what a client sees of them while kernels come and go."""

import json
import threading

import pytest
from waiting import until

ENVIRON = "import os, json; print(json.dumps(dict(os.environ)))"


def create(server, path="a.ipynb", **more):
    body = {"path": path, "type": "notebook", "name": "a", "kernel": {"name": "python_launcher"}, **more}
    status, session = server.rest("POST", "/api/sessions", body)
    assert status == 201, session
    return session


def refused(answer):
    """Return the status of an answer that has to be an error in Elyra's form."""
    status, content = answer
    assert status >= 400 and set(content) == {"reason", "message"} and content["message"], answer
    return status


def kill(server, kernel_id):
    """Let a kernel end by itself, which leaves it dead."""
    socket = server.socket(kernel_id)
    socket.send("quit()")
    socket.await_state("dead")
    socket.close()


def test_sessions_start_kernels_with_their_environment(server):
    session = create(server, env={"KERNEL_WHO": "s"})
    kernel_id = session["kernel"]["id"]
    socket = server.socket(kernel_id)
    assert json.loads(socket.run(ENVIRON))["KERNEL_WHO"] == "s"
    socket.close()
    assert create(server)["kernel"]["id"] == kernel_id
    assert server.rest("DELETE", f"/api/sessions/{session['id']}")[0] == 204
    assert server.rest("GET", "/api/kernels")[1] == []


def test_a_session_is_shown_renamed_and_given_another_kernel(server):
    session = create(server)
    place = f"/api/sessions/{session['id']}"
    status, shown = server.rest("GET", place)
    assert status == 200 and shown["path"] == shown["notebook"]["path"] == "a.ipynb" and shown["name"] == "a"
    status, shown = server.rest("PATCH", place, {"path": "b.ipynb", "name": "b"})
    assert (status, shown["path"], shown["name"], shown["type"]) == (200, "b.ipynb", "b", "notebook")
    assert shown["kernel"]["id"] == session["kernel"]["id"]
    status, shown = server.rest("PATCH", place, {"kernel": {"name": "python_launcher"}})
    assert status == 200, shown
    assert [each["id"] for each in server.rest("GET", "/api/kernels")[1]] == [shown["kernel"]["id"]]
    assert shown["kernel"]["id"] != session["kernel"]["id"]
    other = server.start("python_launcher")
    assert server.rest("PATCH", place, {"kernel": {"id": other}})[1]["kernel"]["id"] == other
    assert [each["kernel"]["id"] for each in server.rest("GET", "/api/sessions")[1]] == [other]
    for body in ({"kernel": {"id": session["kernel"]["id"]}}, {"path": 7}, {"kernel": "x"}, b"{", b"[]"):
        assert refused(server.rest("PATCH", place, body)) == 400
    assert refused(server.rest("PATCH", place, {"kernel": {"name": "no_such"}})) == 404
    assert server.rest("GET", place)[1]["kernel"]["id"] == other


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_a_session_that_there_is_not(server, method):
    place = "/api/sessions/6f0b64d4-61c6-4c60-9f5e-0d3a7b6c1a5e"
    assert refused(server.rest(method, place, {"path": "x"} if method == "PATCH" else None)) == 404


def test_a_session_goes_with_its_kernel(server):
    sessions = [create(server, path) for path in ("a", "b", "c")]
    for session in sessions:
        server.delete(session["kernel"]["id"])
    # The first answer after it is right already, whatever is asked.
    assert server.rest("DELETE", f"/api/sessions/{sessions[0]['id']}")[0] == 204
    assert refused(server.rest("GET", f"/api/sessions/{sessions[1]['id']}")) == 404
    again = create(server, "c")
    assert again["kernel"]["id"] != sessions[2]["kernel"]["id"]
    assert [each["path"] for each in server.rest("GET", "/api/sessions")[1]] == ["c"]


def test_a_session_goes_with_a_kernel_that_was_culled(make_server):
    server = make_server("--MappingKernelManager.cull_idle_timeout=1", "--MappingKernelManager.cull_interval=1")
    server.spec("python_launcher")
    create(server)
    until(lambda: server.rest("GET", "/api/kernels")[1] == [], "the culling", 30)
    assert server.rest("GET", "/api/sessions") == (200, [])
    assert create(server)["kernel"]


def test_a_session_whose_kernel_is_dead_gets_a_new_one(server):
    session = create(server)
    kill(server, session["kernel"]["id"])
    assert server.rest("GET", "/api/sessions")[1][0]["kernel"]["execution_state"] == "dead"
    again = create(server)
    assert again["id"] == session["id"] and again["kernel"]["id"] != session["kernel"]["id"]
    socket = server.socket(again["kernel"]["id"])
    assert socket.run("print(1)") == "1\n"
    socket.close()
    kill(server, again["kernel"]["id"])
    assert server.rest("DELETE", f"/api/sessions/{session['id']}")[0] == 204
    assert server.rest("GET", "/api/sessions") == (200, [])


def test_clients_that_ask_for_one_path_at_a_time_get_one_kernel(server):
    kernels = []
    threads = [threading.Thread(target=lambda: kernels.append(create(server)["kernel"]["id"])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kernels) == 3 and len(set(kernels)) == 1
    assert [each["id"] for each in server.rest("GET", "/api/kernels")[1]] == kernels[:1]
