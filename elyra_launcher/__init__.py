"""Start a Jupyter kernel on a worker, report it to its server and look after it.

The package is the worker's half of Elyra: it needs Python 3.8 and, on its main
path, nothing but the standard library. What is offered as a library is listed in
``__all__`` and imported on first use, so that importing the package costs nothing.

- :func:`launch` runs a launch from its arguments to the end of the kernel.
- :class:`Kernel` is the class to derive from for another way to start, interrupt
  or stop a kernel; :class:`PythonKernel`, :class:`RKernel` and :class:`ToreeKernel` are such
  classes.
- :func:`report` is for a kernel that is there already and wants the link only, a :class:`Report`.

The hooks of a kernel class get :class:`Options` and the kernel's :class:`Process`.
"""

from __future__ import annotations

__version__ = "1.0.0.dev0"

__all__ = [
    "Kernel",
    "LauncherError",
    "Options",
    "Process",
    "PythonKernel",
    "RKernel",
    "Report",
    "ToreeKernel",
    "launch",
    "report",
]

TYPE_CHECKING = False  # importing typing would take half a megabyte of each supervisor
if TYPE_CHECKING:
    from .arguments import Options
    from .embedding import Report, report
    from .errors import LauncherError
    from .kernels import Kernel, PythonKernel
    from .main import launch
    from .process import Process
    from .r_kernel import RKernel
    from .toree_kernel import ToreeKernel

_HOMES = {
    "Kernel": "kernels",
    "LauncherError": "errors",
    "Options": "arguments",
    "Process": "process",
    "PythonKernel": "kernels",
    "RKernel": "r_kernel",
    "ToreeKernel": "toree_kernel",
    "Report": "embedding",
    "launch": "main",
    "report": "embedding",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
