"""The host keys that OpenSSH's known_hosts files vouch for."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

REVOKED = "@revoked"


@dataclass(frozen=True)
class KnownKey:
    """A line of a known_hosts file that is about the host."""

    marker: str
    kind: str
    key: bytes
    file: Path
    line: int


def lookup_name(hostname: str, port: int) -> str:
    """Return how known_hosts files name a host."""
    return hostname if port == 22 else f"[{hostname}]:{port}"


def known_keys(name: str, files: Iterable[Path]) -> list[KnownKey]:
    """Return what the files say about a host; files that do not exist say nothing."""
    return [key for file in files for key in _read(file, name)]


def fingerprint(key: bytes) -> str:
    """Return a key's fingerprint as ssh shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _read(file: Path, name: str) -> Iterator[KnownKey]:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or not _matches(words[0], name):
            continue
        try:
            yield KnownKey(marker, words[1], base64.b64decode(words[2]), file, number)
        except binascii.Error:
            continue


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|1|"):
        return _matches_hash(patterns, name)
    found = False
    for pattern in patterns.lower().split(","):
        # Brackets belong to names with ports here, not to the pattern.
        plain = pattern.lstrip("!").replace("[", "[[]")
        if fnmatch.fnmatchcase(name.lower(), plain):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _matches_hash(text: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in text[3:].split("|"))
    except ValueError:
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), "sha1").digest(), digest)
