"""Toree's assembly jar, as ``jupyter elyra install`` finds it for a Scala kernelspec."""

from __future__ import annotations

import importlib.util
import re
import zipfile
from pathlib import Path

from elyra_launcher.toree_kernel import BUILD_INFO, scala_version

URL = re.compile(r"[a-z][a-z0-9+.-]*:")


def add_assembly(kernelspec: Path, named: str, on_all_nodes: bool) -> None:
    """Write into a kernelspec where the assembly is, and for which Scala it was built: ``lib/toree-assembly``.

    Without an assembly nothing is written: the launch says then what to do.

    Parameters
    ----------
    kernelspec : Path
        Its directory.
    named : str
        The assembly that was asked for; empty for that of the Python package.
    on_all_nodes : bool
        Whether all nodes of the cluster have it at the same place, so that it is not uploaded.
    """
    if named and is_elsewhere(named):
        place, scala = named, ""
    else:
        path = Path(named).absolute() if named else packaged_assembly()
        if path is None:
            return
        place = f"local:{path}" if on_all_nodes else str(path)
        scala = scala_of(path)
    file = kernelspec / "lib" / "toree-assembly"
    file.parent.mkdir(mode=0o755)
    file.write_text(f"{place}\n{scala}\n", encoding="utf-8")
    file.chmod(0o644)


def is_elsewhere(assembly: str) -> bool:
    """Whether this is a URL rather than a file of this host."""
    return URL.match(assembly) is not None


def packaged_assembly() -> Path | None:
    """Return the assembly in the Python package toree, if that is installed."""
    package = importlib.util.find_spec("toree")
    places = package.submodule_search_locations if package is not None else None
    found = [jar for place in places or () for jar in Path(place, "lib").glob("toree-assembly*.jar")]
    return max(found, default=None)


def scala_of(assembly: Path) -> str:
    """Return the Scala version that an assembly was built for; empty if it does not say."""
    try:
        with zipfile.ZipFile(assembly) as jar:
            return scala_version(jar.read(BUILD_INFO))
    except (OSError, KeyError, zipfile.BadZipFile):
        return ""
