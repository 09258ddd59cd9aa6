"""`clear`: what is named goes, whatever its state is, and nothing else does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from msal_extensions import (
    CrossPlatLock,
    EncryptedFilePersistence,
    FilePersistence,
    KeyFile,
    PersistedTokenCache,
)
from msal_extensions._command import clearing
from tests.support import keyring
from tests.support.capability import SYMBOLIC_LINKS, requires
from tests.support.key_sources import new_key
from tests.support.moving import (
    CANARY,
    clear,
    in_a_process,
    references_of,
    signed_in,
    with_canary,
)
from tests.support.processes import python
from tests.support.tokens import add_token

PRINCIPALS = json.dumps([{"client_id": "c", "tenant": "t", "client_secret": CANARY}]).encode()
SEALED = b"msalex-enc/"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return tmp_path / "cache.json"


@pytest.mark.parametrize(
    "content",
    [
        signed_in(2).encode(),
        signed_in(2).encode()[:-20],
        signed_in(2).encode() + b"}}",
        b'{"RefreshToken": {"x": 5}, "\xff": 1}',
        b"",
        b"{}",
        b"[]",
        PRINCIPALS,
    ],
)
def test_a_cache_in_plain_text_goes_also_when_it_is_damaged(plain: Path, content: bytes) -> None:
    plain.write_bytes(content)
    report = clear(f"plain:{plain}")
    assert references_of(report) == []
    assert len(report.done) == 1
    assert str(plain) in report.done[0]
    assert os.listdir(plain.parent) == []


@pytest.mark.parametrize(
    "content",
    [
        b"export PATH=/usr/bin\n",
        b'{"name": "a package", "version": "1.0.0"}',
        b'{"AccessToken": "of another program", "Account": "123456789012"}',
        b'[{"client_id": "c"}]',
        b'"RefreshToken"',
        b"5",
        SEALED + b"1 " + b"x" * 300,
        bytes.fromhex("01000000d08c9ddf0115d1118c7a00c04fc297eb") + b"x" * 100,
    ],
)
@pytest.mark.parametrize("kind", ["plain", "keyring", "encrypted", "dpapi"])
def test_a_file_of_something_else_stays(plain: Path, content: bytes, kind: str) -> None:
    if (kind == "encrypted" and content.startswith(SEALED)) or (
        kind == "dpapi" and content[:1] == b"\1"
    ):
        return
    plain.write_bytes(content)
    report = clear(f"{kind}:{plain}")
    assert references_of(report) == ["MSX-58" if kind == "encrypted" else "MSX-84"]
    assert report.done == []
    assert plain.read_bytes() == content


def test_a_directory_and_what_is_in_it_stay(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_text("{}")
    for kind in ("plain", "encrypted", "dpapi", "keyring"):
        report = clear(f"{kind}:{tmp_path}/d")
        assert references_of(report) == ["MSX-24"]
    assert (tmp_path / "d" / "file").exists()


@requires(SYMBOLIC_LINKS)
def test_a_link_to_a_file_of_something_else_stays_as_well(tmp_path: Path, plain: Path) -> None:
    other = tmp_path / "other"
    other.write_text("export PATH=/usr/bin\n")
    plain.symlink_to(other)
    assert references_of(clear(f"plain:{plain}")) == ["MSX-84"]
    assert plain.is_symlink()
    assert other.exists()


@requires("fcntl")
def test_a_file_whose_name_looks_like_a_place_of_az_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "az:notes"
    file.write_text("no cache")
    monkeypatch.chdir(tmp_path)
    assert references_of(clear("az:notes")) == ["MSX-84"]
    assert file.exists()


@pytest.mark.parametrize("damage", ["none", "header", "content", "cut off", "newer", "key is lost"])
def test_an_encrypted_file_goes_without_its_key_and_also_when_it_is_damaged(
    tmp_path: Path, damage: str
) -> None:
    key_file = new_key(tmp_path / "key")
    location = tmp_path / "caches" / "sealed.bin"
    EncryptedFilePersistence(location, KeyFile(key_file)).save(signed_in(1))
    content = bytearray(location.read_bytes())
    if damage == "header":
        content[len(SEALED) + 10] ^= 1
    elif damage == "content":
        content[-1] ^= 1
    elif damage == "cut off":
        del content[20:]
    elif damage == "newer":
        content[len(SEALED)] = ord("9")
    location.write_bytes(content)
    key_file.unlink()
    report = clear(f"encrypted:{location}")
    assert references_of(report) == []
    assert os.listdir(location.parent) == []


def test_the_copies_with_tokens_beside_it_go_and_those_of_other_caches_stay(plain: Path) -> None:
    for path in (plain, plain.with_name("other.json")):
        path.write_text("{" + CANARY)
        cache = PersistedTokenCache(FilePersistence(path), on_unreadable="quarantine")
        add_token(cache, CANARY)
        path.with_name(f"{path.name}.lost").write_text(CANARY)
    left = plain.with_name(".msalex-0123456789abcdef.tmp")
    left.write_text(CANARY)
    long_ago = left.stat().st_mtime - 3600
    os.utime(left, (long_ago, long_ago))
    plain.with_name("cache.json.damaged-by-hand").write_text("mine")
    report = clear(f"plain:{plain}")
    assert references_of(report) == []
    names = sorted(os.listdir(plain.parent))
    assert [name for name in names if not name.startswith("other.json")] == [
        "cache.json.damaged-by-hand"
    ]
    assert len(names) == 4
    assert set(with_canary(plain.parent)) == set(names[1:])


def test_copies_go_also_when_the_cache_itself_is_gone(plain: Path) -> None:
    plain.with_name("cache.json.lost").write_text(CANARY)
    assert references_of(clear(f"plain:{plain}")) == []
    assert os.listdir(plain.parent) == []


def test_a_place_with_nothing_is_a_warning_because_its_name_may_be_wrong(plain: Path) -> None:
    report = clear(f"plain:{plain}", f"encrypted:{plain.parent}/missing/x")
    assert references_of(report) == ["MSX-20", "MSX-20"]
    assert report.status() == 1
    assert os.listdir(plain.parent) == []


def test_it_asks_once_for_all_places_and_changes_nothing_without_a_yes(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text("{}")
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    names = [f"plain:{tmp_path / name}" for name in ("a", "b", "missing")]
    report = clear(*names, confirm=no)
    assert references_of(report) == ["MSX-20", "MSX-80"]
    assert report.status() == 2
    assert len(asked) == 1
    assert f"{names[0]}, {names[1]}?" in asked[0]
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_what_can_be_cleared_is_cleared_and_the_rest_is_reported(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text("{}")
    (tmp_path / "b").write_text("no cache")
    with CrossPlatLock(tmp_path / "c.lockfile"), ThreadPoolExecutor(1) as pool:
        names = [f"plain:{tmp_path}/{name}" for name in "abc"]
        report = pool.submit(partial(clear, *names, timeout=0.1)).result()
    assert [(it.reference.code, it.about) for it in report.findings] == [
        ("MSX-84", names[1]),
        ("MSX-60", names[2]),
    ]
    assert [name in report.done[0] for name in names] == [True, False, False]
    assert sorted(os.listdir(tmp_path)) == ["b", "c"]


def test_it_does_not_say_cleared_when_somebody_has_saved_meanwhile(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.write_text("{}")
    real = clearing._remove

    def remove(path: str) -> bool:
        removed = real(path)
        plain.write_text(CANARY)
        return removed

    monkeypatch.setattr(clearing, "_remove", remove)
    report = clear(f"plain:{plain}")
    assert references_of(report) == ["MSX-65"]
    assert report.done == []


def test_a_file_that_changes_while_a_person_is_asked_is_looked_at_again(plain: Path) -> None:
    plain.write_text("{}")

    def confirm(_: str) -> bool:
        plain.write_text("no cache any more")
        return True

    assert references_of(clear(f"plain:{plain}", confirm=confirm)) == ["MSX-84"]
    assert plain.exists()


# ---- keyrings ----------------------------------------------------------------------------

CLEAR = "clear(*sys.argv[1:])"
SAVE = """
import sys
from msal_extensions import *
LibsecretPersistence(sys.argv[1]).save(sys.argv[2])
"""


@pytest.fixture
def session(keyring_of: Callable[[str], keyring.Keyring]) -> keyring.Keyring:
    found = keyring_of("gnome-keyring")
    found.clear()
    return found


def fill(session: keyring.Keyring, tmp_path: Path, seals: bool) -> Path:
    """A keyring place with an item, a signal file and perhaps an encrypted file, whose key is
    gone."""
    signal = tmp_path / "caches" / "signal"
    python(SAVE, str(signal), CANARY, environment=session.environment)
    if seals:
        key_file = new_key(tmp_path / "key")
        EncryptedFilePersistence(f"{signal}.enc", KeyFile(key_file)).save(CANARY)
        key_file.unlink()
        (signal.parent / "signal.enc.lost").write_text("x")
    return signal


@requires("fcntl")
@pytest.mark.parametrize("seals", [False, True])
def test_a_keyring_place_loses_item_signal_file_and_encrypted_file(
    session: keyring.Keyring, tmp_path: Path, seals: bool
) -> None:
    """`az account clear` leaves the encrypted file."""
    signal = fill(session, tmp_path, seals)
    done, references = in_a_process(CLEAR, session.environment, f"keyring:{signal}")
    assert references == []
    assert len(done) == 1
    assert session.items() == []
    assert os.listdir(signal.parent) == []


@requires("fcntl")
@pytest.mark.parametrize("state", ["locked", "no bus"])
def test_a_keyring_that_cannot_be_reached_is_never_called_cleared(
    session: keyring.Keyring, tmp_path: Path, state: str
) -> None:
    signal = fill(session, tmp_path, seals=True)
    environment = dict(session.environment)
    if state == "no bus":
        environment["DBUS_SESSION_BUS_ADDRESS"] = "disabled:"
    else:
        session.lock_collection()
    try:
        done, references = in_a_process(CLEAR, environment, f"keyring:{signal}")
    finally:
        if state == "locked":
            session.unlock_collection()
    assert references == ["MSX-04" if state == "no bus" else "MSX-07"]
    assert "Nothing is left" not in str(done)
    assert f"{signal}.enc" in done[0]
    assert session.secrets() == [CANARY.encode()]
    assert os.listdir(signal.parent) == ["signal"], "the encrypted file could have been removed"


@requires("fcntl")
def test_where_nobody_has_used_a_keyring_none_need_be_there(tmp_path: Path) -> None:
    key_file = new_key(tmp_path / "key")
    sealed = tmp_path / "caches" / "signal.enc"
    EncryptedFilePersistence(sealed, KeyFile(key_file)).save(CANARY)
    environment = {"DBUS_SESSION_BUS_ADDRESS": "disabled:"}
    done, references = in_a_process(CLEAR, environment, f"keyring:{sealed.with_suffix('')}")
    assert references == []
    assert len(done) == 1
    assert os.listdir(sealed.parent) == []
