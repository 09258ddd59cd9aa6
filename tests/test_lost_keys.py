"""A key that the kernel has lost: the error says how, and no file is replaced without a wish."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import msal_extensions
from msal_extensions import (
    EncryptedFilePersistence,
    KernelKey,
    KeyExpired,
    KeyInOtherNamespace,
    KeyLost,
    KeyLostAtReboot,
    KeyWrong,
    PersistedTokenCache,
    PersistenceNotFound,
)
from msal_extensions._native import kernelkey
from msal_extensions._native.kernelkey import Missing
from msal_extensions._store import ABSENT
from msal_extensions._store_of import store_of
from msal_extensions.errors import StoreChanged
from tests.support.kernel_in_memory import Kernel
from tests.support.kernel_in_memory import kernel_fixture as kernel_fixture
from tests.support.tokens import add_token, secrets_of

OTHER = bytes(range(100, 132))
CANARY = "canary-7f3a"


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin"


def reboot(kernel: Kernel, location: Path) -> None:
    kernel.boot = "boot-2"
    kernel.keys.clear()


def expiry(kernel: Kernel, location: Path) -> None:
    kernel.keys.clear()
    long_ago = time.time() - 1001
    os.utime(location, (long_ago, long_ago))


def expiry_of_the_key(kernel: Kernel, location: Path) -> None:
    kernel.keys[1] = Missing.EXPIRED


def namespace(kernel: Kernel, location: Path) -> None:
    kernel.userns = "2"
    kernel.keys.clear()


def removal(kernel: Kernel, location: Path) -> None:
    kernel.keys.clear()


def another_key(kernel: Kernel, location: Path) -> None:
    kernel.keys[1] = OTHER


LOSSES = [
    (reboot, KeyLostAtReboot, "started anew"),
    (expiry, KeyExpired, "not used"),
    (expiry_of_the_key, KeyExpired, "not used"),
    (namespace, KeyInOtherNamespace, "another user namespace"),
    (removal, KeyWrong, "another user"),
    (another_key, KeyWrong, "another user"),
]
Lose = Callable[[Kernel, Path], None]


@pytest.mark.parametrize(("lose", "kind", "words"), LOSSES)
def test_a_lost_key_is_an_error_that_says_how_it_was_lost_and_changes_nothing(
    kernel: Kernel, location: Path, lose: Lose, kind: type[KeyLost], words: str
) -> None:
    EncryptedFilePersistence(location).save(CANARY)
    lose(kernel, location)
    before, keys = location.read_bytes(), {**kernel.keys}
    persistence = EncryptedFilePersistence(location)
    cache = PersistedTokenCache(persistence, on_unreadable="quarantine")
    uses: list[Callable[[], object]] = [
        persistence.load,
        lambda: persistence.save("new"),
        lambda: add_token(cache, "new"),
        persistence.rekey,
    ]
    for use in uses:
        with pytest.raises(KeyLost) as caught:
            use()
        assert type(caught.value) is kind
        assert words in str(caught.value)
        assert "sign in again" in str(caught.value)
        assert str(location) in str(caught.value)
    assert location.read_bytes() == before
    assert kernel.keys == keys
    assert sorted(os.listdir(location.parent)) == [location.name]


@pytest.mark.parametrize(("lose", "kind", "words"), LOSSES)
def test_only_a_key_that_can_never_come_back_lets_a_cache_start_empty(
    kernel: Kernel, location: Path, lose: Lose, kind: type[KeyLost], words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    EncryptedFilePersistence(location).save('{"AccessToken": {}}')
    lose(kernel, location)
    before = location.read_bytes()
    persistence = EncryptedFilePersistence(location, on_lost_key="quarantine")
    cache = PersistedTokenCache(persistence)
    if kind not in (KeyLostAtReboot, KeyExpired):
        with pytest.raises(kind):
            add_token(cache, "new")
        assert location.read_bytes() == before
        return
    with pytest.raises(PersistenceNotFound):
        persistence.load()
    assert secrets_of(cache) == set()
    assert location.read_bytes() == before  # a read changes nothing
    add_token(cache, "new")
    assert secrets_of(cache) == {"new"}
    assert Path(f"{location}.lost").read_bytes() == before
    assert secrets_of(PersistedTokenCache(EncryptedFilePersistence(location))) == {"new"}
    assert [words in record.getMessage() for record in caplog.records] == [True]


def test_of_several_lost_files_one_is_kept_and_delete_removes_it_too(
    kernel: Kernel, location: Path
) -> None:
    for boot in ("2", "3"):
        EncryptedFilePersistence(location, on_lost_key="quarantine").save(boot)
        kernel.boot = boot
        kernel.keys.clear()
    persistence = EncryptedFilePersistence(location, on_lost_key="quarantine")
    persistence.save("last")
    assert sorted(os.listdir(location.parent)) == ["cache.bin", "cache.bin.lost"]
    assert persistence.load() == "last"
    persistence.delete()
    assert os.listdir(location.parent) == []


def test_a_key_that_comes_back_after_its_file_was_given_up_loses_no_token(
    kernel: Kernel, location: Path
) -> None:
    cache = PersistedTokenCache(EncryptedFilePersistence(location))
    add_token(cache, "old")
    key = kernel.keys[1]
    expiry(kernel, location)
    late = PersistedTokenCache(EncryptedFilePersistence(location, on_lost_key="quarantine"))
    assert secrets_of(late) == set()
    kernel.keys[1] = key  # by a process that still has it
    add_token(late, "new")
    assert secrets_of(PersistedTokenCache(EncryptedFilePersistence(location))) == {"old", "new"}
    assert os.listdir(location.parent) == [location.name]


def test_what_a_file_holds_whose_key_came_back_is_not_replaced_unread(
    kernel: Kernel, location: Path
) -> None:
    """The key comes back between the look at the file and the save."""
    EncryptedFilePersistence(location).save("old")
    key = kernel.keys[1]
    expiry(kernel, location)
    before = location.read_bytes()
    late = EncryptedFilePersistence(location, on_lost_key="quarantine")
    store = store_of(late, f"{location}.lockfile")
    assert store.read().stamp is ABSENT
    kernel.keys[1] = key
    with pytest.raises(StoreChanged):
        store.replace(b"new", lease=None, expected=ABSENT)
    assert location.read_bytes() == before
    assert store.read().data == b"old"


def test_a_process_that_still_has_the_key_puts_it_back_after_an_hour(
    kernel: Kernel, location: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    persistence = EncryptedFilePersistence(location)
    persistence.save("text")
    looks = kernel.looks
    assert persistence.load() == "text"
    assert kernel.looks == looks  # the key is in memory
    kernel.keys.clear()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + KernelKey.refresh_after + 1)
    assert persistence.load() == "text"
    assert EncryptedFilePersistence(location).load() == "text"


def test_an_hourly_look_keeps_the_kernel_from_removing_the_key(
    kernel: Kernel, location: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    persistence = EncryptedFilePersistence(location)
    persistence.save("text")
    now, looks = time.monotonic(), kernel.looks
    for use in (persistence.load, lambda: persistence.save("more")):
        now += KernelKey.refresh_after + 1
        monkeypatch.setattr(time, "monotonic", partial(float, now))
        use()
        assert kernel.looks > looks
        looks = kernel.looks


def test_where_a_kernel_has_no_room_for_a_key_the_file_is_still_read(
    kernel: Kernel, location: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int, key: bytes) -> bool:
        raise msal_extensions.PersistenceError(122, "Disk quota exceeded", "kernel keyring")

    persistence = EncryptedFilePersistence(location)
    persistence.save("text")
    kernel.keys.clear()
    now = time.monotonic()
    monkeypatch.setattr(kernelkey, "add", full)
    monkeypatch.setattr(time, "monotonic", lambda: now + KernelKey.refresh_after + 1)
    assert persistence.load() == "text"
