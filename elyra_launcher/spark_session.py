"""The Spark session of a Python kernel, and the names by which its cells know it.

This runs in the kernel's own process. A kernel that does not use Spark pays nothing for it: neither pyspark nor py4j is
imported before a cell asks for one of the names, and then the names are the real objects, not stand-ins.
"""

import ast
import sys
import threading
import warnings
from typing import Any, Dict, Optional, Sequence

from . import spark_gateway
from .spark_attach import adapt_on_import
from .spark_names import names_needed

#: The names that a Spark kernel has from the start.
NAMES = ("spark", "sc", "sqlContext")


def install(app: Any, mode: str) -> None:
    """Give a kernel its Spark.

    Parameters
    ----------
    app : ipykernel.kernelapp.IPKernelApp
        The kernel's application, initialized and not started yet.
    mode : {"lazy", "eager", "none"}
        ``lazy``: ``spark``, ``sc`` and ``sqlContext`` are made when a cell first names them; ``eager``: the same, and
        the session is made in the background as soon as the kernel runs; ``none``: no name is given.
    """
    global _installed
    spark_gateway.keep_to_itself()
    adapt_on_import(app.shell)
    if mode == "none" or app.shell is None:
        return
    _installed = names = SparkNames(app.shell.user_ns)
    app.shell.ast_transformers.append(names)
    if mode == "eager":
        from tornado.ioloop import IOLoop

        IOLoop.current().add_callback(names.make_in_background)


class SparkNames:
    """Makes ``spark``, ``sc`` and ``sqlContext`` when a cell uses one of them that is not there yet.

    As an AST transformer of IPython it sees every cell before it runs, and puts one statement in front of those that
    need a name; so what Spark says when it cannot start is an error of that cell.

    Parameters
    ----------
    namespace : dict
        The namespace of the user's cells.
    """

    def __init__(self, namespace: Dict[str, Any]) -> None:
        self._namespace = namespace
        self._lock = threading.Lock()

    def visit(self, node: ast.AST) -> ast.AST:
        """Return the cell's tree, with a statement in front that makes the names which it needs (called by IPython)."""
        if not isinstance(node, (ast.Module, ast.Interactive)):
            return node
        missing = [name for name in NAMES if name not in self._namespace]
        needed = sorted(names_needed(node, missing)) if missing else []
        if needed:
            node.body.insert(_after_future_imports(node.body), self._statement(needed, node.body[0]))
        return node

    def _statement(self, names: Sequence[str], place: ast.stmt) -> ast.stmt:
        source = f"__import__({__name__!r}, fromlist=['provide']).provide({', '.join(map(repr, names))})"
        call = ast.parse(source).body[0]
        for part in ast.walk(call):
            if "lineno" in part._attributes:
                ast.copy_location(part, place)
        return call

    def provide(self, names: Sequence[str]) -> None:
        """Put objects for `names` into the namespace; Spark's own error is raised where it cannot start."""
        with self._lock:
            from pyspark.sql import SparkSession

            session = SparkSession.builder.getOrCreate()
        for name in names:
            if name not in self._namespace:
                self._namespace[name] = _object_for(name, session)

    def make_in_background(self) -> None:
        """Make the session without anybody waiting for it (mode ``eager``)."""
        threading.Thread(target=self._make, name="elyra-spark", daemon=True).start()

    def _make(self) -> None:
        try:
            self.provide(NAMES)
        # The edge of a thread: the cell that first needs Spark gets the error as its own.
        except Exception as error:  # noqa: BLE001
            print(f"Spark could not be started in the background: {error}", file=sys.stderr)


_installed: Optional[SparkNames] = None


def provide(*names: str) -> None:
    """Make `names` in the kernel's namespace (called by the statement that :class:`SparkNames` adds to a cell)."""
    __tracebackhide__ = True
    assert _installed is not None, "install() puts the statement there that calls this"
    _installed.provide(names)


def _object_for(name: str, session: Any) -> Any:
    if name == "spark":
        return session
    if name == "sc":
        return session.sparkContext
    from pyspark.sql import SQLContext

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return SQLContext(session.sparkContext, session)


def _after_future_imports(body: Sequence[ast.stmt]) -> int:
    future = [i for i, item in enumerate(body) if isinstance(item, ast.ImportFrom) and item.module == "__future__"]
    return future[-1] + 1 if future else 0
