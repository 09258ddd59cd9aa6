"""User namespaces (rootless containers): links of root work, links of others do not.

In a namespace that knows one user all others look alike: they have the overflow uid, mostly 65534.
A link of that uid may be root's, such as /home -> var/home, or any other user's.  So it is followed
only where only root can have made it: no directory on the way to it is writable by others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from msal_extensions import FilePersistence, PersistenceDenied
from tests.support.capability import needs
from tests.support.users import (
    GROUP,
    ROOT,
    THEM,
    US,
    as_user,
    directory,
    enter_user_namespace,
    file,
    link,
    tree,
)
from tests.support.users import firm as firm
from tests.support.users import shared as shared

pytest.importorskip("fcntl")

OVERFLOW = 65534
Work = Callable[[], object]


def in_namespace(work: Work, inside: int | None = None) -> object:
    """Runs our work in a user namespace."""

    def enter_and_work() -> object:
        try:
            enter_user_namespace(inside)
        except OSError as error:
            return error
        return work()

    result = as_user(US, enter_and_work)
    needs(f"no user namespaces: {result}" if isinstance(result, OSError) else None)
    return result


@pytest.fixture
def var_home(firm: Path) -> Path:
    """Our home by a link of root: .../home -> var/home."""
    var = directory(firm / "var", ROOT, 0o755)
    directory(directory(var / "home", ROOT, 0o755) / "us", US, 0o700)
    return link(firm / "home", "var/home", ROOT) / "us"


inside = pytest.mark.parametrize("inside", [None, 0], ids=["as ourselves", "as root"])


def test_others_are_nobody_in_a_namespace(var_home: Path) -> None:
    """Otherwise the tests here would prove nothing."""
    home = os.path.dirname(var_home)
    seen = in_namespace(lambda: (os.lstat(home).st_uid, os.stat(var_home).st_uid, os.geteuid()))
    assert seen == (OVERFLOW, US, US)


@inside
def test_roots_link_on_the_way_is_followed(var_home: Path, inside: int | None) -> None:
    location = file(var_home / "cache.bin", "old", US, 0o600)

    def load_and_save() -> str:
        persistence = FilePersistence(location)
        loaded = persistence.load()
        persistence.save("new")
        return loaded

    assert in_namespace(load_and_save, inside) == "old"
    assert location.read_text() == "new"
    assert os.listdir(var_home) == ["cache.bin"]


@inside
def test_the_first_save_goes_through_roots_link(var_home: Path, inside: int | None) -> None:
    location = var_home / "cache.bin"
    in_namespace(lambda: FilePersistence(location).save("new"), inside)
    assert location.read_text() == "new"
    in_namespace(lambda: FilePersistence(location).delete(), inside)
    assert not location.exists()


@inside
def test_roots_link_to_our_file_is_followed(firm: Path, inside: int | None) -> None:
    home = directory(firm / "home", US, 0o700)
    target = file(home / "real.bin", "old", US, 0o600)
    location = link(firm / "cache.bin", target, ROOT)
    in_namespace(lambda: FilePersistence(location).save("new"), inside)
    assert target.read_text() == "new"
    assert location.is_symlink()


@pytest.mark.parametrize("maker", [ROOT, THEM], ids=["root", "another"])
@pytest.mark.parametrize("mode", [0o775, 0o2775, 0o757, 0o777, 0o1777, 0o3775], ids=oct)
def test_a_link_where_others_can_make_one_is_refused(firm: Path, mode: int, maker: int) -> None:
    home = directory(firm / "home", US, 0o700)
    target = file(home / "precious", "precious", US, 0o644)
    writable = directory(firm / "writable", ROOT, mode, GROUP)
    location = link(writable / "cache.bin", target, maker)
    before = tree(firm)
    for work in (save(location), load(location), delete(location)):
        with pytest.raises(PersistenceDenied, match=str(OVERFLOW)):
            in_namespace(work)
    assert tree(firm) == before


@pytest.mark.parametrize("mode", [0o777, 0o1777], ids=oct)
def test_a_link_below_a_directory_that_others_can_change_is_refused(firm: Path, mode: int) -> None:
    """For example /tmp, where a link that looks like root's can be any user's."""
    home = directory(firm / "home", US, 0o700)
    target = file(home / "precious", "precious", US, 0o644)
    below = directory(directory(firm / "tmp", ROOT, mode) / "below", ROOT, 0o755)
    location = link(below / "cache.bin", target, ROOT)
    before = tree(firm)
    with pytest.raises(PersistenceDenied, match=str(OVERFLOW)):
        in_namespace(save(location))
    assert tree(firm) == before


def test_our_own_links_are_followed_in_a_namespace_too(shared: Path) -> None:
    home = directory(shared / "home", US, 0o700)
    target = file(home / "real.bin", "old", US, 0o600)
    location = link(home / "cache.bin", "real.bin", US)
    in_namespace(save(location))
    in_namespace(save(location), 0)
    assert target.read_text() == "tokens"


def save(location: Path) -> Work:
    return lambda: FilePersistence(location).save("tokens")


def load(location: Path) -> Work:
    return lambda: FilePersistence(location).load()


def delete(location: Path) -> Work:
    return lambda: FilePersistence(location).delete()
