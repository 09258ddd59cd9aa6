"""Forks beside threads that lock, and during a wait: the child holds nothing.

A child that keeps a descriptor of its parent's lock file holds the lock after its parent has died.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("fcntl")

from msal_extensions import CrossPlatLock
from tests.support import native, tally
from tests.support.fakes import faked
from tests.support.fakes import fakes_fixture as fakes_fixture
from tests.support.fakes import logs_fixture as logs_fixture
from tests.support.processes import GENEROUS, PATIENCE, python

pytestmark = pytest.mark.slow
FORKS = int(os.environ.get("MSALEX_FORKS", "300"))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/native/linux/lock_forks.c, linked with the library."""
    made = tmp_path_factory.mktemp("forks") / "lock_forks"
    return native.build(made, [native.LINUX / "lock_forks.c", *native.library()], "-g")


def run(program: Path, directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(program), str(directory), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE + FORKS / 50,
    )
    assert done.returncode == 0
    return done.stdout


def test_no_child_forked_beside_threads_that_lock_keeps_a_descriptor(
    program: Path, tmp_path: Path
) -> None:
    """Finding 5 of a review of the lock: children kept one."""
    directory = tmp_path / "directory"
    directory.mkdir()
    said = run(program, directory, "children", str(FORKS))
    print(said)
    kept, children = map(int, re.findall(r"\d+", said)[:2])
    tally.tried(children)
    tally.lost(kept)
    numbers = re.fullmatch(
        r"0 of (\d+) children kept 0 descriptors; (\d+) entries, (\d+) waits left\n", said
    )
    assert numbers is not None, said
    assert all(int(number) >= 10 for number in numbers.groups())


@pytest.mark.parametrize("fault", ["create=slow", "open_tmpfile=EOPNOTSUPP;create=slow"])
def test_a_child_forked_while_the_lock_file_is_made_does_not_keep_a_killed_parents_lock(
    fault: str, fakes: Path, tmp_path: Path, logs: Path
) -> None:
    """Finding 5 of a review of the lock: the file is open already, but the library has not noted it
    yet."""
    directory = tmp_path / "directory"
    directory.mkdir()
    said = python(
        """
        import os, sys, threading, time
        from msal_extensions import CrossPlatLock
        directory = os.path.dirname(sys.argv[1])
        def kept():
            found = []
            for number in os.listdir("/proc/self/fd"):
                try:
                    found.append(os.readlink(f"/proc/self/fd/{number}"))
                except OSError:
                    pass
            return [name for name in found if name.startswith(directory)]
        inside = threading.Event()
        def hold():
            lock = CrossPlatLock(sys.argv[1]).acquire()
            inside.set()
            time.sleep(600)
        threading.Thread(target=hold, daemon=True).start()
        while not any(name.startswith(directory + "/") for name in kept()):
            pass
        child = os.fork()
        if child == 0:
            os.write(1, f"{os.getpid()} {kept()}\\n".encode())
            os.close(1), os.close(2)    # nobody waits for the child
            time.sleep(120)
            os._exit(0)
        inside.wait()
        os.write(1, b"held\\n")          # print() may write the end of the line by itself
        os._exit(1)                     # as if it was killed
        """,
        str(directory / "lockfile"),
        environment=faked(fakes, fault, logs),
        check=False,
    ).stdout
    child = int(next(line for line in said.splitlines() if line != "held").split()[0])
    try:
        assert "held" in said.splitlines()
        with CrossPlatLock(directory / "lockfile", timeout=GENEROUS / 4) as lock:
            assert lock.still_held()
        assert f"{child} []" in said.splitlines()
    finally:
        os.kill(child, 9)


@pytest.mark.parametrize(
    ("patience_ms", "expected"), [(-1, "in"), (20_000, "in"), (250, "time is up")]
)
def test_a_child_forked_by_a_handler_in_a_wait_gets_in_or_is_told(
    patience_ms: int, expected: str, program: Path, tmp_path: Path
) -> None:
    """Finding 9 of a review of the lock: the child hung."""
    said = run(program, tmp_path, "handler", str(patience_ms))
    assert sorted(said.splitlines()) == [f"child: {expected}", f"parent: {expected}"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("timeout", [-1, 20, 0.3])
@pytest.mark.parametrize("whose", ["ours", "a peer's"])
def test_a_child_forked_by_a_python_handler_in_a_wait_gets_in_or_is_told(
    whose: str, timeout: float, tmp_path: Path
) -> None:
    """Finding 9 of a review of the lock: the child hung."""
    path = tmp_path / "lockfile"
    said = python(
        """
        import os, pathlib, signal, sys, time
        from msal_extensions import CrossPlatLock, LockError
        path, whose, timeout = pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
        ready, held = os.pipe()
        waiter = os.getpid()
        if os.fork() == 0:
            signal.alarm(100)
            if whose == "ours":
                lock = CrossPlatLock(path).acquire()
            else:
                path.write_text(f"{os.getpid()} a peer")
            os.write(held, b"h")
            time.sleep(0.15)
            os.kill(waiter, signal.SIGUSR1)
            time.sleep(0.5)
            lock.release() if whose == "ours" else path.unlink()
            os._exit(0)
        os.read(ready, 1)
        forked = []
        def fork(*_):
            forked.append(os.fork())
            signal.alarm(100)    # a child does not inherit it
        signal.signal(signal.SIGUSR1, fork)
        signal.alarm(100)
        try:
            with CrossPlatLock(path, timeout=timeout) as lock:
                told = f"in {lock.still_held()}"
        except LockError as error:
            told = f"out {getattr(error, 'errno', None)}"
        who = "child" if forked[0] == 0 else "parent"
        os.write(1, f"{who}: {told}\\n".encode())
        if forked[0] == 0:
            os._exit(0)
        for _ in range(2):
            os.wait()
        """,
        str(path),
        whose,
        str(timeout),
        check=False,
    ).stdout
    expected = "out None" if 0 <= timeout < 0.5 else "in True"
    assert sorted(said.splitlines()) == [f"child: {expected}", f"parent: {expected}"]
    assert os.listdir(tmp_path) == []
