"""The certificate that launchers pin.

Each process makes its own self-signed P-256 certificate at its first launch. What
counts is its fingerprint, which a launch gets on its command line; the private key
never touches a disk where the system can keep it in memory.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl
import tempfile
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from elyra_launcher.protocol import FINGERPRINT_PREFIX

LIFETIME = datetime.timedelta(days=3650)


class Certificate(NamedTuple):
    """What the listener needs: the context of its connections and what to pin."""

    context: ssl.SSLContext
    fingerprint: str


def make_certificate() -> Certificate:
    """Return a new self-signed certificate, ready for use."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elyra")])
    # A worker's clock may be behind; nobody checks the dates, but they should make sense.
    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A launcher keeps its one connection: a session to resume would never be used.
    context.num_tickets = 0
    _load(context, pem)
    return Certificate(context, FINGERPRINT_PREFIX + hashlib.sha256(der).hexdigest())


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Load certificate and key, which `ssl` takes from files only."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("elyra-certificate")
        try:
            os.write(descriptor, pem)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:  # 0600
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
