"""Files: a reader sees the old content or the new one, whenever a writer dies."""

from __future__ import annotations

import errno
import mmap
import os
import random
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from msal_extensions import (
    FilePersistence,
    PersistenceDamaged,
    PersistenceDenied,
    PersistenceError,
    PersistenceIsADirectory,
    PersistenceNotFound,
)
from msal_extensions._native import files
from tests.support.capability import FILE_MODES, SYMBOLIC_LINKS, needs, requires
from tests.support.processes import GENEROUS
from tests.support.users import shared as shared

SIZE = 300_000  # characters


def version(number: int) -> str:
    """A content of SIZE characters; each part of it shows its version."""
    return f"{number:08d}" * (SIZE // 8)


def whole_version(content: str) -> int:
    """The version of a content; the assertion fails if it is a mixture."""
    assert len(content) == SIZE
    assert content == content[:8] * (SIZE // 8)
    return int(content[:8])


def forked_writer(location: Path, inside: mmap.mmap | None = None) -> int:
    """A process that saves one version after the other until it is killed; returns its pid.

    The first byte of ``inside``, which is shared memory, is 1 exactly while the process is in
    save().
    """
    pid = os.fork()
    if pid:
        return pid
    try:  # pragma: no cover - in the child
        persistence, number = FilePersistence(location), 0
        while True:
            content = version(number % 10**8)
            if inside is not None:
                inside[0] = 1
            persistence.save(content)
            if inside is not None:
                inside[0] = 0
            number += 1
    finally:
        os._exit(1)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin"


@pytest.mark.slow
@pytest.mark.timeout(600)
@requires("os.fork")
def test_a_reader_beside_a_busy_writer_never_sees_a_torn_file(location: Path) -> None:
    persistence = FilePersistence(location)
    persistence.save(version(0))
    writer = forked_writer(location)
    seen: set[int] = set()
    reads, deadline = 0, time.monotonic() + 500
    try:
        while (reads < 100_000 or len(seen) < 1_000) and time.monotonic() < deadline:
            seen.add(whole_version(persistence.load()))
            reads += 1
    finally:
        kill(writer)
    print(f"{reads} reads, {len(seen)} versions seen, 0 torn")
    assert reads >= 100_000
    assert len(seen) >= 1_000


@pytest.mark.slow
@pytest.mark.timeout(600)
@requires("os.fork")
def test_a_writer_killed_at_any_moment_leaves_a_whole_file_and_no_litter(location: Path) -> None:
    persistence = FilePersistence(location)
    persistence.save(version(0))
    inside = mmap.mmap(-1, 1)
    within_save = 0
    moments = random.Random(20261122)
    for _ in range(500):
        inside[0] = 0
        writer = forked_writer(location, inside)
        time.sleep(moments.uniform(0.002, 0.02))
        kill(writer)
        within_save += inside[0]
        whole_version(persistence.load())
    left = [name for name in os.listdir(location.parent) if name != location.name]
    for name in left:  # as if a minute had passed
        os.utime(location.parent / name, (time.time() - 61, time.time() - 61))
    FilePersistence(location).save(version(1))
    print(f"500 kills, {within_save} within save(), 0 broken, {len(left)} temporary files swept")
    assert within_save >= 250
    assert os.listdir(location.parent) == [location.name]


@requires("fcntl")
def test_a_sweep_spares_a_living_writer_young_files_and_other_names(location: Path) -> None:
    living = location.parent / ".msalex-00000000000000aa.tmp"
    young = location.parent / ".msalex-00000000000000bb.tmp"
    others = location.parent / ".msalex-notes.tmp"
    for path in (living, young, others):
        path.write_text("x")
    long_ago = time.time() - 3600
    os.utime(living, (long_ago, long_ago))
    os.utime(others, (long_ago, long_ago))
    with subprocess.Popen(["flock", "--no-fork", str(living), "sleep", "60"]) as holder:
        try:
            wait_until_locked(living)
            FilePersistence(location).save("x")
        finally:
            holder.terminate()
    assert living.exists()
    assert young.exists()
    assert others.exists()


def wait_until_locked(path: Path) -> None:
    import fcntl

    for _ in range(500):
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
        time.sleep(0.01)
    pytest.fail(f"{path} was never locked")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    needs(None if os.geteuid() == 0 else "only root can mount a small tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    needs(f"cannot mount a tmpfs: {mounted.stderr.strip()}" if mounted.returncode else None)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@requires("os.geteuid")
def test_a_full_disk_is_an_error_and_the_old_content_stays(small_disk: Path) -> None:
    persistence = FilePersistence(small_disk / "cache.bin")
    persistence.save("the old content")
    with pytest.raises(PersistenceError, match=r"No space left on device .*Free some space"):
        persistence.save("x" * 2_000_000)
    assert persistence.load() == "the old content"
    assert os.listdir(small_disk) == ["cache.bin"]


def test_text_comes_back_unchanged_whatever_the_locale(location: Path) -> None:
    text = "é漢字🔑\r\n\t\x7f\u2028 " * 1000
    FilePersistence(location).save(text)
    assert FilePersistence(location).load() == text
    assert location.read_bytes() == text.encode("utf-8")


@requires(FILE_MODES)
def test_a_new_file_and_a_new_directory_are_for_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        FilePersistence(tmp_path / "a" / "b" / "cache.bin").save("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b" / "cache.bin").stat().st_mode) == 0o600


@requires(FILE_MODES)
def test_a_save_keeps_mode_and_owner_of_the_file(location: Path) -> None:
    location.write_text("old")
    location.chmod(0o640)
    owner = (12345, 12346) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    os.chown(location, *owner)
    FilePersistence(location).save("new")
    after = location.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o640, *owner)


@requires(SYMBOLIC_LINKS)
def test_a_save_through_a_symbolic_link_replaces_its_target(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "real.bin", tmp_path / "link.bin"
    target.write_text("old")
    link.symlink_to("elsewhere/real.bin")
    FilePersistence(link).save("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    FilePersistence(link).delete()
    assert not target.exists()
    assert not link.is_symlink()


@requires(SYMBOLIC_LINKS)
def test_a_dangling_link_is_refused_and_nothing_is_written_at_its_end(tmp_path: Path) -> None:
    link = tmp_path / "link.bin"
    link.symlink_to(tmp_path / "missing.bin")
    with pytest.raises(PersistenceError, match="symbolic link"):
        FilePersistence(link).save("new")
    with pytest.raises(PersistenceNotFound):
        FilePersistence(link).load()
    with pytest.raises(PersistenceError):
        FilePersistence(link).touch()
    assert os.listdir(tmp_path) == ["link.bin"]


@requires("os.geteuid")
def test_where_a_rename_cannot_be_the_file_is_written_in_place(tmp_path: Path) -> None:
    needs(None if os.geteuid() == 0 else "only root can bind-mount a file")
    source, point = tmp_path / "source.bin", tmp_path / "mounted.bin"
    source.write_text("a longer old content")
    point.touch()
    mount = subprocess.run(["mount", "--bind", source, point], check=False)
    needs("cannot bind-mount a file" if mount.returncode else None)
    try:
        FilePersistence(point).save("new")
        assert source.read_text() == "new"
        assert FilePersistence(point).load() == "new"
    finally:
        subprocess.run(["umount", str(point)], check=True)
    assert sorted(os.listdir(tmp_path)) == ["mounted.bin", "source.bin"]


@pytest.mark.parametrize("location", [None, "", b""])
def test_a_missing_location_is_a_value_error(location: str | None) -> None:
    with pytest.raises(ValueError, match="Requires a file path"):
        FilePersistence(location)  # type: ignore[arg-type]


@pytest.mark.parametrize("location", [5, 1.5, object(), ["cache.bin"]])
def test_a_location_that_is_no_path_is_a_type_error(location: str) -> None:
    with pytest.raises(TypeError):
        FilePersistence(location)


def test_a_null_byte_in_a_location_is_a_value_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="null byte"):
        FilePersistence(f"{tmp_path}/a\0b")
    assert os.listdir(tmp_path) == []


def test_an_over_long_name_is_a_typed_error_that_asks_for_a_shorter_one(tmp_path: Path) -> None:
    with pytest.raises(PersistenceError, match="Choose a shorter path"):
        FilePersistence(tmp_path / ("x" * 256)).save("x")
    with pytest.raises(PersistenceError, match="Choose a shorter path"):
        FilePersistence(tmp_path / ("x" * 256) / "cache.bin")
    assert os.listdir(tmp_path) == []


def test_the_longest_possible_name_works(tmp_path: Path) -> None:
    persistence = FilePersistence(tmp_path / ("x" * 255))
    persistence.save("x")
    assert persistence.load() == "x"


@requires("os.pathconf", SYMBOLIC_LINKS)
def test_a_path_that_a_link_makes_too_long_is_refused_and_not_cut(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    half = os.pathconf("/", "PC_PATH_MAX") // 2
    (tmp_path / "link").symlink_to("./" * (half // 2 - 2) + "real")
    for name, fits in (("cache.bi", True), ("cache.bin", False)):
        tail = "/" + "./" * ((half - len("/cache.bin")) // 2) + name
        assert half + len(tail) == 2 * half - fits
        if fits:
            files.replace(f"{tmp_path}/link{tail}", b"new")
        else:
            with pytest.raises(PersistenceError) as caught:
                files.replace(f"{tmp_path}/link{tail}", b"of another file")
            assert caught.value.errno == errno.ENAMETOOLONG
    assert os.listdir(tmp_path / "real") == ["cache.bi"]
    assert (tmp_path / "real" / "cache.bi").read_bytes() == b"new"


def test_a_directory_as_location_is_refused_by_name(tmp_path: Path) -> None:
    persistence = FilePersistence(tmp_path)
    for use in (persistence.load, lambda: persistence.save("x")):
        with pytest.raises(PersistenceIsADirectory) as caught:
            use()
        assert isinstance(caught.value, IsADirectoryError)
        assert caught.value.location == str(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_file_where_a_directory_belongs_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PersistenceError):
        FilePersistence(tmp_path / "file" / "cache.bin")


@requires("os.mkfifo")
def test_a_fifo_or_a_device_as_location_is_refused_and_never_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path / "fifo"), os.devnull):
        with pytest.raises(PersistenceError, match="not a regular file"):
            FilePersistence(path).save("x")
        with pytest.raises(PersistenceError, match="not a regular file"):
            FilePersistence(path).load()
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("content", [None, 5, b"bytes", ["list"]])
def test_a_content_that_is_no_text_is_a_type_error_and_changes_nothing(
    location: Path, content: str
) -> None:
    FilePersistence(location).save("old")
    with pytest.raises(TypeError):
        FilePersistence(location).save(content)
    assert FilePersistence(location).load() == "old"


def test_a_content_that_cannot_be_utf8_is_refused_without_being_told(location: Path) -> None:
    with pytest.raises(UnicodeEncodeError, match="position 6") as caught:
        FilePersistence(location).save("secret\ud800")
    assert "secret" not in repr(caught.value) + str(caught.value.__context__)
    assert not location.exists()


def test_bytes_that_are_not_utf8_are_a_typed_error_without_the_bytes(location: Path) -> None:
    location.write_bytes(b"secret\xff")
    with pytest.raises(PersistenceDamaged, match="byte 6 of 7") as caught:
        FilePersistence(location).load()
    assert isinstance(caught.value, ValueError)
    assert "secret" not in repr(caught.value) + repr(caught.value.__context__)


def as_somebody_else(work: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Runs a snippet as an ordinary user, whom permissions bind."""
    from tests.support.processes import python

    needs(None if os.geteuid() == 0 else "only root can become another user")
    code = f"""
        import os, sys
        import msal_extensions
        os.setgid(65534); os.setuid(65534)
        path = sys.argv[1]
        try:
            {work}
        except OSError as error:
            print(*[kind.__name__ for kind in type(error).__mro__], error)
        else:
            print("no error")
    """
    return python(code, str(path))


@requires("os.geteuid")
def test_a_read_only_directory_is_a_permission_error_that_says_what_to_check(
    shared: Path,
) -> None:
    (shared / "readonly").mkdir(mode=0o755)
    for work in (
        "msal_extensions.FilePersistence(path + '/readonly/cache.bin').save('x')",
        "msal_extensions.FilePersistence(path + '/readonly/new/cache.bin')",
    ):
        output = as_somebody_else(work, shared).stdout
        assert "PersistenceDenied PersistenceError PermissionError" in output
    output = as_somebody_else(
        "msal_extensions.CrossPlatLock(path + '/readonly/lock').acquire()", shared
    ).stdout
    assert "LockFileDenied LockFileError PermissionError OSError LockError RuntimeError" in output
    assert os.listdir(shared / "readonly") == []


@requires("os.geteuid")
def test_a_file_its_owner_made_read_only_is_not_replaced(shared: Path) -> None:
    mine = shared / "mine"
    mine.mkdir()
    (mine / "cache.bin").write_text("old")
    (mine / "cache.bin").chmod(0o444)
    if os.geteuid() == 0:
        os.chown(mine, 65534, 65534)
        os.chown(mine / "cache.bin", 65534, 65534)
    output = as_somebody_else(
        "msal_extensions.FilePersistence(path + '/mine/cache.bin').save('x')", shared
    ).stdout
    assert "PersistenceDenied" in output
    assert (mine / "cache.bin").read_text() == "old"


def test_a_denial_is_caught_by_programs_that_catch_permission_error() -> None:
    assert issubclass(PersistenceDenied, PermissionError)
    assert issubclass(PersistenceDenied, PersistenceError)


def test_deleting_twice_is_fine(location: Path) -> None:
    persistence = FilePersistence(location)
    persistence.save("x")
    persistence.delete()
    persistence.delete()
    with pytest.raises(PersistenceNotFound):
        persistence.load()


@requires("fcntl")
def test_the_data_file_is_never_locked(location: Path) -> None:
    import fcntl

    persistence = FilePersistence(location)
    persistence.save("x")
    seen: set[int] = set()
    writer = forked_writer(location)
    try:
        deadline = time.monotonic() + GENEROUS
        while len(seen) < 100 and time.monotonic() < deadline:
            with location.open() as file:  # .NET does so while it reads
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                seen.add(os.fstat(file.fileno()).st_mtime_ns)
    finally:
        kill(writer)
    assert len(seen) == 100, "it looked at too few of the saves"


def test_a_watcher_of_changed_files_is_told_of_a_save(location: Path) -> None:
    """.NET's FileSystemWatcher listens for Changed, and not for Renamed."""
    needs(None if shutil.which("inotifywait") else "inotifywait (inotify-tools) is not installed")
    persistence = FilePersistence(location)
    persistence.save("old")
    with subprocess.Popen(
        ["inotifywait", "-m", "-t", "20", "--format", "%e %f", str(location.parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watcher:
        assert watcher.stderr is not None
        while "established" not in watcher.stderr.readline():
            pass
        persistence.save("new")
        assert watcher.stdout is not None
        told = any(line == f"ATTRIB {location.name}\n" for line in watcher.stdout)
        watcher.terminate()
    assert told


def test_threads_that_touch_a_signal_file_at_once_all_succeed(location: Path) -> None:
    import threading

    persistence = FilePersistence(location)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(300):
                persistence.touch()
        except OSError as error:
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        location.unlink(missing_ok=True)
    assert failures == []
