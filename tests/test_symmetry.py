"""Twin C files have the same functions in the same order on all platforms."""

from __future__ import annotations

import graphlib
import re
from collections import Counter
from pathlib import Path

import pytest

from csrc.ffi_build import PLATFORMS, sources

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
#: <concern>_<suffix>.c.  Where a platform does not have a store, <concern>_none.c takes its place.
CONCERNS = (
    *("lock", "lock_wait", "file", "os", "clock", "watch", "libsecret", "dpapi", "keychain"),
)
SUFFIXES = ("linux", "macos", "windows", "posix", "none")
#: Further functions of one of the twins: for another file of its own platform, declared in a header
#: of that platform, or defined in another file on other platforms.
BESIDES = {
    "watch_linux.c": {"msalex__watch_new_leaving"},
    "watch_macos.c": {"msalex__watch_new_leaving"},
    "lock_registry_posix.c": {"msalex__registry_enter", "msalex__registry_leave"},  # lock_gap.h
}
#: Named like twins, but with a header and a contract of their own: the POSIX files use descriptors,
#: these use handles.
NO_TWINS = {
    *("os_windows.c", "lock_wait_windows.c", "lock_file_windows.c", "lock_peer_windows.c"),
    *("lock_registry_windows.c", "place_windows.c", "temp_windows.c"),
}
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
# In our style only definitions begin in the first column and have a parenthesis.
DEFINITION = re.compile(r"^(?!static\b)[a-z_][\w \t*]*?\b(\w+)\([^;{}]*\)\s*\{", re.MULTILINE)
DECLARATION = re.compile(r"\b(msalex_\w+)\([^;{}]*\);")


def text_of(path: Path) -> str:
    return COMMENT.sub("", path.read_text(encoding="utf-8"))


def functions(path: Path) -> list[str]:
    """The non-static functions of a C file, in order."""
    return DEFINITION.findall(text_of(path))


def twins(concern: str) -> list[Path]:
    found = (CSRC / f"{concern}_{suffix}.c" for suffix in SUFFIXES)
    return [path for path in found if path.exists() and path.name not in NO_TWINS]


@pytest.mark.parametrize("concern", CONCERNS)
def test_twins_have_the_same_functions_in_the_same_order(concern: str) -> None:
    lists = {
        path.name: [one for one in functions(path) if one not in BESIDES.get(path.name, ())]
        for path in twins(concern)
    }
    print(f"\n{concern}: {', '.join(lists)}: {max(map(len, lists.values()), default=0)} functions")
    assert all(lists.values()), lists
    assert len({tuple(names) for names in lists.values()}) <= 1, lists


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_function_of_the_headers_is_defined_once_on_each_platform(platform: str) -> None:
    declared = set()
    for header in ("msalex.h", "internal.h"):
        declared |= set(DECLARATION.findall(text_of(CSRC / header)))
    defined = Counter(name for source in sources(platform) for name in functions(ROOT / source))
    assert len(declared) > 30
    assert {name: defined[name] for name in declared if defined[name] != 1} == {}
    assert {name: count for name, count in defined.items() if count != 1} == {}
    assert all(name.startswith("msalex_") for name in defined)


@pytest.mark.parametrize("header", sorted(CSRC.glob("*_posix.h")), ids=lambda path: path.name)
def test_a_file_has_the_functions_of_its_own_header_in_the_same_order(header: Path) -> None:
    declared = DECLARATION.findall(text_of(header))
    assert declared
    for path in twins(header.stem.removesuffix("_posix")):
        found = [name for name in functions(path) if name not in BESIDES.get(path.name, ())]
        assert found == declared, path.name


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_lock_file_has_the_public_functions_and_no_other(platform: str) -> None:
    """The functions that its parts share are in files of their own."""
    header = text_of(CSRC / "msalex.h")
    public = [name for name in DECLARATION.findall(header) if name.startswith("msalex_lock_")]
    (lock,) = [
        ROOT / source
        for source in sources(platform)
        if source in {f"csrc/{path.name}" for path in twins("lock")}
    ]
    assert functions(lock) == public


@pytest.mark.parametrize("platform", PLATFORMS)
def test_no_c_files_know_each_other_in_a_circle(platform: str) -> None:
    """A file knows another one when it names one of its functions."""
    texts = {Path(source).name: text_of(ROOT / source) for source in sources(platform)}
    owners = {name: file for file in texts for name in functions(CSRC / file)}
    named = {file: set(re.findall(r"\bmsalex_\w+", text)) for file, text in texts.items()}
    knows = {
        file: {owners[name] for name in names & owners.keys()} - {file}
        for file, names in named.items()
    }
    order = list(graphlib.TopologicalSorter(knows).static_order())
    print("\n" + " < ".join(order))
    assert len(order) == len(texts)


def test_no_c_file_asks_for_its_platform() -> None:
    """The build table chooses the files."""
    for path in CSRC.glob("*.[ch]"):
        for line in re.findall(r"^#\s*if.*", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert re.fullmatch(r"#ifndef MSALEX_(\w+_)?H", line), (path.name, line)


@pytest.mark.parametrize(
    ("call", "home"),
    [("CreateFileW", "os_windows.c"), ("Sleep", "os_windows.c"), ("NtCreateFile", "nt_windows.c")],
)
def test_one_place_of_windows_opens_files_and_sleeps(call: str, home: str) -> None:
    """There each file is opened so that no server of a pipe can act as our user, and for all."""
    users = [
        path.name
        for path in sorted(CSRC.glob("*.[ch]"))
        if re.search(rf'\b{call}\(|function\("{call}"', text_of(path))
    ]
    assert users == [home]
    if call != "Sleep":
        text = text_of(CSRC / home)
        assert re.search(r"SECURITY_IDENTIFICATION|SecurityIdentification", text)
