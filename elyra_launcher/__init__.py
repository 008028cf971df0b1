"""Start a Jupyter kernel on a worker, report it to its server and look after it.

The package is the worker's half of Elyra: it needs Python 3.8 and, on its main
path, nothing but the standard library. What is offered as a library is listed in
``__all__`` and imported on first use, so that importing the package costs nothing.
"""

__version__ = "1.0.0.dev0"
