"""Each error of ours knows what a person can do, and its text says it once."""

from __future__ import annotations

import ast
import copy
import errno
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from msal_extensions._msalex import ffi

from msal_extensions import (
    CommandKey,
    CredentialKey,
    CrossPlatLock,
    EncryptedFilePersistence,
    FilePersistence,
    KeyFile,
    LockError,
    PersistenceError,
    errors,
)
from msal_extensions import _references as references
from msal_extensions._command import words
from msal_extensions._native import dpapi, files, keychain, libsecret
from msal_extensions._stores.dpapi import DpapiCipher, WindowsDataProtectionAgent
from tests.support import raises
from tests.support.library import lib, library_that_answers
from tests.support.raises import CLASSES

#: The classes that with_remedy() makes.
MADE = {name: kind for name, kind in CLASSES.items() if issubclass(kind, OSError)}
#: A second sentence, or a remedy that is put in.
MORE_THAN_WHAT_HAPPENED = re.compile(r"[.;?] +\S|remedy}|_REMEDY")

# ---- the exceptions ----


@pytest.mark.parametrize("kind", MADE.values(), ids=MADE.keys())
def test_an_error_has_the_remedy_that_ends_its_text_and_keeps_it_in_a_copy(kind: type) -> None:
    cause = references.LOCK_LEFT.because("Because of it.").saying("Do it.")
    error: PersistenceError | LockError = errors.with_remedy(kind, None, "It.", "where", cause)
    assert kind.remedy == "", "it is the one of a single exception"  # type: ignore[attr-defined]
    for each in (error, copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert "It. Because of it. Do it." in repr(each.args)
        assert (each.remedy, each.advice, each.reference) == ("Do it.", "", "MSX-66")
        assert words.of(each) == (references.LOCK_LEFT, "It. Because of it.", "Do it.")


def test_what_is_said_to_programmers_is_in_the_text_and_not_in_the_remedy() -> None:
    cause = references.KEY_WRONG
    error = errors.with_remedy(
        errors.KeyWrong, None, "It is lost;", "where", cause, "id", advice="delete() it."
    )
    assert (error.strerror, error.key_id) == ("It is lost; delete() it.", "id")
    assert words.of(error) == (cause, "It is lost.", cause.remedy)
    assert words.of(pickle.loads(pickle.dumps(error))) == words.of(error)


def test_an_error_without_a_remedy_has_the_one_of_its_reference() -> None:
    error = errors.PersistenceDenied(errno.EACCES, "The words of the system", "where")
    happened = "The words of the system."
    assert words.of(error) == (references.DENIED, happened, references.DENIED.remedy)
    error.strerror = f"{happened} {references.DENIED.remedy}"
    assert words.of(error) == (references.DENIED, happened, references.DENIED.remedy)


def test_an_error_of_windows_keeps_its_remedy_where_the_location_is_added() -> None:
    code, where = 0x8009000B - 2**32, "where"
    with (
        library_that_answers(lib.MSALEX_OS_ERROR, code, "msalex_dpapi_unprotect"),
        mock.patch.object(dpapi, "require"),
        pytest.raises(errors.PersistenceDecryptionError) as caught,
    ):
        DpapiCipher(WindowsDataProtectionAgent()).open(b"x", where)
    assert caught.value.location == where
    _, happened, remedy = words.of(caught.value)
    assert happened.startswith("Decryption failed: the words of the system (). The key that")
    assert remedy.startswith("Run it as it was run then; if the password was reset, delete")
    assert str(caught.value.strerror).endswith(f" {remedy}")


def test_a_person_at_the_command_reads_no_advice_to_programmers_about_a_keychain() -> None:
    error = ffi.new("msalex_error *")
    with pytest.raises(errors.KeychainTimeout) as caught:
        keychain._raise(
            lib.MSALEX_TIMEOUT, error, lib.MSALEX_KEYCHAIN_LOAD, keychain.Item("s", "a")
        )
    assert str(caught.value.strerror).endswith("with a longer timeout= if need be.")
    assert words.of(caught.value)[2] == references.KEYCHAIN_SILENT.remedy
    assert "timeout=" not in words.of(caught.value)[1]


def test_a_person_at_the_command_reads_no_advice_to_programmers_about_a_collection() -> None:
    def answer(*arguments: Any) -> int:
        arguments[-1].call = b"collection"
        return int(lib.MSALEX_UNAVAILABLE)

    item = libsecret.Item("schema", {}, "label", {}, "collection")
    answers = mock.Mock(wraps=lib, msalex_libsecret_start=answer)
    with (
        mock.patch.object(libsecret, "lib", answers),
        pytest.raises(errors.PersistenceUnavailable) as caught,
    ):
        libsecret.connect(item, 1)
    assert str(caught.value.strerror).endswith("Pass another collection=, or none.")
    assert words.of(caught.value)[2] == references.KEYRING_NO_COLLECTION.remedy
    assert "collection=" not in words.of(caught.value)[1]


# ---- the source ----


def test_no_text_has_a_remedy_that_its_error_does_not_have() -> None:
    """Such a text is made by with_remedy().  All others say in one sentence what happened."""
    found = [
        text
        for name, tree in raises.trees().items()
        if name != "errors" and not name.startswith("_command.")
        for text in raises.texts_by_hand(tree)
        if MORE_THAN_WHAT_HAPPENED.search(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("raise KeyLost(None, 'It is gone. Make one', path)", True),
        ("raise KeyUnavailable(None, f'{error}. {HOW_TO_MAKE}', path)", True),
        ("raise KeyUnavailable(None, f'It is gone: {cause.remedy}', path)", True),
        ("raise referring(KeyLost(None, 'It is lost; make one'), KEY_WRONG)", True),
        ("words = f'{path} is'\n words += ' gone. Make one'\n raise KeyLost(None, words)", True),
        ("return KeyWrong(None, 'Is it gone? ' + 'Make one', path)", True),
        ("raise LockFileError(None, f'{path} is gone: {error.strerror}.')", False),
        ("raise with_remedy(KeyUnavailable, None, 'It is gone. It was here.', path)", False),
    ],
)
def test_the_reader_sees_a_remedy_that_is_made_by_hand(code: str, is_found: bool) -> None:
    texts = raises.texts_by_hand(ast.parse(f"def f():\n {code}"))
    assert any(map(MORE_THAN_WHAT_HAPPENED.search, texts)) is is_found


# ---- as a person at the command sees it ----


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def without_home(_: Path) -> object:
    with mock.patch.object(os.path, "expanduser", lambda it: it):
        return FilePersistence("~nobody-has-this-name/cache")


def of_disk(code: int, status: int = lib.MSALEX_OS_ERROR) -> Callable[[Path], object]:
    def work(_: Path) -> None:
        with library_that_answers(status, code, "msalex_file_replace"):
            files.replace("where", b"")

    return work


def of_other_key(path: Path) -> object:
    EncryptedFilePersistence(path / "cache", bytes(32)).save("{}")
    return EncryptedFilePersistence(path / "cache", b"1" * 32).load()


def of_default_key(path: Path) -> object:
    EncryptedFilePersistence(path / "cache", bytes(32)).save("{}")
    return EncryptedFilePersistence(path / "cache").load()


def of_file(content: bytes) -> Callable[[Path], object]:
    return lambda path: EncryptedFilePersistence(written(path / "cache", content), bytes(32)).load()


MAKE_ONE = "Make one: openssl rand -base64 32"
#: What is done, how what happened begins or ends, and the whole remedy.
SEEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "nothing stored": (
        lambda path: FilePersistence(path / "x").load(),
        "Persistence not initialized.",
        "Sign in.",
    ),
    "no text": (
        lambda path: FilePersistence(written(path / "x", b"\xff")).load(),
        "Another program wrote it, or it is damaged.",
        references.DAMAGED.remedy,
    ),
    "plain text": (of_file(b"{}"), "It was kept.", references.NOT_ENCRYPTED.remedy),
    "cut off": (
        of_file(b"msalex-enc/1 x"),
        "its first line is cut off or changed.",
        references.ENCRYPTED_DAMAGED.remedy,
    ),
    "a newer format": (
        of_file(b"msalex-enc/9 x"),
        f"{references.ENCRYPTED_UNKNOWN.title}.",
        references.ENCRYPTED_UNKNOWN.remedy,
    ),
    "another key": (of_other_key, "not among the keys here.", references.KEY_WRONG.remedy),
    "the key of a program": (
        of_default_key,
        "a key that came from the program.",
        "Use a program that has this key. If the key is lost, remove the file and sign in again.",
    ),
    "no key file": (
        lambda path: KeyFile(path / "key").ring(),
        "No such file or directory.",
        f"Give the path of a key file that this user may read. {MAKE_ONE}",
    ),
    "no key in a file": (
        lambda path: KeyFile(written(path / "key", b"hello")).ring(),
        "or the Base64 of 32 bytes in each line.",
        MAKE_ONE,
    ),
    "a key as a path": (
        lambda _: KeyFile("A" * 43 + "="),
        "This is a key, and not the path of a key file.",
        "Put it into a file that only you can read, and give the path of that file.",
    ),
    "no credential": (
        lambda _: CredentialKey("name").ring(),
        "(CREDENTIALS_DIRECTORY is not set).",
        "Run it as a service with LoadCredentialEncrypted=name:...",
    ),
    "no program": (
        lambda _: CommandKey(["no-such-program"]).check(),
        "There is no such program.",
        "Install it, or give its full path.",
    ),
    "no home": (
        without_home,
        "There is no user named nobody-has-this-name with a home directory.",
        "Give a path without ~; ./~nobody-has-this-name/cache if a file of that name is meant.",
    ),
    "a full disk": (
        of_disk(errno.ENOSPC),
        "The words of the system ().",
        f"{references.DISK_FULL.remedy}{files._KEPT}",
    ),
    "a limit of the process": (
        of_disk(errno.EFBIG),
        f"This process may not write such a large file (`ulimit -f`).{files._KEPT}",
        references.TOO_LARGE.remedy,
    ),
    "a torn file": (
        of_disk(errno.EIO, lib.MSALEX_TORN),
        "What was stored before is damaged now.",
        references.TORN.remedy,
    ),
    "no directory": (
        lambda path: CrossPlatLock(path / "missing" / "lock").acquire(),
        ").",
        references.DIRECTORY_MISSING.remedy,
    ),
}


@pytest.mark.parametrize("name", SEEN)
def test_a_person_sees_what_happened_and_what_to_do_each_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, end, remedy = SEEN[name]
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises((PersistenceError, LockError)) as caught:
        work(tmp_path)
    error = caught.value
    assert isinstance(error, (PersistenceError, LockError))
    _, happened, seen = words.of(error)
    print(happened, "->", seen)
    assert happened.endswith(end)
    assert seen == remedy
    assert remedy not in happened
    for_programmers = re.compile(r"\w\(\)|\b(?:timeout|collection|key|name)=")
    assert not for_programmers.search(f"{happened} {seen}")
    text = error.strerror if isinstance(error, OSError) else str(error)
    if error.remedy:
        assert str(text).endswith(error.advice or error.remedy)
