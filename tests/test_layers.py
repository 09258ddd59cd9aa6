"""Each Python module knows only the modules before it: the order of LAYERS, checked in the code.

It is also the order in which a newcomer can read them.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "python" / "msal_extensions"
LAYERS = (
    "_references",
    "errors _import_errors _native.consent _command.report _command.record",
    "_native.check _command.words",
    "_command.contents _command.layout _command.findings",
    "_native.lock _native.watch _native.libsecret _native.dpapi _native.keychain _native.kernelkey",
    "_native.files",
    "_text _paths _timeouts _as_token_cache _stores.primitives",
    "_stores.envelope",
    "_base",
    "_store",
    "_holding",
    "lock",
    "_stores.file",
    "_stores.sealed _stores.timed _stores.dpapi _stores.libsecret",
    "_stores.signalled _stores.own",
    "_stores.keychain _stores.command",
    "_stores.keys",
    "_stores.key_file",
    "_stores.kernel_key",
    "_stores.vault",
    "_stores.encrypted",
    "_store_of",
    "encrypted",
    "_without_keyring",
    # These come early, because persistences take their agents from here, where a program may have
    # patched them.
    "libsecret windows osx cache_lock filelock",
    "persistence",
    "_damage _serializer _inherited _freshness _pruning",
    "_pending",
    "_reloading changes",
    "_transactions",
    "token_cache",
    "__init__",
    "_command.installation _command.paths",
    "_command.places",
    "_command.show _command.beside _command.encrypting",
    "_command.look",
    "_command.changing _command.checks_machine _command.checks_places",
    "_command.clearing _command.migration",
    "_command.actions",
    "_command.doctor",
    "__main__",
)
SHIMS = ("cache_lock", "filelock", "libsecret", "osx", "windows")
#: Private names of other packages that we must use, each with its reason.
OF_OTHERS = {
    # MSAL's: our token cache is a subclass of its class, which has no public names for these.
    *("_cache", "_lock", "_get", "_is_matching", "_get_app_metadata"),
    # 1.3.1's: programs read, set and override them, so they are public in practice.
    *("_persistence", "_lock_location", "_last_sync", "_reload_if_necessary", "_location"),
    # Of CPython and PyPy: says whether this thread is inside an RLock; no public name does.
    "_is_owned",
    # Of typing.NamedTuple: its methods begin with "_" so that they cannot be fields.
    *("_replace", "_asdict"),
}
LINES = 300
LONGER = {
    "_references": "one table",
    "errors": "a few lines for each exception; programs import them from here",
    "persistence": "the five classes of 1.3.1, whose import path is this module",
    "token_cache": "one class; what can stand alone is in _reloading, _transactions and _pending",
}

Trees = dict[str, ast.Module]


def trees() -> Trees:
    """The syntax trees of all modules, by name.  A package with only a docstring is left out."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return {name: tree for name, tree in found.items() if not name.endswith(".__init__")}


def imports(name: str, tree: ast.Module, modules: Trees) -> Iterator[tuple[str, list[str]]]:
    """The modules of ours that this one imports, and the names that it takes from each; also inside
    functions."""
    package = name.split(".")[:-1]
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        parts = [*package[: len(package) + 1 - node.level], *(node.module or "").split(".")]
        source = ".".join(part for part in parts if part)
        names = [alias.name for alias in node.names]
        if source in modules:
            yield source, names
        else:  # "from ._native import files"
            yield from ((f"{source}.{each}".lstrip("."), []) for each in names)


def graph(modules: Trees) -> dict[str, set[str]]:
    found = {}
    for name, tree in modules.items():
        known = {source for source, _ in imports(name, tree, modules)}
        found[name] = {source for source in known if "_msalex" not in source}
    return found


def private_names(name: str, tree: ast.Module, modules: Trees) -> Iterator[str]:
    """Uses of private names of another module."""
    own = {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            own.add(node.value)  # __slots__
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
    for source, names in imports(name, tree, modules):
        for each in names:
            if each.startswith("_") and not each.startswith("__"):
                yield f"{name} imports {each} of {source}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
            continue
        of_itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        foreign = not of_itself and not node.attr.startswith("__") and node.attr not in own
        if foreign and node.attr not in OF_OTHERS:
            yield f"{name} uses {ast.unparse(node)}"


def test_each_module_knows_only_those_before_it() -> None:
    order = {name: row for row, names in enumerate(LAYERS) for name in names.split()}
    modules = trees()
    modules["__init__"] = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    known = graph(modules)
    print(" < ".join(graphlib.TopologicalSorter(known).static_order()))  # CycleError: a circle
    assert set(known) == set(order)
    wrong = {
        f"{name} knows {other}"
        for name, others in known.items()
        for other in others
        if order[other] >= order[name]
    }
    assert wrong == set()


def test_no_module_uses_a_private_name_of_another() -> None:
    modules = trees()
    assert [
        use for name, tree in modules.items() for use in private_names(name, tree, modules)
    ] == []


def test_only_the_binding_sees_the_c_library() -> None:
    for name, tree in trees().items():
        if not name.startswith("_native."):
            sources = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
            taken = [
                alias.name
                for node in ast.walk(tree)
                if isinstance(node, (ast.ImportFrom, ast.Import))
                for alias in node.names
            ]
            assert not any("_msalex" in (each or "") for each in (*sources, *taken)), name


@pytest.mark.parametrize("name", SHIMS)
def test_a_shim_holds_no_code(name: str) -> None:
    docstring, *rest = trees()[name].body
    assert isinstance(docstring, ast.Expr)
    for node in rest:
        is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        assert isinstance(node, ast.ImportFrom) or is_all


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.stem)
def test_a_file_is_short_or_has_a_reason(path: Path) -> None:
    is_long = len(path.read_text(encoding="utf-8").splitlines()) > LINES
    assert is_long == (path.stem in LONGER)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from .lock import _find", 1),
        ("from . import _text", 0),
        ("from ._store_of import store_of as _store_of", 0),
        ("def f(other):\n return other._secret", 1),
        ("class A:\n def f(self, other):\n  self._mine = other._mine", 0),
        ("def f(cache):\n return cache._lock", 0),
    ],
)
def test_the_check_of_private_names_finds_them(code: str, found: int) -> None:
    modules = trees()
    assert len(list(private_names("made_up", ast.parse(code), modules))) == found


def test_the_check_of_circles_finds_one() -> None:
    circle = {"a": ast.parse("from .b import x"), "b": ast.parse("def f():\n from . import a")}
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph(circle)).prepare()
