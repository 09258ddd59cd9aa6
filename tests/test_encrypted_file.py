"""An encrypted file: what was lost is told and kept, and nothing that cannot be opened is replaced.

tests/test_lost_keys.py has the keys of the kernel, which can be lost.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import (
    EncryptedFileDamaged,
    EncryptedFilePersistence,
    EncryptedFileUnknown,
    KernelKey,
    KeyFile,
    KeyUnavailable,
    KeyWrong,
    LockError,
    NotEncrypted,
    PersistedTokenCache,
    PersistenceNotFound,
    Protection,
)
from msal_extensions._native import files
from msal_extensions._stores import envelope
from tests.support.capability import REMOVABLE_OPEN_FILES, requires
from tests.support.kernel_in_memory import Kernel
from tests.support.kernel_in_memory import kernel_fixture as kernel_fixture
from tests.support.tokens import add_token, secrets_of

KEY, OTHER = bytes(range(32)), bytes(range(100, 132))
CANARY = "canary-7f3a"


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin"


def generation(location: Path, key: bytes = KEY) -> int:
    sealed = envelope.parse(location.read_bytes(), str(location))
    return envelope.open_(sealed, key, location.name, str(location)).generation


# ---- another key, another name, another content --------------------------------------------


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b'{"AccessToken": {}}', NotEncrypted, "plain text"),
        (b"\x80 something", NotEncrypted, "unknown file"),
        (b"msalex-enc/2 x\n", EncryptedFileUnknown, "newer version"),
        (b"msalex-enc/1 {", EncryptedFileDamaged, "damaged"),
    ],
)
def test_what_is_no_encrypted_file_of_ours_is_neither_read_nor_replaced(
    location: Path, content: bytes, kind: type[OSError], words: str
) -> None:
    location.write_bytes(content)
    persistence = EncryptedFilePersistence(location, KEY, on_lost_key="quarantine")
    for use in (persistence.load, lambda: persistence.save("x"), persistence.rekey):
        with pytest.raises(kind, match=words):
            use()
    assert location.read_bytes() == content


@pytest.mark.parametrize("on_unreadable", ["raise", "quarantine"])
def test_a_cache_replaces_a_damaged_file_after_it_has_kept_a_copy_and_only_if_told_to(
    location: Path, on_unreadable: Any
) -> None:
    cache = PersistedTokenCache(EncryptedFilePersistence(location, KEY))
    add_token(cache, "old")
    damaged = bytearray(location.read_bytes())
    damaged[-1] ^= 1
    location.write_bytes(damaged)
    cache = PersistedTokenCache(
        EncryptedFilePersistence(location, KEY), on_unreadable=on_unreadable
    )
    if on_unreadable == "raise":
        with pytest.raises(EncryptedFileDamaged):
            add_token(cache, "new")
        assert location.read_bytes() == damaged
        return
    add_token(cache, "new")
    assert secrets_of(cache) == {"new"}
    (copy,) = location.parent.glob("*.damaged-*")
    assert copy.read_bytes() == damaged


@pytest.mark.parametrize("on_unreadable", ["raise", "quarantine"])
def test_plain_text_is_no_damage_and_stays(location: Path, on_unreadable: Any) -> None:
    location.write_text('{"AccessToken": {}}')
    cache = PersistedTokenCache(
        EncryptedFilePersistence(location, KEY), on_unreadable=on_unreadable
    )
    with pytest.raises(NotEncrypted):
        add_token(cache, "new")
    assert location.read_text() == '{"AccessToken": {}}'
    assert os.listdir(location.parent) == [location.name]


@pytest.mark.parametrize(
    "other", [{"key": OTHER}, {"key": {"mine": OTHER}}, {"key": KEY, "name": "another"}], ids=str
)
def test_another_key_and_another_name_open_nothing(location: Path, other: dict[str, Any]) -> None:
    EncryptedFilePersistence(location, KEY).save(CANARY)
    before = location.read_bytes()
    persistence = EncryptedFilePersistence(location, **other, on_lost_key="quarantine")
    for use in (persistence.load, lambda: persistence.save("x")):
        with pytest.raises(KeyWrong) as caught:
            use()
        assert caught.value.key_id == envelope.id_of(KEY)
    assert location.read_bytes() == before


def test_one_cache_in_the_place_of_another_is_refused_and_a_moved_one_opens_under_its_name(
    tmp_path: Path,
) -> None:
    for name in ("one", "other"):
        EncryptedFilePersistence(tmp_path / name, KEY).save(name)
    os.replace(tmp_path / "one", tmp_path / "other")
    with pytest.raises(KeyWrong):
        EncryptedFilePersistence(tmp_path / "other", KEY).load()
    assert EncryptedFilePersistence(tmp_path / "other", KEY, name="one").load() == "one"


def test_an_empty_file_holds_nothing_and_a_save_fills_it(location: Path) -> None:
    location.touch()
    persistence = EncryptedFilePersistence(location, KEY)
    with pytest.raises(PersistenceNotFound):
        persistence.load()
    cache = PersistedTokenCache(persistence)
    assert secrets_of(cache) == set()
    add_token(cache, "new")
    assert secrets_of(PersistedTokenCache(EncryptedFilePersistence(location, KEY))) == {"new"}


# ---- versions ---------------------------------------------------------------------------


def test_each_save_is_the_next_generation_of_the_same_file(location: Path) -> None:
    persistence = EncryptedFilePersistence(location, KEY)
    for number in range(1, 4):
        persistence.save("{}")
        assert generation(location) == number
    EncryptedFilePersistence(location, KEY).save("{}")  # which has not read it before
    assert generation(location) == 4
    cache = PersistedTokenCache(EncryptedFilePersistence(location, KEY))
    add_token(cache, "one")
    add_token(cache, "two")
    assert generation(location) == 6


def test_an_older_version_of_the_same_file_is_read_with_one_warning(
    location: Path, caplog: pytest.LogCaptureFixture
) -> None:
    persistence = EncryptedFilePersistence(location, KEY)
    persistence.save("first")
    old = location.read_bytes()
    persistence.save("second")
    location.write_bytes(old)
    for _ in range(3):
        assert persistence.load() == "first"
    assert ["backup" in record.getMessage() for record in caplog.records] == [True]


def test_a_new_file_after_a_deletion_is_no_older_version(
    location: Path, caplog: pytest.LogCaptureFixture
) -> None:
    persistence = EncryptedFilePersistence(location, KEY)
    persistence.save("first")
    persistence.save("second")
    EncryptedFilePersistence(location, KEY).delete()
    EncryptedFilePersistence(location, KEY).save("anew")
    assert persistence.load() == "anew"
    assert not caplog.records


@requires(REMOVABLE_OPEN_FILES)
def test_threads_that_read_beside_a_writer_take_no_version_for_an_older_one(
    location: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer, reader = (EncryptedFilePersistence(location, KEY) for _ in range(2))
    writer.save("0")
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            reader.load()

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(300):
            writer.save(str(number))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not caplog.records


# ---- a new key ---------------------------------------------------------------------------


def test_rekey_with_the_kernel_makes_a_key_and_the_others_stay(
    kernel: Kernel, location: Path
) -> None:
    other = location.with_name("other")
    for place in (location, other):
        EncryptedFilePersistence(place).save(place.name)
    persistence = EncryptedFilePersistence(location)
    persistence.rekey()
    assert sorted(kernel.keys) == [1, 2]
    assert persistence.load() == location.name
    assert EncryptedFilePersistence(location).load() == location.name
    assert EncryptedFilePersistence(other).load() == "other"
    EncryptedFilePersistence(other).rekey()  # takes the new key, which is there already
    assert sorted(kernel.keys) == [1, 2]
    del kernel.keys[1]
    assert EncryptedFilePersistence(other).load() == "other"


def test_rekey_takes_the_first_key_and_wants_a_new_one(location: Path) -> None:
    EncryptedFilePersistence(location, {"old": KEY}).save("text")
    persistence = EncryptedFilePersistence(location, {"new": OTHER, "old": KEY})
    assert persistence.load() == "text"
    persistence.rekey()
    assert EncryptedFilePersistence(location, {"new": OTHER}).load() == "text"
    with pytest.raises(KeyUnavailable, match="new key"):
        persistence.rekey()
    assert persistence.load() == "text"


def test_rekey_moves_a_file_to_another_source(kernel: Kernel, location: Path) -> None:
    file = location.with_name("keys") / "key"
    file.parent.mkdir()
    file.touch(0o600)
    file.write_bytes(OTHER)
    persistence = EncryptedFilePersistence(location)
    persistence.save("text")
    worth = [persistence.protection]
    persistence.rekey(KeyFile(file))
    worth.append(persistence.protection)
    assert worth == [Protection.UNTIL_REBOOT, Protection.KEY_FILE]
    assert persistence.load() == "text"
    kernel.keys.clear()
    assert EncryptedFilePersistence(location, KeyFile(file)).load() == "text"
    with pytest.raises(KeyUnavailable, match="MSAL_EXTENSIONS_KEY_FILE"):
        EncryptedFilePersistence(location)


def test_rekey_waits_for_the_lock_of_the_cache_and_keeps_its_file(location: Path) -> None:
    persistence = EncryptedFilePersistence(location, {"new": OTHER, "old": KEY})
    EncryptedFilePersistence(location, {"old": KEY}).save("{}")
    before, refused = location.read_bytes(), []

    def rekey() -> None:
        try:
            persistence.rekey(timeout=0.1)
        except LockError as error:
            refused.append(error)

    with PersistedTokenCache(persistence).transaction():
        thread = threading.Thread(target=rekey)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert location.read_bytes() == before


def test_a_rekey_that_fails_leaves_file_and_object_as_they_were(location: Path) -> None:
    persistence = EncryptedFilePersistence(location, KEY)
    persistence.save("text")
    before = location.read_bytes()

    def fails() -> bytes:
        raise ConnectionError("the vault is closed")

    with pytest.raises(ConnectionError):
        persistence.rekey(fails)
    assert location.read_bytes() == before
    assert persistence.load() == "text"
    persistence.save("more")
    assert EncryptedFilePersistence(location, KEY).load() == "more"


def test_a_rekey_after_which_the_file_has_another_content_is_an_error(
    location: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anybody throws the old key away."""
    keys = {"new": OTHER, "old": KEY}
    EncryptedFilePersistence(location, {"old": KEY}).save("text")
    replace = files.replace

    def replace_and_be_overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(files, "replace", replace)
        stamp = replace(*arguments)
        EncryptedFilePersistence(location, keys).save("of a program that takes no lock")
        return stamp

    persistence = EncryptedFilePersistence(location, keys)
    monkeypatch.setattr(files, "replace", replace_and_be_overtaken)
    with pytest.raises(EncryptedFileDamaged, match="something else than was saved"):
        persistence.rekey()
    assert persistence.load() == "of a program that takes no lock"


def test_a_damaged_file_is_put_aside_with_a_key_that_takes_its_time_too(location: Path) -> None:
    location.write_bytes(b"msalex-enc/1 {")
    persistence = EncryptedFilePersistence(location, lambda: KEY)
    cache = PersistedTokenCache(persistence, on_unreadable="quarantine")
    add_token(cache, "new")
    assert secrets_of(cache) == {"new"}
    assert len(list(location.parent.glob("*.damaged-*"))) == 1


def test_there_is_nothing_to_rekey_where_nothing_is_stored(location: Path) -> None:
    with pytest.raises(PersistenceNotFound):
        EncryptedFilePersistence(location, KEY).rekey(OTHER)


def test_the_kernel_keeps_sixteen_keys_and_says_so(kernel: Kernel, location: Path) -> None:
    persistence = EncryptedFilePersistence(location)
    persistence.save("text")
    for _ in range(KernelKey.NUMBERS - 1):
        persistence.rekey()
    with pytest.raises(KeyUnavailable, match="keyctl"):
        persistence.rekey()
    assert EncryptedFilePersistence(location).load() == "text"


# ---- what others see ---------------------------------------------------------------------


def test_the_first_line_tells_the_key_and_the_rest_nothing(kernel: Kernel, location: Path) -> None:
    EncryptedFilePersistence(location).save(CANARY)
    line, _, rest = location.read_bytes().partition(b"\n")
    header = json.loads(line.removeprefix(b"msalex-enc/1 "))
    assert header["source"] == "kernel"
    assert header["hints"] == {"boot": "boot-1", "userns": "1"}
    assert CANARY.encode() not in line + rest
    assert len(rest) == 1024 + envelope.TAG_BYTES


def test_equal_texts_never_look_equal(location: Path) -> None:
    persistence = EncryptedFilePersistence(location, KEY)
    seen = set()
    for _ in range(20):
        persistence.save("same")
        seen.add(location.read_bytes())
    assert len({content.partition(b"\n")[2] for content in seen}) == 20


@pytest.mark.parametrize(("argument", "value"), [("on_lost_key", "ignore"), ("key", "text")])
def test_a_wrong_argument_is_a_value_error(location: Path, argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match="key"):
        EncryptedFilePersistence(location, **{"key": KEY, argument: value})


def test_cryptography_is_imported_when_it_is_first_used(tmp_path: Path) -> None:
    code = f"""
import sys
from msal_extensions import EncryptedFilePersistence
print("cryptography" in sys.modules)
EncryptedFilePersistence({str(tmp_path / "c")!r}, bytes(32)).save("x")
print("cryptography" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
