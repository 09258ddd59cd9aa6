"""The lock as an object: how long it holds, in which thread and process, for which path."""

from __future__ import annotations

import contextlib
import errno
import gc
import math
import os
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from msal_extensions import (
    CrossPlatLock,
    FilePersistence,
    LockError,
    PersistedTokenCache,
)
from msal_extensions._native import lock as native_lock
from msal_extensions._timeouts import seconds_of
from msal_extensions.lock import LockFileError
from tests.support.capability import REMOVABLE_OPEN_FILES, SYMBOLIC_LINKS, needs, requires
from tests.support.processes import GENEROUS, python
from tests.support.users import THEM, US, as_user
from tests.support.users import shared as shared


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lockfile"


def in_a_thread(work: Callable[[], object]) -> Any:
    """The result, or the exception, of the work in a thread."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(GENEROUS)
    if errors:
        raise errors[0]
    return results[0]


def is_free(path: str | os.PathLike[str]) -> bool:
    """Does another thread get the lock at once?"""

    def enter() -> bool:
        try:
            with CrossPlatLock(path, timeout=0):
                return True
        except LockError:
            return False

    return bool(in_a_thread(enter))


@contextlib.contextmanager
def working_directory(directory: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


# ---- for how long ------------------------------------------------------------------------


def test_a_lock_object_that_is_dropped_gives_its_lock_back(path: Path) -> None:
    """Finding 6 of a review of the lock: it was held until the process ended."""
    CrossPlatLock(path).acquire()
    gc.collect()
    assert not path.exists()
    with CrossPlatLock(path, timeout=0) as lock:
        assert lock.still_held()
    assert is_free(path)


def test_an_interrupt_that_was_handled_leaves_no_lock_behind(path: Path) -> None:
    """Finding 6 of a review of the lock: an interrupt at the moment when the ``with`` ends."""

    class Interrupted(CrossPlatLock):
        def __exit__(self, *error: object) -> None:
            raise KeyboardInterrupt  # before the first line of ``__exit__``

    with pytest.raises(KeyboardInterrupt), Interrupted(path):
        pass
    gc.collect()
    with CrossPlatLock(path, timeout=0):
        pass
    assert is_free(path)


def test_what_entered_again_keeps_the_lock_when_the_outer_object_is_dropped(path: Path) -> None:
    inner = CrossPlatLock(path)
    outer = CrossPlatLock(path, reentrant=True).acquire()
    inner.acquire()
    del outer
    gc.collect()
    assert inner.still_held()
    assert not is_free(path)
    inner.release()
    assert not inner.locked
    assert is_free(path)


def test_entering_the_same_reentrant_object_again_works_like_entering_another(path: Path) -> None:
    """Finding 14 of a review of the lock: still_held() was a RecursionError."""
    lock = CrossPlatLock(path, reentrant=True)
    with lock:
        with lock:
            assert lock.still_held()
            with lock:
                assert lock.still_held()
        assert lock.still_held()
        assert not is_free(path)
    assert not lock.locked
    assert not lock.still_held()
    assert is_free(path)


def test_an_object_that_is_entered_twice_is_told_how_to_give_its_lock_back(path: Path) -> None:
    lock = CrossPlatLock(path)
    with lock, pytest.raises(LockError, match=r"by this very object: its release\(\)"):
        lock.acquire()
    assert is_free(path)


@requires(REMOVABLE_OPEN_FILES)
def test_a_lock_that_was_lost_is_not_entered_within(path: Path) -> None:
    """P12 of a review of the cache: the caller believed that it was inside."""
    with CrossPlatLock(path, reentrant=True) as lost:
        path.unlink()
        with CrossPlatLock(path, timeout=0) as lock:
            assert lock.still_held()
            assert not lost.still_held()
            assert not is_free(path)
        assert is_free(path)


# ---- in which thread ---------------------------------------------------------------------


def test_a_thread_that_gets_the_number_of_a_dead_one_does_not_hold_its_lock(path: Path) -> None:
    """Finding 14 of a review of the lock: the new thread was told that it holds the lock
    already."""
    owner: list[int] = []

    def acquire() -> CrossPlatLock:
        owner.append(threading.get_ident())
        return CrossPlatLock(path, reentrant=True).acquire()

    def enter() -> str:
        if threading.get_ident() != owner[0]:
            return ""
        with pytest.raises(LockError) as caught:
            CrossPlatLock(path, timeout=0).acquire()
        return str(caught.value)

    kept = in_a_thread(acquire)
    for _ in range(100):
        said = in_a_thread(enter)
        if said:
            break
    else:
        needs("no thread got the number of a dead one")
    assert said.startswith("Unable to obtain the lock")
    kept.release()
    assert is_free(path)


def test_an_object_may_be_released_by_another_thread(path: Path) -> None:
    lock = CrossPlatLock(path, timeout=0).acquire()
    in_a_thread(lock.release)
    assert not lock.locked
    with lock, pytest.raises(LockError, match="This thread already holds"):
        CrossPlatLock(path).acquire()
    with pytest.raises(LockError, match="not held"):
        in_a_thread(lock.release)


def test_threads_that_pass_one_object_around_and_release_it_at_once_break_nothing(
    path: Path,
) -> None:
    """Each hold is ended exactly once, while its own thread checks the lock and enters again."""
    lock = CrossPlatLock(path, timeout=GENEROUS)
    ended: list[int] = []

    def release() -> None:
        with contextlib.suppress(LockError):
            lock.release()
            ended.append(1)

    for _ in range(200):
        lock.acquire()
        threads = [threading.Thread(target=release) for _ in range(2)]
        for thread in threads:
            thread.start()
        lock.still_held()
        with CrossPlatLock(path, timeout=GENEROUS, reentrant=True):
            pass
        for thread in threads:
            thread.join(GENEROUS)
        assert not lock.locked
    assert len(ended) == 200
    assert is_free(path)


# ---- in which process --------------------------------------------------------------------


@requires("os.fork")
def test_a_child_of_a_fork_holds_nothing_and_its_inherited_with_ends_without_effect(
    path: Path,
) -> None:
    """Finding 14 of a review of the lock: ``locked`` was true in the child."""
    code = """
        import os, sys
        from msal_extensions import CrossPlatLock, LockError
        def is_refused(call):
            try:
                call()
            except LockError as error:
                return str(error)
            return ""
        lock, number = CrossPlatLock(sys.argv[1], 0.1, reentrant=True), 0
        with lock:
            with CrossPlatLock(sys.argv[1]) as within:
                for number in (1, 2, 3):
                    child = os.fork()
                    if child == 0:
                        print(number, [lock.locked, lock.still_held()], end=" ")
                        print([within.locked, within.still_held()], end=" ")
                        if number == 2:
                            print("Unable to obtain" in is_refused(lock.acquire), end=" ")
                        break
                    os.waitpid(child, 0)
                else:
                    number = 0
                    print(lock.still_held(), within.still_held(), flush=True)
        print("the with ended", flush=True)
        if number == 3:
            lock.acquire(0).release()       # the parent waits for this child
            os._exit(9)
    """
    said = python(code, str(path), check=False).stdout.splitlines()
    assert said == [
        "1 [False, False] [False, False] the with ended",
        "2 [False, False] [False, False] True the with ended",
        "3 [False, False] [False, False] the with ended",
        "True True",
        "the with ended",
    ]
    assert not path.exists()


@requires("os.fork")
def test_a_child_of_a_fork_is_told_that_it_cannot_release_its_parents_lock(path: Path) -> None:
    code = """
        import os, sys
        from msal_extensions import CrossPlatLock, LockError
        lock = CrossPlatLock(sys.argv[1]).acquire()
        child = os.fork()
        if child == 0:
            try:
                lock.release()
            except LockError as error:
                print(error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(lock.still_held())
    """
    said, held = python(code, str(path)).stdout.splitlines()
    assert "is held by the process that made this one by fork" in said
    assert held == "True"


@requires("os.fork")
def test_the_transaction_of_a_parent_goes_on_although_its_child_leaves_it(tmp_path: Path) -> None:
    code = """
        import os, sys
        from msal_extensions import FilePersistence, PersistedTokenCache
        cache = PersistedTokenCache(FilePersistence(sys.argv[1]))
        entry = {"home_account_id": "a", "environment": "e", "client_id": "c"}
        with cache.transaction():
            pid = os.fork()
            if pid:
                print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
                cache.modify("RefreshToken", entry, {"secret": "of the parent"})
        if pid:
            print([entry["secret"] for entry in cache.search("RefreshToken")])
    """
    said = python(code, str(tmp_path / "cache.bin")).stdout
    assert said == "0\n['of the parent']\n"


# ---- under which spelling ----------------------------------------------------------------


def spelled_relative(directory: Path) -> str:
    return os.path.relpath(directory / "lockfile")


def spelled_with_dots(directory: Path) -> str:
    return os.path.join(directory, ".", "..", directory.name, "lockfile")


def spelled_through_a_link(directory: Path) -> str:
    link = directory.parent / "link"
    link.symlink_to(directory)
    return str(link / "lockfile")


@pytest.mark.parametrize(
    "spell",
    [
        spelled_relative,
        spelled_with_dots,
        pytest.param(spelled_through_a_link, marks=requires(SYMBOLIC_LINKS)),
    ],
)
def test_another_spelling_of_the_path_is_the_same_lock(
    spell: Callable[[Path], str], tmp_path: Path
) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    with working_directory(tmp_path):
        plain, other = str(directory / "lockfile"), spell(directory)
        assert other != plain
        for held, wanted in ((plain, other), (other, plain)):
            with CrossPlatLock(held):
                with pytest.raises(LockError, match="This thread already holds"):
                    CrossPlatLock(wanted).acquire()
                with CrossPlatLock(wanted, reentrant=True) as within:
                    assert within.still_held()
            cache = PersistedTokenCache(FilePersistence(directory / "cache.bin"), wanted)
            with CrossPlatLock(held):
                cache.add({"client_id": "c", "scope": [], "response": {"access_token": "a"}})
        assert is_free(plain)


@requires(SYMBOLIC_LINKS)
def test_a_path_that_leads_elsewhere_by_now_is_another_lock(tmp_path: Path) -> None:
    first, second, link = tmp_path / "first", tmp_path / "second", tmp_path / "link"
    first.mkdir()
    second.mkdir()
    link.symlink_to(first)
    with CrossPlatLock(link / "lockfile"):
        link.unlink()
        link.symlink_to(second)
        with CrossPlatLock(link / "lockfile", timeout=0) as lock:
            assert lock.still_held()
            assert (second / "lockfile").exists()
        assert (first / "lockfile").exists()
    with working_directory(first), CrossPlatLock("lockfile"):
        os.chdir(second)
        with CrossPlatLock("lockfile", timeout=0):
            assert (first / "lockfile").exists()
            assert (second / "lockfile").exists()
    assert not os.listdir(first)
    assert not os.listdir(second)


def test_upper_and_lower_case_are_the_same_lock_where_the_file_system_says_so(
    tmp_path: Path,
) -> None:
    (tmp_path / "probe").touch()
    same = (tmp_path / "PROBE").exists()
    with CrossPlatLock(tmp_path / "lockfile"):
        other = CrossPlatLock(tmp_path / "LOCKFILE", timeout=0)
        if same:
            with pytest.raises(LockError, match="This thread already holds"):
                other.acquire()
        else:
            with other:
                pass


ONE_NAME = {
    "two forms of a letter": ("caf\u00e9.lockfile", "cafe\u0301.lockfile"),  # APFS, HFS+
    "letter case": ("\u00c9t\u00e9.lockfile", "e\u0301te\u0301.lockfile"),
    "a letter of another alphabet": ("\u212aelvin.lockfile", "kelvin.lockfile"),
    "a character that says nothing": ("cache\u200b.lockfile", "cache.lockfile"),  # HFS+, ext4 +F
    "a short name of Windows": ("long name.lockfile", "LONGNA~1.LOC"),
}


@requires("fcntl")
@pytest.mark.parametrize(("one", "other"), ONE_NAME.values(), ids=ONE_NAME)
def test_names_that_the_file_system_takes_for_one_are_the_same_lock(
    one: str, other: str, tmp_path: Path
) -> None:
    """Here a second link stands for such a file system: both names lead to one file."""
    for held, wanted in ((tmp_path / one, tmp_path / other), (tmp_path / other, tmp_path / one)):
        with CrossPlatLock(held):
            if not wanted.exists():
                os.link(held, wanted)
            with pytest.raises(LockError, match="This thread already holds"):
                CrossPlatLock(wanted, timeout=0).acquire()
            with CrossPlatLock(wanted, reentrant=True):
                pass
        wanted.unlink(missing_ok=True)


@requires("fcntl")
def test_two_names_of_other_letters_are_two_locks_without_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CrossPlatLock(tmp_path / "one.lockfile"):
        monkeypatch.setattr(os.path, "samefile", None)
        with CrossPlatLock(tmp_path / "other.lockfile", timeout=0):
            pass


def test_a_path_of_bytes_works_as_it_did(path: Path) -> None:
    with CrossPlatLock(os.fsencode(path)):  # type: ignore[arg-type]
        assert not is_free(path)
    assert not path.exists()


# ---- how long to wait ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (0, 0.0),
        (5, 5.0),
        (True, 1.0),
        (1e308, 1e308),
        (math.inf, math.inf),
        (-math.inf, -math.inf),
        (-0.5, -0.5),
        pytest.param(10**400, math.inf, id="10**400"),
        pytest.param(-(10**400), -math.inf, id="-10**400"),
        (Decimal("0.25"), 0.25),
        (Fraction(1, 4), 0.25),
    ],
)
def test_a_timeout_may_be_a_number_of_any_kind_and_size(
    timeout: Any, seconds: float, path: Path
) -> None:
    """Finding 14 of a review of the lock: some raised an error."""
    assert seconds_of(timeout) == seconds
    with CrossPlatLock(path, timeout):
        pass
    CrossPlatLock(path).acquire(timeout).release()
    cache = PersistedTokenCache(FilePersistence(path.with_name("cache.bin")))
    with cache.transaction(timeout), cache.transaction(timeout):
        pass
    with cache.single_flight(timeout):
        pass


@pytest.mark.parametrize("timeout", [math.nan, Decimal("nan")])
def test_a_timeout_that_is_no_number_is_refused(timeout: Any, path: Path) -> None:
    with pytest.raises(ValueError, match="nan"):
        CrossPlatLock(path, timeout)
    with pytest.raises(ValueError, match="nan"):
        CrossPlatLock(path).acquire(timeout)


@pytest.mark.parametrize("timeout", ["5", b"5", bytearray(b"5"), [], 1j])
def test_a_timeout_of_another_type_is_refused(timeout: Any, path: Path) -> None:
    with pytest.raises(TypeError):
        CrossPlatLock(path, timeout)
    with pytest.raises(TypeError):
        CrossPlatLock(path).acquire(timeout)
    assert not path.exists()


@pytest.mark.parametrize(
    ("timeout", "slice_ms", "patience_ms"),
    [
        (0, 0, 0),
        (5e-324, 1, 1),
        (1e-9, 1, 1),
        (0.0101, 11, 11),
        (5, 50, 5000),
        (1e6, 50, 10**9),
        (1e9, 50, -1),
        (1e308, 50, -1),
        (math.inf, 50, -1),
        pytest.param(10**400, 50, -1, id="10**400"),
        (-5e-324, 50, -1),
        (-math.inf, 50, -1),
        (-0.0, 0, 0),
    ],
)
def test_the_native_lock_is_asked_for_milliseconds_that_it_can_count(
    timeout: float, slice_ms: int, patience_ms: int, path: Path
) -> None:
    with mock.patch.object(native_lock.Lock, "acquire", return_value=True) as acquire:
        CrossPlatLock(path, timeout).acquire()
    assert acquire.call_args.args == (slice_ms, patience_ms)


# ---- what it says ------------------------------------------------------------------------


@requires("os.fork")
def test_a_working_directory_that_was_deleted_is_a_typed_error(tmp_path: Path) -> None:
    """Finding 14 of a review of the lock: it was not a LockError."""
    gone = tmp_path / "gone"
    gone.mkdir()
    with working_directory(gone):
        gone.rmdir()
        with pytest.raises(LockFileError, match="working directory") as caught:
            CrossPlatLock("lockfile").acquire()
        assert isinstance(caught.value, FileNotFoundError)
        assert caught.value.errno == errno.ENOENT
        with CrossPlatLock(tmp_path / "lockfile"):  # an absolute path works
            pass


def test_the_message_tells_the_holder_although_the_directory_has_changed(tmp_path: Path) -> None:
    """Finding 14 of a review of the lock: it looked for the lock file in the new directory."""
    holder = in_a_thread(lambda: CrossPlatLock(tmp_path / "lockfile").acquire())
    acquire = native_lock.Lock.acquire

    def and_change_directory(lock: native_lock.Lock, *arguments: int) -> bool:
        os.chdir(tmp_path.parent)  # another thread may do this
        return acquire(lock, *arguments)

    with (
        working_directory(tmp_path),
        mock.patch.object(native_lock.Lock, "acquire", and_change_directory),
        pytest.raises(LockError) as caught,
    ):
        CrossPlatLock("lockfile", timeout=0.05).acquire()
    assert f"held by: {os.getpid()} " in str(caught.value)
    assert str(tmp_path / "lockfile") in str(caught.value)
    holder.release()


@requires("os.geteuid")
def test_the_message_names_the_owner_of_a_lock_file_in_the_way(shared: Path) -> None:
    """Finding 11 of a review of the lock: the file of a dead holder blocks other users."""
    shared.chmod(0o777)
    path = shared / "lockfile"
    path.write_text("999999 az")
    path.chmod(0o600)
    os.chown(path, THEM, THEM)

    def wait() -> str:
        with pytest.raises(LockError) as caught:
            CrossPlatLock(path, timeout=0).acquire()
        return str(caught.value)

    said = as_user(US, wait)
    assert "a process that left no name" in said
    assert f"(uid {THEM})" in said or f"with uid {THEM}:" in said
    assert "that user, or root, can" in said
    assert "If that is hung" not in said
