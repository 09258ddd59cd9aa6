"""What never shows the key of an encrypted file: objects, copies, pickles, logs, crash reports."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import msal_extensions
from msal_extensions import (
    CommandKey,
    CredentialKey,
    EncryptedFilePersistence,
    KernelKey,
    KeyFile,
    KeyUnavailable,
    KeyWrong,
    PersistedTokenCache,
    PersistenceError,
)
from msal_extensions._stores import envelope
from msal_extensions.encrypted import Key
from tests.support.key_sources import SOURCES, key_of, make_source, text_of, write_key
from tests.support.key_sources import own_keys as own_keys

KEY, OTHER = (bytes(range(start, start + 32)) for start in (1, 101))
KEY_FILE = "MSAL_EXTENSIONS_KEY_FILE"
PACKAGE = os.path.dirname(msal_extensions.__file__)
ENTRY = {"home_account_id": "h", "environment": "e", "client_id": "c"}

pytestmark = pytest.mark.usefixtures("own_keys")


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin"


def shows(key: bytes, said: str) -> bool:
    return any(it in said for it in (repr(key)[2:20], key.hex(), text_of(key), text_of(key)[:30]))


def shown(thing: object) -> str:
    """All that a debugger, a log or a crash report shows of an object, and its pickle."""
    said = repr(thing) + str(thing) + repr(getattr(thing, "args", ""))
    try:
        said += repr(pickle.dumps(thing))
    except Exception as error:
        said += "".join(traceback.format_exception(error))
    return said


@pytest.mark.parametrize("kind", SOURCES)
def test_no_object_shows_a_key(
    location: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source = make_source(kind, tmp_path / "keys")
    persistence = EncryptedFilePersistence(location, source)
    cache = PersistedTokenCache(persistence)
    cache.modify("RefreshToken", ENTRY, {"secret": "s"})
    vault = persistence._vault
    (key,) = vault._keys.values()
    text, version = vault.open(location.read_bytes(), b"", str(location))
    with pytest.raises(KeyWrong) as wrong:
        EncryptedFilePersistence(location, OTHER).load()
    sealed = envelope.parse(location.read_bytes(), str(location))
    things = [persistence, vault, persistence._store, cache, text, version, sealed, sealed.header]
    things += [vault.source, wrong.value, *([source] if kind not in ("given", "callable") else [])]
    # The arguments of a command may be seen; the one of this test has its key there.
    argument = text_of(key) if kind == "command" else ""
    said = "".join(map(shown, things)) + caplog.text
    assert not shows(key, said.replace(argument, "") if argument else said)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_reads_and_writes_the_same_file(
    location: Path, tmp_path: Path, kind: str, copied: Callable[[Any], Any]
) -> None:
    persistence = EncryptedFilePersistence(location, make_source(kind, tmp_path / "keys"))
    early = copied(persistence)
    persistence.save("one")
    late = copied(persistence)
    assert (early.load(), late.load()) == ("one", "one")
    late.save("two")
    early.save("three")
    assert persistence.load() == "three"
    assert early.protection is persistence.protection


@pytest.mark.parametrize("kind", SOURCES)
def test_a_persistence_can_be_pickled_unless_the_program_gave_the_key(
    location: Path, tmp_path: Path, kind: str
) -> None:
    source = make_source(kind, tmp_path / "keys")
    persistence = EncryptedFilePersistence(location, source, name="n", on_lost_key="quarantine")
    persistence.save("x")
    if kind in ("given", "callable"):
        with pytest.raises(TypeError, match="cannot be pickled") as caught:
            pickle.dumps(persistence)
        assert not shows(KEY, str(caught.value))
        return
    pickled = pickle.dumps(persistence)
    assert key_of(tmp_path / "keys") not in pickled
    again = pickle.loads(pickled)
    assert again.load() == "x"
    again.save("y")
    assert persistence.load() == "y"


def test_a_persistence_with_the_default_source_asks_anew_where_it_is_unpickled(
    location: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_FILE, str(write_key(tmp_path / "keys" / "key", KEY)))
    pickled = pickle.dumps(EncryptedFilePersistence(location))
    monkeypatch.setenv(KEY_FILE, str(write_key(tmp_path / "others" / "key", OTHER)))
    pickle.loads(pickled).save("x")
    assert EncryptedFilePersistence(location, OTHER).load() == "x"


@pytest.mark.parametrize(
    "source",
    [KeyFile("/run/key"), CommandKey(["pass"]), CredentialKey(), KernelKey()],
    ids=lambda source: source.word,
)
def test_a_source_without_keys_of_its_own_can_be_copied_and_pickled(source: Key) -> None:
    again = pickle.loads(pickle.dumps(source))
    for other in (again, copy.copy(source), copy.deepcopy(source)):
        assert type(other) is type(source)
        assert vars(other) == vars(source)


def keys_in_locals(error: BaseException, key: bytes) -> list[str]:
    """The locals in a crash report that hold the key, but for those that look like secrets."""
    found = []
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename.startswith(PACKAGE):
            for name, value in frame.f_locals.items():
                if name != "secret" and repr(key)[2:20] in repr(value):
                    found.append(f"{frame.f_code.co_name}: {name}")
    return found


def test_a_crash_report_with_the_locals_of_a_key_file_has_no_key(tmp_path: Path) -> None:
    path = write_key(tmp_path / "key", KEY)
    path.write_text(text_of(KEY) + "\nno key\n")
    with pytest.raises(KeyUnavailable) as caught:
        KeyFile(path).ring()
    assert keys_in_locals(caught.value, KEY) == []


@pytest.mark.parametrize("damage", ["another key", "another id", "another name", "a flipped bit"])
def test_a_crash_report_with_the_locals_of_a_load_has_no_key(location: Path, damage: str) -> None:
    sealer = {"mine": OTHER} if damage == "another key" else {"mine": KEY}
    if damage == "another id":
        sealer = {"another": OTHER}
    name = "another" if damage == "another name" else None
    EncryptedFilePersistence(location, sealer, name=name).save("x")
    if damage == "a flipped bit":
        location.write_bytes(location.read_bytes()[:-1] + b"x")
    persistence = EncryptedFilePersistence(location, lambda: {"mine": KEY})
    with pytest.raises(PersistenceError) as caught:
        persistence.load()
    assert keys_in_locals(caught.value, KEY) == []


@pytest.mark.parametrize("key", [KEY, b"/" + KEY[:31], bytes(range(224, 256))])
@pytest.mark.parametrize("by_variable", [True, False])
def test_a_key_in_the_place_of_the_path_of_its_file_is_refused_and_never_shown(
    by_variable: bool, key: bytes, location: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It happens with environment variables.  Base64 has slashes, so a key may look like a path."""
    monkeypatch.chdir(location.parent)
    monkeypatch.setenv(KEY_FILE, text_of(key))
    with pytest.raises(KeyUnavailable, match="This is a key") as caught:
        EncryptedFilePersistence(location) if by_variable else KeyFile(text_of(key))
    said = shown(caught.value) + repr(vars(caught.value))
    assert not shows(key, said + "".join(traceback.format_exception(caught.value)))


def test_a_file_may_have_a_name_that_could_be_a_key(tmp_path: Path) -> None:
    path = write_key(tmp_path / text_of(bytes(32)), KEY)
    assert list(KeyFile(path).ring().values()) == [KEY]
