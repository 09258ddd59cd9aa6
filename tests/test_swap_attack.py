"""The swap attack: exchanging a directory for a link while we save gains nothing.

The attacker owns `d`, a directory, and `e`, a link to our directory, and exchanges them in a loop.
A save that uses a path twice would see the attacker's file first and then replace ours, with the
owner and mode of the attacker's file.  MSALEX_SWAP_SAVES is the number of saves of each case
(default 3000).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from msal_extensions import CrossPlatLock, FilePersistence, LockError, PersistenceError
from tests.support import native, tally
from tests.support.processes import PATIENCE
from tests.support.users import (
    ROOT,
    THEM,
    US,
    as_user,
    directory,
    file,
    link,
    new_directory,
    tree,
)
from tests.support.users import fast as fast

pytest.importorskip("fcntl")

pytestmark = pytest.mark.slow

SAVES = int(os.environ.get("MSALEX_SWAP_SAVES", "3000"))


class Trap(NamedTuple):
    """The location of our saves; the two names that the attacker exchanges; the target of the link;
    the attacker's file."""

    location: Path
    names: tuple[Path, Path, Path, Path]


def by_a_link(top: Path, home: Path, mode: int = 0o755, owner: int = THEM) -> Trap:
    """cache.bin -> d/passwd, in a directory with that mode."""
    trap = by_a_path(top, home)
    place = directory(top / "place", owner, mode)
    return trap._replace(location=link(place / "cache.bin", trap.location, THEM))


def by_a_link_in_an_open_directory(top: Path, home: Path) -> Trap:
    return by_a_link(top, home, 0o777, ROOT)


def by_a_link_in_a_sticky_directory(top: Path, home: Path) -> Trap:
    return by_a_link(top, home, 0o1777, ROOT)


def by_a_path(top: Path, home: Path, name: str = "passwd") -> Trap:
    """d/passwd itself."""
    theirs = directory(top / "theirs", THEM, 0o755)
    location = file(directory(theirs / "d", THEM, 0o777) / name, "{}", THEM, 0o666)
    return Trap(location, (theirs / "d", link(theirs / "e", home, THEM), home, location))


def by_a_new_file(top: Path, home: Path) -> Trap:
    """d/ld.so.preload: our directory has no such file, and must not get one."""
    return by_a_path(top, home, "ld.so.preload")


def by_a_file_that_is_a_link_now_and_then(top: Path, home: Path) -> Trap:
    """The attacker exchanges a file for a link to ours."""
    theirs = directory(top / "theirs", THEM, 0o777)
    location = file(theirs / "cache.bin", "{}", THEM, 0o666)
    target = home / "passwd"
    return Trap(location, (location, link(theirs / "other", target, THEM), target, location))


def save_and_delete(persistence: FilePersistence) -> None:
    with contextlib.suppress(PersistenceError):
        persistence.save("tokens")
    persistence.delete()


def lock(persistence: FilePersistence) -> None:
    with CrossPlatLock(persistence.get_location() + ".lockfile", timeout=0):
        pass


OPERATIONS: dict[str, Callable[[FilePersistence], object]] = {
    "save": lambda persistence: persistence.save("tokens"),
    "touch": lambda persistence: persistence.touch(),
    "delete": save_and_delete,
    "lock": lock,
}
ATTACKS: list[tuple[str, Callable[[Path, Path], Trap]]] = [
    ("save", by_a_link),
    ("save", by_a_link_in_an_open_directory),
    ("save", by_a_link_in_a_sticky_directory),
    ("save", by_a_path),
    ("save", by_a_new_file),
    ("save", by_a_file_that_is_a_link_now_and_then),
    ("touch", by_a_link),
    ("touch", by_a_path),
    ("touch", by_a_file_that_is_a_link_now_and_then),
    ("delete", by_a_path),
    ("lock", by_a_path),
]


@pytest.fixture(scope="module")
def attacker() -> Iterator[Path]:
    with new_directory(tempfile.gettempdir()) as made:
        yield native.build(made / "swap_attack", [native.LINUX / "swap_attack.c"])


@contextlib.contextmanager
def attacked(attacker: Path, trap: Trap) -> Iterator[list[int]]:
    """In the block the attacker exchanges the names, in a process of that user; at the end the list
    has the number of exchanges."""
    running = subprocess.Popen(
        [attacker, *trap.names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=THEM,
        group=THEM,
        extra_groups=[],
    )
    exchanges: list[int] = []
    try:
        yield exchanges
    finally:
        said = running.communicate(timeout=PATIENCE)[0]
    assert running.returncode == 0
    exchanges.append(int(said))


class Score(NamedTuple):
    """The number of our operations that succeeded, the number after which something in our
    directory had changed, and the number after which our file belonged to the attacker or was open
    to them."""

    done: int = 0
    refused: int = 0
    changed_after: int | None = None
    given_after: int | None = None


def play(us: int, location: Path, home: Path, operation: str) -> Score:
    """Repeats the operation and looks after each one, until our file is given away."""

    def work() -> Score:
        score, before = Score(), look(home)
        persistence = FilePersistence(location)
        for number in range(1, SAVES + 1):
            try:
                OPERATIONS[operation](persistence)
                score = score._replace(done=score.done + 1)
            except (PersistenceError, LockError):
                score = score._replace(refused=score.refused + 1)
            if look(home) != before and score.changed_after is None:
                score = score._replace(changed_after=number)
            if score.changed_after is not None and is_given_away(home / "passwd"):
                return score._replace(given_after=number)
        return score

    return as_user(us, work)


def look(home: Path) -> tuple[list[str], int, int]:
    """Less than tree(), but faster."""
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(home / "passwd")
        return os.listdir(home), found.st_ino, found.st_mtime_ns
    return os.listdir(home), 0, 0


def is_given_away(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        return found.st_uid == THEM or found.st_mode & 0o022 != 0
    return False


@pytest.mark.parametrize("us", [ROOT, US], ids=["root", "user"])
@pytest.mark.parametrize(
    ("operation", "layout"), ATTACKS, ids=[f"{name}-{layout.__name__}" for name, layout in ATTACKS]
)
@pytest.mark.timeout(3600)
def test_a_name_that_is_exchanged_under_us_gives_nothing_of_ours_away(
    fast: Path,
    attacker: Path,
    operation: str,
    layout: Callable[[Path, Path], Trap],
    us: int,
) -> None:
    home = directory(fast / "home", us, 0o755)
    file(home / "passwd", "ours", us, 0o644)
    trap = layout(fast, home)
    before = tree(home)
    began = time.monotonic()
    with attacked(attacker, trap) as exchanges:
        score = play(us, trap.location, home, operation)
    seconds = time.monotonic() - began
    print(f"{operation} {layout.__name__}, uid {us}: {score}, {exchanges}, {seconds:.1f} s")
    tally.tried(score.done + score.refused)
    assert tree(home) == before
    assert (score.changed_after, score.given_after) == (None, None)
