"""A cluster with Kerberos, and a server that has nothing but a ticket."""

import sys

import pytest
from cluster import Questions, check_nothing_left, counting_spark

from demo import BUILD, ROOT
from demo.kdc import Kdc
from demo.secure import SecureYarn
from demo.server import Server
from elyra_server.install import known_kernelspecs


class SecureCluster(Questions, SecureYarn):
    """The YARN of these tests."""


class Member(Server):
    """A server in the realm, with a spark-submit that counts its calls: launches that no warm submitter has made."""

    def __init__(self, yarn, kdc):
        self.kdc = kdc
        self.cache = yarn.directory / "keytabs" / "server.cache"
        self.calls = yarn.directory / "calls"
        self.calls.touch()
        self.kinit()
        super().__init__(
            yarn.server_directory,
            {
                **yarn.environ,
                **kdc.environ,
                "KRB5CCNAME": f"FILE:{self.cache}",
                "PYTHONPATH": f"{ROOT}:{BUILD / 'kerberos'}",
                "SPARK_HOME": str(counting_spark(yarn.directory / "spark", self.calls)),
                "ELYRA_INHERITED_ENVS": "KRB5CCNAME",
                "ELYRA_IMPERSONATION_ENABLED": "True",
                "ELYRA_YARN_ENDPOINT_SECURITY_ENABLED": "True",
                "ELYRA_KERNEL_LAUNCH_TIMEOUT": "150",
            },
        )

    def kinit(self, *options):
        self.kdc.kinit("elyra", self.cache, *options)

    def count(self):
        """Return how often spark-submit was called."""
        return self.calls.read_text().count("called")


@pytest.fixture(scope="session")
def kdc():
    with Kdc() as kdc:
        kdc.add("elyra", "alice", "bob")
        yield kdc


@pytest.fixture(scope="session")
def yarn(kdc):
    with SecureCluster(kdc, "elyra", heartbeat=0.25) as yarn:
        yield yarn
    assert not yarn.directory.exists()


@pytest.fixture(scope="session")
def server(yarn, kdc):
    server = Member(yarn, kdc)
    server.install(*known_kernelspecs(), "--user", f"--python={sys.executable}", "--local-jars")
    with server:
        yield server
        code = server.stop()
    assert code == 0, server.log_tail()
    check_nothing_left(yarn, server)
