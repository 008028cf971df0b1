"""Kernelspecs with a process proxy: where the stanza stands and what it names."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from traitlets import Dict, TraitError, Type

from elyra_server.errors import KernelSpecError, NoSuchKernelSpecError
from elyra_server.settings import parse_bool

STANZA = "process_proxy"
LOCAL = "elyra_server.processproxies.processproxy.LocalProcessProxy"

OWN = "elyra_server.processproxies."
# The same classes under the names that kernelspecs out there use.
OTHER_NAMES = ("elyra.services.processproxies.", "enterprise_gateway.services.processproxies.")

METHODS = ("launch_process", "poll", "wait", "send_signal", "kill")

# Two launches at a time must not import a module half each.
_importing = threading.Lock()


class Stanza(NamedTuple):
    """What a kernelspec says about its process proxy."""

    class_name: str
    config: dict[str, Any]


class RemoteKernelSpec(KernelSpec):
    """A kernelspec with the optional stanza ``process_proxy``.

    Attributes
    ----------
    process_proxy : dict
        ``class_name``, and ``config`` for it. Without it the kernel is a local process, as
        usual in Jupyter.
    """

    process_proxy = Dict(help="The class that runs the kernel, and its configuration.")

    @classmethod
    def from_resource_dir(cls, resource_dir: str) -> KernelSpec:
        """Read the kernel.json in a directory.

        Raises
        ------
        KernelSpecError
            If it is not what Jupyter expects; the text names the file and the place.
        """
        path = Path(resource_dir) / "kernel.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError("it is not a JSON object")
            argv = content.get("argv")
            if not argv or not isinstance(argv, list) or not all(isinstance(word, str) for word in argv):
                raise ValueError("argv is not a list of strings")
            env = content.get("env", {})
            if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
                raise ValueError("env is not an object whose values are strings")
            known = {name: value for name, value in content.items() if cls.class_traits().get(name)}
            spec = cls(resource_dir=resource_dir, **known)
            if not isinstance((spec.metadata or {}).get("kernel_provisioner", {}), dict):
                raise ValueError("kernel_provisioner in its metadata is not an object")
            stanza_of(spec)
        except (OSError, ValueError, TraitError, RecursionError) as error:
            raise KernelSpecError(f"The kernelspec {path} cannot be used: {error}") from error
        return spec

    def to_dict(self) -> dict[str, Any]:
        """Return the kernelspec as clients see it."""
        result: dict[str, Any] = super().to_dict()
        if self.process_proxy:
            result[STANZA] = self.process_proxy
        return result


class RemoteKernelSpecManager(KernelSpecManager):
    """Finds kernelspecs whose process may run elsewhere."""

    kernel_spec_class = Type(
        default_value=RemoteKernelSpec,
        klass=KernelSpec,
        config=True,
        help="The class of kernelspecs; has to understand process_proxy.",
    )

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return the kernelspec of a name.

        Raises
        ------
        KernelSpecError
            If its kernel.json cannot be used.
        NoSuchKernelSpecError
            If there is none of that name; it is also Jupyter's `NoSuchKernel`.
        """
        try:
            return super().get_kernel_spec(kernel_name)
        except NoSuchKernel as error:
            raise _UnknownKernelSpecError(kernel_name, sorted(self.find_kernel_specs())) from error


class _UnknownKernelSpecError(NoSuchKernelSpecError, NoSuchKernel):
    """Both for those who know Elyra's errors and those who know Jupyter's."""

    def __init__(self, name: str, known: list[str]) -> None:
        NoSuchKernel.__init__(self, name)
        self.known = known

    def __str__(self) -> str:
        return (
            f"There is no kernelspec named {self.name[:100]!r}, or the provisioner it names is not installed. "
            f"Known are: {', '.join(self.known)}."
        )


def stanza_of(spec: Any) -> Stanza:
    """Return the stanza of a kernelspec: top level, else in its metadata, else local.

    A spec object of a plain Jupyter drops what it does not know; then the file is read.

    Raises
    ------
    KernelSpecError
        If the stanza is not an object with ``class_name`` and perhaps ``config``.
    """
    value = getattr(spec, STANZA, None) or (spec.metadata or {}).get(STANZA)
    if not value and not hasattr(spec, STANZA) and spec.resource_dir:
        value = _read_stanza(Path(spec.resource_dir) / "kernel.json")
    if not value:
        return Stanza(LOCAL, {})
    if not isinstance(value, dict) or not isinstance(value.get("class_name"), str):
        raise KernelSpecError(f"{_place(spec)}: process_proxy needs a class_name.")
    config = value.get("config") or {}
    if not isinstance(config, dict):
        raise KernelSpecError(f"{_place(spec)}: config of process_proxy is not an object.")
    return Stanza(value["class_name"].strip(), config)


def switch(config: Mapping[str, Any], name: str, default: bool = False) -> bool:
    """Return what a stanza's ``config`` says of something that is on or off.

    Raises
    ------
    KernelSpecError
        If it says neither.
    """
    value = config.get(name)
    if value is None:
        return default
    try:
        return parse_bool(str(value), name)
    except ValueError as error:
        raise KernelSpecError(f"process_proxy: {error}") from error


def proxy_class(spec: Any) -> type[Any]:
    """Return the class that a kernelspec names; imports it.

    Raises
    ------
    KernelSpecError
        If there is no such class, or it has not the methods of a process proxy.
    """
    name = stanza_of(spec).class_name
    canonical = name
    for prefix in OTHER_NAMES:
        if name.startswith(prefix):
            canonical = OWN + name[len(prefix) :]
    found: Any = None
    problem: BaseException | str = "it has no module"
    for candidate in dict.fromkeys((canonical, name)):
        module, _, attribute = candidate.rpartition(".")
        try:
            with _importing:
                found = getattr(import_module(module), attribute)
            break
        except Exception as error:  # noqa: BLE001 - what it runs into is the module's own, whoever wrote it
            problem = error if isinstance(error, (ImportError, AttributeError)) else repr(error)
    if found is None:
        raise KernelSpecError(
            f"{_place(spec)}: the process proxy {name!r} cannot be imported ({problem}). "
            "Check class_name, and that its package is installed where the server runs."
        )
    missing = [method for method in METHODS if not callable(getattr(found, method, None))]
    if not isinstance(found, type) or missing:
        raise KernelSpecError(
            f"{_place(spec)}: {name!r} is not a process proxy; it lacks {', '.join(missing) or 'a class'}."
        )
    return found


def _read_stanza(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8")).get(STANZA)
    except (OSError, ValueError, AttributeError):
        return None  # such as the native kernel, which has no file


def _place(spec: Any) -> str:
    return str(Path(spec.resource_dir) / "kernel.json") if spec.resource_dir else "kernel.json"
