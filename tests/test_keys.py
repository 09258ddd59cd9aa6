"""The key of an encrypted file: what is a key, which source is asked, and when.

tests/test_key_files.py and tests/test_key_commands.py have more of two sources, and
tests/test_keys_hidden.py has what never shows a key.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import (
    EncryptedFilePersistence,
    KernelKey,
    KeyUnavailable,
    KeyWrong,
    PersistedTokenCache,
)
from msal_extensions._stores import envelope
from msal_extensions._stores.encrypted import EncryptedStore
from msal_extensions._stores.keys import Protection, source_of
from msal_extensions.lock import FileLock
from tests.support.key_sources import SOURCES, key_of, make_source, text_of, write_key
from tests.support.key_sources import own_keys as own_keys

KEY, OTHER, THIRD = (bytes(range(start, start + 32)) for start in (1, 101, 201))
KEY_FILE = "MSAL_EXTENSIONS_KEY_FILE"
ENTRY = {"home_account_id": "h", "environment": "e", "client_id": "c"}

pytestmark = pytest.mark.usefixtures("own_keys")


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin"


def header(location: Path) -> envelope.Header:
    return envelope.parse(location.read_bytes(), str(location)).header


def modify(cache: PersistedTokenCache, name: str = "h") -> None:
    cache.modify("RefreshToken", {**ENTRY, "home_account_id": name}, {"secret": name})


def secrets_in(cache: PersistedTokenCache) -> set[str]:
    return {entry["secret"] for entry in cache.search("RefreshToken")}


# ---- what is a key ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        bytearray(KEY),
        {"mine": KEY},
        {"": KEY},
        {"new": OTHER, "mine": KEY},
        lambda: KEY,
        lambda: bytearray(KEY),
        lambda: {"a": THIRD, "b": OTHER, "mine": KEY},
    ],
    ids=range(8),
)
def test_a_key_is_bytes_or_a_mapping_or_a_callable_that_returns_one(
    location: Path, key: Any
) -> None:
    EncryptedFilePersistence(location, {"mine": KEY}).save("the text")
    ring = source_of(key).ring()
    if "mine" in ring:
        assert EncryptedFilePersistence(location, key).load() == "the text"
    else:
        assert {*ring} == {envelope.id_of(KEY)}
    EncryptedFilePersistence(location, {"mine": KEY, **ring}).save("anew")
    assert EncryptedFilePersistence(location, {"mine": KEY}).load() == "anew"


@pytest.mark.parametrize("kind", SOURCES)
def test_each_source_opens_what_it_sealed_and_the_file_says_from_where_the_key_came(
    location: Path, tmp_path: Path, kind: str
) -> None:
    persistence = EncryptedFilePersistence(location, make_source(kind, tmp_path / "keys"))
    persistence.save("the text")
    again = EncryptedFilePersistence(location, make_source(kind, tmp_path / "keys"))
    assert again.load() == "the text"
    found = header(location)
    assert found.source == ("given" if kind == "callable" else kind)
    assert {*found.hints} == ({"boot", "userns"} if kind == "kernel" else set())
    assert all(found.hints.values())
    if kind != "kernel":
        assert found.key_id == envelope.id_of(key_of(tmp_path / "keys"))


def test_a_key_that_changes_after_it_was_given_is_the_one_that_was_given(location: Path) -> None:
    key: Any = bytearray(KEY)
    ring = {"mine": KEY}
    persistence = EncryptedFilePersistence(location, key)
    other = EncryptedFilePersistence(location.with_name("other"), ring)
    key[0] ^= 1
    ring["mine"] = OTHER
    persistence.save("x")
    other.save("y")
    assert EncryptedFilePersistence(location, KEY).load() == "x"
    assert EncryptedFilePersistence(other.get_location(), {"mine": KEY}).load() == "y"


NO_KEYS: dict[str, Any] = {
    "31 bytes": KEY[:31],
    "33 bytes": KEY + b"\0",
    "no bytes": b"",
    "a text": text_of(KEY),
    "a number": 5,
    "a list": [KEY],
    "a path": Path("key"),
    "an empty mapping": {},
    "a mapping to short keys": {"a": KEY[:31]},
    "a mapping to texts": {"a": text_of(KEY)},
    "a mapping to nothing": {"a": None},
    "an id with a blank": {"a b": KEY},
    "an id with a newline": {"a\n": KEY},
    "an id of other letters": {"é": KEY},
    "a long id": {"a" * 65: KEY},
    "an id that is a number": {5: KEY},
    "an id of bytes": {b"a": KEY},
}


def assert_hidden(error: BaseException) -> None:
    """An error tells no key, and no id either, which may have come from the wrong place."""
    said = "".join(traceback.format_exception(error)) + repr(error.args)
    for secret in (repr(KEY)[2:20], KEY.hex(), text_of(KEY), text_of(KEY)[:30]):
        assert secret not in said
    assert KEY[:31] not in pickle.dumps(error.args)


@pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_key_is_a_value_error_with_words_and_without_the_key(
    location: Path, key: Any
) -> None:
    with pytest.raises(ValueError, match=r"32 bytes|id of a key has 1 to 64") as caught:
        EncryptedFilePersistence(location, key)
    assert_hidden(caught.value)
    assert list(location.parent.iterdir()) == []


@pytest.mark.parametrize("key", [*NO_KEYS.values(), None], ids=[*NO_KEYS, "nothing"])
def test_a_callable_that_returns_no_key_is_a_value_error_when_it_is_asked(
    location: Path, key: Any
) -> None:
    persistence = EncryptedFilePersistence(location, lambda: key)
    cache = PersistedTokenCache(persistence)
    uses: list[Callable[[], object]] = [lambda: persistence.save("x"), lambda: modify(cache)]
    for use in uses:
        with pytest.raises(ValueError, match=r"32 bytes|id of a key has 1 to 64") as caught:
            use()
        assert_hidden(caught.value)
    assert not location.exists()


# ---- the source of a program that names none ----------------------------------------------


@pytest.fixture
def kernel(tmp_path: Path) -> KernelKey:
    source = make_source("kernel", tmp_path / "kernel")
    assert isinstance(source, KernelKey)
    return source


def test_the_variable_comes_before_the_credential_and_that_before_the_kernel(
    tmp_path: Path, kernel: KernelKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source_now() -> str:
        location = tmp_path / f"{len(list(tmp_path.iterdir()))}.bin"
        persistence = EncryptedFilePersistence(location)
        persistence.save("x")
        return f"{header(location).source}: {persistence.protection.name}"

    assert source_now() == "kernel: UNTIL_REBOOT"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert source_now() == "kernel: UNTIL_REBOOT"  # a service with other credentials
    write_key(tmp_path / "credentials" / "msal-extensions-key", KEY)
    assert source_now() == "credential: CREDENTIAL"
    monkeypatch.setenv(KEY_FILE, str(write_key(tmp_path / "keys" / "key", OTHER)))
    assert source_now() == "file: KEY_FILE"
    monkeypatch.setenv(KEY_FILE, "")
    assert source_now() == "credential: CREDENTIAL"


def test_a_key_file_that_the_variable_names_and_that_is_missing_is_no_way_to_the_next_source(
    tmp_path: Path, kernel: KernelKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_FILE, str(tmp_path / "missing"))
    with pytest.raises(KeyUnavailable) as caught:
        EncryptedFilePersistence(tmp_path / "cache")
    assert caught.value.location == str(tmp_path / "missing")


def test_a_file_that_exists_stays_with_the_source_of_its_key(
    tmp_path: Path, kernel: KernelKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever source would come first now."""
    write_key(tmp_path / "credentials" / "msal-extensions-key", KEY)
    key_file = str(write_key(tmp_path / "keys" / "key", OTHER))
    settings: dict[str, dict[str, str]] = {
        "kernel": {},
        "credential": {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")},
        "file": {KEY_FILE: key_file},
    }

    def with_setting(setting: Mapping[str, str]) -> None:
        for variable in ("CREDENTIALS_DIRECTORY", KEY_FILE):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in setting.items():
            monkeypatch.setenv(variable, value)

    for source, setting in settings.items():
        with_setting(setting)
        EncryptedFilePersistence(tmp_path / source).save(source)
    with_setting({**settings["credential"], **settings["file"]})
    for source in settings:
        persistence = EncryptedFilePersistence(tmp_path / source)
        assert persistence.load() == source
        persistence.save("again")
        assert header(tmp_path / source).source == source
    with_setting({})
    for source, words in (("file", KEY_FILE), ("credential", "CREDENTIALS_DIRECTORY")):
        with pytest.raises(KeyUnavailable, match=words):
            EncryptedFilePersistence(tmp_path / source)


@pytest.mark.parametrize(("kind", "words"), [("given", "the program"), ("command", "a command")])
def test_a_file_with_a_key_of_the_program_says_that_the_program_has_to_give_it(
    tmp_path: Path, location: Path, kernel: KernelKey, kind: str, words: str
) -> None:
    EncryptedFilePersistence(location, make_source(kind, tmp_path / "keys")).save("x")
    with pytest.raises(KeyUnavailable, match=f"came from {words}: pass the same key=") as caught:
        EncryptedFilePersistence(location)
    assert caught.value.location == str(location)


def test_a_source_that_the_program_names_comes_before_all_variables(
    tmp_path: Path, location: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_FILE, str(tmp_path / "missing"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "missing"))
    EncryptedFilePersistence(location, KEY).save("x")
    assert EncryptedFilePersistence(location, KEY).protection is Protection.GIVEN


def test_one_key_opens_a_file_from_whatever_source_it_comes(tmp_path: Path, location: Path) -> None:
    EncryptedFilePersistence(location, make_source("given", tmp_path / "keys")).save("x")
    for kind in ("callable", "command", "file", "credential"):
        persistence = EncryptedFilePersistence(location, make_source(kind, tmp_path / "keys"))
        assert persistence.load() == "x"


# ---- when a callable or a command is asked ------------------------------------------------


class Ring:
    """A callable with keys that may change.  It notes whether the lock of the cache was held."""

    def __init__(self, location: Path, *keys: bytes) -> None:
        self.keys, self.calls = keys, 0
        self._lock = FileLock(f"{location}.lockfile")

    def __call__(self) -> dict[str, bytes]:
        self.calls += 1
        assert not self._lock.is_mine(), "asked while this thread holds the lock"
        return {envelope.id_of(key): key for key in self.keys}


def test_a_callable_is_asked_once_and_never_while_the_lock_is_held(location: Path) -> None:
    ring = Ring(location, KEY)
    cache = PersistedTokenCache(EncryptedFilePersistence(location, ring))
    assert ring.calls == 0
    modify(cache, "one")
    with cache.transaction():
        modify(cache, "two")
    with cache.single_flight():
        modify(cache, "three")
    assert secrets_in(cache) == {"one", "two", "three"}
    assert ring.calls == 1


@pytest.mark.parametrize("times", [1, 2])
def test_a_callable_is_asked_before_the_lock_also_when_another_process_changed_the_key_meanwhile(
    location: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    ring, left = Ring(location, KEY), [OTHER, THIRD][:times]
    cache = PersistedTokenCache(EncryptedFilePersistence(location, ring))
    modify(cache, "one")
    prepare = EncryptedStore.prepare

    def prepared(store: EncryptedStore) -> None:
        prepare(store)
        if left:
            ring.keys = (left.pop(0), *ring.keys)
            text = EncryptedFilePersistence(location, Ring(location, *ring.keys[1:])).load()
            # With the newest key, as a process does that has seen it.
            EncryptedFilePersistence(location, Ring(location, *ring.keys)).save(text)

    monkeypatch.setattr(EncryptedStore, "prepare", prepared)
    modify(cache, "two")
    assert left == []
    monkeypatch.undo()
    newest = EncryptedFilePersistence(location, ring.keys[0])
    assert secrets_in(PersistedTokenCache(newest)) == {"one", "two"}


def test_a_callable_that_gives_the_new_key_is_asked_before_the_lock(location: Path) -> None:
    EncryptedFilePersistence(location, KEY).save("x")
    persistence = EncryptedFilePersistence(location, Ring(location, KEY))
    persistence.rekey(Ring(location, OTHER))
    assert EncryptedFilePersistence(location, OTHER).load() == "x"


def test_a_callable_that_does_not_have_the_key_is_not_asked_over_and_over(location: Path) -> None:
    EncryptedFilePersistence(location, KEY).save("x")
    ring = Ring(location, OTHER)
    persistence = EncryptedFilePersistence(location, ring)
    for _ in range(10):
        with pytest.raises(KeyWrong):
            persistence.load()
    assert ring.calls <= 2


class Failed(Exception):
    """Of a program's own callable."""


def test_what_a_callable_raises_arrives_unchanged(location: Path) -> None:
    raised = Failed("no network")

    def fail() -> bytes:
        raise raised

    EncryptedFilePersistence(location, KEY).save("{}")
    persistence = EncryptedFilePersistence(location, fail)
    cache = PersistedTokenCache(persistence)

    def in_transaction() -> None:
        with cache.transaction():
            pass

    before = location.read_bytes()
    uses: list[Callable[[], object]] = [
        persistence.load,
        lambda: persistence.save("{}"),
        lambda: modify(cache),
        lambda: list(cache.search("RefreshToken")),
        in_transaction,
        persistence.verify,
        persistence.rekey,
    ]
    for use in uses:
        with pytest.raises(Failed) as caught:
            use()
        assert caught.value is raised
    assert location.read_bytes() == before
    assert sorted(path.name for path in location.parent.iterdir()) == ["cache.bin"]
    assert not FileLock(f"{location}.lockfile").is_mine()


@pytest.mark.parametrize("part", ["line", "ciphertext"])
@pytest.mark.parametrize("kind", SOURCES)
def test_a_damaged_file_is_put_aside_whatever_the_source_is(
    location: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, part: str
) -> None:
    key = make_source(kind, tmp_path / "keys")
    EncryptedFilePersistence(location, key).save("{}")
    content = bytearray(location.read_bytes())
    content[30 if part == "line" else -1] ^= 1
    location.write_bytes(content)
    cache = PersistedTokenCache(EncryptedFilePersistence(location, key), on_unreadable="quarantine")
    modify(cache, "new")
    assert "was damaged and is empty now" in caplog.text
    assert secrets_in(PersistedTokenCache(EncryptedFilePersistence(location, key))) == {"new"}
