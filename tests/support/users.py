"""Other users of the machine: real uids, made up, for tests that run as root.

    def test_...(shared: Path) -> None:
        home = directory(shared / "home", US, 0o700)
        planted = link(shared / "cache.bin", home / "precious", THEM)
        with pytest.raises(PersistenceDenied):
            as_user(US, lambda: FilePersistence(planted).save("tokens"))

The work runs in a forked child that becomes the user, because Python itself may be installed where
other users cannot read it.  Import `shared` and ask for it: pytest's own temporary directories are
for root only.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import pickle
import select
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from tests.support.capability import needs
from tests.support.processes import PATIENCE
from tests.support.reference import reference_python

T = TypeVar("T")

ROOT = 0
#: The user of the saving program, the attacker, and a third user; each in a group with the same
#: number.
US, THEM, THIRD = 12001, 12002, 12003
#: A group for two of them, and a user that only access lists name.
GROUP, NAMED = 12050, 12009

_PR_SET_DUMPABLE = 4
_CLONE_NEWUSER = 0x10000000


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


# ---- places that all users can reach ------------------------------------------------------


def _is_reachable(path: Path) -> bool:
    """May everybody go through this directory and all directories above it?"""
    return all(part.stat().st_mode & 0o001 for part in (path, *path.resolve().parents))


@contextlib.contextmanager
def new_directory(parent: str) -> Iterator[Path]:
    """A directory of root that all users can go through; it is removed at the end."""
    needs(None if hasattr(os, "geteuid") and os.geteuid() == 0 else "only root can become others")
    needs(None if _is_reachable(Path(parent)) else f"other users cannot reach {parent}")
    made = Path(tempfile.mkdtemp(prefix="msalex-users-", dir=parent))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory of root that all users can go through."""
    with new_directory(tempfile.gettempdir()) as made:
        yield made


@pytest.fixture
def firm() -> Iterator[Path]:
    """The same, and only root can change a name on the way to it."""
    with new_directory("/run") as made:
        yield made


@pytest.fixture
def fast() -> Iterator[Path]:
    """The same in memory, where thousands of saves take only seconds."""
    parent = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
    with new_directory(parent) as made:
        yield made


def directory(path: Path, owner: int, mode: int, group: int | None = None) -> Path:
    path.mkdir()
    return _give(path, owner, mode, group)


def file(path: Path, text: str, owner: int, mode: int, group: int | None = None) -> Path:
    path.write_text(text)
    return _give(path, owner, mode, group)


def _give(path: Path, owner: int, mode: int, group: int | None) -> Path:
    os.chown(path, owner, owner if group is None else group)
    path.chmod(mode)  # after chown, because chown removes setuid and setgid
    return path


def link(path: Path, target: str | Path, owner: int) -> Path:
    path.symlink_to(target)
    os.lchown(path, owner, owner)
    return path


# ---- what is there ------------------------------------------------------------------------


class State(NamedTuple):
    """Everything of a file or link that an attack may change."""

    owner: int
    group: int
    mode: str
    inode: int
    modified_ns: int
    content: bytes


def state(path: Path) -> State:
    found = path.lstat()
    content = b""
    if path.is_symlink():
        content = os.readlink(os.fsencode(path))
    elif stat.S_ISREG(found.st_mode):
        content = path.read_bytes()
    # The time of a directory changes with temporary files, which are allowed.
    modified_ns = 0 if stat.S_ISDIR(found.st_mode) else found.st_mtime_ns
    mode = stat.filemode(found.st_mode)
    return State(found.st_uid, found.st_gid, mode, found.st_ino, modified_ns, content)


def tree(top: Path) -> dict[str, State]:
    """The state of everything below a directory, by name."""
    return {str(path.relative_to(top)): state(path) for path in sorted(top.rglob("*"))}


def rights(path: Path) -> tuple[int, int, int]:
    """Owner, group and mode."""
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


# ---- becoming somebody --------------------------------------------------------------------


def become(user: int, groups: Sequence[int] = ()) -> None:
    """Turns this process into that user, for good."""
    os.setgroups(groups)
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    # Otherwise /proc/self belongs to root, unlike that of a program that began as this user.
    _libc().prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def enter_user_namespace(inside: int | None = None) -> None:
    """As `unshare --user --map-current-user`: puts this process into a namespace that knows one
    user, itself, by the number `inside` (default: the same number).  All other users look alike
    there."""
    user, group = os.getuid(), os.getgid()
    if _libc().unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user if inside is None else inside} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group if inside is None else inside} {group} 1")


def as_user(user: int, work: Callable[[], T], groups: Sequence[int] = ()) -> T:
    """The result, or the exception, of `work` when that user does it."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - in the child
        try:
            os.close(readable)
            with os.fdopen(writable, "wb") as answer:
                answer.write(_outcome(user, work, groups))
        finally:
            os._exit(0)
    os.close(writable)
    done: bool
    result: Any
    try:
        with os.fdopen(readable, "rb") as answer:
            ended = select.select([answer], [], [], PATIENCE)[0]
            done, result = pickle.loads(answer.read()) if ended else (False, TimeoutError())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if not done:
        raise result
    returned: T = result
    return returned


def _outcome(user: int, work: Callable[[], Any], groups: Sequence[int]) -> bytes:
    try:
        become(user, groups)
        return pickle.dumps((True, work()))
    except BaseException as error:
        try:
            return pickle.dumps((False, error))
        except Exception:
            return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))


def may_read(user: int, path: Path, groups: Sequence[int] = ()) -> bool:
    try:
        as_user(user, path.read_bytes, groups)
    except PermissionError:
        return False
    return True


# ---- 1.3.1 beside it ----------------------------------------------------------------------

_REFERENCE = """
import json, os, sys
from msal_extensions import FilePersistence, PersistedTokenCache
for line in sys.stdin:
    user, groups, operation, location = json.loads(line)
    if os.fork() == 0:
        answer = operation
        try:
            os.setgroups(groups)
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            persistence = FilePersistence(location)
            persistence.save("new") if operation == "save" else persistence.load()
            answer += " ok"
        except BaseException as error:
            answer += " " + type(error).__name__
        os.write(1, (answer + "\\n").encode())
        os._exit(0)
    os.wait()
"""


class Reference:
    """msal-extensions 1.3.1, which saves and loads as any user.  The tests print its results beside
    ours."""

    def __init__(self) -> None:
        command, environment = reference_python(portalocker=False)
        self._process = subprocess.Popen(
            [*command, "-c", _REFERENCE],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def attempt(self, user: int, operation: str, location: Path, groups: Sequence[int] = ()) -> str:
        """A result such as "save ok" or "load PermissionError"."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([user, [*groups], operation, str(location)]), file=self._process.stdin)
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="session")
def reference() -> Iterator[Reference]:
    running = Reference()
    yield running
    running.close()
