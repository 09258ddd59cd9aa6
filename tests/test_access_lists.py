"""Modes and access lists: a save never lets anybody read a cache that could not read it before.

With an access list the group bits of a file's mode are the list's mask, so the mode alone does not
say what the group may do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from msal_extensions import FilePersistence, PersistedTokenCache
from tests.support.capability import needs
from tests.support.users import (
    GROUP,
    NAMED,
    ROOT,
    THEM,
    US,
    Reference,
    as_user,
    directory,
    file,
    may_read,
    rights,
)
from tests.support.users import reference as reference
from tests.support.users import shared as shared

pytest.importorskip("fcntl")

#: The groups of US here; THEM is in this group as well.
MEMBER = [GROUP]

LISTS = {
    "a reader": f"u:{NAMED}:r",
    "a writer": f"u:{NAMED}:rw",
    "a group": f"g:{NAMED}:r",
    "a reader, and the group may read": f"u:{NAMED}:r,g::r",
    "a reader that the mask stops": f"u:{NAMED}:r,m::-",
    "a stranger to whom the group's right is denied": f"u:{NAMED}:-,g::r",
}
NARROWED = {
    0o600: 0o600,
    0o640: 0o640,
    0o660: 0o660,
    0o644: 0o640,
    0o666: 0o660,
    0o606: 0o600,
    0o700: 0o600,
    0o777: 0o660,
    0o2660: 0o660,
    0o4755: 0o640,
    0o6777: 0o660,
}

savers = pytest.mark.parametrize("saver", [ROOT, US], ids=["root", "user"])


def set_list(path: Path, entries: str, *options: str) -> None:
    needs(None if shutil.which("setfacl") else "setfacl is not installed (Debian: acl)")
    done = subprocess.run(
        ["setfacl", *options, "-m", entries, path], capture_output=True, text=True, check=False
    )
    unsupported = "not supported" in done.stderr
    needs(f"no access lists in {path.parent}" if unsupported else None)
    assert done.returncode == 0, done.stderr


def list_of(path: Path) -> list[str]:
    command = ["getfacl", "--omit-header", "--numeric", "--absolute-names", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split("\n")


def inherited_by_all(path: Path) -> Path:
    """A directory of US with a default access list, by which NAMED may read new files as far as
    their mask allows it."""
    made = directory(path, US, 0o755, GROUP)
    set_list(made, f"u:{NAMED}:r", "--default")
    return made


def save(saver: int, location: Path, text: str = "tokens") -> None:
    as_user(saver, lambda: FilePersistence(location).save(text), [GROUP])


@savers
@pytest.mark.parametrize("entries", LISTS.values(), ids=LISTS.keys())
def test_an_access_list_stays_as_it_is(shared: Path, saver: int, entries: str) -> None:
    home = directory(shared / "home", US, 0o755)
    location = file(home / "cache.bin", "old", US, 0o600, GROUP)
    set_list(location, entries)
    before = list_of(location)
    save(saver, location)
    assert list_of(location) == before
    assert location.read_text() == "tokens"


@savers
@pytest.mark.parametrize("entries", LISTS.values(), ids=LISTS.keys())
def test_nobody_gains_the_right_to_read_a_cache(shared: Path, saver: int, entries: str) -> None:
    home = directory(shared / "home", US, 0o755)
    location = file(home / "cache.bin", "old", US, 0o600, GROUP)
    set_list(location, entries)
    readers = {"member": (THEM, MEMBER), "named": (NAMED, []), "named too": (NAMED, MEMBER)}

    def admitted() -> dict[str, bool]:
        return {who: may_read(user, location, of) for who, (user, of) in readers.items()}

    before = admitted()
    save(saver, location)
    assert admitted() == before


@savers
@pytest.mark.parametrize("entries", [None, f"u:{THEM}:r"], ids=["no list", "a list"])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660], ids=oct)
def test_the_list_that_a_directory_hands_down_admits_nobody_to_an_old_file(
    shared: Path, saver: int, mode: int, entries: str | None
) -> None:
    home = directory(shared / "home", US, 0o755, GROUP)
    location = file(home / "cache.bin", "old", US, mode, GROUP)
    set_list(home, f"u:{NAMED}:r", "--default")  # the list came after the file
    if entries is not None:
        set_list(location, entries)
    before = list_of(location)
    save(saver, location)
    assert list_of(location) == before
    assert not may_read(NAMED, location)
    assert may_read(THEM, location, MEMBER) == (mode != 0o600 or entries is not None)


def test_the_list_that_a_directory_hands_down_admits_nobody_to_a_new_file(shared: Path) -> None:
    home = inherited_by_all(shared / "home")
    save(US, home / "cache.bin")
    save(US, home / "cache.bin")
    assert rights(home / "cache.bin") == (US, US, 0o600)
    assert not may_read(NAMED, home / "cache.bin")
    assert list_of(home / "cache.bin") == ["user::rw-", "group::---", "other::---", "", ""]


def test_the_list_that_a_directory_hands_down_admits_nobody_to_evidence(shared: Path) -> None:
    home = inherited_by_all(shared / "home")
    location = file(home / "cache.bin", "damaged", US, 0o640, GROUP)

    def search() -> None:
        cache = PersistedTokenCache(FilePersistence(location), on_unreadable="quarantine")
        assert list(cache.search(cache.CredentialType.REFRESH_TOKEN)) == []

    as_user(US, search, [GROUP])
    [evidence] = home.glob("cache.bin.damaged-*")
    assert evidence.read_text() == "damaged"
    assert not may_read(NAMED, evidence)
    assert not may_read(THEM, evidence, MEMBER)


@savers
@pytest.mark.parametrize(("mode", "after"), NARROWED.items(), ids=map(oct, NARROWED))
def test_a_save_keeps_of_the_mode_what_owner_and_group_may_read_and_write(
    shared: Path, saver: int, mode: int, after: int
) -> None:
    home = directory(shared / "home", US, 0o755)
    location = file(home / "cache.bin", "old", US, mode, GROUP)
    save(saver, location)
    assert rights(location) == (US, GROUP, after)


@pytest.mark.parametrize("mode", [0o640, 0o660, 0o666], ids=oct)
def test_a_group_that_cannot_be_kept_loses_its_rights(shared: Path, mode: int) -> None:
    """Otherwise the group of US would gain these rights."""
    home = directory(shared / "home", US, 0o755)
    location = file(home / "cache.bin", "old", US, mode, GROUP)
    as_user(US, lambda: FilePersistence(location).save("tokens"))  # US is not in that group
    assert rights(location) == (US, US, 0o600)


@pytest.mark.parametrize("entries", LISTS.values(), ids=LISTS.keys())
def test_a_list_of_a_group_that_cannot_be_kept_gives_ours_nothing(
    shared: Path, entries: str
) -> None:
    home = directory(shared / "home", US, 0o755)
    location = file(home / "cache.bin", "old", US, 0o600, GROUP)
    set_list(location, entries)
    named = may_read(NAMED, location)
    as_user(US, lambda: FilePersistence(location).save("tokens"))  # US is not in that group
    assert rights(location)[:2] == (US, US)
    assert not may_read(THEM, location, [US])
    assert not may_read(NAMED, location, [US]) or named
    assert not may_read(NAMED, location) or named


def test_what_1_3_1_does_is_on_record(shared: Path, reference: Reference) -> None:
    """1.3.1 writes in place, so it keeps lists and modes.  The results are printed; the test only
    asserts that there is a result."""
    print("1.3.1:")
    for name, entries in LISTS.items():
        home = directory(shared / name, US, 0o755)
        location = file(home / "cache.bin", "old", US, 0o600, GROUP)
        set_list(location, entries)
        before = list_of(location)
        answer = reference.attempt(US, "save", location, [GROUP])
        print(f"  {name}: {answer}, the list is", "kept" if list_of(location) == before else "lost")
        assert answer.startswith("save")
    for mode in NARROWED:
        home = directory(shared / oct(mode), US, 0o755)
        location = file(home / "cache.bin", "old", US, mode, GROUP)
        answer = reference.attempt(US, "save", location, [GROUP])
        print(f"  {mode:04o}: {answer}, then {rights(location)[2]:04o}")
        assert os.listdir(home) == ["cache.bin"]
