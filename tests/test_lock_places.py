"""A lock stays where it was made: no other user redirects it, wherever its path leads later."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from msal_extensions import CrossPlatLock, FilePersistence, LockError, PersistedTokenCache
from tests.support.capability import (
    FILE_MODES,
    REMOVABLE_OPEN_FILES,
    SYMBOLIC_LINKS,
    needs,
    requires,
)
from tests.support.fakes import assert_met, faked
from tests.support.fakes import fakes_fixture as fakes_fixture
from tests.support.fakes import logs_fixture as logs_fixture
from tests.support.processes import GENEROUS, eventually, python, saying

A, B, OUTSIDER = 12001, 12002, 12003  # users, each with a group of the same number
GROUP = 12100
#: Names for each snippet: become() another user, and the lock.
PREFIX = """
import os, sys, time
from msal_extensions import CrossPlatLock, LockError
def become(user, *groups):
    os.setgroups(groups); os.setgid(user); os.setuid(user)
"""


def snippet(code: str) -> str:
    return PREFIX + textwrap.dedent(code)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that all users can reach; they cannot reach tmp_path."""
    needs(None if os.geteuid() == 0 else "only root can become another user")
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory).resolve()


def make_directory(path: Path, mode: int, user: int = 0, group: int = 0) -> Path:
    path.mkdir()
    os.chown(path, user, group)
    path.chmod(mode)
    return path


def holder(
    path: Path, user: int, *groups: int
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """A process of that user that holds the lock; it is killed at the end."""
    code = snippet(
        f"""
        become({", ".join(map(str, (user, *groups)))}) if {user} else None
        with CrossPlatLock(sys.argv[1]):
            print("held", flush=True)
            sys.stdin.read()
        """
    )
    return saying("held", [sys.executable, "-c", code, path])


def told(path: Path, user: int, *groups: int, timeout: float = 0) -> str:
    """The result when that user tries: "in", or the error."""
    code = snippet(
        f"""
        become({", ".join(map(str, (user, *groups)))})
        try:
            with CrossPlatLock(sys.argv[1], timeout={timeout}):
                print("in")
        except LockError as error:
            print(getattr(error, "errno", None), error)
        """
    )
    return python(code, str(path)).stdout


# ---- the path leads elsewhere --------------------------------------------------------------


@requires(REMOVABLE_OPEN_FILES)
def test_a_lock_is_lost_when_its_directory_was_moved_away_and_made_anew(tmp_path: Path) -> None:
    directory, gone = tmp_path / "directory", tmp_path / "gone"
    directory.mkdir()
    path = directory / "lockfile"
    with CrossPlatLock(path) as lock:
        assert lock.still_held()
        directory.rename(gone)
        assert not lock.still_held()
        directory.mkdir()
        assert not lock.still_held()
        path.write_text("somebody else's")
        assert not lock.still_held()
    assert path.read_text() == "somebody else's"
    assert os.listdir(gone) == []  # it removed its own file, in the directory where it had made it


@requires(REMOVABLE_OPEN_FILES, SYMBOLIC_LINKS)
def test_a_lock_stays_held_while_its_path_leads_to_the_same_directory(tmp_path: Path) -> None:
    directory, moved = tmp_path / "directory", tmp_path / "moved"
    directory.mkdir()
    with CrossPlatLock(directory / "lockfile") as lock:
        directory.rename(moved)
        directory.symlink_to(moved)
        assert lock.still_held()
    assert os.listdir(moved) == []


@requires(SYMBOLIC_LINKS)
def test_a_linked_directory_and_what_it_leads_to_are_one_lock(tmp_path: Path) -> None:
    directory, link = tmp_path / "directory", tmp_path / "link"
    directory.mkdir()
    link.symlink_to("directory")
    for one, other in (link, directory), (directory, link):
        with CrossPlatLock(one / "lockfile") as lock:
            assert lock.still_held()
            with pytest.raises(LockError):
                CrossPlatLock(other / "lockfile", timeout=0).acquire()
            assert lock.still_held()
    assert os.listdir(directory) == []


@requires("os.fork")
def test_a_waiter_whose_directory_was_exchanged_gets_the_lock_where_its_path_leads(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    path = directory / "lockfile"
    lock = CrossPlatLock(path).acquire()
    inode = path.stat().st_ino
    got: list[CrossPlatLock] = []
    waiter = threading.Thread(
        target=lambda: got.append(CrossPlatLock(path, timeout=GENEROUS).acquire())
    )
    waiter.start()
    assert eventually(lambda: any("->" in line for line in locks_of(inode)))
    directory.rename(tmp_path / "gone")
    directory.mkdir()
    assert os.path.lexists(tmp_path / "gone" / "lockfile")
    lock.release()
    waiter.join()
    assert got[0].still_held()
    assert os.listdir(directory) == ["lockfile"]
    got[0].release()
    assert os.listdir(directory) == []
    assert eventually(lambda: os.listdir(tmp_path / "gone") == [])


def locks_of(inode: int) -> list[str]:
    lines = Path("/proc/locks").read_text().splitlines()
    return [line for line in lines if f":{inode} " in line and "FLOCK" in line]


@requires("os.fork")
def test_an_exchange_of_directories_never_makes_a_release_remove_anothers_file(
    tmp_path: Path,
) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    ours.mkdir()
    others.mkdir()
    (others / "lockfile").write_text(f"{os.getpid()} somebody else")
    needs(None if exchange(ours, others) else "two names cannot be exchanged here")
    exchange(ours, others)
    held = hold_amid_exchanges(ours, others, rounds=4000)
    print(f"held {held} times")
    assert held >= 100
    files = [path for path in (ours / "lockfile", others / "lockfile") if path.exists()]
    assert [path.read_text() for path in files] == [f"{os.getpid()} somebody else"]


def exchange(one: Path, other: Path) -> bool:
    at_fdcwd, rename_exchange = -100, 2
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    paths = os.fsencode(one), os.fsencode(other)
    return rename is not None and not rename(
        at_fdcwd, paths[0], at_fdcwd, paths[1], rename_exchange
    )


def hold_amid_exchanges(ours: Path, others: Path, rounds: int) -> int:
    """Takes and releases the lock while a process exchanges the directories all the time."""
    code = """
        import ctypes, os, sys
        rename = ctypes.CDLL(None).renameat2
        paths = os.fsencode(sys.argv[1]), os.fsencode(sys.argv[2])
        print("ready", flush=True)
        while True:
            rename(-100, paths[0], -100, paths[1], 2)
    """
    held = 0
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(ours), str(others)],
        stdout=subprocess.PIPE,
        text=True,
    ) as exchanger:
        try:
            assert exchanger.stdout is not None
            exchanger.stdout.readline()
            for _ in range(rounds):
                with contextlib.suppress(LockError), CrossPlatLock(ours / "lockfile", timeout=0):
                    held += 1
        finally:
            exchanger.kill()
    return held


@requires("os.fork")
def test_a_child_made_by_fork_keeps_no_descriptor_of_its_parents_lock(tmp_path: Path) -> None:
    output = python(
        """
        import os, sys
        from msal_extensions import CrossPlatLock
        lock = CrossPlatLock(sys.argv[1]).acquire()
        def kept():
            found = []
            for number in os.listdir("/proc/self/fd"):
                try:
                    found.append(os.readlink(f"/proc/self/fd/{number}"))
                except OSError:
                    pass
            return [name for name in found if name.startswith(os.path.dirname(sys.argv[1]))]
        assert kept()
        child = os.fork()
        if child == 0:
            os._exit(len(kept()))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), lock.still_held())
        """,
        str(tmp_path / "lockfile"),
    )
    assert output.stdout == "0 True\n"


# ---- other users ---------------------------------------------------------------------------


@requires("os.geteuid")
def test_a_link_that_another_user_planted_on_the_way_is_refused_by_name(shared: Path) -> None:
    tmp = make_directory(shared / "tmp", 0o1777)
    theirs = make_directory(shared / "theirs", 0o777, A)
    (tmp / "app").symlink_to(theirs)
    os.lchown(tmp / "app", A, A)
    said = told(tmp / "app" / "lockfile", B, timeout=5)
    print(said)
    assert said.startswith(f"{errno.EACCES} ")
    assert "app" in said
    assert str(A) in said
    assert os.listdir(theirs) == []
    with pytest.raises(LockError):
        CrossPlatLock(tmp / "app" / "lockfile", timeout=5).acquire()
    assert os.listdir(theirs) == []


@requires("os.geteuid")
def test_a_link_that_another_user_puts_on_the_way_loses_a_held_lock(shared: Path) -> None:
    parent = make_directory(shared / "parent", 0o777)
    directory = make_directory(parent / "directory", 0o777)
    with CrossPlatLock(directory / "lockfile") as lock:
        directory.rename(parent / "gone")
        directory.symlink_to("gone")
        os.lchown(directory, A, A)
        assert not lock.still_held()  # no other process uses that file any more
    assert os.listdir(parent / "gone") == []


@requires("os.geteuid")
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_lock_file_of_root_belongs_to_the_owner_of_its_directory(mode: int, shared: Path) -> None:
    home = make_directory(shared / "home", mode, A, A)
    with CrossPlatLock(home / "lockfile"):
        found = (home / "lockfile").stat()
        assert (found.st_uid, found.st_mode & 0o777) == (A, 0o600)
    cache = PersistedTokenCache(FilePersistence(str(home / "cache.bin")))
    with cache.single_flight():
        names = [name for name in os.listdir(home) if name.endswith(".refresh")]
        assert [(home / name).stat().st_uid for name in names] == [A]


@requires("os.geteuid")
def test_a_root_process_that_is_killed_does_not_lock_the_user_out(shared: Path) -> None:
    home = make_directory(shared / "home", 0o700, A, A)
    with holder(home / "lockfile", 0) as process:
        assert told(home / "lockfile", A).startswith("None ")  # the lock is held
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (home / "lockfile").exists()
        assert told(home / "lockfile", A) == "in\n"
    assert os.listdir(home) == []


@requires("os.geteuid")
@pytest.mark.parametrize("mode", [0o770, 0o2770, 0o775])
def test_a_killed_member_of_a_group_does_not_lock_the_others_out(mode: int, shared: Path) -> None:
    directory = make_directory(shared / "group", mode, 0, GROUP)
    path = directory / "lockfile"
    with holder(path, A, GROUP) as process:
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (A, GROUP, 0o660)
        assert told(path, B, GROUP).startswith("None ")
        process.kill()
        process.wait()
        assert told(path, B, GROUP) == "in\n"
    assert os.listdir(directory) == []


@requires("os.geteuid")
def test_root_shares_with_the_owner_and_the_group_of_a_directory(shared: Path) -> None:
    directory = make_directory(shared / "group", 0o770, A, GROUP)
    with CrossPlatLock(directory / "lockfile"):
        found = (directory / "lockfile").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (A, GROUP, 0o660)


@requires("os.geteuid")
@pytest.mark.parametrize(
    ("mode", "user"),
    [(0o1777, A), (0o1777, 0), (0o3770, 0), (0o1770, A), (0o777, OUTSIDER)],
)
def test_elsewhere_a_lock_file_is_its_owners_alone(mode: int, user: int, shared: Path) -> None:
    """In a sticky directory, and where the user that made it is not in the group."""
    directory = make_directory(shared / "directory", mode, B, GROUP)
    groups = (GROUP,) if user == A else ()
    with holder(directory / "lockfile", user, *groups):
        found = (directory / "lockfile").stat()
    assert (found.st_uid, found.st_mode & 0o777) == (user, 0o600)


@requires(FILE_MODES)
def test_a_lock_file_in_a_directory_of_ones_own_is_private(tmp_path: Path) -> None:
    directory = tmp_path / "directory"
    directory.mkdir(mode=0o755)
    with CrossPlatLock(directory / "lockfile"):
        assert (directory / "lockfile").stat().st_mode & 0o777 == 0o600


@requires("os.geteuid")
@pytest.mark.parametrize(
    ("mode", "user", "groups"),
    [(0o777, OUTSIDER, ()), (0o1777, B, (GROUP,)), (0o1770, B, (GROUP,))],
)
def test_where_files_are_not_shared_a_killed_holders_file_is_told_with_its_owner(
    mode: int, user: int, groups: tuple[int, ...], shared: Path
) -> None:
    """Finding 11 of a review of the lock: it blocks other users, but not its owner."""
    directory = make_directory(shared / "directory", mode, 0, GROUP)
    path = directory / "lockfile"
    with holder(path, A, GROUP) as process:
        process.kill()
        process.wait()
        for timeout in 0, 1:
            said = told(path, user, *groups, timeout=timeout)
            assert said != "in\n"
            assert str(A) in said
        assert told(path, A, GROUP) == "in\n"
    assert os.listdir(directory) == []


@requires("os.geteuid")
def test_a_dead_peers_file_that_may_not_be_removed_is_told_with_its_owner(shared: Path) -> None:
    """Finding 10 of a review of the lock: waiters used all of the processor, and the error was
    wrong."""
    path = make_directory(shared / "tmp", 0o1777) / "lockfile"
    path.write_bytes(b"999999999 az")
    os.chown(path, A, A)
    path.chmod(0o666)
    for timeout in 0, 1:
        said = told(path, B, timeout=timeout)
        assert said != "in\n"
        assert str(A) in said
    assert told(path, A) == "in\n"


# ---- what cannot be removed ----------------------------------------------------------------


def record(state: str) -> bytes:
    """A record like ours, with the pid of a dead process."""
    line = f"{'999999999 az':<206} msalex1 {999999999:>10} {state:<8} 000 {1:016x}\n"
    assert len(line) == 256
    return line.encode()


CPU = """
try:
    CrossPlatLock(sys.argv[1], timeout=3).acquire()
    print("in")
except LockError:
    print(time.process_time() - before)
"""


@requires("os.geteuid")
@pytest.mark.parametrize("content", [b"", b"999999999 az", record("EXISTS")])
def test_a_stale_file_that_may_not_be_removed_keeps_no_processor_busy(
    content: bytes, shared: Path
) -> None:
    path = make_directory(shared / "tmp", 0o1777) / "lockfile"
    path.write_bytes(content)
    os.chown(path, A, A)
    path.chmod(0o666)
    os.utime(path, (time.time() - 3600, time.time() - 3600))
    said = python(snippet(f"become({B})\nbefore = time.process_time()\n{CPU}"), str(path)).stdout
    print(f"{said.strip()} s of processor time in 3 s")
    assert float(said) < 0.5
    assert path.read_bytes() == content


def test_what_a_killed_remover_left_keeps_no_processor_busy(
    fakes: Path, tmp_path: Path, logs: Path
) -> None:
    """Without flock <name>.stale prevents that two processes remove an old file at once."""
    path = tmp_path / "lockfile"
    path.write_bytes(b"999999999 az")
    path.with_name("lockfile.stale").touch()
    said = python(
        snippet(f"before = time.process_time()\n{CPU}"),
        str(path),
        environment=faked(fakes, "flock=ENOLCK", logs),
    ).stdout
    assert_met("flock=ENOLCK", logs)
    assert float(said) < 0.5


# ---- what it says of its holder ------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("\x1b]0;owned\x07\x1b[2Jaz\n2026-11-24 INFO login ok user=admin", "?]0;owned??[2Jaz"),
        ("az\r2026-11-24 INFO login ok\x00", "az?2026-11-24 INFO login ok?"),
        ("käse 日本 😀 \u009b2J\u2028x\u202ey\u2066z", "käse 日本 😀 ??2J???x???y???z"),
        ("az \udcff\udcc3", "az ??"),
        ("az \udced\udca0\udc80\udcc0\udcaf\udcf4\udc90\udc80\udc80.", "az " + "?" * 9 + "."),
        ("az\n\nmore", "az"),
    ],
)
def test_a_message_shows_one_harmless_line_of_a_lock_file(
    written: str, shown: str, tmp_path: Path
) -> None:
    path = tmp_path / "lockfile"
    path.write_bytes(f"{os.getpid()} {written}".encode("utf-8", "surrogateescape"))
    with pytest.raises(LockError) as caught:
        CrossPlatLock(path, timeout=0).acquire()
    message = str(caught.value)
    assert f"held by: {os.getpid()} {shown}. " in message
    assert message.isprintable()
