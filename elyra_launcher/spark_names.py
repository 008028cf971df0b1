"""Which of Spark's names a cell needs before it can run, read from the cell's syntax tree alone."""

import ast
import re
from typing import Iterator, Sequence, Set

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

_MAGICS = ("run_cell_magic", "run_line_magic")


def names_needed(tree: "ast.Module | ast.Interactive", names: Sequence[str]) -> Set[str]:
    """Return which of `names` a cell reads from the namespace before it gives them a value itself.

    Parameters
    ----------
    tree : ast.Module or ast.Interactive
        The cell.
    names : sequence of str
        The names to look for.
    """
    reader = _Reader()
    for statement in tree.body:
        try:
            reader.visit(statement)
        except RecursionError:  # some hundred calls in a chain, for instance
            reader.skim(statement)
    return set(names) & (reader.needed | (reader.needed_later - reader.bound))


class _Reader(ast.NodeVisitor):
    """Goes through a cell in the order in which it will run.

    Attributes
    ----------
    needed : set of str
        Read before they got a value.
    needed_later : set of str
        Read by functions, whenever those are called.
    bound : set of str
        Given a value by the cell.
    """

    def __init__(self) -> None:
        self.needed: Set[str] = set()
        self.needed_later: Set[str] = set()
        self.bound: Set[str] = set()
        self._local: Set[str] = set()

    def skim(self, statement: ast.stmt) -> None:
        """Take all names of a statement that is nested too deeply, whatever they are to it, as read before bound."""
        self._local = set()
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
                self._read(node.id)
            elif isinstance(node, ast.Call):
                for word in _words_of_code(node):
                    self._read(word)
        self.bound |= _stored_in(statement)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.bound.add(node.id)
        else:
            self._read(node.id)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._visit_all([node.value, *node.targets])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._visit_all([*filter(None, [node.value]), *([node.target] if node.value else [])])

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._read(node.target.id)
        self._visit_all([node.value, node.target])

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._visit_all([node.value, node.target])

    def visit_For(self, node: ast.For) -> None:
        self._visit_all([node.iter, node.target, *node.body, *node.orelse])

    def visit_AsyncFor(self, node: ast.AsyncFor) -> None:
        self._visit_all([node.iter, node.target, *node.body, *node.orelse])

    def visit_alias(self, node: ast.alias) -> None:
        self.bound.add((node.asname or node.name).split(".")[0])

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self.bound.update(filter(None, [node.name]))
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._define(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._define(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)
        self._read_later(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all([*node.decorator_list, *node.bases, *node.keywords])
        bound = set(self.bound)
        self._visit_all(node.body)
        self.bound = bound | {node.name}  # what it binds in between is its own

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._comprehend(node.generators, [node.elt])

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._comprehend(node.generators, [node.elt])

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._comprehend(node.generators, [node.elt])

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehend(node.generators, [node.key, node.value])

    def visit_Call(self, node: ast.Call) -> None:
        for word in _words_of_code(node):
            self._read(word)
        self.generic_visit(node)

    def _define(self, node: "ast.FunctionDef | ast.AsyncFunctionDef") -> None:
        self._visit_all([*node.decorator_list, node.args])
        self.bound.add(node.name)
        self._read_later(node)

    def _comprehend(self, generators: Sequence[ast.comprehension], results: Sequence[ast.expr]) -> None:
        outer = self._local
        for each in generators:
            self.visit(each.iter)
            self._local = self._local | _stored_in(each.target)
            self._visit_all(each.ifs)
        self._visit_all(results)
        self._local = outer

    def _visit_all(self, nodes: Sequence[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def _read(self, name: str) -> None:
        if name not in self.bound and name not in self._local:
            self.needed.add(name)

    def _read_later(self, scope: ast.AST) -> None:
        local = _bound_in(scope) | self._local
        self.needed_later.update(name for name in _free_names(scope) if name not in local)


def _free_names(scope: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Call):
            yield from _words_of_code(node)
        local = _bound_in(node) if isinstance(node, _SCOPES) else set()
        yield from (name for name in _free_names(node) if name not in local)


def _words_of_code(call: ast.Call) -> Iterator[str]:
    """Give the words of code that is only a string here: of magics, which look names up by themselves, or eval."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in (*_MAGICS, "eval", "exec"):
        return
    texts = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    if name == "run_line_magic" and texts[:1] == ["run"]:
        words = " ".join(texts[1:]).split()
        texts += map(_content, words if "-i" in words else [])  # without it a program has names of its own
    for text in texts:
        yield from re.findall(r"\b[A-Za-z_]\w*\b", text)


def _content(path: str) -> str:
    """Return what is in a file that is run; nothing of one that cannot be read, and says so itself."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (OSError, ValueError):
        return ""


def _stored_in(target: ast.AST) -> Set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


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
