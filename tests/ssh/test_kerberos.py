"""Logins by Kerberos: a KDC, hosts with a keytab, and a server that has nothing but a ticket."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import subprocess

import pytest
from client import Kernel, RequestError
from front import Front, nothing_left, started_when_back
from waiting import until

from demo import BUILD, ROOT
from demo.hosts import Hosts
from demo.kdc import DOMAIN, Kdc

GSS = "GSSAPIAuthentication yes\nPasswordAuthentication no\n"
WHO = "import os; print(os.uname().nodename, os.environ['USER'])"
KRB5 = ("KRB5_CONFIG", "KRB5CCNAME")
PRINCIPALS = ("alice", "mallory", "elyra/front")


class Member(Front):
    """A server in the realm: it knows the hosts' names, and has a cache for its ticket."""

    def __init__(self, directory, hosts, kdc, **environ):
        self.kdc = kdc
        self.cache = directory / "cache"
        self.keytab = directory / "keytab"  # not there until a test puts it there
        self.config = kdc.write_config(directory / "krb5.conf")
        super().__init__(
            directory,
            hosts,
            KRB5_CONFIG=str(self.config),
            KRB5CCNAME=f"FILE:{self.cache}",
            KRB5_CLIENT_KTNAME=str(self.keytab),
            ELYRA_REMOTE_GSS_SSH="True",
            ELYRA_SSH_LOGIN_LIMIT="12",
            ELYRA_IMPERSONATION_ENABLED="True",
            ELYRA_UNAUTHORIZED_USERS="nobody",
            **{"PYTHONPATH": f"{ROOT}:{BUILD / 'kerberos'}", **environ},
        )
        self.key = self.home / ".ssh" / "id_ed25519"
        self.key.rename(self.key.with_name("unused"))
        names = known = ""
        for host in hosts.all:
            names += f"{host.address} {host.name}.{DOMAIN} {host.name}\n"
            known += f"{host.address},{host.name},{host.name}.{DOMAIN} {host.host_key}\n"
        (directory / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        (self.home / ".ssh" / "known_hosts").write_text(known)
        self.ssh_config = self.home / ".ssh" / "config"
        self.ssh_config.write_text("")
        # This machine's /etc/hosts stays as it is: the server sees another one there.
        self.script = directory / "jupyter"
        self.script.write_text(
            '#!/bin/sh\nexec unshare --mount sh -c \'mount --bind "$0" /etc/hosts && exec "$@"\' '
            f'{directory}/hosts {super()._jupyter()} "$@"\n'
        )
        self.script.chmod(0o755)

    def _jupyter(self):
        return str(self.script)

    def kinit(self, principal="alice", *options):
        self.kdc.kinit(principal, self.cache, *options)

    def alias(self, name, **options):
        """Give a host another name, and thereby a connection of its own, and a kernelspec of that name."""
        lines = "".join(f"  {option} {value}\n" for option, value in options.items())
        self.ssh_config.write_text(f"Host {name}\n{lines}{self.ssh_config.read_text()}")
        self.add(name, remote_hosts=name)


@pytest.fixture(scope="module")
def kdc():
    with Kdc() as kdc:
        kdc.add(*PRINCIPALS, f"host/w1.{DOMAIN}", f"host/w2.{DOMAIN}")
        yield kdc
    assert not kdc.directory.exists()


@pytest.fixture(scope="module")
def hosts(kdc):
    """Host w1 has a keytab, w2 has none, and w3 does not know Kerberos."""
    with Hosts([GSS, GSS, ""]) as hosts:
        for host in hosts.all:
            kdc.write_config(host.directory / "krb5.conf")
            # Its full name first: it is that in the keytab, and sshd asks for the key of its own name.
            (host.directory / "hosts").write_text(
                f"127.0.0.1 localhost\n{host.address} {host.name}.{DOMAIN} {host.name}\n"
            )
        kdc.write_keytab(hosts.all[0].directory / "krb5.keytab", f"host/w1.{DOMAIN}")
        yield hosts


@pytest.fixture(scope="module")
def server(kdc, hosts, tmp_path_factory):
    with Member(tmp_path_factory.mktemp("member"), hosts, kdc) as server:
        for host in hosts.all:
            server.add(host.name, remote_hosts=f"{host.name}.{DOMAIN}")
        yield server
        assert server.stop() == 0, server.log_tail()


@pytest.fixture(autouse=True)
def ticket(server):
    """Each test begins with a ticket of alice, with which nothing was done yet."""
    server.kdc.write_config(server.config)
    server.kinit()


@pytest.fixture
def start(server):
    """Start kernels that end with the test; their connections stay for a while."""
    kernels = []

    def start_kernel(name, user="alice"):
        kernels.append(Kernel(server, name, KERNEL_USERNAME=user))
        return kernels[-1]

    yield start_kernel
    for kernel in kernels:
        with contextlib.suppress(RequestError):
            kernel.delete()


def fail(server, name, user="alice"):
    error, seconds = server.fail(name, KERNEL_USERNAME=user)
    assert "no login by Kerberos: " in error.message
    assert seconds < 28  # and not what Kerberos takes
    return error.message.partition("no login by Kerberos: ")[2]


def test_a_ticket_is_enough(server, start, w1):
    kernel = start("w1")
    assert kernel.value(WHO) == "w1 alice"
    assert "Accepted gssapi-with-mic for alice" in (w1.directory / "sshd.log").read_text()
    # It stays here.
    assert kernel.value("import os; print([name for name in os.environ if name.startswith('KRB5')])") == "[]"
    kernel.delete()
    assert nothing_left(w1)


def test_without_a_ticket(server):
    server.cache.unlink()
    message = fail(server, "w2")
    assert message.startswith(f"No Kerberos credentials available (default cache: FILE:{server.cache}). Get a ticket, ")
    assert f"as this server's user: kinit -c FILE:{server.cache} (or set KRB5_CLIENT_KTNAME to a keytab" in message


def test_a_ticket_that_expired_is_renewed_while_the_server_runs(server, start):
    server.alias("renewed", HostName=f"w1.{DOMAIN}")
    server.kinit("alice", "-l", "1s")
    until(lambda: subprocess.run(["klist", "-s", "-c", str(server.cache)]).returncode)
    message = fail(server, "renewed")
    assert message.startswith("Ticket expired")
    assert "Get a new ticket, as this server's user: kinit " in message
    server.kinit()
    assert start("renewed").value(WHO) == "w1 alice"


def test_a_keytab_is_all_that_a_service_needs(server, kdc, start, w1):
    server.cache.unlink()
    kdc.write_keytab(server.keytab, "elyra/front")
    (w1.directory / "alice" / ".k5login").write_text("elyra/front@ELYRA.TEST\n")
    try:
        server.alias("service", HostName=f"w1.{DOMAIN}")
        assert start("service").value(WHO) == "w1 alice"
        # And when the ticket is over it gets another one, with the same principal.
        server.kinit("elyra/front", "-l", "1s")
        until(lambda: subprocess.run(["klist", "-s", "-c", str(server.cache)]).returncode)
        server.alias("served", HostName=f"w1.{DOMAIN}")
        assert start("served").value(WHO) == "w1 alice"
    finally:
        server.keytab.unlink()
        (w1.directory / "alice" / ".k5login").unlink()


def test_another_s_ticket_needs_the_user_s_permission(server, start, w1):
    server.kinit("mallory")
    server.alias("other", HostName=f"w1.{DOMAIN}")
    message = fail(server, "other")
    assert "the host refuses it: mallory@ELYRA.TEST may not log in as alice there. Put the principal into" in message
    assert "~alice/.k5login on the host, or get a ticket of alice" in message
    (w1.directory / "carol" / ".k5login").write_text("mallory@ELYRA.TEST\n")
    assert start("other", "carol").value(WHO) == "w1 carol"


def test_a_user_who_is_not_there(server):
    message = fail(server, "w1", "nobody-here")
    assert "the host refuses it: it does not ask for the ticket." in message
    assert "nobody-here may not log in there at all" in message


def test_a_host_that_the_kdc_does_not_know(server):
    message = fail(server, "w3")
    assert message.startswith(f"Server host/w3.{DOMAIN}@ELYRA.TEST not found in Kerberos database (alice@ELYRA.TEST).")
    assert "Add that principal and put its key into the keytab of the host" in message


def test_a_host_without_a_keytab(server):
    message = fail(server, "w2")
    assert "it does not ask for the ticket. There is no key for its name in its keytab (/etc/krb5.keytab)" in message


def test_a_host_that_has_another_key_than_the_kdc(server, kdc, w2):
    keytab = kdc.write_keytab(w2.directory / "krb5.keytab", f"host/w2.{DOMAIN}")
    kdc.change_key(f"host/w2.{DOMAIN}")
    try:
        message = fail(server, "w2")
    finally:
        keytab.unlink()
    assert f"the host refuses the ticket for host@w2.{DOMAIN}: Key version is not available" in message
    assert "Write the keytab of the host anew (ktadd of kadmin), then get a new ticket here (kinit)." in message


def test_a_host_that_does_not_do_kerberos(server):
    server.alias("without", HostName="w3", GSSAPIServerIdentity=f"w1.{DOMAIN}")
    message = fail(server, "without")
    assert "the host does not accept it, but password, publickey. It takes `GSSAPIAuthentication yes`" in message
    # Where there is a key as well it will do.
    server.key.with_name("unused").rename(server.key)
    try:
        kernel = Kernel(server, "without", KERNEL_USERNAME="alice")
        assert kernel.value(WHO) == "w3 alice"
        kernel.delete()
    finally:
        server.key.rename(server.key.with_name("unused"))


def an_hour_late(cache):
    """The cache remembers how much the KDC's clock is ahead of this one: with another number this one is wrong."""
    data = bytearray(cache.read_bytes())
    assert data[:8] == bytes.fromhex("0504000c00010008")
    data[8:12] = struct.pack(">i", 3600)
    cache.write_bytes(data)


def test_a_clock_that_is_wrong(server):
    an_hour_late(server.cache)
    server.alias("late", HostName=f"w1.{DOMAIN}")
    message = fail(server, "late")
    assert message.startswith("Clock skew too great (alice@ELYRA.TEST). Set the clocks of")


def test_a_clock_that_only_the_host_finds_wrong(server):
    environ = {**os.environ, **{name: server.environ[name] for name in KRB5}}
    subprocess.run(["kvno", "-q", f"host/w1.{DOMAIN}"], env=environ, check=True)
    an_hour_late(server.cache)
    server.alias("later", HostName=f"w1.{DOMAIN}")
    message = fail(server, "later")
    assert f"the host refuses the ticket for host@w1.{DOMAIN}: Clock skew too great" in message


def test_a_kdc_that_is_not_there(server, kdc):
    kdc.write_config(server.config, ["127.0.0.1:9"])
    message = fail(server, "w2")
    assert message.startswith(
        "Cannot contact any KDC for realm 'ELYRA.TEST' (alice@ELYRA.TEST). Check kdc in krb5.conf"
    )


def test_a_kdc_that_does_not_answer(server, kdc, start, w3):
    """A firewall drops the packets to it. With two hosts the answer takes hardly longer than with one."""
    kdc.write_config(server.config, [w3.address])
    for host in ("w1", "w2"):
        server.alias(f"{host}-cut-off", HostName=f"{host}.{DOMAIN}")
    server.add("both", remote_hosts="w1-cut-off,w2-cut-off")
    w3.cut()
    try:
        message = fail(server, "both")
    finally:
        w3.restore()
    assert message.count("the KDC does not answer (alice@ELYRA.TEST). Check kdc in krb5.conf") == 2
    # As long as somebody still waits for that KDC, others wait only for a moment.
    kdc.write_config(server.config)
    started_when_back(start, "w1-cut-off")


@pytest.mark.parametrize(
    ("name", "host", "options"),
    [
        ("short", "w1", {}),  # found as w1.elyra.test
        ("capitals", f"W1.{DOMAIN}", {}),
        ("identity", "{address}", {"GSSAPIServerIdentity": f"w1.{DOMAIN}"}),
        ("hostname", f"w1.{DOMAIN}", {"HostName": "{address}"}),
    ],
)
def test_names_of_a_host(server, start, w1, name, host, options):
    host = host.format(address=w1.address)
    options = {option: value.format(address=w1.address) for option, value in options.items()}
    server.add(name, remote_hosts=host)
    before = server.ssh_config.read_text()
    lines = "".join(f"  {option} {value}\n" for option, value in options.items())
    server.ssh_config.write_text(f"Host {host}\n{lines}{before}" if options else before)
    try:
        assert start(name).value(WHO) == "w1 alice"
    finally:
        server.ssh_config.write_text(before)


def test_an_address_has_no_principal(server, w1):
    server.add("address", remote_hosts=w1.address)
    message = fail(server, "address")
    assert f"Server host/{w1.address}@ELYRA.TEST not found in Kerberos database" in message
    assert "give it as HostName or GSSAPIServerIdentity in ~/.ssh/config" in message


LIST = "import subprocess; print(subprocess.run(['klist'], capture_output=True, text=True).stdout)"


def test_the_ticket_goes_along_where_the_operator_says_so(server, start):
    server.kinit("alice", "-f")
    server.alias("delegated", HostName=f"w1.{DOMAIN}", GSSAPIDelegateCredentials="yes")
    listed = start("delegated").value(LIST)
    assert "Default principal: alice@ELYRA.TEST" in listed
    assert "krbtgt/ELYRA.TEST@ELYRA.TEST" in listed


def test_the_ticket_does_not_go_to_another_user(server, start, w1):
    """Who it lets log in could then log in as everybody else, too."""
    server.kinit("mallory", "-f")
    server.alias("others", HostName=f"w1.{DOMAIN}", GSSAPIDelegateCredentials="yes")
    (w1.directory / "carol" / ".k5login").write_text("mallory@ELYRA.TEST\n")
    kernel = start("others", "carol")
    assert kernel.value(WHO) == "w1 carol"
    assert kernel.value(LIST) == ""


def test_a_server_without_gssapi_says_what_to_install(kdc, hosts, tmp_path):
    with Member(tmp_path, hosts, kdc, PYTHONPATH=str(ROOT)) as server:
        server.add("w1", remote_hosts=f"w1.{DOMAIN}")
        message = fail(server, "w1")
    assert re.search(r"the package gssapi cannot be used .* pip install 'jupyter_elyra\[server,kerberos\]'", message)
