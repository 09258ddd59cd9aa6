"""`rekey`: an encrypted file gets a new key, and nothing else is touched."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from msal_extensions import CrossPlatLock, EncryptedFilePersistence, KeyFile, KeyWrong
from msal_extensions._command import actions
from msal_extensions._command.report import Report
from tests.support.capability import FILE_MODES, requires
from tests.support.key_sources import new_key, write_key
from tests.support.moving import CANARY, new_report, place, references_of, without_looks


def rekey(name: str, new_key_file: object = "", key_file: object = "") -> Report:
    report = new_report("rekey")
    asked = place(name, key_file=str(key_file or ""), timeout=0.5)
    with without_looks():
        actions.rekey(report, asked, str(new_key_file or ""))
    return report


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return new_key(tmp_path / "keys" / "old"), new_key(tmp_path / "keys" / "new")


@pytest.fixture
def location(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    found = tmp_path / "caches" / "cache.enc"
    EncryptedFilePersistence(found, KeyFile(keys[0])).save(CANARY)
    return found


@pytest.mark.parametrize("kind", ["encrypted", "keyring"])
def test_the_file_opens_with_the_new_key_and_no_longer_with_the_old_one(
    location: Path, keys: tuple[Path, Path], kind: str
) -> None:
    name = {"encrypted": location, "keyring": location.with_suffix("")}[kind]
    report = rekey(f"{kind}:{name}", keys[1], keys[0])
    assert references_of(report) == []
    assert str(keys[1]) in report.done[0]
    assert EncryptedFilePersistence(location, KeyFile(keys[1])).load() == CANARY
    with pytest.raises(KeyWrong):
        EncryptedFilePersistence(location, KeyFile(keys[0])).load()
    assert os.listdir(location.parent) == ["cache.enc"]


def test_without_a_new_file_the_first_key_of_the_same_source_is_used(
    location: Path, keys: tuple[Path, Path]
) -> None:
    old, before = keys[0].read_bytes(), location.read_bytes()
    assert references_of(rekey(f"encrypted:{location}", key_file=keys[0])) == ["MSX-50"]
    assert location.read_bytes() == before
    keys[0].write_bytes(keys[1].read_bytes() + old)
    assert references_of(rekey(f"encrypted:{location}", key_file=keys[0])) == []
    assert EncryptedFilePersistence(location, KeyFile(keys[1])).load() == CANARY


@pytest.mark.parametrize("new", ["the same", "missing"])
def test_a_new_key_that_is_none_changes_nothing(
    location: Path, keys: tuple[Path, Path], new: str
) -> None:
    before = location.read_bytes()
    file = {"the same": keys[0], "missing": keys[0].with_name("x")}[new]
    report = rekey(f"encrypted:{location}", file, keys[0])
    assert references_of(report) == ["MSX-50"]
    assert report.done == []
    assert location.read_bytes() == before


@requires(FILE_MODES)
def test_a_new_key_that_others_may_change_is_not_used(
    location: Path, keys: tuple[Path, Path]
) -> None:
    before = location.read_bytes()
    keys[1].chmod(0o666)
    assert references_of(rekey(f"encrypted:{location}", keys[1], keys[0])) == ["MSX-51"]
    assert location.read_bytes() == before


def test_a_place_of_another_kind_is_a_clear_problem(
    tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    plain = tmp_path / "plain"
    plain.write_text("{}")
    for kind in ("plain", "dpapi"):
        assert references_of(rekey(f"{kind}:{plain}", keys[1], keys[0])) == ["MSX-85"]
    assert references_of(rekey(f"encrypted:{plain}", keys[1], keys[0])) == ["MSX-58"]
    assert references_of(rekey(f"encrypted:{tmp_path}/x", keys[1], keys[0])) == ["MSX-20"]
    plain.write_text("")
    assert references_of(rekey(f"keyring:{plain}", keys[1], keys[0])) == ["MSX-85"]
    assert sorted(os.listdir(tmp_path)) == ["keys", "plain"]


def test_it_waits_for_the_lock_no_longer_than_the_timeout(
    location: Path, keys: tuple[Path, Path]
) -> None:
    with CrossPlatLock(f"{location}.lockfile"), ThreadPoolExecutor(1) as pool:
        report = pool.submit(rekey, f"encrypted:{location}", keys[1], keys[0]).result()
    assert references_of(report) == ["MSX-60"]
    assert EncryptedFilePersistence(location, KeyFile(keys[0])).load() == CANARY


def test_other_keys_of_the_new_file_do_not_matter(location: Path, keys: tuple[Path, Path]) -> None:
    write_key(keys[1], os.urandom(32), os.urandom(32))
    assert references_of(rekey(f"encrypted:{location}", keys[1], keys[0])) == []
    assert EncryptedFilePersistence(location, KeyFile(keys[1])).load() == CANARY
