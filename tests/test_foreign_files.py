"""Files of other people: the owner of a file after a save, and the files that are refused.

"Us" is root or an ordinary user, as each row says.  Lock files, too, belong to the user that must
be able to remove them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from msal_extensions import (
    CrossPlatLock,
    FilePersistence,
    PersistedTokenCache,
    PersistenceDenied,
    PersistenceNotTrusted,
)
from tests.support.capability import needs
from tests.support.users import (
    GROUP,
    ROOT,
    THEM,
    THIRD,
    US,
    Reference,
    as_user,
    become,
    directory,
    file,
    may_read,
    rights,
    state,
    tree,
)
from tests.support.users import reference as reference
from tests.support.users import shared as shared

pytest.importorskip("fcntl")

APP = 1000
ENTRY = {
    "home_account_id": "account",
    "environment": "login.example",
    "client_id": "client",
    "secret": "refresh-token",
}


class Rights(NamedTuple):
    owner: int
    group: int
    mode: int


class Row(NamedTuple):
    """A directory, a file in it (or none), the user that saves, and the owner of the file after
    that."""

    us: int
    directory: Rights
    file: Rights | None
    after: Rights


OURS = Rights(US, US, 0o700)
THEIRS = Rights(THEM, THEM, 0o755)
STICKY = Rights(ROOT, ROOT, 0o1777)
OPEN = Rights(ROOT, ROOT, 0o777)


def shared_by_group(mode: int) -> Rights:
    return Rights(ROOT, GROUP, mode)


SAVED: dict[str, Row] = {
    "our file": Row(US, OURS, Rights(US, US, 0o600), Rights(US, US, 0o600)),
    "our file in a sticky directory": Row(US, STICKY, Rights(US, US, 0o600), Rights(US, US, 0o600)),
    "our file where we may not make another": Row(
        US, THEIRS, Rights(US, US, 0o600), Rights(US, US, 0o600)
    ),
    "root, the file of the directory's owner": Row(
        ROOT, OURS, Rights(US, US, 0o600), Rights(US, US, 0o600)
    ),
    "root, the file of a sticky directory's owner": Row(
        ROOT, Rights(THEM, THEM, 0o1777), Rights(THEM, THEM, 0o600), Rights(THEM, THEM, 0o600)
    ),
    "root, an app's file in a volume of root's": Row(
        ROOT, shared_by_group(0o770), Rights(APP, APP, 0o600), Rights(APP, APP, 0o600)
    ),
    "root, a third person's file where others cannot write": Row(
        ROOT, THEIRS, Rights(THIRD, THIRD, 0o600), Rights(THIRD, THIRD, 0o600)
    ),
    **{
        f"{planted:04o} planted in an open directory, {who}": Row(
            us, OPEN, Rights(THEM, THEM, planted), Rights(us, us, 0o600)
        )
        for planted in (0o666, 0o606, 0o622)
        for who, us in (("root", ROOT), ("user", US))
    },
    **{
        f"a colleague's file in a {mode:04o} directory": Row(
            US, shared_by_group(mode), Rights(THEM, GROUP, 0o660), Rights(US, GROUP, 0o660)
        )
        for mode in (0o770, 0o2770)
    },
    # Only the owner may replace the file there, so the save writes in place.
    "a colleague's file in a 3770 directory": Row(
        US, shared_by_group(0o3770), Rights(THEM, GROUP, 0o660), Rights(THEM, GROUP, 0o660)
    ),
    **{
        f"root, a member's file in a {mode:04o} directory": Row(
            ROOT, shared_by_group(mode), Rights(THEM, GROUP, 0o660), Rights(THEM, GROUP, 0o660)
        )
        for mode in (0o770, 0o2770, 0o3770)
    },
    "a new file": Row(US, OURS, None, Rights(US, US, 0o600)),
    "a new file in a sticky directory": Row(US, STICKY, None, Rights(US, US, 0o600)),
    "a new file in an open directory": Row(US, OPEN, None, Rights(US, US, 0o600)),
    "a new file in a setgid directory": Row(
        US, shared_by_group(0o2770), None, Rights(US, GROUP, 0o600)
    ),
    "root, a new file in another's directory": Row(ROOT, THEIRS, None, Rights(ROOT, ROOT, 0o600)),
}

REFUSED: dict[str, Row] = {
    f"{mode:04o} planted in a sticky directory, {who}": Row(
        us, STICKY, Rights(THEM, THEM, mode), Rights(THEM, THEM, mode)
    )
    for mode in (0o666, 0o606, 0o622, 0o600)
    for who, us in (("root", ROOT), ("user", US))
    if us == ROOT or mode != 0o600  # because a user may not write to such a file anyway
}


def lay(top: Path, row: Row) -> Path:
    """Makes a row's directory and file; returns the location."""
    made = directory(
        top / "directory", row.directory.owner, row.directory.mode, row.directory.group
    )
    location = made / "cache.bin"
    if row.file is not None:
        file(location, "{}", row.file.owner, row.file.mode, row.file.group)
    return location


def groups(row: Row) -> list[int]:
    return [GROUP] if row.us == US else []


def add(location: Path) -> None:
    cache = PersistedTokenCache(FilePersistence(location))
    cache.modify(cache.CredentialType.REFRESH_TOKEN, ENTRY, ENTRY)


@pytest.mark.parametrize("row", SAVED.values(), ids=SAVED.keys())
def test_a_save_leaves_the_file_with_the_right_owner_group_and_mode(shared: Path, row: Row) -> None:
    location = lay(shared, row)
    as_user(row.us, lambda: FilePersistence(location).save("tokens"), groups(row))
    assert location.read_text() == "tokens"
    assert rights(location) == row.after
    assert os.listdir(location.parent) == ["cache.bin"]


#: The rows where we may make a lock file, and read the content.
LOCKABLE = {
    name: row
    for name, row in SAVED.items()
    if (row.us, row.directory) != (US, THEIRS)
    and (row.us, row.file) != (US, Rights(THEM, THEM, 0o622))
}


@pytest.mark.parametrize("row", LOCKABLE.values(), ids=LOCKABLE.keys())
def test_a_transaction_does_as_a_save_does(shared: Path, row: Row) -> None:
    location = lay(shared, row)
    as_user(row.us, lambda: add(location), groups(row))
    assert "refresh-token" in location.read_text()
    assert rights(location) == row.after
    assert os.listdir(location.parent) == ["cache.bin"]


def test_tokens_never_stand_in_a_file_that_others_may_read_meanwhile(shared: Path) -> None:
    """A reader that opened the planted file before the save still reads the old content."""
    planted = lay(shared, SAVED["0666 planted in an open directory, user"])
    with planted.open() as theirs:
        as_user(US, lambda: FilePersistence(planted).save("tokens"))
        assert theirs.read() == "{}"
    assert not may_read(THEM, planted)


OPERATIONS: dict[str, Callable[[Path], object]] = {
    "save": lambda location: FilePersistence(location).save("tokens"),
    "touch": lambda location: FilePersistence(location).touch(),
    "delete": lambda location: FilePersistence(location).delete(),
    "add": add,
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED.keys())
def test_a_third_persons_file_in_a_sticky_directory_is_not_touched(
    shared: Path, row: Row, operation: str
) -> None:
    location = lay(shared, row)
    before = tree(shared)
    error = None
    try:
        as_user(row.us, lambda: OPERATIONS[operation](location))
    except OSError as caught:
        error = caught
    assert tree(shared) == before
    assert isinstance(error, PersistenceDenied)
    if row.file is not None and row.file.mode & 0o004:  # otherwise the kernel refuses the read
        assert str(THEM) in str(error)


def test_root_does_not_save_a_users_file_in_a_sticky_directory(shared: Path) -> None:
    """fs.protected_regular forbids root to open such a file for writing."""
    location = lay(shared, Row(ROOT, STICKY, Rights(US, US, 0o600), Rights(US, US, 0o600)))
    before = tree(shared)
    with pytest.raises(PersistenceDenied, match=str(US)):
        as_user(ROOT, lambda: FilePersistence(location).save("tokens"))
    assert tree(shared) == before


def test_the_file_of_a_sticky_directorys_owner_is_saved_by_others(shared: Path) -> None:
    theirs = Rights(THEM, THEM, 0o1777)
    row = Row(US, theirs, Rights(THEM, THEM, 0o666), Rights(THEM, THEM, 0o666))
    location = lay(shared, row)
    as_user(US, lambda: FilePersistence(location).save("tokens"))
    assert location.read_text() == "tokens"
    assert rights(location)[:2] == (THEM, THEM)


@pytest.mark.parametrize("us", [ROOT, US], ids=["root", "user"])
def test_a_bind_mounted_file_is_written_in_place_and_keeps_its_owner(shared: Path, us: int) -> None:
    home = directory(shared / "home", us, 0o755)
    volume = directory(shared / "volume", us, 0o755)
    source = file(volume / "source.bin", "a longer old content", us, 0o600)
    point = file(home / "cache.bin", "", us, 0o600)
    with bind_mount(source, point):
        before = state(source)
        as_user(us, lambda: FilePersistence(point).save("new"))
        after = state(source)
    assert after.content == b"new"
    assert (after.owner, after.inode, after.mode) == (before.owner, before.inode, before.mode)
    assert os.listdir(home) == ["cache.bin"]


@pytest.mark.parametrize("us", [ROOT, US], ids=["root", "user"])
def test_a_third_persons_file_in_an_open_directory_is_not_written_in_place(
    shared: Path, us: int
) -> None:
    """It is a mount point, so it cannot be replaced either."""
    open_to_all = directory(shared / "open", THEM, 0o777)
    volume = directory(shared / "volume", ROOT, 0o755)
    source = file(volume / "source.bin", "old", THIRD, 0o666)
    point = file(open_to_all / "cache.bin", "", THIRD, 0o666)
    with bind_mount(source, point):
        before = state(source)
        with pytest.raises(PersistenceNotTrusted, match=str(THIRD)):
            as_user(us, lambda: FilePersistence(point).save("new"))
        assert state(source) == before
    assert os.listdir(open_to_all) == ["cache.bin"]


def test_a_bind_mounted_directory_is_an_ordinary_one(shared: Path) -> None:
    point = directory(shared / "point", ROOT, 0o755)
    volume = directory(shared / "volume", US, 0o700)
    with bind_mount(volume, point):
        as_user(US, lambda: FilePersistence(point / "cache.bin").save("new"))
    assert rights(volume / "cache.bin") == (US, US, 0o600)


@contextlib.contextmanager
def bind_mount(source: Path, point: Path) -> Iterator[None]:
    mounted = subprocess.run(["mount", "--bind", source, point], check=False)
    needs("cannot bind-mount here" if mounted.returncode else None)
    try:
        yield
    finally:
        subprocess.run(["umount", point], check=True)


# ---- lock files ---------------------------------------------------------------------------


def killed_inside(user: int, hold: Callable[[Callable[[], None]], None]) -> None:
    """Calls `hold(inside)` as the user, and kills the process when that calls `inside`."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - in the child

        def inside() -> None:
            os.write(writable, b"1")
            signal.pause()

        try:
            become(user, [GROUP] if user != ROOT else [])
            hold(inside)
        finally:
            os._exit(1)
    os.close(writable)
    try:
        assert os.read(readable, 1) == b"1", "it ended before it held the lock"
    finally:
        os.close(readable)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def in_transaction(location: Path) -> Callable[[Callable[[], None]], None]:
    def hold(inside: Callable[[], None]) -> None:
        with PersistedTokenCache(FilePersistence(location)).transaction():
            inside()

    return hold


def in_flight(location: Path) -> Callable[[Callable[[], None]], None]:
    def hold(inside: Callable[[], None]) -> None:
        with PersistedTokenCache(FilePersistence(location)).single_flight():
            inside()

    return hold


def fly_and_add(location: Path) -> float:
    """A single flight with a change in it; returns its seconds."""
    cache = PersistedTokenCache(FilePersistence(location))
    began = time.monotonic()
    with cache.single_flight(timeout=10), cache.transaction(timeout=10):
        cache.modify(cache.CredentialType.REFRESH_TOKEN, ENTRY, ENTRY)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("hold", "suffix"), [(in_transaction, ".lockfile"), (in_flight, ".lockfile.refresh")]
)
def test_lock_files_of_a_killed_root_do_not_lock_the_directorys_owner_out(
    shared: Path, hold: Callable[[Path], Callable[[Callable[[], None]], None]], suffix: str
) -> None:
    """As after a `sudo az login` that was killed."""
    home = directory(shared / "home", US, 0o700)
    location = file(home / "cache.bin", "{}", US, 0o600)
    killed_inside(ROOT, hold(location))
    left = rights(home / f"cache.bin{suffix}")
    seconds = as_user(US, lambda: fly_and_add(location))
    print(f"root was killed; the user got in after {seconds:.3f} s")
    assert left[0] == US
    assert os.listdir(home) == ["cache.bin"]


@pytest.mark.parametrize("mode", [0o770, 0o2770], ids=oct)
@pytest.mark.parametrize("holder", [THEM, ROOT], ids=["colleague", "root"])
def test_a_killed_holder_does_not_lock_the_others_of_its_group_out(
    shared: Path, holder: int, mode: int
) -> None:
    common = directory(shared / "common", ROOT, mode, GROUP)
    location = file(common / "cache.bin", "{}", THEM, 0o660, GROUP)
    killed_inside(holder, in_transaction(location))
    left = rights(common / "cache.bin.lockfile")
    seconds = as_user(US, lambda: fly_and_add(location), [GROUP])
    print(f"the holder was killed; the colleague got in after {seconds:.3f} s")
    assert left[1:] == (GROUP, 0o660)
    assert os.listdir(common) == ["cache.bin"]


@pytest.mark.parametrize("mode", [0o1777, 0o755, 0o3770], ids=oct)
def test_elsewhere_a_lock_file_is_its_makers_alone(shared: Path, mode: int) -> None:
    made = directory(shared / "made", ROOT if mode & 0o1000 else US, mode, GROUP)
    lock = made / "cache.bin.lockfile"

    def look() -> tuple[int, int, int]:
        with CrossPlatLock(lock):
            return rights(lock)

    owner, _, bits = as_user(US, look, [GROUP])
    assert (owner, bits) == (US, 0o600)


def test_what_1_3_1_does_is_on_record(shared: Path, reference: Reference) -> None:
    """1.3.1 writes in place, into any file.  The results are printed; the test only asserts that
    there is a result."""
    setting = Path("/proc/sys/fs/protected_regular").read_text().strip()
    print(f"1.3.1, fs.protected_regular={setting}:")
    for name, row in {**SAVED, **REFUSED}.items():
        location = lay(directory(shared / name, ROOT, 0o755), row)
        answer = reference.attempt(row.us, "save", location, groups(row))
        owner, group, mode = rights(location)
        print(f"  {name}: {answer}, then {owner}:{group} {mode:04o}")
        assert answer.startswith("save")
