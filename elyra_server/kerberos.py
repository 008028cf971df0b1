"""The Kerberos tickets that submissions to YARN log in with: whose they are, and whether there are others now.

Hadoop looks into the cache once, when a JVM starts: what is there then is who the JVM is, or that it is nobody, for as
long as it lives. Those who talk to Kerberos's other services add their tickets at the end of the same file; that is no
other log-in.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path

VERSION = b"\5\4"
"""How a cache begins, in the format that MIT's and Heimdal's Kerberos have written since 2000."""

MOST_PARTS = 8
"""Of a principal: more than any has."""


def cache_file(environ: Mapping[str, str]) -> Path:
    """Return the cache of an environment. Java knows caches that are files, and no others."""
    name = environ.get("KRB5CCNAME") or f"/tmp/krb5cc_{os.getuid()}"
    return Path(re.sub("^file:", "", name, flags=re.IGNORECASE))


def user_of_cache(environ: Mapping[str, str]) -> str:
    """Return as which user a cluster sees who logs in with the cache of an environment.

    Returns
    -------
    str
        The first part of the principal: ``elyra`` of ``elyra/host@REALM``. Empty if there is no cache, or none that can
        be read.
    """
    return next(iter(principal_of_cache(environ)), "")


def principal_of_cache(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return whose tickets are in the cache of an environment: the parts of the principal, without the realm.

    Notes
    -----
    The format is MIT's: https://web.mit.edu/kerberos/krb5-latest/doc/formats/ccache_file_format.html
    """
    try:
        content = cache_file(environ).read_bytes()
        if not content.startswith(VERSION):
            return ()
        (header,) = struct.unpack_from(">H", content, 2)
        place = 4 + header + 4  # after the header comes the name's type
        (count,) = struct.unpack_from(">I", content, place)
        place += 4
        parts = []
        for _ in range(min(count, MOST_PARTS) + 1):  # the realm comes first
            (length,) = struct.unpack_from(">I", content, place)
            parts.append(content[place + 4 : place + 4 + length].decode())
            place += 4 + length
        return tuple(parts[1:])
    except (OSError, struct.error, UnicodeDecodeError):
        return ()


class Tickets:
    """The cache of an environment as it is now.

    Parameters
    ----------
    environ : mapping
        What ``KRB5CCNAME`` is read from.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._path = cache_file(environ)
        content = self._content()
        self._length = len(content)
        self._digest = _digest(content)

    def are_others(self) -> bool:
        """Return whether somebody has logged in since, or there is nobody any more."""
        content = self._content()
        if not self._length:
            return bool(content)
        return _digest(content[: self._length]) != self._digest

    def _content(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError:
            return b""


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
