"""Which of Spark's names a cell needs before it can run, read from the cell's syntax tree alone."""

import ast
import re
from typing import Iterator, Sequence, Set

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def names_needed(tree: ast.AST, names: Sequence[str]) -> Set[str]:
    """Return which of `names` a cell reads from the namespace without giving them a value itself.

    Parameters
    ----------
    tree : ast.Module
        The cell.
    names : sequence of str
        The names to look for.
    """
    wanted = set(names)
    return {name for name in _free_names(tree) if name in wanted} - _bound_in(tree)


def _free_names(scope: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Call):
            yield from _magic_words(node)
        local = _bound_in(node) if isinstance(node, _SCOPES) else set()
        yield from (name for name in _free_names(node) if name not in local)


def _magic_words(call: ast.Call) -> Iterator[str]:
    # A magic's text is only a string here: IPython hands it to code that may look the names up.
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("run_cell_magic", "run_line_magic"):
        for argument in call.args:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield from re.findall(r"\b[A-Za-z_]\w*\b", argument.value)


def _bound_in(scope: ast.AST) -> Set[str]:
    """Return the names that `scope` binds itself, not those of functions inside it."""
    bound: Set[str] = set()
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        if not isinstance(node, (*_SCOPES, ast.ClassDef)):
            bound |= _bound_in(node)
    return bound
