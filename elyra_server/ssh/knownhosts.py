"""The host keys that OpenSSH's known_hosts files vouch for."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import hmac
import os
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
    return hostname.lower() if port == 22 else f"[{hostname.lower()}]:{port}"


def known_keys(name: str, files: Iterable[Path]) -> list[KnownKey]:
    """Return what the files say about a host; files that do not exist say nothing."""
    return [key for file in files for key in _read(file, name)]


def remember(file: Path, name: str, kind: str, key: bytes) -> None:
    """Add a key to a known_hosts file, on a line of its own whatever the last one looks like.

    Raises
    ------
    OSError
        If that is not possible.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    line = f"{'' if ends_a_line(file) else chr(10)}{name} {kind} {base64.b64encode(key).decode()}\n"
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line.encode())  # in one piece: others may write as well
    finally:
        os.close(descriptor)


def ends_a_line(file: Path) -> bool:
    """Say whether what is added to a file begins a line."""
    try:
        return file.read_bytes()[-1:] in (b"", b"\n")
    except OSError:
        return True


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
        except ValueError:
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
    # OpenSSH makes them of names in lower case, but not of a HostKeyAlias.
    return any(
        hmac.compare_digest(hmac.new(salt, each.encode(), "sha1").digest(), digest) for each in (name, name.lower())
    )
