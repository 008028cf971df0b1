"""What a launcher in other hands may report."""

import pytest

from elyra_server.errors import LaunchError
from elyra_server.reports import check_key, check_place, check_report

GOOD = {"transport": "tcp", "signature_scheme": "hmac-sha256", "ip": "192.0.2.7", "key": "secret"}


@pytest.mark.parametrize(
    ("change", "peer"),
    [
        ({}, "192.0.2.7"),
        ({}, "192.0.2.99"),  # a worker with two interfaces
        ({"ip": "127.0.0.1"}, "127.0.0.1"),
        ({"ip": "127.0.0.1"}, ""),
        ({"ip": "0.0.0.0"}, "::1"),
    ],
)
def test_a_kernel_of_the_launcher_s_own_host_is_believed(change, peer):
    check_report({**GOOD, **change}, peer)
    check_key({**GOOD, **change})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ip": "127.0.0.1"}, "127.0.0.1, which is this server"),
        ({"ip": "localhost"}, "localhost, which is this server"),
        ({"ip": "::1"}, "which is this server"),
        ({"ip": "0.0.0.0"}, "which is this server"),
        ({"ip": ""}, "no address"),
        ({"transport": "ipc", "ip": "/home/victim/file"}, "it has to be tcp"),
        ({"signature_scheme": ""}, "hmac-sha256"),
    ],
)
def test_one_that_would_lead_to_the_server_s_own_is_refused(change, said):
    with pytest.raises(LaunchError) as info:
        check_report({**GOOD, **change}, "192.0.2.7")
    assert said in str(info.value)


def test_one_without_a_key_is_refused():
    with pytest.raises(LaunchError, match="without a key"):
        check_key({**GOOD, "key": ""})


def test_one_that_leads_to_another_host_than_its_launcher_s_is_refused():
    """Of those by which a host reached by ssh is known."""
    check_place(GOOD, ["192.0.2.9", "192.0.2.7"])
    check_place(GOOD, ["::ffff:192.0.2.7", ""])
    with pytest.raises(
        LaunchError, match=r"listens at 192\.0\.2\.7, but its host is 192\.0\.2\.9 or 192\.0\.2\.8\. Let"
    ):
        check_place(GOOD, ["192.0.2.9", "", "192.0.2.8"])
