"""Lock files of programs in containers: a living holder is respected, a dead one is not.

Pids have other numbers there.  Docker's bind mounts, flatpak, snap and development containers share
directories this way.  The other direction, with our process inside, is in test_lock_peers.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import textwrap
from collections.abc import Generator
from pathlib import Path

import pytest

pytest.importorskip("fcntl")

from msal_extensions import CrossPlatLock, LockError
from tests.support import tally
from tests.support.capability import needs
from tests.support.processes import GENEROUS, saying
from tests.support.reference import reference_python

TIMES = int(os.environ.get("MSALEX_NAMESPACE_TIMES", "3"))
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]

#: Runs as process 1 of a pid namespace: for each pid that it reads, it forks 1.3.1 with that pid,
#: which takes the lock; it kills that process when it is told to.
CONTAINER = """
import os, signal, sys
from msal_extensions import CrossPlatLock
print("ready", flush=True)
for line in sys.stdin:
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(int(line) - 1))
    child = os.fork()
    if child == 0:
        CrossPlatLock(sys.argv[1]).__enter__()
        print(os.getpid(), flush=True)
        signal.pause()
    sys.stdin.readline()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def container(path: Path) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    usable = shutil.which("unshare") and subprocess.run([*UNSHARE, "true"]).returncode == 0
    needs(None if usable else "unshare cannot make a pid namespace here")
    command, environment = reference_python(portalocker=False)
    told = [*UNSHARE, *command, "-c", textwrap.dedent(CONTAINER), str(path)]
    return saying("ready", told, environment)


def free_pids() -> Generator[int]:
    """Low pids that no process outside has."""
    for pid in range(300, 30_000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            yield pid
        except PermissionError:
            continue


def tell(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_living_1_3_1_in_a_container_is_respected_and_a_dead_one_is_not(tmp_path: Path) -> None:
    """Finding 4 of a review of the lock: the file of a living one was removed."""
    path, pids = tmp_path / "lockfile", free_pids()
    with container(path) as process:
        for _ in range(TIMES):
            tally.tried()
            pid = str(next(pids))
            assert tell(process, pid) == pid
            assert path.read_text().split()[0] == pid  # no process outside has this pid
            for timeout in 0, 0.3:
                with pytest.raises(LockError, match=f"held by: {pid} "):
                    CrossPlatLock(path, timeout=timeout).acquire()
            assert path.read_text().split()[0] == pid
            assert tell(process, "die") == "dead"
            with CrossPlatLock(path, timeout=GENEROUS) as lock:
                assert lock.still_held()
