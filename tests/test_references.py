"""Each error of ours has a reference, and each reference means something true for a person.

``python -m tests.test_references > docs/errors.md`` makes that page anew from the table.
"""

from __future__ import annotations

import ast
import copy
import errno
import os
import pickle
import re
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest

from msal_extensions import (
    CrossPlatLock,
    EncryptedFilePersistence,
    FilePersistence,
    LockError,
    PersistedTokenCache,
    PersistenceError,
    errors,
)
from msal_extensions import _references as references
from msal_extensions._native import files
from msal_extensions._native import lock as native_lock
from msal_extensions._references import REFERENCES
from tests.support import raises
from tests.support.library import Answers, lib, library_that_answers
from tests.support.raises import CLASSES, CONSTANTS

ROOT = Path(__file__).resolve().parents[1]
TREES = raises.trees()
COMMAND = [name for name in TREES if name.startswith("_command.") or name == "__main__"]
COMMAND_IS_WRITTEN = not any(raises.is_skeleton(TREES[name]) for name in COMMAND)

#: Raises without a reference, by the place where they stand, each with its reason.
EXCUSED = {
    "__init__.__getattr__": "an attribute that is not there; Python's own words for it",
    "__init__._import": "an ImportError whose words end with MSX-70, 71 or 72",
    "__main__._pair": "argparse makes its own message of it",
    "__main__._seconds": "argparse makes its own message of it",
    "_damage.parse_leniently": "a CacheDamaged, or what json.loads() raised, without its frames",
    "_serializer.Serializer.encode": "what json.dumps() raised, without its frames",
    "_stores.keychain.Keychain.get_internet_password": "1.3.1 raises just this, without words",
    "_stores.keychain.Keychain.set_internet_password": "1.3.1 raises just this, without words",
    "_stores.timed.TimedStore.time": "abstract in all but its mark",
    "_stores.timed.TimedStore.load": "abstract in all but its mark",
    "_stores.timed.TimedStore.save": "abstract in all but its mark",
    "_command.migration._Move.run": "a line that is never reached",
    "_command.clearing._clear": "the error of ours that _keyring_of() has kept",
    "_command.findings.within": "what the work raised in its thread",
    "_command.places.named": "BadPlace: the command makes a finding with MSX-82 of it",
}

#: References that the command says by itself, as a rule no error: by which sub-command.
BY_THE_COMMAND = {
    "PLAIN_TEXT": "status",
    "OPEN_TO_OTHERS": "status",
    "COPIES_LEFT": "status",
    "KEY_BESIDE": "status",
    "LOCK_LEFT": "status",
    "NATIVE_MISSING": "doctor",
    "OVERWRITTEN": "doctor",
    "OTHER_MSAL": "doctor",
    "NO_CRYPTOGRAPHY": "doctor",
    "NOT_CONFIRMED": "clear, migrate, prune",
    "TARGET_IN_USE": "migrate",
    "BAD_PLACE": "each command with a place",
    "UNKNOWN_REFERENCE": "explain",
}

# ---- the source ----


def test_each_raise_of_ours_has_a_reference() -> None:
    returning = raises.makers(TREES)
    found = [it for name, tree in TREES.items() for it in raises.problems_in(name, tree, returning)]
    assert [f"{where}: {text}" for where, text in found if where not in EXCUSED] == []
    if COMMAND_IS_WRITTEN:
        assert EXCUSED.keys() <= {where for where, _ in found}, "an excuse that nobody needs"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("raise ValueError('words')", 1),
        ("raise OSError(error.errno, 'words')", 1),
        ("raise NotImplementedError", 1),
        ("def f(failure: Exception):\n raise failure", 1),
        ("def f(kind: type[OSError]):\n raise kind('words')", 1),
        ("try:\n pass\nexcept OSError as error:\n raise error", 1),
        ("def f() -> OSError: ...\nraise f()", 1),
        ("raise ValueError(ARGUMENT.after('words'))", 0),
        ("raise PersistenceDenied(None, 'words', location)", 0),
        ("raise referring(LockError('words'), LOCK_NOT_HELD)", 0),
        ("def f(damage: PersistenceDamaged):\n raise damage", 0),
        ("def f(kind: type[LockFileError]):\n raise kind('words')", 0),
        ("KINDS: dict[int, type[KeychainError]] = {}\nraise KINDS[1](1)", 0),
        ("try:\n pass\nexcept LockError as error:\n raise error", 0),
        ("def f() -> KeyLost: ...\nraise self.f()", 0),
        ("class A(Exception):\n def __init__(self, it: Reference): ...\nraise A(PLATFORM)", 0),
        ("class A(Exception):\n def __init__(self, it: str): ...\nraise A('words')", 1),
        ("class A:\n @abstractmethod\n def f(self):\n  raise NotImplementedError", 0),
        ("raise", 0),
    ],
)
def test_the_reader_sees_a_raise_without_a_reference(code: str, found: int) -> None:
    tree = ast.parse(code)
    assert len(list(raises.problems_in("made_up", tree, raises.makers({"": tree})))) == found


def test_each_reference_is_said_by_an_error_or_by_the_command() -> None:
    raised, said = raises.raised_references(TREES), {*BY_THE_COMMAND}
    if COMMAND_IS_WRITTEN:
        texts = "".join(ast.unparse(TREES[name]) for name in COMMAND)
        said = {name for it in COMMAND for name in raises.names_in(TREES[it])}
        said |= {name for name, entry in CONSTANTS.items() if f"[{entry.code}]" in texts}
        assert BY_THE_COMMAND.keys() <= said
    assert CONSTANTS.keys() <= raised | said


def test_only_the_table_makes_references_and_only_the_classes_and_referring_give_them() -> None:
    """So no text from a file, a keyring or a variable becomes one."""
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Reference":
                assert name == "_references"
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                assert node.attr != "reference" or name == "errors"
            if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "REFERENCES":
                assert name == "_references" or ast.unparse(node.slice).endswith(".reference")


# ---- the table ----


def test_the_numbers_are_unique_and_in_order() -> None:
    tree = TREES["_references"]
    calls = [
        it for it in ast.walk(tree) if isinstance(it, ast.Call) and "_add" in ast.unparse(it.func)
    ]
    numbers = sorted(ast.literal_eval(call.args[0]) for call in calls)
    assert len(set(numbers)) == len(numbers) == len(REFERENCES) == len(CONSTANTS)
    assert [entry.code for entry in REFERENCES.values()] == [f"MSX-{it:02}" for it in numbers]


@pytest.mark.parametrize("entry", REFERENCES.values(), ids=str)
def test_an_entry_has_sentences_and_a_page_that_exists(entry: references.Reference) -> None:
    assert REFERENCES[entry.code] is entry
    assert re.fullmatch(r"[A-Z].*[^.]", entry.title)
    for text in (entry.cause, entry.remedy):
        assert re.fullmatch(r"[A-Z].*\.|macOS .*\.", text), text
        assert "  " not in text
    assert not entry.page or (ROOT / entry.page).is_file()


def test_a_remedy_that_knows_more_has_the_same_reference() -> None:
    full = references.DISK_FULL
    assert full.saying("Remove it.") == (full.code, full.title, full.cause, "Remove it.", full.page)
    assert REFERENCES["MSX-28"].remedy != "Remove it."


# ---- the exceptions ----


def made(kind: type) -> PersistenceError | LockError:
    plain = issubclass(kind, LockError) and not issubclass(kind, OSError)
    error = kind("words") if plain else kind(errno.EIO, "words", "where")
    assert isinstance(error, (PersistenceError, LockError))
    return error


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES.keys())
def test_an_error_ends_with_its_reference_and_keeps_it_in_a_copy(kind: type) -> None:
    error = made(kind)
    assert error.reference in REFERENCES
    assert str(error).endswith(f" [{error.reference}]")
    code = error.reference
    exact = errors.referring(made(kind), references.LOCK_LEFT)
    copies: list[PersistenceError | LockError] = [
        exact,
        copy.copy(exact),
        copy.deepcopy(exact),
        pickle.loads(pickle.dumps(exact)),
    ]
    for each in copies:
        assert type(each) is kind
        assert each.reference == "MSX-66"
        assert str(each) == str(error).replace(code, "MSX-66")
        assert vars(each) == vars(exact)
    assert made(kind).reference == code, "the class has changed"


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES.keys())
def test_the_reference_is_in_the_text_and_in_no_attribute_that_programs_know(kind: type) -> None:
    error = made(kind)
    known = [error.args, *(getattr(error, it, None) for it in ("strerror", "filename", "location"))]
    assert "MSX" not in repr(known)


# ---- the exact references ----

OF_FILES = {
    "EACCES": "MSX-25",
    "EPERM": "MSX-25",
    "EROFS": "MSX-26",
    "ENOENT": "MSX-23",
    "EEXIST": "MSX-24",
    "EISDIR": "MSX-24",
    "ENOTDIR": "MSX-24",
    "ENAMETOOLONG": "MSX-24",
    "ELOOP": "MSX-24",
    "EINVAL": "MSX-24",
    "ENOSPC": "MSX-28",
    "EDQUOT": "MSX-28",
    "EIO": "MSX-29" if os.name != "nt" else "MSX-03",
    "EFBIG": "MSX-30",
    "EMFILE": "MSX-31",
    "ENFILE": "MSX-31",
    "EAGAIN": "MSX-31",
    "ENOMEM": "MSX-31",
    "EINTR": "MSX-32",
    "ETIMEDOUT": "MSX-33",
    "EXDEV": "",  # one that nobody expects
}


def of_lock(status: int, code: int) -> LockError:
    answer = Answers([status], code, ()).answer
    with (
        mock.patch.object(native_lock, "_lock_acquire", answer),
        pytest.raises(LockError) as caught,
    ):
        CrossPlatLock("where").acquire(0)
    return caught.value


def of_file(status: int, code: int, name: str, call: Callable[[], object]) -> PersistenceError:
    with library_that_answers(status, code, name), pytest.raises(PersistenceError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("name", OF_FILES)
def test_an_errno_has_one_reference_for_a_cache_a_directory_and_a_lock_file(name: str) -> None:
    code, status = getattr(errno, name), lib.MSALEX_OS_ERROR
    cases: list[PersistenceError | LockError] = [
        of_file(status, code, "msalex_file_read", lambda: files.read("where")),
        of_file(status, code, "msalex_file_replace", lambda: files.replace("where", b"")),
        of_file(status, code, "msalex_directory_make", lambda: files.directory_make("where")),
        of_lock(status, code),
    ]
    otherwise = ["MSX-03", "MSX-03", "MSX-03", "MSX-64"]
    assert [it.reference for it in cases] == ([OF_FILES[name]] * 4 if OF_FILES[name] else otherwise)
    assert all("). " in str(it) for it in cases), "no remedy"


@pytest.mark.parametrize(
    ("status", "code", "reference"),
    [
        ("NOT_FOUND", "ENOENT", "MSX-20"),
        ("NOT_TRUSTED", "EACCES", "MSX-27"),
        ("TORN", "EIO", "MSX-42"),
    ],
)
def test_a_status_that_says_more_than_its_errno_decides(
    status: str, code: str, reference: str
) -> None:
    answer = getattr(lib, f"MSALEX_{status}"), getattr(errno, code)
    error = of_file(*answer, "msalex_file_read", lambda: files.read("where"))
    assert error.reference == reference
    if status == "NOT_TRUSTED":
        assert of_lock(*answer).reference == reference


def holds_twice(path: Path) -> None:
    with CrossPlatLock(path / "lock"), CrossPlatLock(path / "lock"):
        pass


def without_home(path: Path) -> object:
    with mock.patch.object(os.path, "expanduser", lambda it: it):
        return FilePersistence("~/cache")


def of_setting(_: Path) -> object:
    from msal_extensions import LibsecretPersistence
    from msal_extensions.libsecret import LibSecretAgent

    variables = {"MSAL_EXTENSIONS_WITHOUT_KEYRING": "plain [MSX-99]"}
    with mock.patch.dict(os.environ, variables), mock.patch.object(LibSecretAgent, "connect"):
        return LibsecretPersistence("signal")


def saved(path: Path, content: bytes) -> str:
    (path / "cache [MSX-99]").write_bytes(content)
    return str(path / "cache [MSX-99]")


SITUATIONS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "an empty path": ("MSX-01", lambda path: FilePersistence("")),
    "a timeout of no number": ("MSX-01", lambda path: CrossPlatLock(path / "x", float("nan"))),
    "a lone surrogate": ("MSX-01", lambda path: FilePersistence(path / "x").save("\ud800")),
    "nothing stored": ("MSX-20", lambda path: FilePersistence(path / "x").load()),
    "no home": ("MSX-22", without_home),
    "a directory has the name": ("MSX-24", lambda path: FilePersistence(path).save("x")),
    "no UTF-8": ("MSX-40", lambda path: FilePersistence(saved(path, b"[MSX-99]\xff")).load()),
    "no JSON": (
        "MSX-41",
        lambda path: list(
            PersistedTokenCache(FilePersistence(saved(path, b"{[MSX-99]"))).search("AccessToken")
        ),
    ),
    "an encrypted file that is cut off": (
        "MSX-56",
        lambda path: EncryptedFilePersistence(
            saved(path, b"msalex-enc/1 [MSX-99]"), bytes(32)
        ).load(),
    ),
    "plain text for an encrypted file": (
        "MSX-58",
        lambda path: EncryptedFilePersistence(saved(path, b"{[MSX-99]"), bytes(32)).load(),
    ),
    "a lock that is not held": ("MSX-63", lambda path: CrossPlatLock(path / "lock").release()),
    "a lock within itself": ("MSX-67", holds_twice),
    "no directory for the lock": (
        "MSX-23",
        lambda path: CrossPlatLock(path / "missing" / "lock").acquire(),
    ),
    "a setting without a meaning": ("MSX-74", of_setting),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_reference_at_the_end_is_ours_whatever_names_and_contents_say(
    name: str, tmp_path: Path
) -> None:
    reference, work = SITUATIONS[name]
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of several classes
        work(tmp_path)
    print(caught.value)
    assert str(caught.value).endswith(f" [{reference}]")
    assert getattr(caught.value, "reference", reference) == reference


def test_the_record_of_a_holder_is_not_taken_for_a_reference(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with (
        mock.patch("sys.argv", ["made up [MSX-99]"]),
        CrossPlatLock(path),
        ThreadPoolExecutor(1) as another_thread,
        pytest.raises(LockError) as caught,
    ):
        another_thread.submit(CrossPlatLock(path, 0).acquire).result()
    assert "made up [MSX-99]" in str(caught.value)
    assert str(caught.value).endswith(" [MSX-60]")
    assert caught.value.reference == "MSX-60"


# ---- the page ----

PAGE = ROOT / "docs" / "errors.md"
#: The headings, by the first number below each.
GROUPS = {
    1: "Programs and platforms",
    4: "Keyrings",
    20: "Locations and files",
    40: "What is stored",
    50: "The keys of encrypted files",
    60: "The lock",
    70: "The installation",
    80: "The command",
}
INTRODUCTION = """\
# What our errors mean

Each error of this package ends with a reference such as `[MSX-25]`, and so does each warning of
`python -m msal_extensions`. Here is what a reference means, why the error happens, and what to do.
`python -m msal_extensions explain MSX-25` says the same in a terminal, without a network. A number
never changes its meaning. In a program it is the attribute `reference` of an exception. Its
attribute `remedy` is what a person can do, often more exactly than here. Where it is empty,
the words here hold.
"""


def page() -> str:
    """What docs/errors.md has to be."""
    parts = [INTRODUCTION]
    for entry in REFERENCES.values():
        number = int(entry.code.removeprefix("MSX-"))
        if number in GROUPS:
            parts.append(f"## {GROUPS[number]}\n")
        parts.append(f"### {entry.code}\n")
        target = entry.page.removeprefix("docs/") if "/" in entry.page else f"../{entry.page}"
        more = f" More: [{entry.page}]({target})." if entry.page else ""
        for text in (f"**{entry.title}.** {entry.cause}", f"**What to do:** {entry.remedy}{more}"):
            lines = textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)
            parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def test_the_page_of_errors_has_the_words_of_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "After a change of _references.py: python -m tests.test_references > docs/errors.md"
    )


def test_each_group_of_the_page_begins_with_a_reference() -> None:
    assert {f"MSX-{number:02}" for number in GROUPS} <= REFERENCES.keys()


if __name__ == "__main__":
    print(page(), end="")
