"""Links: a save, load, touch or delete follows a link only if its owner gains nothing.

"We" are root and an ordinary user in turn.  csrc/place_posix.h has the rules.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from msal_extensions import (
    CrossPlatLock,
    FilePersistence,
    LockError,
    PersistedTokenCache,
    PersistenceDenied,
    PersistenceError,
    PersistenceNotFound,
)
from tests.support.users import (
    ROOT,
    THEM,
    THIRD,
    US,
    Reference,
    as_user,
    directory,
    file,
    link,
    rights,
    state,
    tree,
)
from tests.support.users import reference as reference
from tests.support.users import shared as shared

pytest.importorskip("fcntl")

ENTRY = {
    "home_account_id": "account",
    "environment": "login.example",
    "client_id": "client",
    "secret": "refresh-token",
}


class Way(NamedTuple):
    """The location of a save, and the file that it leads to."""

    location: Path
    target: Path


Layout = Callable[[Path, int], Way]


def home_of(top: Path, us: int) -> Path:
    return directory(top / "home", us, 0o700)


# ---- links that are followed ---------------------------------------------------------------


def our_link(top: Path, us: int) -> Way:
    home = home_of(top, us)
    dotfiles = directory(home / "dotfiles", us, 0o700)
    target = file(dotfiles / "cache.bin", "old", us, 0o600)
    return Way(link(home / "cache.bin", "dotfiles/cache.bin", us), target)


def our_linked_directory(top: Path, us: int) -> Way:
    home = home_of(top, us)
    dotfiles = directory(home / "dotfiles", us, 0o700)
    target = file(dotfiles / "cache.bin", "old", us, 0o600)
    return Way(link(home / ".azure", dotfiles, us) / "cache.bin", target)


def our_link_in_a_sticky_directory(top: Path, us: int) -> Way:
    target = file(home_of(top, us) / "cache.bin", "old", us, 0o600)
    sticky = directory(top / "tmp", ROOT, 0o1777)
    return Way(link(sticky / "cache.bin", target, us), target)


def roots_link(top: Path, us: int) -> Way:
    target = file(home_of(top, us) / "real.bin", "old", us, 0o600)
    return Way(link(top / "cache.bin", target, ROOT), target)


def roots_link_above(top: Path, us: int) -> Way:
    """/home -> var/home"""
    home = directory(
        directory(directory(top / "var", ROOT, 0o755) / "home", ROOT, 0o755) / "us", us, 0o700
    )
    link(top / "home", "var/home", ROOT)
    return Way(top / "home" / "us" / "cache.bin", file(home / "cache.bin", "old", us, 0o600))


def kubernetes_volume(top: Path, us: int) -> Way:
    volume = directory(top / "volume", ROOT, 0o1777)
    version = directory(volume / "..2026_11_24", us, 0o755)
    target = file(version / "cache.bin", "old", us, 0o600)
    link(volume / "..data", "..2026_11_24", ROOT)
    return Way(link(volume / "cache.bin", "..data/cache.bin", ROOT), target)


def their_link_to_their_own_file(top: Path, us: int) -> Way:
    """As with sudo and the user's HOME, and on file systems where all files belong to another
    user."""
    theirs = directory(top / "theirs", THEM, 0o755)
    target = file(theirs / "real.bin", "old", THEM, 0o666)
    return Way(link(theirs / "cache.bin", "real.bin", THEM), target)


def their_link_to_their_own_directory(top: Path, us: int) -> Way:
    theirs = directory(top / "theirs", THEM, 0o755)
    real = directory(theirs / "real", THEM, 0o777)
    target = file(real / "cache.bin", "old", THEM, 0o666)
    return Way(link(theirs / ".azure", real, THEM) / "cache.bin", target)


def their_link_in_their_own_sticky_directory(top: Path, us: int) -> Way:
    theirs = directory(top / "theirs", THEM, 0o1777)
    real = directory(top / "real", THEM, 0o755)
    target = file(real / "cache.bin", "old", THEM, 0o666)
    return Way(link(theirs / "cache.bin", target, THEM), target)


FOLLOWED: list[Layout] = [
    our_link,
    our_linked_directory,
    our_link_in_a_sticky_directory,
    roots_link,
    roots_link_above,
    kubernetes_volume,
    their_link_to_their_own_file,
    their_link_to_their_own_directory,
    their_link_in_their_own_sticky_directory,
]
LINKED_DIRECTORIES: list[Layout] = [
    our_linked_directory,
    roots_link_above,
    their_link_to_their_own_directory,
]

# ---- links that are refused ----------------------------------------------------------------


def precious(top: Path, us: int) -> Path:
    return file(home_of(top, us) / "precious", "precious", us, 0o644)


def to_our_file(top: Path, us: int) -> Way:
    theirs = directory(top / "theirs", THEM, 0o755)
    target = precious(top, us)
    return Way(link(theirs / "cache.bin", target, THEM), target)


def to_our_directory(top: Path, us: int) -> Way:
    theirs = directory(top / "theirs", THEM, 0o755)
    target = precious(top, us)
    return Way(link(theirs / "linked", target.parent, THEM) / "precious", target)


def to_our_directory_in_two_steps(top: Path, us: int) -> Way:
    """The first link leads to something that its owner owns: the second link."""
    theirs = directory(top / "theirs", THEM, 0o755)
    target = precious(top, us)
    link(theirs / "second", target.parent, THEM)
    return Way(link(theirs / "first", "second", THEM) / "precious", target)


def to_a_new_file_in_our_directory(top: Path, us: int) -> Way:
    theirs = directory(top / "theirs", THEM, 0o755)
    target = precious(top, us)
    return Way(link(theirs / "linked", target.parent, THEM) / "new.bin", target)


def to_nothing_in_our_directory(top: Path, us: int) -> Way:
    theirs = directory(top / "theirs", THEM, 0o755)
    target = precious(top, us)
    return Way(link(theirs / "cache.bin", target.parent / "new.bin", THEM), target)


def to_our_file_from_a_sticky_directory(top: Path, us: int) -> Way:
    sticky = directory(top / "tmp", ROOT, 0o1777)
    target = precious(top, us)
    return Way(link(sticky / "cache.bin", target, THEM), target)


def to_our_file_from_their_own_sticky_directory(top: Path, us: int) -> Way:
    sticky = directory(top / "theirs", THEM, 0o1777)
    target = precious(top, us)
    return Way(link(sticky / "cache.bin", target, THEM), target)


def to_their_file_from_a_sticky_directory(top: Path, us: int) -> Way:
    sticky = directory(top / "tmp", ROOT, 0o1777)
    theirs = directory(top / "theirs", THEM, 0o755)
    target = file(theirs / "open.bin", "{}", THEM, 0o666)
    return Way(link(sticky / "cache.bin", target, THEM), target)


def to_our_file_from_an_open_directory(top: Path, us: int) -> Way:
    open_to_all = directory(top / "open", ROOT, 0o777)
    target = precious(top, us)
    return Way(link(open_to_all / "cache.bin", target, THEM), target)


def to_a_third_ones_file(top: Path, us: int) -> Way:
    theirs = directory(top / "theirs", THEM, 0o755)
    third = directory(top / "third", THIRD, 0o777)
    target = file(third / "file.bin", "{}", THIRD, 0o666)
    return Way(link(theirs / "cache.bin", target, THEM), target)


def to_a_third_ones_file_in_their_own_directory(top: Path, us: int) -> Way:
    """Such as one that the third user may no longer reach, or another name of it."""
    theirs = directory(top / "theirs", THEM, 0o755)
    target = file(theirs / "file.bin", "{}", THIRD, 0o666)
    return Way(link(theirs / "cache.bin", target, THEM), target)


def by_a_link_of_ours_to_a_link_of_theirs(top: Path, us: int) -> Way:
    theirs = directory(top / "theirs", THEM, 0o755)
    target = precious(top, us)
    link(theirs / "hop", target, THEM)
    return Way(link(target.parent / "cache.bin", theirs / "hop", us), target)


REFUSED: list[Layout] = [
    to_our_file,
    to_our_directory,
    to_our_directory_in_two_steps,
    to_a_new_file_in_our_directory,
    to_nothing_in_our_directory,
    to_our_file_from_a_sticky_directory,
    to_our_file_from_their_own_sticky_directory,
    to_their_file_from_a_sticky_directory,
    to_our_file_from_an_open_directory,
    to_a_third_ones_file,
    to_a_third_ones_file_in_their_own_directory,
    by_a_link_of_ours_to_a_link_of_theirs,
]


def add(location: Path, lock: Path) -> None:
    cache = PersistedTokenCache(FilePersistence(location), lock)
    cache.modify(cache.CredentialType.REFRESH_TOKEN, ENTRY, ENTRY)


#: Each takes a location and a lock file.
OPERATIONS: dict[str, Callable[[Path, Path], object]] = {
    "save": lambda location, _: FilePersistence(location).save("tokens"),
    "load": lambda location, _: FilePersistence(location).load(),
    "touch": lambda location, _: FilePersistence(location).touch(),
    "delete": lambda location, _: FilePersistence(location).delete(),
    "add": add,
}


def named(function: Layout) -> str:
    return function.__name__


anybody = pytest.mark.parametrize("us", [ROOT, US], ids=["root", "user"])
refused = pytest.mark.parametrize("layout", REFUSED, ids=named)
followed = pytest.mark.parametrize("layout", FOLLOWED, ids=named)


@anybody
@refused
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_another_users_link_leads_to_is_neither_changed_nor_read(
    shared: Path, layout: Layout, us: int, operation: str
) -> None:
    way = layout(shared, us)
    lock = directory(shared / "locks", us, 0o700) / "lock"
    before = tree(shared)
    error = None
    try:
        as_user(us, lambda: OPERATIONS[operation](way.location, lock))
    except OSError as caught:
        error = caught
    assert tree(shared) == before
    assert isinstance(error, PersistenceDenied)
    assert str(THEM) in str(error)


@anybody
@refused
def test_verify_touches_nothing_that_another_users_link_leads_to(
    shared: Path, layout: Layout, us: int
) -> None:
    way = layout(shared, us)
    before = tree(shared)
    with contextlib.suppress(PersistenceDenied):  # the probe lies beside the link
        as_user(us, lambda: FilePersistence(way.location).verify())
    assert tree(shared) == before


@anybody
@pytest.mark.parametrize("mode", [0o1777, 0o777], ids=oct)
def test_verify_overwrites_and_removes_nothing_by_a_planted_probe(
    shared: Path, us: int, mode: int
) -> None:
    target = precious(shared, us)
    open_to_all = directory(shared / "open", ROOT, mode)
    location = file(open_to_all / "cache.bin", "{}", us, 0o600)
    link(open_to_all / "cache.bin.verify", target, THEM)
    before = tree(shared)
    with contextlib.suppress(PersistenceError):
        as_user(us, lambda: FilePersistence(location).verify())
    assert tree(shared) == before


@anybody
@followed
def test_a_link_whose_owner_gains_nothing_is_followed_and_stays(
    shared: Path, layout: Layout, us: int
) -> None:
    way = layout(shared, us)
    links = {name: found for name, found in tree(shared).items() if found.mode[0] == "l"}
    names = tree(shared).keys()

    def load_and_save() -> str:
        loaded = FilePersistence(way.location).load()
        FilePersistence(way.location).save("new")
        return loaded

    assert as_user(us, load_and_save) == "old"
    assert way.target.read_text() == "new"
    after = tree(shared)
    assert {name: after[name] for name in links} == links
    assert after.keys() == names


@anybody
@followed
def test_what_was_saved_through_a_link_is_loaded_and_saved_again(
    shared: Path, layout: Layout, us: int
) -> None:
    """Whichever user owns the file after the first save."""
    way = layout(shared, us)
    assert as_user(us, lambda: save_twice(way.location)) == "second"


@anybody
@pytest.mark.parametrize("layout", LINKED_DIRECTORIES, ids=named)
def test_what_was_first_saved_through_a_linked_directory_is_loaded_and_saved_again(
    shared: Path, layout: Layout, us: int
) -> None:
    """As with two times `sudo az login` when ~/.azure is a link of the user."""
    way = layout(shared, us)
    way.target.unlink()
    assert as_user(us, lambda: save_twice(way.location)) == "second"


def save_twice(location: Path) -> str:
    FilePersistence(location).save("first")
    FilePersistence(location).save("second")
    return FilePersistence(location).load()


@anybody
@followed
def test_a_touch_goes_through_a_link_whose_owner_gains_nothing(
    shared: Path, layout: Layout, us: int
) -> None:
    way = layout(shared, us)
    os.utime(way.target, (1, 1))
    as_user(us, lambda: FilePersistence(way.location).touch())
    assert way.target.stat().st_mtime > 1


@anybody
@pytest.mark.parametrize("layout", [our_link, our_linked_directory, roots_link_above], ids=named)
def test_a_delete_removes_what_a_link_of_ours_leads_to(
    shared: Path, layout: Layout, us: int
) -> None:
    way = layout(shared, us)
    as_user(us, lambda: FilePersistence(way.location).delete())
    assert not way.target.exists()
    assert not os.path.lexists(way.location)


@anybody
@pytest.mark.parametrize("layout", LINKED_DIRECTORIES, ids=named)
def test_the_first_save_through_a_linked_directory_makes_a_private_file(
    shared: Path, layout: Layout, us: int
) -> None:
    way = layout(shared, us)
    way.target.unlink()
    as_user(us, lambda: FilePersistence(way.location).save("new"))
    assert way.target.read_text() == "new"
    assert rights(way.target) == (us, us, 0o600)


@anybody
def test_a_save_to_a_link_of_ours_that_leads_nowhere_is_refused_and_a_load_finds_nothing(
    shared: Path, us: int
) -> None:
    home = home_of(shared, us)
    location = link(home / "cache.bin", "missing.bin", us)
    before = tree(shared)
    with pytest.raises(PersistenceError) as caught:
        as_user(us, lambda: FilePersistence(location).save("new"))
    assert not isinstance(caught.value, PersistenceNotFound)
    with pytest.raises(PersistenceNotFound):
        as_user(us, lambda: FilePersistence(location).load())
    assert tree(shared) == before


@anybody
@pytest.mark.parametrize("directory_of_links", ["/proc/self/fd", "/dev/fd"])
def test_a_link_of_proc_that_leads_to_an_open_file_is_refused(
    shared: Path, us: int, directory_of_links: str
) -> None:
    target = precious(shared, us)

    def save() -> None:
        with target.open("r+") as opened:
            FilePersistence(f"{directory_of_links}/{opened.fileno()}").save("new")

    before = tree(shared)
    with pytest.raises(PersistenceError):
        as_user(us, save)
    assert tree(shared) == before


def test_root_puts_no_damaged_cache_aside_that_another_users_link_leads_to(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy would be a copy of a file that only root may read."""
    shadow = file(home_of(shared, ROOT) / "shadow", "root:hash:", ROOT, 0o600)
    theirs = directory(shared / "theirs", THEM, 0o755)
    location = link(theirs / "cache.bin", shadow, THEM)
    before = tree(shared)
    with pytest.raises(PersistenceDenied):
        as_user(ROOT, lambda: search_and_quarantine(location))
    assert tree(shared) == before


@anybody
@pytest.mark.parametrize("mode", [0o1777, 0o777], ids=oct)
def test_evidence_of_a_damaged_cache_replaces_no_planted_name(
    shared: Path, us: int, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For any random number: the test plants the names for the coming numbers."""
    monkeypatch.setattr(secrets, "token_hex", lambda size=32: "00" * size)
    monkeypatch.setattr(time, "strftime", lambda *arguments: "20261124T000000Z")
    open_to_all = directory(shared / "open", ROOT, mode)
    location = file(open_to_all / "cache.bin", "hash of a password", us, 0o600)
    planted = [
        file(open_to_all / f"cache.bin.damaged-20261124T000000Z-{'00' * size}", "", THEM, 0o666)
        for size in (2, 4, 8, 16)
    ]
    before = [state(path) for path in planted]
    with contextlib.suppress(PersistenceError):
        as_user(us, lambda: search_and_quarantine(location))
    assert [state(path) for path in planted] == before
    for path in open_to_all.iterdir():
        if path.stat().st_uid == THEM or path.stat().st_mode & 0o077:
            assert "password" not in path.read_text()


@anybody
@pytest.mark.parametrize(
    "layout",
    [to_our_directory, to_our_directory_in_two_steps, to_a_new_file_in_our_directory],
    ids=named,
)
def test_no_lock_file_is_made_where_another_users_link_leads(
    shared: Path, layout: Layout, us: int
) -> None:
    location = layout(shared, us).location.with_name("cache.bin.lockfile")
    before = tree(shared)
    with pytest.raises((LockError, OSError)):
        as_user(us, lambda: hold(location))
    assert tree(shared) == before


@anybody
@pytest.mark.parametrize("mode", [0o1777, 0o777], ids=oct)
def test_a_lock_file_that_is_another_users_link_is_not_followed(
    shared: Path, us: int, mode: int
) -> None:
    target = precious(shared, us)
    open_to_all = directory(shared / "open", ROOT, mode)
    location = link(open_to_all / "cache.bin.lockfile", target, THEM)
    before = state(target)
    with contextlib.suppress(LockError, OSError):
        as_user(us, lambda: hold(location))
    assert state(target) == before


def hold(location: Path) -> None:
    with CrossPlatLock(location, timeout=0.2):
        pass


def search_and_quarantine(location: Path) -> None:
    cache = PersistedTokenCache(FilePersistence(location), on_unreadable="quarantine")
    list(cache.search(cache.CredentialType.REFRESH_TOKEN))


@anybody
def test_what_1_3_1_does_is_on_record(shared: Path, us: int, reference: Reference) -> None:
    """1.3.1 follows each link that the kernel follows.  The results are printed; the test only
    asserts that there is a result."""
    setting = Path("/proc/sys/fs/protected_symlinks").read_text().strip()
    print(f"1.3.1 as uid {us}, fs.protected_symlinks={setting}:")
    for layout in (*FOLLOWED, *REFUSED):
        for operation in ("load", "save"):
            top = directory(shared / f"{operation}-{layout.__name__}", ROOT, 0o755)
            answer = reference.attempt(us, operation, layout(top, us).location)
            print(f"  {layout.__name__}: {answer}")
            assert answer.startswith(operation)
