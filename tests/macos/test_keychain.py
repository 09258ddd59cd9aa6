"""KeychainPersistence and osx.Keychain, in Python, over the fake keychain.

Run by test_over_fakes.py with an extension module that has it, and not by itself.
"""

from __future__ import annotations

import copy
import os
import pickle
import sys
from pathlib import Path

import pytest

from msal_extensions import (
    KeychainPersistence,
    PersistedTokenCache,
    PersistenceError,
    PersistenceNotFound,
    build_encrypted_persistence,
)
from msal_extensions.osx import Keychain, KeychainError
from msal_extensions.persistence import _auto_hash

CODES = {
    -25308: "choose Always Allow",
    -25293: f"did not let {os.path.realpath(sys.executable)} have the item",
    -25320: "Power Nap",
    -128: "Always Allow",
    -67030: "codesign --force --sign",
    -67061: "codesign --force --sign",
    -67068: "start the program again",
    -60005: "refused the authorization",
    -60006: "wanted to make a keychain",
    -60007: "security create-keychain",
    -25307: "security default-keychain",
    -25294: "is missing",
    -25295: "is damaged",
    -25291: "before the user has logged in",
    -25292: "Library/Keychains",
    -61: "the directory that it is in",
    -34018: "not sandboxed",
    -25304: "Do it again",
    -67701: "Do it again",
    -2070: "log out and in again",
    -308: "restart the Mac",
}
DENIED = (-25308, -25293, -25320, -128, -67030, -67061, -67068, -60005, -60006, -60007, -25292, -61)
UNAVAILABLE = (-25307, -25294, -25295, -25291, -34018)
CALLS = {
    "save": "SecItemUpdate",
    "load": "SecItemCopyMatching",
    "delete": "SecItemDelete",
}


@pytest.fixture
def persistence(tmp_path: Path) -> KeychainPersistence:
    return KeychainPersistence(tmp_path / "signal", "service", str(tmp_path))


def use(persistence: KeychainPersistence, operation: str) -> None:
    if operation == "save":
        persistence.save("a secret")
    else:
        getattr(persistence, operation)()


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("code", [*CODES, -4])
def test_what_the_keychain_refuses_is_the_keychain_error_of_1_3_1_and_says_what_to_do(
    persistence: KeychainPersistence,
    operation: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    persistence.save("what was there before")
    monkeypatch.setenv("FAKE_KEYCHAIN", f"{CALLS[operation]}={code}")
    with pytest.raises(KeychainError) as caught:
        use(persistence, operation)
    error = caught.value
    assert error.exit_status == code
    assert error.errno is None
    assert isinstance(error, PersistenceError)
    assert not isinstance(error, PersistenceNotFound)
    assert isinstance(error, PermissionError) == (code in DENIED)
    assert isinstance(error, RuntimeError) == (code in UNAVAILABLE)
    assert f"The words for {code}. ({CALLS[operation]})" in str(error)
    assert f"[OSStatus {code}]" in error.message
    assert CODES.get(code, "") in str(error)
    assert "Service:service" in str(error)
    assert "a secret" not in str(error) + repr(error)
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(other), str(other), other.exit_status) == (type(error), str(error), code)
    monkeypatch.delenv("FAKE_KEYCHAIN")
    assert persistence.load() == "what was there before"


def test_the_class_of_1_3_1_is_made_and_caught_as_ever() -> None:
    codes = (
        KeychainError.ACCESS_DENIED,
        KeychainError.NO_SUCH_KEYCHAIN,
        KeychainError.NO_DEFAULT,
        KeychainError.ITEM_NOT_FOUND,
    )
    assert codes == (-128, -25294, -25307, -25300)
    for error in (KeychainError(-128), KeychainError(exit_status=-128)):
        assert isinstance(error, OSError)
        assert error.exit_status == -128
        assert "-128" in error.message


def test_the_item_is_that_of_1_3_1(tmp_path: Path) -> None:
    location = str(tmp_path / "signal")
    with Keychain() as keychain:
        keychain.set_generic_password("msal-extensions", _auto_hash(location), "written by 1.3.1")
    persistence = KeychainPersistence(location)
    assert (persistence._service_name, persistence._account_name) == (
        "msal-extensions",
        _auto_hash(location),
    )
    assert persistence.load() == "written by 1.3.1"
    persistence.save("é")
    assert Keychain().get_generic_password("msal-extensions", _auto_hash(location)) == "é"
    persistence.delete()


def test_an_item_that_is_not_there_is_told_as_1_3_1_did(persistence: KeychainPersistence) -> None:
    with pytest.raises(PersistenceNotFound, match="You can recover by call a save"):
        persistence.load()
    with pytest.raises(KeychainError) as caught, Keychain() as keychain:
        keychain.get_generic_password("service", "nobody")
    assert caught.value.exit_status == KeychainError.ITEM_NOT_FOUND
    assert not isinstance(caught.value, PersistenceNotFound)


def test_a_save_into_an_item_that_comes_and_goes_is_an_error_and_no_not_found(
    persistence: KeychainPersistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_KEYCHAIN", "SecItemAdd=-25300")
    with pytest.raises(KeychainError) as caught:
        persistence.save("a secret")
    assert caught.value.exit_status == -25300
    assert not isinstance(caught.value, PersistenceNotFound)


def test_names_that_would_select_other_items_are_refused(tmp_path: Path) -> None:
    keychain = Keychain()
    for service, account in (("", "a"), ("s", ""), ("s\0t", "a"), ("s", "a\0b")):
        with pytest.raises((KeychainError, ValueError)):
            keychain.get_generic_password(service, account)
        with pytest.raises((KeychainError, ValueError)):
            keychain.set_generic_password(service, account, "value")
    with pytest.raises(ValueError, match="default keychain"):
        Keychain("another.keychain")
    with pytest.raises(NotImplementedError):
        keychain.get_internet_password("service", "user")
    with pytest.raises(NotImplementedError):
        keychain.set_internet_password("service", "user", "value")


def test_the_encrypted_persistence_of_a_mac_is_the_keychain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    persistence = build_encrypted_persistence(str(tmp_path / "cache.bin"))
    assert isinstance(persistence, KeychainPersistence)
    assert persistence.is_encrypted
    persistence.verify()


def test_a_token_cache_over_the_keychain_sees_what_another_one_saved(tmp_path: Path) -> None:
    caches = [PersistedTokenCache(KeychainPersistence(tmp_path / "signal")) for _ in range(2)]
    for number, cache in enumerate(caches):
        entry = {"home_account_id": str(number), "environment": "e", "client_id": "c"}
        cache.modify("RefreshToken", entry, {"secret": "s"})
    for cache in caches:
        assert len(list(cache.search("RefreshToken"))) == 2
    KeychainPersistence(tmp_path / "signal").delete()
