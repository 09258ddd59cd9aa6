"""Where the system lacks something, the lock still keeps others out, or says it cannot.

tests/native/linux/fake_syscalls.c imitates file systems that this machine does not have.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from msal_extensions import CrossPlatLock
from tests.support.capability import needs
from tests.support.fakes import assert_met, faked
from tests.support.fakes import fakes_fixture as fakes_fixture
from tests.support.fakes import logs_fixture as logs_fixture
from tests.support.processes import GENEROUS, crowd, python, saying

pytestmark = pytest.mark.slow

PROCESSES, ROUNDS = 4, 25
TIMEOUT_S = 20  # seconds for one wait; a longer one counts as a hang
SLACK_S = 20

NO_NAMELESS = "open_tmpfile=EOPNOTSUPP"
NO_LINKS = "linkat=EPERM"
NO_RENAMES = "renameat2=EINVAL"  # sshfs, which has links in place of it
#: Files have their name before they are locked and filled.
NAMED_FIRST = f"{NO_NAMELESS};{NO_RENAMES};{NO_LINKS}"
NO_EMPTY_PATH = "empty_path=ENOENT"  # Linux before 6.10, without the capability
NO_OPENAT2 = "openat2=ENOSYS"  # Linux before 5.6, and gVisor
#: For each fault: must the lock keep others out, or may it also raise a typed error?
EXCLUDES, OR_SAYS_SO = True, False
FAULTS = {
    NO_NAMELESS: EXCLUDES,
    "open_tmpfile=EINVAL": EXCLUDES,
    NO_LINKS: EXCLUDES,
    f"{NO_NAMELESS};{NO_RENAMES}": EXCLUDES,
    NAMED_FIRST: EXCLUDES,
    NO_EMPTY_PATH: EXCLUDES,
    NO_OPENAT2: EXCLUDES,
    "openat2=EPERM;eintr=7": EXCLUDES,  # a filter of system calls that does not know this call
    "pthread_create=EAGAIN": EXCLUDES,
    "eintr=3": EXCLUDES,
    f"eintr=7;{NO_NAMELESS}": EXCLUDES,
    "eintr=5;pthread_create=EAGAIN": EXCLUDES,
    "ofd=EINVAL": OR_SAYS_SO,
    "flock=ENOLCK": OR_SAYS_SO,
    "flock=ENOSYS": OR_SAYS_SO,
    "flock=EINVAL": OR_SAYS_SO,
    "flock=EOPNOTSUPP": OR_SAYS_SO,
    f"flock=ENOSYS;ofd=EINVAL;{NO_NAMELESS}": OR_SAYS_SO,
    f"flock=ENOLCK;ofd=ENOLCK;{NO_NAMELESS};eintr=7": OR_SAYS_SO,
    f"flock=ENOLCK;ofd=ENOLCK;{NO_NAMELESS};inotify=EMFILE": OR_SAYS_SO,
    f"flock=ENOLCK;ofd=ENOLCK;{NAMED_FIRST}": OR_SAYS_SO,
    f"flock=byterange;fstatfs=nfs;{NO_NAMELESS}": OR_SAYS_SO,
    f"flock=ENOLCK;ofd=ENOLCK;fstatfs=nfs;{NO_NAMELESS}": OR_SAYS_SO,
    f"flock=mandatory;fstatfs=smb;{NO_NAMELESS}": OR_SAYS_SO,
    "inode=unstable": OR_SAYS_SO,
    f"inode=unstable;{NO_NAMELESS}": OR_SAYS_SO,
    f"inode=unstable;{NAMED_FIRST}": OR_SAYS_SO,
    f"inode=unstable;flock=ENOSYS;ofd=EINVAL;{NO_NAMELESS}": OR_SAYS_SO,
    "pwrite=ENOSPC": OR_SAYS_SO,
    "pwrite=short": OR_SAYS_SO,
    f"pwrite=short;{NO_NAMELESS}": OR_SAYS_SO,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_four_processes_lose_no_increment_or_are_told_why(
    fault: str, fakes: Path, tmp_path: Path, logs: Path
) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    counter = directory / "counter"
    counter.write_text("0")
    before = time.monotonic()
    outputs = crowd(
        f"""
        import pathlib, time
        from msal_extensions import CrossPlatLock, LockError
        counter = pathlib.Path(sys.argv[2])
        ready()
        done = 0
        for _ in range({ROUNDS}):
            start = time.monotonic()
            try:
                with CrossPlatLock(sys.argv[2] + ".lockfile", timeout={TIMEOUT_S}):
                    value = int(counter.read_text())
                    time.sleep(0.001)
                    counter.write_text(str(value + 1))
                    done += 1
            except LockError as error:
                assert time.monotonic() - start < {TIMEOUT_S + SLACK_S}
                print("refused:", getattr(error, "errno", None), error)
                break
        print(done)
        """,
        PROCESSES,
        str(counter),
        environment=faked(fakes, fault, logs),
    )
    done = sum(int(output.split()[-1]) for output in outputs)
    refusals = [line for output in outputs for line in output.splitlines()[:-1]]
    print(f"{fault}: {done} entries in {time.monotonic() - before:.1f} s, {len(refusals)} refused")
    print("\n".join(sorted(set(refusals))[:3]))
    assert_met(fault, logs)
    assert counter.read_text() == str(done)  # no entry was lost, so no two were inside together
    if FAULTS[fault] is EXCLUDES or not refusals:
        assert done == PROCESSES * ROUNDS
        assert refusals == []
    else:
        assert done == 0  # it cannot work there, and each process was told so
        assert "refused: None" not in "".join(refusals)  # the reason, not only the time
    assert os.listdir(directory) == ["counter"]


@pytest.mark.parametrize("fault", FAULTS)
def test_no_wait_hangs_whether_the_holder_lives_or_dies(
    fault: str, fakes: Path, tmp_path: Path, logs: Path
) -> None:
    path = tmp_path / "lockfile"
    environment = {**os.environ, **faked(fakes, fault, logs)}
    code = (
        "import sys; from msal_extensions import CrossPlatLock, LockError\n"
        "try:\n    lock = CrossPlatLock(sys.argv[1]).acquire()\n"
        "except LockError: print('refused', flush=True); sys.exit()\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    waiter = """
        import sys, time
        from msal_extensions import CrossPlatLock, LockError
        for timeout in 0, 0.3:
            before = time.monotonic()
            try:
                with CrossPlatLock(sys.argv[1], timeout=timeout):
                    print("in")
            except LockError as error:
                print("out" if getattr(error, "errno", None) is None else "refused")
            assert time.monotonic() - before < timeout + 10
    """
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        said = holder.stdout.readline().strip()
        living = python(waiter, str(path), environment=environment).stdout.split()
        holder.kill()
    dead = python(waiter, str(path), environment=environment).stdout.split()
    print(f"{fault}: {said}, alive: {living}, killed: {dead}")
    if said == "held":
        assert "in" not in living
        # Where flock works, the first try succeeds, unless a signal interrupts it.  Elsewhere a
        # file on a network file system counts as left behind only when it is 60 s old.
        assert dead[0] == "in" or FAULTS[fault] is OR_SAYS_SO or "eintr" in fault
        assert dead[1] == "in" or "fstatfs=nfs" in fault
    else:
        assert living == dead == ["refused", "refused"]
        assert not path.exists()


# ---- real faults --------------------------------------------------------------------------


def in_own_mounts(script: str, snippet: str, *arguments: str) -> str:
    """Runs the snippet as root in a mount namespace of its own, after the shell script has made its
    mounts."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    can = "mount -t tmpfs none /mnt"
    usable = shutil.which("unshare") and subprocess.run([*unshare, "sh", "-c", can]).returncode == 0
    needs(None if usable else "unshare cannot make mounts here")
    program = [sys.executable, "-c", textwrap.dedent(snippet), *arguments]
    done = subprocess.run(
        [*unshare, "sh", "-ec", script + '\nexec "$@"', "sh", *program],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


TRY = """
    import os, sys, time
    from msal_extensions import CrossPlatLock, LockError
    before = time.monotonic()
    try:
        with CrossPlatLock(sys.argv[1] + "/lockfile", timeout=2):
            print("in")
    except LockError as error:
        print(error.errno, error)
    assert time.monotonic() - before < 10
    print(os.listdir(sys.argv[1]))
"""


def test_a_read_only_file_system_is_a_typed_error_at_once(tmp_path: Path) -> None:
    script = f'mount -t tmpfs none "{tmp_path}"; mount -o remount,ro "{tmp_path}"'
    said = in_own_mounts(script, TRY, str(tmp_path)).splitlines()
    assert said[0].startswith(f"{errno.EROFS} ")
    assert said[1] == "[]"


def test_a_full_file_system_is_a_typed_error_or_no_obstacle(tmp_path: Path) -> None:
    fill = f'mount -t tmpfs -o size=16k none "{tmp_path}"; cat /dev/zero >"{tmp_path}/fill" || true'
    said = in_own_mounts(fill, TRY, str(tmp_path)).splitlines()
    print(said[0])
    assert said[0] == "in" or said[0].startswith(f"{errno.ENOSPC} ")
    assert said[1] == "['fill']"


def test_a_file_system_without_a_free_inode_is_a_typed_error(tmp_path: Path) -> None:
    fill = f'mount -t tmpfs -o nr_inodes=2 none "{tmp_path}"; : >"{tmp_path}/fill"'
    said = in_own_mounts(fill, TRY, str(tmp_path)).splitlines()
    assert said[0].startswith(f"{errno.ENOSPC} ")
    assert said[1] == "['fill']"


def exchange_with_empty(directory: Path) -> None:
    """Exchanges the directory for an empty one, at once; the old one is `gone`, beside it."""
    gone = directory.with_name("gone")
    gone.mkdir()
    at_fdcwd, rename_exchange = -100, 2
    rename = ctypes.CDLL(None, use_errno=True).renameat2
    paths = os.fsencode(directory), os.fsencode(gone)
    assert rename(at_fdcwd, paths[0], at_fdcwd, paths[1], rename_exchange) == 0, ctypes.get_errno()


@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
@pytest.mark.parametrize("whose", ["ours", "a peer's"])
def test_a_directory_that_goes_while_waiting_ends_the_wait(
    whose: str, replaced: bool, tmp_path: Path
) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    path = directory / "lockfile"
    code = (
        "import sys; from msal_extensions import CrossPlatLock, LockError\n"
        "print('waiting', flush=True)\n"
        "try:\n    CrossPlatLock(sys.argv[1], timeout=30).acquire(); print('in')\n"
        "except LockError as error: print(error.errno)"
    )
    holder = CrossPlatLock(path)
    if whose == "ours":
        holder.acquire()
    else:
        path.write_text(f"{os.getpid()} a peer")
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as waiter:
        try:
            assert waiter.stdout is not None
            waiter.stdout.readline()
            time.sleep(0.3)
            if replaced:
                exchange_with_empty(directory)
            else:
                directory.rename(tmp_path / "gone")
            shutil.rmtree(tmp_path / "gone")
            if whose == "ours":
                assert not holder.still_held()
                holder.release()
            before = time.monotonic()
            said = waiter.stdout.readline().strip()
            took = time.monotonic() - before
        finally:
            waiter.kill()
    print(f"noticed {took * 1000:.1f} ms after")
    assert said == ("in" if replaced else str(errno.ENOENT))
    assert took < 10


def test_a_directory_without_permission_is_a_typed_error() -> None:
    # Not in tmp_path, which only root can reach, because root becomes another user here.
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o555)
        output = python(
            """
            import os, sys
            from msal_extensions import CrossPlatLock, LockError
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            try:
                CrossPlatLock(sys.argv[1] + "/lockfile", timeout=5).acquire()
            except LockError as error:
                print(error.errno, type(error).__name__)
            """,
            directory,
        ).stdout
        assert os.listdir(directory) == []
    assert output == f"{errno.EACCES} LockFileDenied\n"


def test_a_symbolic_link_put_in_the_way_of_a_waiter_is_refused_untouched(tmp_path: Path) -> None:
    path, target = tmp_path / "lockfile", tmp_path / "target"
    target.write_text("precious")
    with CrossPlatLock(path) as lock:
        path.unlink()
        path.symlink_to(target)
        assert not lock.still_held()
        output = python(
            "import sys; from msal_extensions import CrossPlatLock, LockError\n"
            "try:\n    CrossPlatLock(sys.argv[1], timeout=5).acquire()\n"
            "except LockError as error: print(error.errno)",
            str(path),
        ).stdout
        assert output == f"{errno.ELOOP}\n"
    assert target.read_text() == "precious"
    assert path.is_symlink()


def test_a_peer_that_locks_a_file_between_our_create_and_our_lock_has_it(
    fakes: Path, tmp_path: Path
) -> None:
    """Where files have a name from the start, a peer like .NET may lock a file first."""
    path = tmp_path / "lockfile"
    code = (
        "import sys; from msal_extensions import CrossPlatLock\n"
        "with CrossPlatLock(sys.argv[1], timeout=30): print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, **faked(fakes, f"{NAMED_FIRST};create=slower", tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as ours:
        deadline = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < deadline
        with path.open("r+") as peer:
            fcntl.flock(peer, fcntl.LOCK_EX | fcntl.LOCK_NB)
            peer.write(f"\ufeff{os.getpid()} net\n")
            peer.flush()
            time.sleep(0.3)
            assert os.path.samestat(os.fstat(peer.fileno()), path.lstat())  # it is still there
            assert ours.poll() is None, ours.communicate()[1]  # nor did ours get a wrong error
            path.unlink()
        assert ours.stdout is not None
        assert ours.stdout.readline() == "in\n"
        ours.communicate("")
    assert_met("create=slower", tmp_path)
    assert not path.exists()


def test_a_waiter_without_inotify_sees_a_peers_file_go(
    fakes: Path, tmp_path: Path, logs: Path
) -> None:
    path = tmp_path / "lockfile"
    path.write_text(f"{os.getpid()} a peer")
    code = (
        "import sys; from msal_extensions import CrossPlatLock\n"
        "print('waiting', flush=True)\n"
        "with CrossPlatLock(sys.argv[1], timeout=30): print('in', flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, **faked(fakes, "inotify=EMFILE", logs)},
        stdout=subprocess.PIPE,
        text=True,
    ) as waiter:
        assert waiter.stdout is not None
        waiter.stdout.readline()
        time.sleep(0.2)
        before = time.monotonic()
        path.unlink()
        assert waiter.stdout.readline() == "in\n"
        print(f"in {(time.monotonic() - before) * 1000:.1f} ms after, without inotify")
    assert_met("inotify=EMFILE", logs)


@pytest.mark.parametrize("why", ["EMFILE", "ENOENT"])  # no descriptor is left; no /proc
def test_a_peer_whose_process_cannot_be_looked_at_is_alive_if_the_kernel_says_so(
    why: str, fakes: Path, tmp_path: Path
) -> None:
    """The kernel may not know a process that lives in a container: so the peer counts as alive
    until its file is too old."""
    path = tmp_path / "lockfile"
    snippet = """
        import sys
        from msal_extensions import CrossPlatLock, LockError
        try:
            with CrossPlatLock(sys.argv[1], timeout=0.2):
                print("in")
        except LockError:
            print("out")
    """
    environment = faked(fakes, f"proc={why}", tmp_path)
    for pid, age, expected in (
        (os.getpid(), 0, "out\n"),
        (1, 70, "out\n"),
        (999_999_999, 50, "out\n"),
        (999_999_999, 70, "in\n"),
    ):
        path.write_text(f"{pid} a peer that holds no kernel lock")
        os.utime(path, (time.time() - age,) * 2)
        assert python(snippet, str(path), environment=environment).stdout == expected
    assert_met(f"proc={why}", tmp_path)


def test_a_wait_survives_a_poll_that_fails(fakes: Path, tmp_path: Path) -> None:
    path = tmp_path / "lockfile"
    path.write_text(f"{os.getpid()} a peer")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from msal_extensions import CrossPlatLock\n"
            "CrossPlatLock(sys.argv[1], timeout=1).acquire()",
            str(path),
        ],
        env={**os.environ, **faked(fakes, "ppoll=ENOMEM", tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != -signal.SIGSEGV
    assert "LockError" in done.stderr or "LockFileError" in done.stderr


# ---- errors that prove nothing -------------------------------------------------------------

TRY_ONCE = """
    import sys
    from msal_extensions import CrossPlatLock, LockError
    for timeout in map(float, sys.argv[2:]):
        try:
            with CrossPlatLock(sys.argv[1], timeout=timeout):
                print("in")
        except LockError as error:
            print(getattr(error, "errno", None), error)
"""


@contextlib.contextmanager
def holder(
    path: Path, environment: dict[str, str] | None = None, alive: bool = True
) -> Generator[None]:
    """A process of ours holds the lock, and is killed at the end; or at once, if it must be
    dead."""
    code = (
        "import sys; from msal_extensions import CrossPlatLock\n"
        "lock = CrossPlatLock(sys.argv[1]).acquire(); print('held', flush=True); sys.stdin.read()"
    )
    with saying("held", [sys.executable, "-c", code, path], environment) as process:
        if not alive:
            process.kill()
            process.wait()
        yield


@pytest.mark.parametrize("read", ["EIO", "EIO once"])
@pytest.mark.parametrize("flock", ["flock=ENOLCK;ofd=ENOLCK;", ""])
def test_a_lock_file_that_cannot_be_read_is_no_stale_one(
    flock: str, read: str, fakes: Path, tmp_path: Path, logs: Path
) -> None:
    """Finding 7 of a review of the lock: one read error, and the file of a living holder was
    removed."""
    path = tmp_path / "lockfile"
    no_locks = faked(fakes, flock, logs) if flock else None
    fault = f"{flock}pread={read}"
    with holder(path, no_locks):
        content = path.read_bytes()
        os.utime(path, (time.time() - 30, time.time() - 30))
        for timeout in "0", "1":
            said = python(TRY_ONCE, str(path), timeout, environment=faked(fakes, fault, logs))
            print(said.stdout.strip())
            assert said.stdout != "in\n"
            if read == "EIO":
                assert said.stdout.startswith(f"{errno.EIO} ")
            assert path.read_bytes() == content
        assert_met(fault.split(";")[-1], logs)


@pytest.mark.parametrize("fault", ["fstat=ENOENT once", "fstat=ESTALE once", "pread=ESTALE once"])
@pytest.mark.parametrize("alive", [True, False], ids=["a living holder", "a dead one"])
def test_a_lock_file_that_went_just_when_it_was_opened_is_looked_for_again(
    alive: bool, fault: str, fakes: Path, tmp_path: Path, logs: Path
) -> None:
    """Another mount removed the file: then FUSE says ENOENT for an open file, and NFS says
    ESTALE."""
    path = tmp_path / "lockfile"
    with holder(path, alive=alive):
        for timeout in "0", "0.3":
            said = python(TRY_ONCE, str(path), timeout, environment=faked(fakes, fault, logs))
            assert said.stdout.startswith("None Unable to obtain" if alive else "in\n")
            assert_met(fault, logs)


def test_a_lock_file_that_stays_stale_is_an_error_and_no_lock_held(
    fakes: Path, tmp_path: Path, logs: Path
) -> None:
    path = tmp_path / "lockfile"
    with holder(path):
        for timeout in "0", "1":
            environment = faked(fakes, "fstat=ESTALE", logs)
            said = python(TRY_ONCE, str(path), timeout, environment=environment)
            assert said.stdout.startswith(f"{errno.ESTALE} ")


@pytest.mark.parametrize("code", ["EIO", "ENOLCK", "ENOMEM"])
@pytest.mark.parametrize("alive", [True, False], ids=["a living holder", "a dead one"])
def test_an_error_of_flock_is_told_as_such(
    alive: bool, code: str, fakes: Path, tmp_path: Path, logs: Path
) -> None:
    """Finding 14 of a review of the lock: a single try reported the error as "held"."""
    path = tmp_path / "lockfile"
    with holder(path, alive=alive):
        environment = faked(fakes, f"flock={code}", logs)
        said = python(TRY_ONCE, str(path), "0", "0.3", environment=environment).stdout
    print(said)
    assert_met("flock", logs)
    for line in said.splitlines():
        assert line.startswith(f"{getattr(errno, code)} ")
        assert "held by" not in line
    assert len(said.splitlines()) == 2


NOT_REMOVED = """
    import os, sys
    from msal_extensions._msalex import ffi, lib
    error, lock = ffi.new("msalex_error *"), ffi.new("msalex_lock **")
    assert lib.msalex_lock_new(sys.argv[1].encode(), b"test", lock, error) == lib.MSALEX_OK
    assert lib.msalex_lock_acquire(lock[0], 0, 0, error) == lib.MSALEX_OK
    os.putenv("FAKE", sys.argv[2])
    status = lib.msalex_lock_release(lock[0], error)
    os.putenv("FAKE", "")
    failed = status not in (lib.MSALEX_OK, lib.MSALEX_NOT_FOUND)
    print(failed, error.code, os.path.exists(sys.argv[1]))
    lib.msalex_lock_free(lock[0])
"""


@pytest.mark.parametrize("fault", ["unlinkat=EIO", "unlinkat=EROFS", "fstatat=EIO"])
def test_a_release_that_cannot_remove_the_file_says_so(
    fault: str, fakes: Path, tmp_path: Path, logs: Path
) -> None:
    """Finding 14 of a review of the lock: it reported success, or that somebody had removed the
    file."""
    path = tmp_path / "lockfile"
    environment = faked(fakes, "", logs)
    said = python(NOT_REMOVED, str(path), fault, environment=environment).stdout
    assert_met(fault, logs)
    code = getattr(errno, fault.partition("=")[2])
    assert said == f"True {code} True\n"
    with CrossPlatLock(path, timeout=GENEROUS) as lock:  # the lock is free
        assert lock.still_held()
    assert not path.exists()


@pytest.mark.parametrize("first", [3, 0], ids=["all but the standard ones", "all"])
def test_a_lock_whose_descriptors_were_closed_is_lost_and_closes_nothing_of_anybodys(
    first: int, tmp_path: Path
) -> None:
    """Suspected by a review of the lock, because daemons close all descriptors that they do not
    know."""
    path, result = tmp_path / "lockfile", tmp_path / "result"
    done = python(
        """
        import os, pathlib, sys
        from msal_extensions import CrossPlatLock, LockError
        path, result, first = *map(pathlib.Path, sys.argv[1:3]), int(sys.argv[3])
        lock = CrossPlatLock(path).acquire()
        os.closerange(first, 256)
        foreign = [os.open("/dev/null", os.O_RDWR) for _ in range(20)]
        def closed():
            found = []
            for descriptor in foreign:
                try:
                    os.fstat(descriptor)
                except OSError:
                    found.append(descriptor)
            return found
        held = lock.still_held()
        child = os.fork()
        if child == 0:
            os._exit(len(closed()))
        in_child = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        try:
            lock.release()
        except LockError:
            pass
        del lock
        result.write_text(f"{held} {in_child} {closed()}")
        os._exit(0)
        """,
        str(path),
        str(result),
        str(first),
        check=False,
    )
    assert done.returncode == 0
    assert result.read_text() == "False 0 []"
    with CrossPlatLock(path, timeout=GENEROUS) as lock:
        assert lock.still_held()
