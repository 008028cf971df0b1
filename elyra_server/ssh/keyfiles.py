"""What can be known of a private key without its passphrase: its public part."""

from __future__ import annotations

import base64
from pathlib import Path

import paramiko

BEGIN, END = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"
MAGIC = b"openssh-key-v1\0"


def public_key(file: Path) -> bytes:
    """Return the public part of a key: of the file itself or of the ``.pub`` beside it; empty if there is none."""
    return next(filter(None, map(_read, (file, Path(f"{file}.pub")))), b"")


def _read(file: Path) -> bytes:
    try:
        text = file.read_text(encoding="ascii")
        if text.startswith(BEGIN):
            return _of_private(base64.b64decode(text[len(BEGIN) :].partition(END)[0]))
        return base64.b64decode(text.split()[1]) if not text.startswith("-----") else b""
    except (OSError, ValueError, IndexError):
        return b""


def _of_private(content: bytes) -> bytes:
    """Return what stands in front of the encrypted part."""
    message = paramiko.Message(content.removeprefix(MAGIC))
    for _ in ("cipher", "key derivation", "its options"):
        message.get_string()
    return bytes(message.get_string()) if message.get_int() == 1 else b""
