"""Each error is of the class that programs for 1.3.1 catch, and its words are true."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

import msal_extensions
from msal_extensions import (
    CrossPlatLock,
    FilePersistence,
    LockFileDenied,
    LockFileError,
    PersistenceError,
    errors,
)
from msal_extensions._native import consent, dpapi, files
from msal_extensions._native import lock as native_lock
from tests.support.capability import requires
from tests.support.library import WORDS, Answers, lib, library_that_answers
from tests.support.processes import python
from tests.support.reference import reference_python

NAMES = (
    "NOT_FOUND",
    "TIMEOUT",
    "UNAVAILABLE",
    "DENIED",
    "CORRUPT",
    "INVALID",
    "OS_ERROR",
    "INTERRUPTED",
    "NOT_TRUSTED",
    "TORN",
)
STATUSES = {name: getattr(lib, f"MSALEX_{name}") for name in NAMES}
STATUSES["of a later release"] = 99

CALLS: dict[str, Callable[[str], object]] = {
    "file_stat": files.stat,
    "file_read": files.read,
    "file_replace": lambda path: files.replace(path, b"content"),
    "file_create": lambda path: files.create(path, b"content"),
    "file_touch": files.touch,
    "file_delete": files.delete,
    "directory_make": files.directory_make,
}


def error_of(call: str, status: int | list[int], code: int) -> PersistenceError:
    with (
        library_that_answers(status, code, f"msalex_{call}"),
        pytest.raises(PersistenceError) as caught,
    ):
        CALLS[call]("where")
    assert caught.value.location == "where"
    return caught.value


def lock_error_of(status: int, code: int) -> LockFileError:
    with (
        mock.patch.object(native_lock, "_lock_acquire", Answers([status], code, ()).answer),
        pytest.raises(LockFileError) as caught,
    ):
        CrossPlatLock("where").acquire(0)
    return caught.value


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", STATUSES.values(), ids=STATUSES.keys())
def test_whatever_the_library_answers_is_a_typed_error(call: str, status: int) -> None:
    for code in (0, errno.EINTR, errno.EIO, 12345):
        error = error_of(call, status, code)
        assert WORDS in str(error)
        if not isinstance(error, msal_extensions.PersistenceNotFound):
            assert error.errno == code or code == 0


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupted_call_is_made_again(call: str) -> None:
    statuses = [lib.MSALEX_INTERRUPTED] * 3 + [lib.MSALEX_OK]
    with library_that_answers(statuses, errno.EINTR, f"msalex_{call}") as answers:
        CALLS[call]("where")
    assert answers.calls == 4


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_is_always_interrupted_ends_as_an_interrupted_error(call: str) -> None:
    error = error_of(call, lib.MSALEX_INTERRUPTED, errno.EINTR)
    assert isinstance(error, InterruptedError)
    assert error.errno == errno.EINTR


@pytest.mark.parametrize(
    "call", ["file_read", "file_replace", "file_create", "file_touch", "file_delete"]
)
def test_another_users_link_or_file_is_a_permission_error_of_its_own(call: str) -> None:
    error = error_of(call, lib.MSALEX_NOT_TRUSTED, errno.EACCES)
    assert isinstance(error, errors.PersistenceNotTrusted)
    assert isinstance(error, PermissionError)
    assert "that only you may write to" in str(error)
    lock = lock_error_of(lib.MSALEX_NOT_TRUSTED, errno.EACCES)
    assert isinstance(lock, LockFileDenied)
    assert "that only you may write to" in str(lock)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG])
def test_an_error_says_truly_whether_the_old_content_is_there(code: int) -> None:
    kept = error_of("file_replace", lib.MSALEX_OS_ERROR, code)
    assert "still there" in str(kept)
    torn = error_of("file_replace", lib.MSALEX_TORN, code)
    assert isinstance(torn, errors.PersistenceTorn)
    assert isinstance(torn, msal_extensions.PersistenceDamaged)
    assert torn.errno == code
    assert "is damaged now" in str(torn)
    assert "still there" not in str(torn)
    for call in ("file_create", "file_touch", "file_read"):
        assert "still there" not in str(error_of(call, lib.MSALEX_OS_ERROR, code))
    assert "still there" not in str(lock_error_of(lib.MSALEX_OS_ERROR, code))


CONSENT = "Privacy & Security > Files and Folders"


@requires("os.killpg")  # a system with POSIX paths
@pytest.mark.parametrize(
    "place",
    [
        *("Desktop", "Documents", "documents/below", "Downloads/new/er"),
        *("Library/Mobile Documents/com~apple~CloudDocs", "Library/CloudStorage/OneDrive"),
        "/Volumes/Stick",
    ],
)
def test_a_mac_says_where_a_person_allows_the_use_of_a_folder(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    location = str(tmp_path / place / "cache.bin")
    error = errors_about(location, errno.EPERM)
    assert not any(CONSENT in words for words in error)
    monkeypatch.setattr(consent, "_is_macos", True)
    assert all(CONSENT in words for words in errors_about(location, errno.EPERM))
    assert not any(CONSENT in words for words in errors_about(location, errno.EACCES))
    for elsewhere in ("Library/cache.bin", "Documents2/cache.bin", "Documents"):
        location = str(tmp_path / elsewhere)
        assert not any(CONSENT in words for words in errors_about(location, errno.EPERM))


def errors_about(location: str, code: int) -> list[str]:
    """What a save, a directory and a lock say that fail there with that errno."""
    calls: list[Callable[[], object]] = [
        lambda: files.replace(location, b""),
        lambda: files.directory_make(location),
        lambda: CrossPlatLock(location).acquire(0),
    ]
    answers = Answers([lib.MSALEX_DENIED], code, ())
    names = ("msalex_file_replace", "msalex_directory_make")
    with (
        library_that_answers(lib.MSALEX_DENIED, code, *names),
        mock.patch.object(native_lock, "_lock_acquire", answers.answer),
    ):
        return [words_of(call) for call in calls]


def words_of(call: Callable[[], object]) -> str:
    with pytest.raises((PersistenceError, LockFileDenied)) as caught:
        call()
    return str(caught.value)


def test_a_file_that_no_token_cache_can_be_is_a_typed_error() -> None:
    error = error_of("file_read", lib.MSALEX_INVALID, errno.EFBIG)
    assert isinstance(error, errors.PersistenceTooLarge)
    assert not isinstance(error, ValueError)  # or a quarantine would copy it
    assert "No token cache is that large" in str(error)


def test_the_library_refuses_to_read_what_is_larger_than_any_token_cache(tmp_path: Path) -> None:
    location = tmp_path / "large"
    with location.open("wb") as file:
        file.truncate(lib.MSALEX_FILE_SIZE_MAX + 1)  # a hole, which takes no room on the disk
    with pytest.raises(errors.PersistenceTooLarge) as caught:
        FilePersistence(location).load()
    assert caught.value.errno == errno.EFBIG


SITUATIONS = """
import os, shutil, sys
from msal_extensions import CrossPlatLock, FilePersistence, PersistedTokenCache
os.chdir(sys.argv[1])
KNOWN = (FileNotFoundError, NotADirectoryError, FileExistsError, IsADirectoryError)
def attempt(name, work):
    try:
        work()
    except Exception as error:
        kinds = [kind.__name__ for kind in KNOWN if isinstance(error, kind)]
        print(name, error.errno if isinstance(error, OSError) else "no OSError", *kinds)
    else:
        print(name, "fine")
def change(cache):
    cache.modify("RefreshToken", {"home_account_id": "a", "environment": "e", "client_id": "c"},
                 {"secret": "s"})
open("file", "w").close()
attempt("constructor, a file is the directory", lambda: FilePersistence("file/cache"))
attempt("constructor, a file is above it", lambda: FilePersistence("file/x/cache"))
attempt("cache, a file is the lock's directory",
        lambda: PersistedTokenCache(FilePersistence("a"), "file/lock"))
attempt("cache, a file is above that",
        lambda: PersistedTokenCache(FilePersistence("a"), "file/x/lock"))
gone = FilePersistence("gone/cache")
cache = PersistedTokenCache(FilePersistence("gone/cache"))
elsewhere = PersistedTokenCache(FilePersistence("gone/cache"), "lock")
shutil.rmtree("gone")
attempt("no directory, save", lambda: gone.save("x"))
attempt("no directory, touch", gone.touch)
attempt("no directory, load", gone.load)
attempt("no directory, time", gone.time_last_modified)
attempt("no directory, change, lock elsewhere", lambda: change(elsewhere))
attempt("no directory, search", lambda: list(cache.search("RefreshToken")))
if sys.argv[2] == "locks":
    attempt("no directory, change", lambda: change(cache))
    attempt("no directory, lock", CrossPlatLock("gone/lock").__enter__)
    attempt("a file is the directory, lock", CrossPlatLock("file/lock").__enter__)
open("gone", "w").close()
attempt("a file is the directory, save", lambda: gone.save("x"))
attempt("a file is the directory, touch", gone.touch)
attempt("a file is the directory, load", gone.load)
os.mkdir("directory")
attempt("a directory, save", lambda: FilePersistence("directory").save("x"))
attempt("a directory, load", FilePersistence("directory").load)
"""


@requires("fcntl")
@pytest.mark.parametrize("part", ["files", "locks"])
def test_what_open_raised_in_1_3_1_is_raised_as_that_class_too(tmp_path: Path, part: str) -> None:
    """This is about locks with portalocker; without it 1.3.1 only says that it did not get the
    lock.

    On Windows open() raises PermissionError for a directory, and ours raises IsADirectoryError.
    """
    command, environment = reference_python(portalocker=part == "locks")
    outputs = []
    for name, how in (
        ("ours", {}),
        ("theirs", {"command": command, "environment": environment}),
    ):
        (tmp_path / name).mkdir()
        done = python(SITUATIONS, str(tmp_path / name), part, **how)  # type: ignore[arg-type]
        outputs.append(done.stdout.splitlines())
    assert outputs[0] == outputs[1]


def test_every_class_is_exported_and_survives_pickling() -> None:
    for name, kind in vars(errors).items():
        if not name.startswith(("Persistence", "LockFile")):
            continue
        assert getattr(msal_extensions, name) is kind
        assert name in msal_extensions.__all__
        copy = pickle.loads(pickle.dumps(kind(errno.EIO, "words", "where")))
        assert type(copy) is kind
        assert (copy.strerror, copy.filename) == ("words", "where")


def test_the_second_base_is_what_open_raises_for_that_errno() -> None:
    for code, kinds in errors.BY_ERRNO.items():
        natural = type(OSError(code, "words"))
        for kind in kinds:
            assert issubclass(kind, natural), (errno.errorcode[code], kind)


# ---- data protection of Windows ----


@pytest.mark.parametrize(
    ("call", "code", "remedy"),
    [
        ("protect", 0x80090345 - 2**32, "Log on with the password"),
        ("unprotect", 0x80090345 - 2**32, "Log on with the password"),
        ("protect", 5, "Log on with the password"),
        ("unprotect", 5, "Log on with the password"),
        ("protect", 2, "profile of this user is not loaded"),
        ("unprotect", 2, "profile of this user is not loaded"),
        ("unprotect", 0x8009000B - 2**32, "another account elevated"),
    ],
)
def test_a_session_without_the_keys_of_its_user_is_told_what_helps(
    call: str, code: int, remedy: str
) -> None:
    """Users of Azure CLI meet these codes by WinRM, by SSH with a key, and in scheduled tasks."""
    scope = dpapi.DataProtectionScope.CURRENT_USER
    arguments = (b"{}", b"", scope) if call == "protect" else (b"sealed", b"")
    with (
        library_that_answers(lib.MSALEX_OS_ERROR, code, f"msalex_dpapi_{call}"),
        pytest.raises(PersistenceError) as caught,
    ):
        getattr(dpapi, call)(*arguments)
    assert WORDS in str(caught.value)
    assert remedy in str(caught.value)
