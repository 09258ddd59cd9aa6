"""The lock keeps everybody else out, is free after a holder dies, and never hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from msal_extensions import CrossPlatLock, LockError
from tests.support.capability import REMOVABLE_OPEN_FILES, SYMBOLIC_LINKS, requires
from tests.support.processes import (
    GENEROUS,
    at_rest,
    crowd,
    eventually,
    no_more_than,
    python,
    threads,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin.lockfile"


def holder(path: Path, then: str = "time.sleep(600)") -> subprocess.Popen[str]:
    """A process that holds the lock already."""
    code = f"""
import sys, time
from msal_extensions import CrossPlatLock
with CrossPlatLock(sys.argv[1]):
    print("held", flush=True)
    {then}
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


@pytest.mark.slow
def test_many_processes_increment_a_counter_without_losing_one(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    crowd(
        """
        import pathlib
        from msal_extensions import CrossPlatLock
        counter = pathlib.Path(sys.argv[2])
        ready()
        for _ in range(50):
            with CrossPlatLock(sys.argv[2] + ".lockfile", timeout=60):
                counter.write_text(str(int(counter.read_text()) + 1))
        """,
        8,
        str(counter),
    )
    assert counter.read_text() == "400"
    assert os.listdir(tmp_path) == ["counter"]


def test_threads_of_one_process_exclude_each_other(path: Path) -> None:
    lock, inside, most = CrossPlatLock(path, timeout=GENEROUS), [0], [0]

    def work() -> None:
        for _ in range(100):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most[0] == 1
    assert not path.exists()


@requires("fcntl")  # otherwise the locked bytes cannot be read
def test_the_file_says_who_holds_it_and_is_gone_afterwards(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/az/bin/az", "login"])
    with CrossPlatLock(path) as lock:
        assert lock.locked
        assert path.read_text().split()[:2] == [str(os.getpid()), "/opt/az/bin/az"]
        assert path.stat().st_mode & 0o777 == 0o600
    assert not lock.locked
    assert not path.exists()


@requires("fcntl")
@pytest.mark.parametrize("program", ["", "/" + "long/" * 200, "line\nbreak\t\0nul", "käse"])
def test_whatever_the_program_is_called_the_file_is_one_line_that_ours_know(
    path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    with CrossPlatLock(path):
        text = path.read_bytes()
        assert len(text) == 256
        assert text.endswith(b"\n")
        assert text.count(b"\n") == 1
        assert text.split()[0] == str(os.getpid()).encode()
        entered = []  # a peer's file would be watched; ours is queued for
        waiter = threading.Thread(target=lambda: entered.append(CrossPlatLock(path).acquire()))
        waiter.start()
        assert eventually(lambda: f":{path.stat().st_ino} " in blocked_flocks())
    waiter.join()
    entered[0].release()
    assert not path.exists()


def blocked_flocks() -> str:
    lines = Path("/proc/locks").read_text().splitlines()
    return "\n".join(line for line in lines if "-> FLOCK" in line)


def test_a_timeout_names_the_file_the_seconds_and_the_holder(path: Path) -> None:
    process = holder(path)
    try:
        before = time.monotonic()
        with pytest.raises(LockError) as caught:
            CrossPlatLock(path, timeout=0.3).acquire()
        tick = time.get_clock_info("monotonic").resolution
        assert 0.3 - tick <= time.monotonic() - before < GENEROUS
        message = str(caught.value)
        assert str(path) in message
        assert "0.3 second" in message
        assert str(process.pid) in message
        assert isinstance(caught.value, RuntimeError)
    finally:
        end(process)


def test_timeout_0_tries_once_and_a_negative_one_waits(path: Path) -> None:
    process = holder(path, "time.sleep(1)")
    with pytest.raises(LockError):
        CrossPlatLock(path).acquire(timeout=0)
    lock = CrossPlatLock(path, timeout=0)
    lock.acquire(timeout=-1)
    lock.release()
    process.wait()
    with lock:
        assert path.exists()


def test_the_same_thread_again_is_an_error_at_once(path: Path) -> None:
    with CrossPlatLock(path):
        before = time.monotonic()
        with pytest.raises(LockError, match="already holds"):
            CrossPlatLock(path, timeout=GENEROUS).acquire()
        assert time.monotonic() - before < GENEROUS / 2
    with CrossPlatLock(path):
        pass


def test_releasing_what_is_not_held_is_an_error(path: Path) -> None:
    with pytest.raises(LockError, match="not held"):
        CrossPlatLock(path).release()


def test_a_killed_holder_frees_the_lock(path: Path) -> None:
    process = holder(path)
    waited: list[float] = []

    def wait() -> None:
        with CrossPlatLock(path, timeout=GENEROUS):
            waited.append(time.monotonic())

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.2)
    end(process)
    waiter.join()
    assert waited
    end(holder(path))
    assert path.exists()
    with CrossPlatLock(path, timeout=0):  # a newcomer gets in at once
        pass
    assert not path.exists()


@requires("signal.SIGSTOP")
def test_a_stopped_holder_is_not_robbed(path: Path) -> None:
    process = holder(path)
    try:
        process.send_signal(signal.SIGSTOP)
        long_ago = time.time() - 86_400
        os.utime(path, (long_ago, long_ago))
        with pytest.raises(LockError):
            CrossPlatLock(path, timeout=1).acquire()
    finally:
        end(process)


@requires("signal.SIGSTOP")
def test_ctrl_c_ends_a_wait(path: Path) -> None:
    process = holder(path)
    try:
        waiter = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys, time; from msal_extensions import CrossPlatLock\n"
                "print('waiting', flush=True)\n"
                "CrossPlatLock(sys.argv[1], timeout=600).acquire()",
                str(path),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert waiter.stdout is not None
        waiter.stdout.readline()
        time.sleep(0.2)
        before = time.monotonic()
        waiter.send_signal(signal.SIGINT)
        _, errors = waiter.communicate(timeout=GENEROUS)
        print(f"Ctrl-C was seen after {(time.monotonic() - before) * 1000:.0f} ms, exit included")
        assert "KeyboardInterrupt" in errors
    finally:
        end(process)


@requires("os.fork")
def test_waits_that_timed_out_pile_up_nothing(path: Path) -> None:
    process = holder(path)
    try:
        before = at_rest()
        for _ in range(1000):
            with pytest.raises(LockError):
                CrossPlatLock(path, timeout=0.001).acquire()
        assert threads() <= before[0] + 1
    finally:
        end(process)
    assert eventually(lambda: no_more_than(before))
    assert eventually(lambda: not path.exists())  # the last process that leaves removes the file


def test_a_wait_left_behind_is_taken_up_by_the_next(path: Path) -> None:
    process = holder(path, "sys.stdin.readline()")
    process.kill()
    process.wait()
    process = holder(path)
    with pytest.raises(LockError):
        CrossPlatLock(path, timeout=0.05).acquire()
    got: list[bool] = []
    waiter = threading.Thread(
        target=lambda: got.append(CrossPlatLock(path, timeout=GENEROUS).acquire().locked)
    )
    waiter.start()
    time.sleep(0.1)
    end(process)
    waiter.join()
    assert got == [True]


@requires("os.fork")
def test_a_child_made_by_fork_does_not_hold_its_parents_lock(path: Path) -> None:
    output = python(
        """
        import os, sys, time
        from msal_extensions import CrossPlatLock
        lock = CrossPlatLock(sys.argv[1]).acquire()
        child = os.fork()
        if child == 0:
            held = lock.still_held()
            try:
                lock.release()                              # must not free the parent's
                held = True
            except RuntimeError:
                pass
            try:
                CrossPlatLock(sys.argv[1], timeout=0.2).acquire()
                excluded = False
            except RuntimeError:
                excluded = True
            os._exit(0 if excluded and not held else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), lock.still_held())
        if os.fork() == 0:                                  # outlives its killed parent
            os.close(0), os.close(1), os.close(2)
            time.sleep(20)
            os._exit(0)
        sys.stdout.flush()
        os.kill(os.getpid(), 9)
        """,
        str(path),
        check=False,
    )
    assert output.stdout == "0 True\n"
    with CrossPlatLock(path, timeout=5):
        pass


@requires(REMOVABLE_OPEN_FILES)
def test_a_file_removed_under_the_holder_is_noticed(path: Path) -> None:
    with CrossPlatLock(path) as lock:
        assert lock.still_held()
        path.unlink()  # Node does so with a file that it does not hold
        assert not lock.still_held()
        with_another = CrossPlatLock(path, timeout=0)
        output = python(
            "import sys; from msal_extensions import CrossPlatLock\n"
            "CrossPlatLock(sys.argv[1], timeout=0).acquire(); print('in')",
            str(path),
        )
        assert output.stdout == "in\n"
        assert not with_another.locked
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"  # it is not ours, so it stays


@pytest.mark.parametrize("content", [b"", b"not a pid", b"\xef\xbb\xbf", b"0 x", b"-5 x"])
def test_a_file_without_a_pid_is_stale_after_five_seconds(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LockError):
        CrossPlatLock(path, timeout=0.1).acquire()
    path.touch()
    os.utime(path, (time.time() - 6, time.time() - 6))
    with CrossPlatLock(path, timeout=0):
        pass


@pytest.mark.parametrize("form", ["{}", "{} az", "\ufeff{} az\n", "{{{}}} {{az}}"])
def test_a_peers_file_is_respected_while_its_pid_lives_and_taken_over_after(
    path: Path, form: str
) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(sleep) as peer:
        path.write_text(form.format(peer.pid), encoding="utf-8")
        with pytest.raises(LockError):
            CrossPlatLock(path, timeout=0.2).acquire()
        peer.kill()
        wait_until_dead(peer)
        with CrossPlatLock(path, timeout=GENEROUS):
            pass


def wait_until_dead(process: subprocess.Popen[bytes]) -> None:
    """A zombie counts as dead, too; nothing collects its status here."""
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        process.wait(GENEROUS)


def test_a_pid_that_was_given_away_again_is_dead(path: Path) -> None:
    path.write_text(f"{os.getpid()} az")
    long_ago = time.time() - 86_400 * 365  # before this process started
    os.utime(path, (long_ago, long_ago))
    with CrossPlatLock(path, timeout=0):
        pass


def test_a_waiter_gets_in_when_a_peer_removes_its_file(path: Path) -> None:
    path.write_text(f"{os.getppid()} az")
    removed: list[float] = []

    def remove() -> None:
        time.sleep(0.3)
        removed.append(time.monotonic())
        path.unlink()

    remover = threading.Thread(target=remove)
    remover.start()
    with CrossPlatLock(path, timeout=GENEROUS):
        print(f"in {(time.monotonic() - removed[0]) * 1000:.1f} ms after the removal")
    remover.join()


@requires("fcntl")
def test_a_peer_with_a_kernel_lock_and_a_dead_pid_is_respected(path: Path) -> None:
    import fcntl

    for lock in (fcntl.flock, fcntl.lockf):
        code = (
            "import fcntl, sys; f = open(sys.argv[1], 'w')\n"
            f"fcntl.{lock.__name__}(f, fcntl.LOCK_EX)\n"
            "f.write('999999999 az'); f.flush(); print('held', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as peer:
            assert peer.stdout is not None
            assert peer.stdout.readline() == "held\n"
            with pytest.raises(LockError):
                CrossPlatLock(path, timeout=0.5).acquire()
            peer.kill()
        with CrossPlatLock(path, timeout=GENEROUS):
            pass


@requires("os.mkfifo", SYMBOLIC_LINKS)
def test_a_lock_file_that_is_no_regular_file_is_refused_untouched(tmp_path: Path) -> None:
    link, fifo, directory = tmp_path / "link", tmp_path / "fifo", tmp_path / "directory"
    link.symlink_to(tmp_path / "target")
    os.mkfifo(fifo)
    directory.mkdir()
    for path in (link, fifo, directory):
        with pytest.raises(LockError) as caught:
            CrossPlatLock(path, timeout=1).acquire()
        assert isinstance(caught.value, OSError)
        assert caught.value.filename == str(path)
    assert sorted(os.listdir(tmp_path)) == ["directory", "fifo", "link"]


def test_a_missing_directory_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="directory") as caught:
        CrossPlatLock(tmp_path / "missing" / "lock").acquire()
    assert isinstance(caught.value, OSError)


def test_programs_catch_lock_error_wherever_they_import_it_from() -> None:
    import msal_extensions
    import msal_extensions.cache_lock
    import msal_extensions.filelock
    import msal_extensions.token_cache

    for module in (
        msal_extensions,
        msal_extensions.cache_lock,
        msal_extensions.filelock,
        msal_extensions.token_cache,
    ):
        assert module.LockError is LockError
        assert module.CrossPlatLock is CrossPlatLock
