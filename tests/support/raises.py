"""Reads the source of the package: what each ``raise`` raises, and which reference that has.

    for problem in problems_in("lock", ast.parse(text), package):
        ...

mypy checks the annotations, so what a variable is annotated with is what it holds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path

import msal_extensions
from msal_extensions import _references as references
from msal_extensions import errors
from msal_extensions._references import Reference

PACKAGE = Path(msal_extensions.__file__).parent

#: The classes that have a reference, by their names.
CLASSES: dict[str, type] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, (errors.PersistenceError, errors.LockError))
}
#: The references by their names in _references.py.
CONSTANTS: dict[str, Reference] = {
    name: entry for name, entry in vars(references).items() if isinstance(entry, Reference)
}
#: errors.py names any of its classes so, where mypy knows which one it is.
_ANY_CLASS = {"AnError", "AnOSError"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Trees = dict[str, ast.Module]


def trees() -> Trees:
    """The syntax trees of all modules of the installed package, by their names."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def names_in(node: ast.AST) -> set[str]:
    """The names that an expression or a statement uses, also behind a dot."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} | {
        each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)
    }


def _is_ours(annotation: ast.expr | None, more: Set[str] = frozenset()) -> bool:
    """Whether an annotation names a class with a reference, or its type, and nothing else.

    :param more: See own_classes().
    """
    if annotation is None:
        return False
    if isinstance(annotation, ast.Subscript):  # type[X], dict[int, type[X]]
        parts = annotation.slice
        last = parts.elts[-1] if isinstance(parts, ast.Tuple) else parts
        return ast.unparse(annotation.value) in ("type", "dict") and _is_ours(last, more)
    return isinstance(annotation, ast.Name) and annotation.id in {*CLASSES, *_ANY_CLASS, *more}


def own_classes(trees: Trees) -> set[str]:
    """The classes whose objects are made with a reference, such as those of the command."""
    return {
        kind.name
        for tree in trees.values()
        for kind in ast.walk(tree)
        if isinstance(kind, ast.ClassDef)
        for made in kind.body
        if isinstance(made, ast.FunctionDef) and made.name == "__init__"
        if any(ast.unparse(it.annotation) == "Reference" for it in made.args.args if it.annotation)
    }


def makers(trees: Trees) -> set[str]:
    """What returns an error with a reference: functions, methods and classes, by their names.

    A name counts only if all functions that have it do so.
    """
    more = own_classes(trees)
    found = [
        node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, Function)
    ]
    ours = {node.name for node in found if _is_ours(node.returns, more)}
    return more | ours - {node.name for node in found if not _is_ours(node.returns, more)}


@dataclass
class _Scope:
    """Where a raise stands."""

    module: ast.Module
    path: list[str] = field(default_factory=list)
    function: Function | None = None
    #: The names that ``except ... as name`` gives to errors of ours.
    caught: set[str] = field(default_factory=set)

    def annotated(self, name: str) -> bool:
        """Whether a variable of that name is annotated as an error of ours, or as its class."""
        for node in (self.function, self.module):
            if node is None:
                continue
            found = [each for each in ast.walk(node) if isinstance(each, (ast.arg, ast.AnnAssign))]
            for each in found:
                own = each.arg if isinstance(each, ast.arg) else ast.unparse(each.target)
                if own == name:
                    return _is_ours(each.annotation)
        return False


class _Reader(ast.NodeVisitor):
    def __init__(self, module: str, tree: ast.Module, returning: set[str]) -> None:
        self.problems: list[tuple[str, str]] = []
        self._returning = returning
        self._scope = _Scope(tree, [module])

    def _visit_inner(self, node: ast.ClassDef | Function) -> None:
        before = self._scope
        function = before.function if isinstance(node, ast.ClassDef) else node
        self._scope = _Scope(before.module, [*before.path, node.name], function, before.caught)
        self.generic_visit(node)
        self._scope = before

    visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _visit_inner  # noqa: N815

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        """Notes the name of a caught error of ours."""
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        before = self._scope.caught
        if node.name and all(isinstance(it, ast.Name) and it.id in CLASSES for it in kinds):
            self._scope.caught = {*before, node.name}
        self.generic_visit(node)
        self._scope.caught = before

    def visit_Raise(self, node: ast.Raise) -> None:
        """Judges what a raise raises.  A bare one raises what was raised before."""
        if node.exc is not None and not self._has_reference(node.exc):
            self.problems.append((".".join(self._scope.path), ast.unparse(node)))

    def _has_reference(self, raised: ast.expr) -> bool:
        if isinstance(raised, ast.Name):
            if raised.id == "NotImplementedError":
                marks = [] if self._scope.function is None else self._scope.function.decorator_list
                return any("abstractmethod" in names_in(mark) for mark in marks)
            of_ours = raised.id in CLASSES or raised.id in self._scope.caught
            return of_ours or self._scope.annotated(raised.id)
        if not isinstance(raised, ast.Call):
            return False
        called = raised.func
        if isinstance(called, ast.Name) and called.id == "referring":
            return self._is_error(raised.args[0])
        if any(_is_message(argument) for argument in raised.args):
            return True
        return self._has_class(called)

    def _is_error(self, made: ast.expr) -> bool:
        """The argument of referring(): mypy lets only errors of ours through."""
        return isinstance(made, (ast.Name, ast.Call))

    def _has_class(self, called: ast.expr) -> bool:
        if isinstance(called, ast.Subscript) and isinstance(
            called.value, ast.Name
        ):  # TABLE[x](...)
            return self._scope.annotated(called.value.id)
        name = called.attr if isinstance(called, ast.Attribute) else ast.unparse(called)
        return name in CLASSES or name in self._returning or self._scope.annotated(name)


def _is_message(argument: ast.expr) -> bool:
    """Whether an argument is ``REFERENCE.after(words)``."""
    called = argument.func if isinstance(argument, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr == "after"


def problems_in(module: str, tree: ast.Module, returning: set[str]) -> Iterator[tuple[str, str]]:
    """The raises without a reference: where each one stands, and its text.

    :param returning: See makers().
    """
    reader = _Reader(module, tree, returning)
    reader.visit(tree)
    yield from reader.problems


def texts_by_hand(tree: ast.Module) -> Iterator[str]:
    """The texts of the errors that with_remedy() could make and does not, as the source has them.

    A text may be put together before, in variables of the same function.
    """
    for function in [it for it in ast.walk(tree) if isinstance(it, Function)]:
        made: dict[str, list[ast.expr]] = {}
        for it in ast.walk(function):
            if isinstance(it, (ast.Assign, ast.AugAssign)):
                for target in it.targets if isinstance(it, ast.Assign) else [it.target]:
                    made.setdefault(ast.unparse(target), []).append(it.value)
        for call in [it for it in ast.walk(function) if isinstance(it, ast.Call)]:
            if issubclass(CLASSES.get(ast.unparse(call.func), object), OSError):
                parts = [it for each in call.args for it in made.get(ast.unparse(each), [each])]
                yield "".join(map(_text_of, parts))


def _text_of(node: ast.expr) -> str:
    """A text with what is put into it as in its source, such as "{path} is gone"."""
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text_of, node.values))
    if isinstance(node, ast.BinOp):
        return _text_of(node.left) + _text_of(node.right)
    value = node.value if isinstance(node, ast.FormattedValue) else node
    return "{" + ast.unparse(value) + "}"


def raised_references(trees: Trees) -> set[str]:
    """The names of the references that errors have, by their class or by themselves."""
    found: set[str] = set()
    for module, tree in trees.items():
        if module in ("_references", "__init__") or module.startswith(("_command.", "__main__")):
            continue
        kinds: tuple[type[ast.AST], ...] = (ast.Dict,)  # such as BY_ERRNO
        if module != "errors":
            kinds += (ast.Raise, ast.Return, ast.Assign, ast.AnnAssign)
        used = {name for it in ast.walk(tree) if isinstance(it, kinds) for name in names_in(it)}
        codes = {getattr(CLASSES[name], "reference", "") for name in used & CLASSES.keys()}
        found |= used & CONSTANTS.keys()
        found |= {name for name, entry in CONSTANTS.items() if entry.code in codes}
    return found


def is_skeleton(tree: ast.Module) -> bool:
    """Whether a function of a module is only its docstring, because nobody has written it yet."""
    return any(
        isinstance(it, Function) and len(it.body) == 1 and ast.get_docstring(it) is not None
        for it in tree.body
    )
