"""What travels with a launch: the launcher and the kernelspec's files, in one piece."""

from __future__ import annotations

import functools
import importlib.util
import py_compile
import tempfile
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path

from elyra_server.shipping import PACKAGE, launcher_directory
from elyra_server.ssh.errors import HostError

LAUNCHER = "launcher"
KERNELSPEC = "kernelspec"
"""Directories in that of a launch."""

LIMIT = 50 << 20

Looks = frozenset[tuple[str, int, int, int]]
"""Of each file its name, the time of its last change, size and mode: what differs when it changed."""

_guard = threading.Lock()
_packs: dict[str, tuple[Looks, Pack]] = {}


@dataclass(frozen=True)
class Pack:
    """Files, as `elyra_launcher.landing` wants them.

    Attributes
    ----------
    files : tuple of (str, int, int)
        Name, mode and size of each.
    content : bytes
        All of them, one behind the other, compressed.
    """

    files: tuple[tuple[str, int, int], ...]
    content: bytes


@functools.cache
def landing_source() -> bytes:
    """Return the text of the module that unpacks it; read once, by the first `pack`."""
    return (launcher_directory() / PACKAGE / "landing.py").read_bytes()


def pack(resource_dir: str) -> Pack:
    """Return launcher and kernelspec in one piece; made anew when a file changed. It reads files, so it may block.

    Parameters
    ----------
    resource_dir : str
        The kernelspec's directory, empty for none.

    Raises
    ------
    HostError
        If the kernelspec is too large, or cannot be read.
    """
    with _guard:
        try:
            landing_source()
            found = _files(Path(resource_dir)) if resource_dir else {}
            looks = _look(found)
            known = _packs.get(resource_dir)
            if known is None or known[0] != looks:
                known = _packs[resource_dir] = (looks, _make(found))
        except OSError as error:
            raise HostError(f"The kernelspec's files cannot be sent to other hosts: {error}", lasting=False) from error
        return known[1]


def _files(resource_dir: Path) -> dict[str, Path]:
    paths = (path for path in sorted(resource_dir.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {f"{KERNELSPEC}/{path.relative_to(resource_dir)}": path for path in paths}


def _look(found: dict[str, Path]) -> Looks:
    stats = {name: path.stat() for name, path in found.items()}
    return frozenset((name, stat.st_mtime_ns, stat.st_size, stat.st_mode) for name, stat in stats.items())


def _make(found: dict[str, Path]) -> Pack:
    size = sum(path.stat().st_size for path in found.values())
    if size > LIMIT:
        raise HostError(
            f"The kernelspec has files of {size >> 20} MB, which is too much to send with each launch.", lasting=False
        )
    parts = [(name, path.stat().st_mode, path.read_bytes()) for name, path in found.items()]
    for module in sorted(path for path in (launcher_directory() / PACKAGE).iterdir() if path.is_file()):
        place = f"{LAUNCHER}/{PACKAGE}"
        parts.append((f"{place}/{module.name}", 0o600, module.read_bytes()))
        if module.suffix != ".py":
            continue
        # A worker with the same Python need not compile it, another one takes no notice.
        compiled = importlib.util.cache_from_source(module.name)
        parts.append((f"{place}/{compiled}", 0o600, _compile(module)))
    files = tuple((name, mode & 0o777, len(content)) for name, mode, content in parts)
    return Pack(files, zlib.compress(b"".join(content for _, _, content in parts)))


def _compile(module: Path) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".pyc") as file:
        py_compile.compile(
            str(module),
            file.name,
            dfile=f"{PACKAGE}/{module.name}",
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        return Path(file.name).read_bytes()
