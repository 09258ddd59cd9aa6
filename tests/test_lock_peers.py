"""The lock among other libraries, as real processes: no two are ever inside together."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from msal_extensions import CrossPlatLock, LockError
from tests.support import tally
from tests.support.capability import needs
from tests.support.node import node_peer
from tests.support.peer_programs import (
    OURS,
    Log,
    Start,
    Turn,
    ours,
    overlaps,
    program,
    reference,
    report,
    run_together,
    started,
)
from tests.support.processes import GENEROUS, PATIENCE, crowd, eventually, python, saying
from tests.support.reference import reference_python
from tests.support.seccomp import GO_ON, supervised

pytestmark = pytest.mark.slow


class Peer(NamedTuple):
    """How to start a peer, with so few entries and such pauses that its own patience is enough."""

    start: Callable[[], Start]
    entries: int
    pause_ms: int = 30


PEERS = {
    "1.3.1 with portalocker": Peer(lambda: reference(True), 6),
    "1.3.1 without": Peer(lambda: reference(False), 6),
    "node": Peer(node_peer, 15),
    "dotnet": Peer(lambda: program("dotnet"), 15),
    "java": Peer(lambda: program("java"), 15),
    "existence": Peer(lambda: program("existence"), 25),
}
OUR_PAUSE_MS = 60
#: Waits that are given up beside a peer; MSALEX_ABANDONED=200 is the full number.
ABANDONED = int(os.environ.get("MSALEX_ABANDONED", "10"))


def mix(path: Path, peer: Peer, peers: int = 4) -> list[Log]:
    """Four processes of ours beside the peers, all started at once; ours go on until the peers are
    done."""
    return run_together(
        [
            *(Turn(peer.start(), path, peer.entries, peer.pause_ms) for _ in range(peers)),
            *(Turn(ours(), path, 0, OUR_PAUSE_MS) for _ in range(4)),
        ],
        path.parent,
    )


@pytest.mark.parametrize("name", PEERS)
def test_four_of_ours_and_four_peers_are_never_inside_at_once(name: str, tmp_path: Path) -> None:
    peer, path = PEERS[name], tmp_path / "lockfile"
    logs = mix(path, peer)
    found = overlaps(logs)
    report(logs, found)
    # After its own time-out a peer enters without the lock.  That entry is its own fault, and its
    # log says so.  Such a peer also removes a file that is not its own; that robs one of ours, and
    # our log says so.
    any_forced = any(how == "forced" for log in logs for *_, how in log.entries)
    excused = {"forced", "lost", "orphan"} if any_forced else set()
    with_ours = [o for o in found if OURS in o.kinds and not excused & set(o.how)]
    assert with_ours == []
    assert all(len(log.entries) >= peer.entries for log in logs[:4])
    assert all(len(log.entries) >= 5 for log in logs[4:])
    assert all(log.gave_up == 0 for log in logs[4:])
    if not any_forced:
        assert not any("ours" in other for log in logs for other in log.seen)
        assert not any(log.seen for log in logs[4:])
        assert not any(how for log in logs[4:] for *_, how in log.entries)
        assert not path.exists()


def test_one_go_like_peer_never_shares_the_lock_unless_it_locked_a_file_that_was_gone(
    tmp_path: Path,
) -> None:
    logs = mix(tmp_path / "lockfile", Peer(lambda: program("go"), 100, 10), peers=1)
    found = overlaps(logs)
    report(logs, found)
    assert [o for o in found if OURS in o.kinds and "orphan" not in o.how] == []
    assert [how for log in logs[1:] for *_, how in log.entries if how] == []  # none was robbed
    assert len(logs[0].entries) == 100


def test_go_like_peers_that_remove_each_others_files_are_to_blame_for_every_overlap(
    tmp_path: Path,
) -> None:
    logs = mix(tmp_path / "lockfile", Peer(lambda: program("go"), 40, 30))
    found = overlaps(logs)
    report(logs, found)
    # An entry whose file kept its name all the time can only overlap with an entry whose file did
    # not.
    assert [o for o in found if OURS in o.kinds and not any(o.how)] == []
    assert all(len(log.entries) >= 5 and log.gave_up == 0 for log in logs[4:])


@pytest.mark.parametrize("name", ["node", "dotnet", "java", "existence"])
def test_a_waiter_gets_in_when_the_peer_inside_is_killed(name: str, tmp_path: Path) -> None:
    path, peer = tmp_path / "lockfile", PEERS[name]
    (tmp_path / "inside").mkdir()
    with started(Turn(peer.start(), path, 1000, 0), tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        deadline = time.monotonic() + GENEROUS
        while True:
            while not os.listdir(tmp_path / "inside"):
                assert time.monotonic() < deadline
                time.sleep(0.001)
            process.send_signal(signal.SIGSTOP)
            assert eventually(lambda: "T (stopped)" in status(process.pid))
            if os.listdir(tmp_path / "inside"):
                break
            process.send_signal(signal.SIGCONT)  # the peer had just left
        with pytest.raises(LockError):
            CrossPlatLock(path, timeout=0.3).acquire()
        before = time.monotonic()
        process.kill()
        process.wait()
        with CrossPlatLock(path, timeout=GENEROUS):
            print(f"{name}: in {(time.monotonic() - before) * 1000:.1f} ms after the kill")
    assert not path.exists()


DEAD = "999999999"  # greater than any pid


@pytest.mark.parametrize("content", ["{}", "{} az", "{} host", "\ufeff{} net\n", "{{{}}} {{go}}"])
def test_a_dead_peers_file_is_taken_over_at_once(content: str, tmp_path: Path) -> None:
    path = tmp_path / "lockfile"
    path.write_text(content.format(DEAD), encoding="utf-8")
    with CrossPlatLock(path, timeout=0):
        assert str(os.getpid()) in path.read_text()
    assert not path.exists()


def test_a_dead_peers_file_that_a_living_one_takes_just_then_is_respected(tmp_path: Path) -> None:
    """It writes its pid into the file after we have found the old one dead."""
    path = tmp_path / "lockfile"
    path.write_text("2147483647 a dead peer")  # no process has that pid
    living = f"{os.getpid()} a peer"

    taken: list[int] = []

    def take_it(number: int, name: str) -> int:
        if name == "flock" and not taken:  # the first one is the last question about the peer
            taken.append(path.write_text(living))
        return GO_ON

    def attempt() -> str:
        try:
            CrossPlatLock(path, timeout=0).acquire()
        except LockError:
            return "refused"
        return "inside"

    run = supervised(attempt, take_it)
    assert taken
    assert run.result == "refused"
    assert path.read_text() == living


def test_a_file_of_ours_that_a_killed_holder_left_and_a_peer_has_locked_is_respected(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lockfile"
    enter = "import os, sys\nfrom msal_extensions import CrossPlatLock\n"
    enter += "lock = CrossPlatLock(sys.argv[1], timeout=float(sys.argv[2])).acquire()\n"
    python(enter + "os._exit(0)", str(path), "5")
    left = path.read_bytes()
    with path.open("rb+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as Java does
        refused = python(enter, str(path), "0", check=False)
        assert "LockError" in refused.stderr
        assert path.read_bytes() == left
    assert python(enter + "print('inside')", str(path), "5").stdout == "inside\n"


def test_a_living_peers_file_is_respected_however_old_it_is(tmp_path: Path) -> None:
    path = tmp_path / "lockfile"
    path.write_text("1 init")
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    os.utime(path, (booted + 5, booted + 5))
    with pytest.raises(LockError, match="1 init"):
        CrossPlatLock(path, timeout=0.3).acquire()
    assert path.read_text() == "1 init"


def test_in_another_pid_namespace_only_age_makes_a_file_stale(tmp_path: Path) -> None:
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    usable = shutil.which("unshare") and subprocess.run([*unshare, "true"]).returncode == 0
    needs(None if usable else "unshare cannot make a pid namespace here")
    path = tmp_path / "lockfile"
    snippet = """
        import os, sys, time
        from msal_extensions import CrossPlatLock, LockError
        for age in 50, 70:
            os.utime(sys.argv[1], (time.time() - age,) * 2)
            try:
                with CrossPlatLock(sys.argv[1], timeout=0.2):
                    print(age, "in")
            except LockError:
                print(age, "out")
    """
    path.write_text(f"{DEAD} az")
    output = python(snippet, str(path), command=[*unshare, sys.executable]).stdout
    assert output.splitlines() == ["50 out", "70 in"]


def test_of_many_that_find_a_dead_peers_file_one_gets_in_at_a_time(tmp_path: Path) -> None:
    counter, path = tmp_path / "counter", tmp_path / "lockfile"
    counter.write_text("0")
    output = crowd(
        f"""
        import contextlib, pathlib
        from msal_extensions import CrossPlatLock
        counter, path, stale = *map(pathlib.Path, sys.argv[2:]), 0
        ready()
        for _ in range(60):
            with CrossPlatLock(path, timeout=60):
                counter.write_text(str(int(counter.read_text()) + 1))
            with contextlib.suppress(FileExistsError), open(path, "x") as file:
                file.write("{DEAD} died at once")
                stale += 1
        print(stale)
        """,
        8,
        str(counter),
        str(path),
    )
    print(f"{sum(map(int, output))} stale files")
    assert sum(map(int, output)) > 0
    assert counter.read_text() == "480"


def test_a_grant_on_a_file_that_a_peer_wrote_over_is_only_a_wake_up(tmp_path: Path) -> None:
    """A peer like Go takes the file during a hand-over, and unlocks it before it removes it."""
    path = tmp_path / "lockfile"
    wait = "import sys; from msal_extensions import CrossPlatLock\nlock = CrossPlatLock(sys.argv[1]"
    code = f"{wait}, timeout=60).acquire(); print('in', flush=True); sys.stdin.read()"
    first = CrossPlatLock(path).acquire()
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as waiter:
        try:
            assert eventually(lambda: is_queued(waiter.pid, path))
            waiter.send_signal(signal.SIGSTOP)
            # The helper thread leaves flock when it stops, perhaps after the first thread has
            # stopped.
            assert eventually(lambda: "T (stopped)" in status(waiter.pid))
            assert eventually(lambda: not is_queued(waiter.pid, path))
            with path.open("r+") as peer:

                def catch() -> None:
                    fcntl.flock(peer, fcntl.LOCK_EX)
                    peer.write(f"{{{os.getppid()}}} {{go}}")
                    peer.flush()

                catcher = threading.Thread(target=catch)
                catcher.start()
                assert eventually(lambda: is_queued(os.getpid(), path))
                first.release()
                catcher.join()
                assert path.exists()  # the holder has handed the file over to the waiter
                waiter.send_signal(signal.SIGCONT)
                time.sleep(0.2)
                fcntl.flock(peer, fcntl.LOCK_UN)
            assert waiter.stdout is not None
            assert select.select([waiter.stdout], [], [], 0.3)[0] == []  # it is not inside yet
            path.unlink()
            assert waiter.stdout.readline() == b"in\n"
            with pytest.raises(LockError):
                CrossPlatLock(path, timeout=0.1).acquire()
        finally:
            waiter.kill()


# ---- waits that were given up --------------------------------------------------------------

#: The code of the processes of a round.
PROCESSES = """
import contextlib, ctypes, fcntl, os, signal, sys, threading, time
from msal_extensions import CrossPlatLock, LockError
path, rounds, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
PR_SET_PDEATHSIG = 1

def fork():
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return pid

def child(work):
    reading, writing = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            kept = work()
            os.write(writing, b".")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 1) == b"."
    os.close(reading)
    return pid

def give_up():
    with contextlib.suppress(LockError):
        CrossPlatLock(path, timeout=0.02).acquire()

def kill(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

def is_waiting(pid):
    return any(f"-> FLOCK  ADVISORY  WRITE {pid} " in line for line in open("/proc/locks"))

def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    tasks = [f"/proc/{pid}/task/{task}/stat" for task in os.listdir(f"/proc/{pid}/task")]
    wait_until(lambda: all(open(task).read().rpartition(")")[2][1] == "T" for task in tasks))

def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
"""

#: A holds.  B gives up its wait and is stopped.  A is killed.  The file becomes a peer's, B goes
#: on, and gets the flock.
ABANDONED_BESIDE = (
    PROCESSES
    + """
robbed = 0
for _ in range(rounds):
    a = child(lambda: CrossPlatLock(path).acquire())
    b = child(give_up)
    wait_until(lambda: is_waiting(b))
    stop(b)
    kill(a)
    peer = os.open(path, os.O_RDWR)
    if kind == "java":      # it gave up waiting for the name, and locks what is there
        fcntl.lockf(peer, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(peer, f"{os.getpid()} java".encode())
        os.kill(b, signal.SIGCONT)
    else:                   # it is done and has unlocked, but has yet to remove the file
        fcntl.flock(peer, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(peer, f"{{{os.getpid()}}} {{go}}".encode())
        os.kill(b, signal.SIGCONT)
        time.sleep(0.005)
        fcntl.flock(peer, fcntl.LOCK_UN)
    time.sleep(0.02)
    try:
        robbed += not os.path.samestat(os.fstat(peer), os.stat(path))
    except FileNotFoundError:
        robbed += 1
    os.close(peer)
    kill(b)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
print(robbed)
"""
)


@pytest.mark.parametrize("kind", ["go", "java"])
def test_a_wait_that_was_given_up_leaves_a_peers_file_alone(kind: str, tmp_path: Path) -> None:
    """Finding 1 of a review of the lock: it removed the file of a living peer."""
    arguments = (str(tmp_path / "lockfile"), str(ABANDONED), kind)
    output = python(ABANDONED_BESIDE, *arguments, patience=PATIENCE + ABANDONED).stdout
    print(f"robbed {output.strip()} of {ABANDONED} times")
    tally.tried(ABANDONED)
    tally.lost(int(output))
    assert output == "0\n"


#: A holds.  B gives up its wait, D waits, and B and D are stopped.  A hands over to D.  A peer like
#: Go takes the file before D, and unlocks it some time before it removes the file with that name.
ABANDONED_BEFORE = (
    PROCESSES
    + """
def wait_and_stay():
    with CrossPlatLock(path, timeout=60) as lock:
        until, held = time.monotonic() + 0.02, True
        while time.monotonic() < until:
            held = held and lock.still_held()
    os._exit(0 if held else 1)

def catch(peer):
    fcntl.flock(peer, fcntl.LOCK_EX)  # at once: a release sees to it that the lock is taken
    os.write(peer, f"{{{os.getppid()}}} {{go}}".encode())  # our own pid is in A's record

robbed = tries = 0
most = 10 * rounds + 100
while rounds > 0:
    tries += 1
    assert tries < most
    a = CrossPlatLock(path).acquire()
    b = child(give_up)
    wait_until(lambda: is_waiting(b))
    d = fork()
    if d == 0:
        wait_and_stay()
    wait_until(lambda: is_waiting(d))
    stop(b), stop(d)
    peer = os.open(path, os.O_RDWR)
    catcher = threading.Thread(target=catch, args=(peer,))
    catcher.start()
    wait_until(lambda: is_waiting(os.getpid()))
    a.release()
    catcher.join()
    if not os.path.exists(path):    # a gap for peers that only look now and then
        os.close(peer)
        kill(b), kill(d)
        continue
    rounds -= 1
    os.kill(b, signal.SIGCONT)
    wait_until(lambda: is_waiting(b))
    os.kill(d, signal.SIGCONT)
    wait_until(lambda: is_waiting(d))
    fcntl.flock(peer, fcntl.LOCK_UN)
    time.sleep(0.01)
    os.unlink(path)
    os.close(peer)
    robbed += os.waitpid(d, 0)[1] != 0
    kill(b)
print(robbed)
"""
)


def test_a_wait_that_was_given_up_robs_no_waiter_of_what_a_go_like_peer_left(
    tmp_path: Path,
) -> None:
    """Finding 1 of a review of the lock: it did."""
    arguments = (str(tmp_path / "lockfile"), str(ABANDONED), "go")
    output = python(ABANDONED_BEFORE, *arguments, patience=PATIENCE + ABANDONED).stdout
    print(f"robbed {output.strip()} of {ABANDONED} times")
    tally.tried(ABANDONED)
    tally.lost(int(output))
    assert output == "0\n"


# ---- dead, or not? -------------------------------------------------------------------------

HOLD_AS_1_3_1 = """
import sys
from msal_extensions import CrossPlatLock
with CrossPlatLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def peer_process(
    code: str, path: Path, start: Start | None = None
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """A peer process that has printed `held`; it is killed at the end."""
    command, environment = start or ([sys.executable], None)
    return saying("held", [*command, "-c", textwrap.dedent(code), path], environment)


def test_a_living_1_3_1_whose_file_is_older_than_its_process_is_not_robbed(tmp_path: Path) -> None:
    """Finding 8 of a review of the lock: the clock was set back, or it is a file server's."""
    path = tmp_path / "lockfile"
    with peer_process(HOLD_AS_1_3_1, path, reference_python(portalocker=False)) as process:
        content = path.read_text()
        for age in 1, 3, 5, 10, 70:
            then = time.time() - age
            os.utime(path, (then, then))
            for timeout in 0, 0.1:
                with pytest.raises(LockError, match=f"held by: {process.pid} "):
                    CrossPlatLock(path, timeout=timeout).acquire()
            assert path.read_text() == content
        process.kill()
        process.wait()
        with CrossPlatLock(path, timeout=GENEROUS) as lock:
            assert lock.still_held()


def test_a_peer_whose_first_thread_has_ended_is_alive(tmp_path: Path) -> None:
    """Suspected by a review of the lock: the state of such a process is that of a zombie."""
    path = tmp_path / "lockfile"
    with peer_process(
        """
        import ctypes, os, platform, sys, threading, time
        exit_thread = {"x86_64": 60}.get(platform.machine(), 93)
        with open(sys.argv[1], "x") as file:
            file.write(f"{os.getpid()} threads")
        def live():
            while "Z (zombie)" not in open(f"/proc/{os.getpid()}/status").read():
                time.sleep(0.001)
            print("held", flush=True)
            time.sleep(600)
        threading.Thread(target=live).start()
        ctypes.CDLL(None).syscall(exit_thread, 0)
        """,
        path,
    ) as process:
        for timeout in 0, 0.3:
            with pytest.raises(LockError, match=f"held by: {process.pid} threads"):
                CrossPlatLock(path, timeout=timeout).acquire()
        assert path.exists()
        process.kill()
        process.wait()
        with CrossPlatLock(path, timeout=GENEROUS) as lock:
            assert lock.still_held()


def test_a_stopped_waiter_of_ours_keeps_no_1_3_1_out(tmp_path: Path) -> None:
    """Finding 13 of a review of the lock: 1.3.1 waits only 5 s for the file to vanish."""
    path = tmp_path / "lockfile"
    wait = """
        import sys
        from msal_extensions import CrossPlatLock
        print("held", flush=True)
        with CrossPlatLock(sys.argv[1], timeout=60):
            print("in", flush=True)
    """
    holder = CrossPlatLock(path).acquire()
    with peer_process(wait, path) as waiter:
        assert eventually(lambda: is_queued(waiter.pid, path))
        waiter.send_signal(signal.SIGSTOP)
        assert eventually(lambda: "T (stopped)" in status(waiter.pid))
        assert eventually(lambda: not is_queued(waiter.pid, path))
        holder.release()
        with peer_process(HOLD_AS_1_3_1, path, reference_python(portalocker=False)) as peer:
            waiter.send_signal(signal.SIGCONT)
            with pytest.raises(LockError, match=f"held by: {peer.pid} "):
                CrossPlatLock(path, timeout=0.3).acquire()
            peer.communicate("\n")
        assert waiter.stdout is not None
        assert waiter.stdout.readline() == "in\n"


def status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def is_queued(pid: int, path: Path) -> bool:
    """Does the kernel list a blocked flock of that process on the file?"""
    blocked = f"-> FLOCK  ADVISORY  WRITE {pid} "
    with contextlib.suppress(FileNotFoundError):
        inode = path.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
        return any(blocked in line and f":{inode} " in line for line in lines)
    return False
