"""The Kerberos tickets with which a JVM has logged in, and whether there are others now.

Hadoop looks into the cache once, when the JVM starts: what is there then is who the JVM is, or that it is nobody, for
as long as it lives. Those who talk to Kerberos's other services add their tickets at the end of the same file; that is
no other log-in.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path


class Tickets:
    """The cache of an environment as it is now.

    Parameters
    ----------
    environ : mapping
        What ``KRB5CCNAME`` is read from. Java knows caches that are files, and no others.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        name = environ.get("KRB5CCNAME") or f"/tmp/krb5cc_{os.getuid()}"
        self._path = Path(re.sub("^file:", "", name, flags=re.IGNORECASE))
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
