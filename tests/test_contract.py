"""The promises of every persistence, tested on every kind that this machine can offer."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from msal_extensions import (
    EncryptedFilePersistence,
    FilePersistence,
    FilePersistenceWithDataProtection,
    KeychainPersistence,
    LibsecretPersistence,
    PersistedTokenCache,
    PersistenceError,
    PersistenceNotFound,
)
from msal_extensions.persistence import BasePersistence
from tests.support import keyring
from tests.support.capability import cannot_exist_here
from tests.support.dictionary_store import DictionaryPersistence
from tests.support.key_sources import SOURCES, make_source
from tests.support.key_sources import own_keys as own_keys
from tests.support.own_persistences import Own

Make = Callable[[str], BasePersistence]

KINDS = ["file", "libsecret", "dpapi", "keychain", "dictionary", "own"]
KINDS += [f"encrypted-{source}" for source in SOURCES]


def need_store(make: Callable[[], BasePersistence], where: str) -> None:
    """Skips where the operating system does not have this store."""
    try:
        make()
    except PersistenceError:
        cannot_exist_here(f"the store exists on {where} only")


def in_a_file(persistence: BasePersistence) -> BasePersistence:
    """A store that is not a file has neither a time nor a signal file."""
    if isinstance(persistence, DictionaryPersistence):
        cannot_exist_here("a dictionary is in no file")
    return persistence


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes persistences of one kind; each name is another place."""
    kind: type[BasePersistence] = FilePersistence
    if request.param == "libsecret":
        service: keyring.Keyring = request.getfixturevalue("keyring_session")
        for name, value in service.variables.items():
            monkeypatch.setenv(name, value)
        kind = LibsecretPersistence
    elif request.param == "dpapi":
        need_store(lambda: FilePersistenceWithDataProtection(tmp_path / "probe"), "Windows")
        kind = FilePersistenceWithDataProtection
    elif request.param == "keychain":
        need_store(lambda: KeychainPersistence(tmp_path / "probe"), "macOS")
        kind = KeychainPersistence
    elif request.param == "dictionary":
        kind = DictionaryPersistence
    elif request.param == "own":
        kind = Own
    elif request.param.startswith("encrypted"):
        request.getfixturevalue("own_keys")
        key = make_source(request.param.removeprefix("encrypted-"), tmp_path / "keys")
        return lambda name: EncryptedFilePersistence(tmp_path / name, key)
    build: Callable[[Path], BasePersistence] = kind
    return lambda name: build(tmp_path / name)


def test_what_was_saved_is_loaded_by_this_object_and_by_another(make: Make) -> None:
    persistence = make("cache")
    for text in ("first", "", "é漢字🔑\r\n\t ", '{"AccessToken": {}}', "é" * 100_000):
        persistence.save(text)
        assert persistence.load() == text
        assert make("cache").load() == text
    persistence.delete()


def test_nothing_saved_is_not_found_and_is_no_file_not_found_error(make: Make) -> None:
    persistence = in_a_file(make("cache"))
    for use in (persistence.load, persistence.time_last_modified):
        with pytest.raises(PersistenceNotFound) as caught:
            use()
        assert caught.value.errno == 2
        assert not isinstance(caught.value, FileNotFoundError)


def test_two_places_do_not_share_their_content(make: Make) -> None:
    one, other = make("one"), make("other")
    one.save("of one")
    with pytest.raises(PersistenceNotFound):
        other.load()
    other.save("of the other")
    assert (one.load(), other.load()) == ("of one", "of the other")
    one.delete()
    assert other.load() == "of the other"
    other.delete()


def test_delete_removes_it_and_may_be_repeated(make: Make) -> None:
    persistence = in_a_file(make("cache"))
    persistence.delete()
    persistence.save("x")
    persistence.delete()
    persistence.delete()
    for use in (persistence.load, persistence.time_last_modified):
        with pytest.raises(PersistenceNotFound):
            use()
    assert not os.path.exists(persistence.get_location())


def test_the_time_of_the_last_change_is_now_after_a_save(make: Make) -> None:
    persistence = in_a_file(make("cache"))
    persistence.save("x")
    assert abs(persistence.time_last_modified() - time.time()) < 60
    before = persistence.time_last_modified()
    time.sleep(0.02)
    persistence.save("y")
    assert persistence.time_last_modified() > before
    persistence.delete()


def test_the_location_is_where_the_signal_file_is(make: Make, tmp_path: Path) -> None:
    persistence = in_a_file(make("cache"))
    assert persistence.get_location() == str(tmp_path / "cache")
    persistence.save("x")
    assert os.path.exists(persistence.get_location())
    persistence.delete()


def test_encrypted_means_that_the_file_does_not_hold_the_text(make: Make) -> None:
    persistence = in_a_file(make("cache"))
    persistence.save("the plain text")
    content = Path(persistence.get_location()).read_bytes()
    assert (b"the plain text" in content) != persistence.is_encrypted
    persistence.delete()


def test_verify_proves_the_store_and_leaves_no_trace(make: Make, tmp_path: Path) -> None:
    persistence = make("cache")
    persistence.save("the content")
    before = sorted(os.listdir(tmp_path))
    if isinstance(persistence, (DictionaryPersistence, Own)):
        with pytest.raises(NotImplementedError):  # it does not say how to make a probe
            persistence.verify()
        return
    persistence.verify()
    assert persistence.load() == "the content"
    assert sorted(os.listdir(tmp_path)) == before
    persistence.delete()


@pytest.mark.parametrize("content", [None, 5, b"bytes"])
def test_a_content_that_is_no_text_is_a_type_error(make: Make, content: str) -> None:
    with pytest.raises(TypeError):
        make("cache").save(content)


def test_a_secret_that_cannot_be_stored_is_not_in_the_error(make: Make) -> None:
    with pytest.raises((ValueError, PersistenceError)) as caught:
        make("cache").save("top secret \ud800")
    assert "top secret" not in repr(caught.value) + str(caught.value)


@pytest.mark.parametrize("location", [None, ""])
def test_a_missing_location_is_a_value_error(make: Make, location: str) -> None:
    persistence = make("cache")
    with pytest.raises(ValueError, match="Requires a file path"):
        type(persistence)(location)  # type: ignore[call-arg]


@pytest.mark.parametrize("make", ["libsecret", "keychain"], indirect=True)
def test_an_item_whose_signal_file_is_missing_is_added_to_and_not_replaced(make: Make) -> None:
    """azure-identity has two signal files for one item, and makes one of them later."""
    persistence = make("cache")
    entry = {"home_account_id": "1", "environment": "e", "client_id": "c"}
    PersistedTokenCache(persistence).modify("RefreshToken", entry, {"secret": "s"})
    os.unlink(persistence.get_location())
    cache = PersistedTokenCache(make("cache"))
    assert list(cache.search("RefreshToken")) == []  # a search asks no keyring for nothing
    cache.modify("RefreshToken", {**entry, "home_account_id": "2"}, {"secret": "s"})
    found = PersistedTokenCache(make("cache")).search("RefreshToken")
    assert {entry["home_account_id"] for entry in found} == {"1", "2"}
    make("cache").delete()


def test_token_caches_in_several_threads_share_it_without_loss(make: Make) -> None:
    def work(name: str) -> None:
        cache = PersistedTokenCache(make("cache"))
        for number in range(5):
            entry = {"home_account_id": f"{name}{number}", "environment": "e", "client_id": "c"}
            with cache.transaction(timeout=60):
                cache.modify("RefreshToken", entry, {"secret": "s"})

    workers = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = PersistedTokenCache(make("cache")).search("RefreshToken")
    assert {entry["home_account_id"] for entry in found} == {
        f"{name}{number}" for name in "abcd" for number in range(5)
    }
    make("cache").delete()
