"""Where there is no keyring: what is used in its place, and that the choice stays.

The keyrings are real ones on private buses, and so are the sessions without one.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import (
    EncryptedFilePersistence,
    FilePersistence,
    KeyUnavailable,
    LibsecretPersistence,
    PersistedTokenCache,
    PersistenceNotFound,
    PersistenceUnavailable,
    build_encrypted_persistence,
)
from tests.support import keyring
from tests.support import situations as s
from tests.support.capability import needs, requires
from tests.support.processes import PATIENCE

pytestmark = requires("fcntl")

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = "MSAL_EXTENSIONS_WITHOUT_KEYRING"
CANARY = "canary-51c0"
Construct = Callable[[str], Any]


@pytest.fixture(autouse=True)
def key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key file for every test, so that no test leaves keys in the kernel."""
    needs(None if sys.platform == "linux" else "the Secret Service exists on Linux only")
    file = tmp_path_factory.mktemp("keys") / "key"
    file.touch(0o600)
    file.write_bytes(os.urandom(32))
    monkeypatch.setenv("MSAL_EXTENSIONS_KEY_FILE", str(file))
    monkeypatch.delenv(VARIABLE, raising=False)
    return file


class Session:
    """Enters and leaves a session with a keyring."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
        self._monkeypatch, self._variables = monkeypatch, variables

    def on_a_desktop(self) -> None:
        for name, value in self._variables.items():
            self._monkeypatch.setenv(name, value)

    def over_ssh(self) -> None:
        for name in (*self._variables, "DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"):
            self._monkeypatch.delenv(name, raising=False)
        self._monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)


@pytest.fixture
def session(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Session:
    service: keyring.Keyring = request.getfixturevalue("keyring_session")
    made = Session(monkeypatch, dict(service.variables))
    made.over_ssh()
    return made


@pytest.fixture
def ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    Session(monkeypatch, {}).over_ssh()


def build(location: str) -> Any:
    return build_encrypted_persistence(location, without_keyring="encrypted_file")


def by_variable(location: str) -> Any:
    """As a program that knows nothing of all this."""
    os.environ[VARIABLE] = "encrypted_file"
    try:
        return LibsecretPersistence(location)
    finally:
        del os.environ[VARIABLE]


@pytest.fixture(params=[build, by_variable])
def construct(request: pytest.FixtureRequest) -> Construct:
    made: Construct = request.param
    return made


# ---- no keyring --------------------------------------------------------------------------


def test_without_a_policy_it_raises_as_1_3_1_and_makes_nothing(ssh: None, tmp_path: Path) -> None:
    for make in (build_encrypted_persistence, LibsecretPersistence):
        with pytest.raises(PersistenceUnavailable) as caught:
            make(str(tmp_path / "c"))
        assert isinstance(caught.value, RuntimeError)
    with pytest.raises(PersistenceUnavailable):
        build_encrypted_persistence(str(tmp_path / "c"), without_keyring="raise")
    assert os.listdir(tmp_path) == []


def test_the_encrypted_file_is_used_and_says_why_and_keeps_the_text(
    ssh: None, tmp_path: Path, construct: Construct, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="msal_extensions")
    location = str(tmp_path / "c")
    persistence = construct(location)
    assert persistence.is_encrypted
    assert persistence.choice.startswith(f"Encrypted file {location}.enc. There is no keyring: ")
    persistence.save(CANARY)
    assert construct(location).load() == CANARY
    assert construct(location).choice == f"Encrypted file {location}.enc. It exists already"
    assert CANARY.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    told = [record.getMessage() for record in caplog.records]
    assert [it for it in told if it.startswith(f"Encrypted file {location}")] == [
        persistence.choice, construct(location).choice,
    ]  # fmt: skip
    assert persistence.time_last_modified() == os.stat(location + ".enc").st_mtime
    persistence.verify()
    assert os.listdir(tmp_path) == ["c.enc"]


def test_both_ways_share_one_cache_and_one_lock(ssh: None, tmp_path: Path) -> None:
    location = str(tmp_path / "c")
    caches = [PersistedTokenCache(make(location)) for make in (build, by_variable)]
    entry = {"home_account_id": "h", "environment": "e", "client_id": "c"}
    for number, cache in enumerate(caches):
        entry["home_account_id"] = str(number)
        cache.modify("RefreshToken", entry, {"secret": str(number)})
    for cache in caches:
        assert {found["secret"] for found in cache.search("RefreshToken")} == {"0", "1"}
    assert len({cache._lock_location for cache in caches}) == 1


@pytest.mark.parametrize("value", ["plain_file", "yes"])
def test_a_variable_that_means_nothing_is_a_value_error(
    ssh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """No variable makes a program store plain text."""
    monkeypatch.setenv(VARIABLE, value)
    for make in (build_encrypted_persistence, LibsecretPersistence):
        with pytest.raises(ValueError, match="raise or encrypted_file"):
            make(str(tmp_path / "c"))


@pytest.mark.parametrize("value", ["", "raise"])
def test_the_program_decides_before_the_variable(
    ssh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    assert build(str(tmp_path / "c")).is_encrypted
    monkeypatch.setenv(VARIABLE, "encrypted_file")
    with pytest.raises(PersistenceUnavailable):
        build_encrypted_persistence(str(tmp_path / "d"), without_keyring="raise")


def test_plain_text_is_used_only_where_the_program_says_so(ssh: None, tmp_path: Path) -> None:
    plain = build_encrypted_persistence(str(tmp_path / "c"), without_keyring="plain_file")
    assert type(plain) is FilePersistence
    assert not plain.is_encrypted
    assert plain.choice.startswith(f"Plain file {tmp_path / 'c'}. There is no keyring: ")
    assert "choice" not in vars(FilePersistence(tmp_path / "c"))


def test_plain_text_never_takes_the_place_of_an_encrypted_file_whose_key_is_missing(
    ssh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(str(tmp_path / "c")).save("text")
    monkeypatch.delenv("MSAL_EXTENSIONS_KEY_FILE")
    with pytest.raises(KeyUnavailable, match="MSAL_EXTENSIONS_KEY_FILE"):
        build_encrypted_persistence(str(tmp_path / "c"), without_keyring="plain_file")
    assert os.listdir(tmp_path) == ["c.enc"]


def test_a_program_that_puts_a_class_in_the_place_of_ours_gets_what_that_makes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the tests of programs do, which know the one argument of 1.3.1."""
    monkeypatch.setattr("msal_extensions.persistence.LibsecretPersistence", lambda it: ("made", it))
    made: Any = build_encrypted_persistence(str(tmp_path / "c"))
    assert made == ("made", str(tmp_path / "c"))


def test_an_unknown_policy_is_a_value_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="encrypted_file"):
        build_encrypted_persistence(str(tmp_path / "c"), without_keyring="plain")  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["pickle", "copy", "deepcopy"])
def test_copies_read_the_same_file(
    ssh: None, tmp_path: Path, construct: Construct, what: str
) -> None:
    persistence = construct(str(tmp_path / "c"))
    persistence.save("text")
    copies: dict[str, Callable[[Any], Any]] = {
        "pickle": lambda it: pickle.loads(pickle.dumps(it)),
        "copy": copy.copy,
        "deepcopy": copy.deepcopy,
    }
    copied = copies[what](persistence)
    assert copied.load() == "text"
    assert copied.get_location() == persistence.get_location()


# ---- with and without a keyring -----------------------------------------------------------


def test_a_keyring_that_answers_is_used_where_no_file_exists(
    session: Session, tmp_path: Path, construct: Construct
) -> None:
    session.on_a_desktop()
    location = str(tmp_path / "c")
    persistence = construct(location)
    assert isinstance(persistence, LibsecretPersistence)
    assert persistence.get_location() == location
    assert build_encrypted_persistence(location).choice == "The keyring. It answers"
    persistence.save(CANARY)
    assert os.listdir(tmp_path) == ["c"]
    persistence.delete()


def test_a_file_that_exists_is_used_on_the_desktop_too(
    session: Session, tmp_path: Path, construct: Construct
) -> None:
    location = str(tmp_path / "c")
    construct(location).save("of the server")
    session.on_a_desktop()
    assert construct(location).load() == "of the server"
    assert build_encrypted_persistence(location).load() == "of the server"
    with pytest.raises(PersistenceNotFound):  # as 1.3.1: it knows of no file
        LibsecretPersistence(location).load()


@pytest.fixture
def beside(session: Session, tmp_path: Path, construct: Construct) -> Any:
    """A persistence without a keyring, beside what a keyring has."""
    session.on_a_desktop()
    LibsecretPersistence(str(tmp_path / "c")).save("in the keyring")
    session.over_ssh()
    persistence = construct(str(tmp_path / "c"))
    persistence.save("in the file")
    return persistence


def test_a_new_file_beside_what_a_keyring_has_warns_once_and_delete_removes_both(
    beside: Any, session: Session, tmp_path: Path, construct: Construct,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    location = str(tmp_path / "c")
    construct(location)
    told = [record.getMessage() for record in caplog.get_records("setup")]
    assert [location in it for it in told] == [True]
    assert not caplog.records
    session.on_a_desktop()
    construct(location).delete()
    assert os.listdir(tmp_path) == []
    with pytest.raises(PersistenceNotFound):
        LibsecretPersistence(location).load()


def test_delete_without_the_keyring_says_what_stays_there(
    beside: Any, session: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    beside.delete()
    assert ["stays" in record.getMessage() for record in caplog.records] == [True]
    assert os.listdir(tmp_path) == ["c"]
    session.on_a_desktop()
    LibsecretPersistence(str(tmp_path / "c")).delete()


def test_delete_in_the_keyring_removes_the_file_too(session: Session, tmp_path: Path) -> None:
    location = str(tmp_path / "c")
    build(location).save("in the file")
    session.on_a_desktop()
    other = tmp_path / "other.enc"
    other.write_text("of somebody else")
    for name in ("c", "other"):
        persistence = LibsecretPersistence(str(tmp_path / name))
        persistence.save("in the keyring")
        persistence.delete()
    assert os.listdir(tmp_path) == ["other.enc"]


# ---- locked or slow is not "none" ----------------------------------------------------------

PROGRAM = """
import json, sys
from msal_extensions import LibsecretPersistence, build_encrypted_persistence
ways = {
    "build": lambda it: build_encrypted_persistence(it, without_keyring="encrypted_file"),
    "variable": LibsecretPersistence,
}
try:
    made = ways[sys.argv[1]](sys.argv[2])
    print(json.dumps([made.choice or "The keyring. It answers"]))
except Exception as error:
    print(json.dumps([kind.__name__ for kind in type(error).__mro__]))
"""


@pytest.mark.parametrize("way", ["build", "variable"])
@pytest.mark.parametrize(
    ("enter", "expected"),
    [
        (s.no_variables, "file"),
        (s.dead_socket, "file"),
        (s.no_service, "file"),
        (s.fake(locked=True), "KeyringLocked"),
        (s.fake(silent=["OpenSession"]), "KeyringTimeout"),
        (s.fake(), "The keyring. It answers"),
    ],
    ids=["no bus", "dead bus", "no service", "locked", "silent", "answers"],
)
def test_only_a_keyring_that_is_not_there_is_replaced(
    enter: s.Enter, expected: str, way: str, tmp_path: Path
) -> None:
    needs(keyring.missing())
    location = tmp_path / "cache" / "c"
    location.parent.mkdir()
    with enter(tmp_path) as situation:
        for exists in (False, True):
            if exists:
                EncryptedFilePersistence(f"{location}.enc").save("text")
                expected = "file"
            done = subprocess.run(
                situation.command([sys.executable, "-c", PROGRAM, way, str(location)]),
                env={**situation.environment, VARIABLE: "encrypted_file"},
                cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True,
            )  # fmt: skip
            told = json.loads(done.stdout)
            if expected == "file":
                assert told[0].startswith(f"Encrypted file {location}.enc. ")
            else:
                assert expected in told
                assert os.listdir(location.parent) == []
