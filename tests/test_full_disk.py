"""A failed save in place keeps the old content, or says that it is lost.

A cache file that is mounted into a container (`docker run -v file:file`) is a mount point, and so
it is written in place.  Its disk may be full although the disk of its directory is not.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from msal_extensions import FilePersistence, PersistenceDamaged, PersistenceError
from tests.support.capability import needs, requires
from tests.support.seccomp import GO_ON, Run, supervised

pytestmark = [pytest.mark.slow, requires("os.geteuid", "os.fork")]

OLD, SHORTER, LONGER = "old " * 25_000, "new " * 5_000, "newer " * 50_000
ROUNDS = 20
KEPT = "is still there"
ERRNOS = (
    *(errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EACCES),
    *(errno.EPERM, errno.ENOENT, errno.EMFILE, errno.ENOMEM, errno.EINTR),
)
#: Calls that change a file which is written in place.
CHANGES = ("write", "pwrite64", "ftruncate", "fallocate", "fdatasync")
USER = 12001

#: ext4 is a real disk's file system; every machine can mount tmpfs.
HAS_LOOP = Path("/dev/loop-control").exists() and shutil.which("mkfs.ext4") is not None
FILE_SYSTEMS = ["tmpfs", "ext4"] if HAS_LOOP else ["tmpfs"]


def mount(*arguments: object) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    needs(f"cannot mount: {done.stderr.strip()}" if done.returncode else None)


@pytest.fixture(params=FILE_SYSTEMS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    needs(None if os.geteuid() == 0 else "only root can mount a file system")
    point, image = tmp_path / "disk", tmp_path / "image"
    point.mkdir()
    if request.param == "tmpfs":
        mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", point)
    else:
        image.touch()
        os.truncate(image, 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", image], check=True)
        mount("-o", "loop", image, point)
        (point / "lost+found").rmdir()
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)


@pytest.fixture
def mounted(disk: Path, tmp_path: Path) -> Iterator[Path]:
    """A cache file that is a mount point: it is on the small disk, its directory is on one with
    room."""
    (disk / "cache.bin").write_text(OLD)
    point = tmp_path / "directory" / "cache.bin"
    point.parent.mkdir()
    point.touch()
    mount("--bind", disk / "cache.bin", point)
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)


def fill(disk: Path, room: int = 0) -> int:
    """Leaves that much room; the file "fill" takes the rest.  Returns the number of free blocks."""
    with (disk / "fill").open("wb", buffering=0) as file:
        for size in (65536, 4096, 1024):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
        file.truncate(file.tell() - room)
    return os.statvfs(disk).f_bfree


def assert_fails_and_keeps(persistence: FilePersistence, content: str) -> None:
    """A save on the full disk fails and says that the old content is still there, and it is."""
    with pytest.raises(PersistenceError, match=f"No space left on device.*{KEPT}") as caught:
        persistence.save(content)
    assert caught.value.errno == errno.ENOSPC
    assert Path(persistence.get_location()).read_text() == OLD


def test_a_full_disk_under_a_mounted_file_keeps_its_old_content(mounted: Path, disk: Path) -> None:
    persistence = FilePersistence(mounted)
    free = fill(disk)
    for number in range(ROUNDS):
        assert_fails_and_keeps(persistence, LONGER + "x" * 1000 * number)
        assert os.statvfs(disk).f_bfree == free  # no room stays reserved
    print(f"{ROUNDS} of {ROUNDS} saves failed and kept the old content")
    assert os.listdir(mounted.parent) == ["cache.bin"]
    persistence.save(SHORTER)  # there is room for this
    assert mounted.read_text() == SHORTER
    (disk / "fill").unlink()
    persistence.save(LONGER)
    assert mounted.read_text() == LONGER


def test_a_full_disk_keeps_the_old_content_and_no_temporary_file(disk: Path) -> None:
    persistence = FilePersistence(disk / "cache.bin")
    persistence.save(OLD)
    free = fill(disk)
    for number in range(ROUNDS):
        assert_fails_and_keeps(persistence, LONGER + "x" * 1000 * number)
        assert os.statvfs(disk).f_bfree == free
    print(f"{ROUNDS} of {ROUNDS} saves failed and kept the old content")
    assert sorted(os.listdir(disk)) == ["cache.bin", "fill"]


# ---- a write that fails half-way -----------------------------------------------------------


def saved(
    persistence: FilePersistence,
    content: str,
    answer: Callable[[int, str], int],
    user: int | None = None,
) -> tuple[Run, PersistenceError | None]:
    """Saves in a process of its own whose system calls get these answers; returns the error."""

    def work() -> PersistenceError | None:
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        try:
            persistence.save(content)
        except PersistenceError as error:
            return error
        return None

    run = supervised(work, answer)
    return run, run.result


class Failing:
    """Answers system calls.  Room cannot be reserved, if the test wants that.  One call fails; or
    from that call on each call fails that changes a file."""

    def __init__(self, reserves: bool, place: int, code: int, lasting: bool = False) -> None:
        self.reserves, self.place, self.code, self.lasting = reserves, place, code, lasting

    def __call__(self, number: int, name: str) -> int:
        if number == self.place or (self.lasting and number > self.place and name in CHANGES):
            return self.code
        if name == "fallocate" and not self.reserves:
            return errno.EOPNOTSUPP
        return GO_ON


RESERVES = pytest.mark.parametrize("reserves", [True, False], ids=["reserves", "no fallocate"])
CONTENT = pytest.mark.parametrize("content", [SHORTER, LONGER], ids=["shorter", "longer"])


def test_where_nothing_can_be_reserved_a_full_disk_keeps_the_old_content(
    mounted: Path, disk: Path
) -> None:
    persistence = FilePersistence(mounted)
    fill(disk)
    for number in range(ROUNDS):
        content = LONGER + "x" * 1000 * number
        run, error = saved(persistence, content, Failing(False, -1, 0))
        assert "fallocate" in run.calls
        assert error is not None
        assert error.errno == errno.ENOSPC
        assert KEPT in str(error)
        assert mounted.read_text() == OLD
    print(f"{ROUNDS} of {ROUNDS} saves failed and kept the old content")


@CONTENT
@RESERVES
def test_any_error_at_any_call_of_a_save_in_place_keeps_the_old_content_or_is_none(
    mounted: Path, disk: Path, reserves: bool, content: str
) -> None:
    persistence = FilePersistence(mounted)
    tries, failed = 0, 0
    every = reserves and content is LONGER and not list(disk.parent.glob("image"))
    for code in ERRNOS if every else (errno.ENOSPC, errno.EIO, errno.EINTR):
        for place in itertools.count():
            mounted.write_text(OLD)
            run, error = saved(persistence, content, Failing(reserves, place, code))
            if len(run.calls) <= place:
                break
            where = f"{errno.errorcode[code]} at {place}, {run.calls[place]}: {error!r}"
            tries, failed = tries + 1, failed + (error is not None)
            assert mounted.read_text() == (content if error is None else OLD), where
            assert not isinstance(error, PersistenceDamaged), where
            assert error is None or code != errno.EINTR, where
            assert run.leaked <= (run.calls[place] == "close"), where
    print(f"{tries} errors, of which {failed} failed the save and kept the old content")
    assert 0 < failed < tries


@CONTENT
@RESERVES
def test_where_the_old_content_cannot_be_written_back_the_error_says_that_it_is_damaged(
    mounted: Path, disk: Path, reserves: bool, content: str
) -> None:
    """The disk fails at some call of the save, and at all later calls."""
    persistence = FilePersistence(mounted)
    kept, damaged = 0, 0
    for place in itertools.count():
        mounted.write_text(OLD)
        run, error = saved(persistence, content, Failing(reserves, place, errno.EIO, lasting=True))
        if len(run.calls) <= place:
            break
        where = f"from {place}, {run.calls[place]}: {error!r}"
        if error is None:
            assert mounted.read_text() == content, where
        elif isinstance(error, PersistenceDamaged):
            damaged += 1
            assert KEPT not in str(error), where
            assert "damaged" in str(error), where
        else:
            kept += 1
            assert mounted.read_text() == OLD, where
    print(f"{kept} kept, {damaged} damaged and said so")
    assert kept
    assert damaged


def test_a_tail_that_cannot_be_cut_off_again_is_damage(mounted: Path, disk: Path) -> None:
    """No room can be reserved, the disk gets full, and then the file cannot be cut off either."""
    persistence = FilePersistence(mounted)
    fill(disk, room=65536)  # for a part of the longer content

    def answer(number: int, name: str) -> int:
        return {"fallocate": errno.EOPNOTSUPP, "ftruncate": errno.EIO}.get(name, GO_ON)

    _, error = saved(persistence, LONGER, answer)
    assert error is not None
    assert mounted.read_text() != OLD
    assert isinstance(error, PersistenceDamaged), error
    assert KEPT not in str(error)


# ---- a directory without write permission --------------------------------------------------


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A file of the user in a directory of root.  (Not in tmp_path, which no user can reach.)"""
    needs(None if os.geteuid() == 0 else "only root can become another user")
    with tempfile.TemporaryDirectory() as name:
        location = Path(name) / "cache.bin"
        location.parent.chmod(0o755)
        location.write_text(OLD)
        location.chmod(0o600)
        os.chown(location, USER, USER)
        yield location


@CONTENT
def test_a_writable_file_in_a_read_only_directory_is_saved_in_place(
    read_only: Path, content: str
) -> None:
    before = read_only.stat()
    _, error = saved(FilePersistence(read_only), content, lambda *_: GO_ON, USER)
    assert error is None
    assert read_only.read_text() == content
    after = read_only.stat()
    assert (after.st_ino, after.st_uid, after.st_mode) == (
        *(before.st_ino, before.st_uid, before.st_mode),
    )
    assert os.listdir(read_only.parent) == ["cache.bin"]


@CONTENT
@pytest.mark.parametrize("call", ["fallocate", "pwrite64", "ftruncate", "fdatasync"])
def test_a_failed_save_in_a_read_only_directory_keeps_the_old_content(
    read_only: Path, content: str, call: str
) -> None:
    met: list[int] = []

    def fail_once(number: int, name: str) -> int:
        if name != call or met:
            return GO_ON
        met.append(number)
        return errno.EIO

    _, error = saved(FilePersistence(read_only), content, fail_once, USER)
    assert met
    assert error is not None
    assert error.errno == errno.EIO
    assert not isinstance(error, PersistenceDamaged)
    assert read_only.read_text() == OLD
    assert os.listdir(read_only.parent) == ["cache.bin"]
