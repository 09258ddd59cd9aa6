"""One directory through two mounts, as from two hosts: the lock still keeps others out.

For FUSE file systems without locks of their own, the kernel below each mount grants flock and fcntl
locks, and knows nothing of the other mount.  So such a grant keeps out nobody at another mount.  A
path, too, may lead to another file because of a change behind the mount.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("fcntl")

from msal_extensions import CrossPlatLock, LockError
from tests.support import tally
from tests.support.mounts import mounted
from tests.support.peer_programs import (
    OURS,
    Turn,
    ours,
    overlaps,
    reference,
    report,
    run_together,
)
from tests.support.processes import GENEROUS, descriptors, eventually, saying
from tests.support.seccomp import GO_ON, KILL, supervised

pytestmark = pytest.mark.slow

#: Entries of ours in each crowd.
ENTRIES = int(os.environ.get("MSALEX_MOUNT_ENTRIES", "60"))
OURS_THROUGH_EACH, PAUSE_MS = 2, 5
KINDS = ["bindfs", "sshfs"]
#: Seconds for a newcomer after a process has died; generous, but less than 1.3.1 waits.
NEWCOMER_S = 3


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def assert_nobody_beside_another(directories: Sequence[Path], marks: Path) -> None:
    """Runs our processes through each of the directories, beside a real 1.3.1 that only checks
    existence: no two are inside together."""
    mine = ENTRIES // (OURS_THROUGH_EACH * len(directories))
    turns = [
        turn
        for path in (directory / "lockfile" for directory in directories)
        for turn in (
            *(Turn(ours(), path, mine, PAUSE_MS) for _ in range(OURS_THROUGH_EACH)),
            Turn(reference(False), path, 0, 10 * PAUSE_MS),
        )
    ]
    logs = sorted(run_together(turns, marks, GENEROUS + ENTRIES), key=lambda log: log.kind)
    found = overlaps(logs)
    report(logs, found)
    tally.tried(sum(len(log.entries) for log in logs))
    tally.lost(len(found))
    assert found == []
    assert not any(how for log in logs if log.kind == OURS for *_, how in log.entries)
    assert all(len(log.entries) == mine for log in logs if log.kind == OURS)
    assert eventually(lambda: os.listdir(directories[0]) == [])  # FUSE removes open files late


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_is_inside_beside_another_through_two_mounts(
    kind: str, source: Path, tmp_path: Path
) -> None:
    """Finding 2 of a review of the lock: they were."""
    with (
        mounted(kind, source, tmp_path / "one") as one,
        mounted(kind, source, tmp_path / "other") as other,
    ):
        assert_nobody_beside_another([one, other], tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_is_inside_beside_another_through_a_mount_and_the_directory_below_it(
    kind: str, source: Path, tmp_path: Path
) -> None:
    """Finding 2 of a review of the lock: they were."""
    with mounted(kind, source, tmp_path / "one") as one:
        assert_nobody_beside_another([one, source], tmp_path)


def held_elsewhere(path: Path) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """Another process of ours holds the lock; it is killed at the end."""
    code = (
        "import sys; from msal_extensions import CrossPlatLock\n"
        "with CrossPlatLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    return saying("held", [sys.executable, "-c", code, path])


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_held_below_one_mount_is_respected_through_the_other(
    kind: str, source: Path, tmp_path: Path
) -> None:
    """Finding 2 of a review of the lock: it was not."""
    with (
        mounted(kind, source, tmp_path / "one") as one,
        mounted(kind, source, tmp_path / "other") as other,
    ):
        for holder, newcomers in (
            (one, (one, other, source)),
            (other, (one, other, source)),
            (source, (one, other)),
        ):
            with held_elsewhere(holder / "lockfile") as process:
                for newcomer in newcomers:
                    for timeout in 0, 0.05:
                        with pytest.raises(LockError) as caught:
                            CrossPlatLock(newcomer / "lockfile", timeout=timeout).acquire()
                        assert type(caught.value) is LockError  # sshfs says EPERM of others' files
                assert process.stdin is not None
                process.stdin.close()
                process.wait(timeout=GENEROUS)
            for newcomer in newcomers:
                with CrossPlatLock(newcomer / "lockfile", timeout=GENEROUS) as lock:
                    assert lock.still_held()
        assert eventually(lambda: os.listdir(source) == [])


@pytest.mark.parametrize(("whose", "seconds"), [("ours", 0), ("ours", 1.5), ("a peer's", 0)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_whose_file_was_made_anew_behind_the_mount_is_lost_and_leaves_the_new_one_alone(
    kind: str, whose: str, seconds: float, source: Path, tmp_path: Path
) -> None:
    """Finding 3 of a review of the lock: the holder did not notice, and removed the new file at its
    release."""
    below = source / "lockfile"
    with mounted(kind, source, tmp_path / "one") as one, contextlib.ExitStack() as stack:
        before = descriptors()
        lock = CrossPlatLock(one / "lockfile").acquire()
        assert lock.still_held()
        below.unlink()
        if whose == "ours":
            stack.enter_context(held_elsewhere(below))
        else:
            below.write_text(f"{os.getpid()} a peer")
        another = below.read_bytes()
        time.sleep(seconds)
        assert not lock.still_held()
        lock.release()
        assert below.read_bytes() == another
        stack.close()
        assert eventually(lambda: descriptors() <= before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_peers_file_is_a_dead_ones_after_a_minute_where_its_pid_may_be_of_another_host(
    kind: str, source: Path, tmp_path: Path
) -> None:
    with mounted(kind, source, tmp_path / "one") as one:
        path = one / "lockfile"
        path.write_text("2147483647 a peer")  # no process here has that pid
        with pytest.raises(LockError):
            CrossPlatLock(path, timeout=0).acquire()
        assert path.read_text() == "2147483647 a peer"
        long_ago = time.time() - 61
        os.utime(path, (long_ago, long_ago))
        with CrossPlatLock(path, timeout=GENEROUS) as lock:
            assert lock.still_held()


@pytest.mark.parametrize("kind", KINDS)
def test_the_record_of_a_lock_is_sent_to_the_server_before_the_lock_counts(
    kind: str, source: Path, tmp_path: Path
) -> None:
    """Until then other hosts would see an empty file."""

    def lock_and_unlock(directory: Path) -> None:
        with CrossPlatLock(directory / "lockfile"):
            pass

    with mounted(kind, source, tmp_path / "one") as one:
        calls = supervised(partial(lock_and_unlock, one), lambda *_: GO_ON).calls
        assert "fdatasync" in calls[calls.index("pwrite64") :]
    assert "fdatasync" not in supervised(partial(lock_and_unlock, source), lambda *_: GO_ON).calls


@pytest.mark.parametrize("kind", KINDS)
def test_a_holder_that_is_killed_frees_the_lock_for_all_who_use_its_mount(
    kind: str, source: Path, tmp_path: Path
) -> None:
    """Through another mount nobody can find out that it died; there the file must be old."""
    with mounted(kind, source, tmp_path / "one") as one:
        with held_elsewhere(one / "lockfile") as process:
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert (source / "lockfile").exists()
            with CrossPlatLock(one / "lockfile", timeout=GENEROUS) as lock:
                assert lock.still_held()
        assert eventually(lambda: os.listdir(source) == [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_killed_at_any_call_of_its_entry_blocks_nobody_who_uses_its_mount(
    kind: str, source: Path, tmp_path: Path
) -> None:
    """Finding 12 of a review of the lock: it blocked them for 5 s, because these file systems have
    no files without a name."""
    with mounted(kind, source, tmp_path / "one") as one:
        path = one / "lockfile"

        def enter() -> None:
            CrossPlatLock(path, timeout=0).acquire()

        def answer(fatal: int, number: int, _: str) -> int:
            return KILL if number == fatal else GO_ON

        calls, took = supervised(enter).calls, []
        assert len(calls) >= 5
        for fatal in range(len(calls)):
            supervised(enter, partial(answer, fatal))
            before = time.monotonic()
            try:
                with CrossPlatLock(path, timeout=NEWCOMER_S):
                    took.append(time.monotonic() - before)
            except LockError:
                pytest.fail(f"blocked by a process that died at call {fatal} of {calls}")
        print(f"{kind}: killed at {len(calls)} calls; newcomers in after {max(took) * 1000:.0f} ms")
        assert eventually(lambda: not (source / "lockfile").exists())
