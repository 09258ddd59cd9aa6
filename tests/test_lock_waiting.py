"""A wait for the lock ends in time, can be interrupted, and disturbs nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import CrossPlatLock, LockError
from tests.support.capability import requires
from tests.support.processes import (
    GENEROUS,
    at_rest,
    descriptors,
    eventually,
    no_more_than,
    python,
    threads,
)

pytestmark = [pytest.mark.slow, requires("os.fork", "signal.setitimer")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lockfile"


@contextlib.contextmanager
def process(code: str, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """A snippet that runs until the end of the block at the latest; it has printed `ready`."""
    running = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running
    finally:
        running.kill()
        running.communicate()


@contextlib.contextmanager
def held_elsewhere(path: Path) -> Generator[subprocess.Popen[str]]:
    """Another process holds the lock until it is killed or reads a line."""
    with process(
        """
        import sys
        from msal_extensions import CrossPlatLock
        with CrossPlatLock(sys.argv[1]) as lock:
            print("ready", flush=True)
            sys.stdin.readline()
            print("still held" if lock.still_held() else "lost", flush=True)
        sys.stdin.read()
        """,
        str(path),
    ) as holder:
        yield holder


def said(running: subprocess.Popen[str]) -> Any:
    """The last line that a process prints, which is JSON."""
    output, _ = running.communicate(timeout=GENEROUS * 2)
    assert running.returncode == 0
    return json.loads(output)


def time_out(path: Path, times: int) -> None:
    for _ in range(times):
        with pytest.raises(LockError):
            CrossPlatLock(path, timeout=0.0005).acquire()


def test_ten_thousand_waits_that_timed_out_leave_one_thread_and_then_none(path: Path) -> None:
    with held_elsewhere(path) as holder:
        before = at_rest()
        start = time.monotonic()
        time_out(path, 10_000)
        print(f"10,000 waits of 1 ms took {time.monotonic() - start:.1f} s")
        assert threads() <= before[0] + 1
        assert descriptors() <= before[1] + 2  # the file of the thread and its event
        holder.kill()
        assert eventually(lambda: no_more_than(before))
    assert eventually(lambda: not path.exists())


def test_threads_that_time_out_together_leave_at_most_one_wait_each(path: Path) -> None:
    with held_elsewhere(path) as holder:
        before = at_rest()
        workers = [threading.Thread(target=time_out, args=(path, 200)) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert eventually(lambda: threads() <= before[0] + len(workers))
        print(f"{threads() - before[0]} of 1,600 waits by 8 threads were left behind")
        holder.kill()
        assert eventually(lambda: no_more_than(before))
    assert eventually(lambda: not path.exists())


def test_many_threads_wait_for_another_process_and_get_in_one_by_one(path: Path) -> None:
    inside, most, entries = 0, 0, 0

    def enter() -> None:
        nonlocal inside, most, entries
        with CrossPlatLock(path, timeout=GENEROUS):
            inside += 1
            most = max(most, inside)
            time.sleep(0.001)
            entries += 1
            inside -= 1

    before = at_rest()
    with held_elsewhere(path) as holder:
        workers = [threading.Thread(target=enter) for _ in range(64)]
        for worker in workers:
            worker.start()
        time.sleep(0.3)
        assert entries == 0
        holder.kill()
        for worker in workers:
            worker.join()
    assert (most, entries) == (1, 64)
    assert eventually(lambda: no_more_than(before))
    assert not path.exists()


@pytest.mark.parametrize("whose", ["ours", "a peer's"])
def test_ctrl_c_during_a_wait_is_seen_at_once(whose: str, path: Path) -> None:
    with contextlib.ExitStack() as stack:
        if whose == "ours":
            stack.enter_context(held_elsewhere(path))
        else:
            path.write_text(f"{os.getpid()} a peer")
        with process(
            """
            import json, os, random, signal, sys, threading, time
            from msal_extensions import CrossPlatLock
            sent, took = [0.0], []
            def interrupt():
                time.sleep(random.uniform(0.1, 0.2))
                sent[0] = time.monotonic()
                os.kill(os.getpid(), signal.SIGINT)
            print("ready", flush=True)
            for _ in range(15):
                threading.Thread(target=interrupt).start()
                try:
                    CrossPlatLock(sys.argv[1], timeout=600).acquire()
                except KeyboardInterrupt:
                    took.append(time.monotonic() - sent[0])
            print(json.dumps(took))
            """,
            str(path),
        ) as waiter:
            took = said(waiter)
    ms = [seconds * 1000 for seconds in took]
    print(f"Ctrl-C seen after {statistics.median(ms):.2f} ms (median), {max(ms):.1f} ms at most")
    assert len(took) == 15
    assert max(took) < 1


def test_signal_handlers_run_in_the_main_thread_during_a_wait(path: Path) -> None:
    with (
        held_elsewhere(path),
        process(
            """
            import json, os, signal, sys, threading, time
            from msal_extensions import CrossPlatLock, LockError
            where, helpers = [], []
            me = threading.get_native_id()
            def blocked(thread):
                status = open(f"/proc/self/task/{thread}/status").read()
                return int(status.split("SigBlk:")[1].split()[0], 16)
            def handle(*_):
                where.append(threading.get_native_id())
                helpers.append([blocked(t) for t in os.listdir("/proc/self/task") if t != str(me)])
            signal.signal(signal.SIGALRM, handle)
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
            print("ready", flush=True)
            before = time.monotonic()
            try:
                CrossPlatLock(sys.argv[1], timeout=2).acquire()
            except LockError:
                waited = time.monotonic() - before
            signal.setitimer(signal.ITIMER_REAL, 0)
            main = [thread == me for thread in where]
            print(json.dumps([len(main), all(main), waited, blocked(me), helpers[-1]]))
            """,
            str(path),
        ) as waiter,
    ):
        count, all_in_main, waited, blocked, helpers = said(waiter)
    print(f"{count} handlers ran in a wait of {waited:.2f} s")
    assert all_in_main
    assert count >= 10
    assert 2 <= waited < GENEROUS
    assert blocked == 0
    # A helper thread takes no signal that is meant for the program.
    blockable = sum(1 << number - 1 for number in (signal.SIGINT, signal.SIGALRM, signal.SIGTERM))
    assert helpers
    assert all(mask & blockable == blockable for mask in helpers)


def test_a_child_forked_while_another_thread_waits_locks_like_anybody_else(path: Path) -> None:
    with (
        held_elsewhere(path) as holder,
        process(
            """
            import json, os, sys, threading, time
            from msal_extensions import CrossPlatLock
            in_parent, path = [], sys.argv[1]
            def wait():
                with CrossPlatLock(path, timeout=60) as lock:
                    in_parent.append(lock.still_held())
            waiter = threading.Thread(target=wait)
            waiter.start()
            time.sleep(0.2)
            children = []
            for number in range(4):
                child = os.fork()
                if child == 0:
                    with CrossPlatLock(f"{path}.{number}", timeout=0):   # a free one
                        pass
                    with CrossPlatLock(path, timeout=60) as lock:
                        os._exit(0 if lock.still_held() else 1)
                children.append(child)
            print("ready", flush=True)
            waiter.join()
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
            print(json.dumps([in_parent, codes]))
            """,
            str(path),
        ) as parent,
    ):
        holder.kill()
        in_parent, codes = said(parent)
    assert in_parent == [True]
    # Each child called os._exit inside the lock: it died as the holder, and blocked nobody.
    assert codes == [0, 0, 0, 0]
    with CrossPlatLock(path, timeout=0):
        pass


def test_a_program_started_by_a_killed_holder_does_not_keep_the_lock(path: Path) -> None:
    with process(
        """
        import subprocess, sys
        from msal_extensions import CrossPlatLock
        lock = CrossPlatLock(sys.argv[1]).acquire()
        sleep = "import time; time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", sleep], close_fds=False, stdout=2)
        print("ready", flush=True)
        print(child.pid, flush=True)
        sys.stdin.read()
        """,
        str(path),
    ) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        try:
            holder.kill()
            holder.wait()
            assert Path(f"/proc/{child}").exists()
            with CrossPlatLock(path, timeout=GENEROUS):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_stopped_holder_keeps_the_lock_and_goes_on_afterwards(path: Path) -> None:
    with held_elsewhere(path) as holder:
        holder.send_signal(signal.SIGSTOP)
        try:
            time_out(path, 20)
            with pytest.raises(LockError):
                CrossPlatLock(path, timeout=2).acquire()
            assert path.exists()
        finally:
            holder.send_signal(signal.SIGCONT)
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "still held\n"
        with CrossPlatLock(path, timeout=GENEROUS):
            pass


def test_a_lock_by_a_relative_path_survives_a_change_of_directory(tmp_path: Path) -> None:
    output = python(
        """
        import os, sys
        from msal_extensions import CrossPlatLock
        os.chdir(sys.argv[1])
        with CrossPlatLock("lockfile") as lock:
            os.chdir("/")
            print(lock.still_held())
        """,
        str(tmp_path),
    ).stdout
    assert output == "True\n"
    assert os.listdir(tmp_path) == []


ROUNDS = 200


# Each round kills processes during a hand-over; `{round}` is the part that each test adds.
KILLED_ROUNDS = """
import json, os, random, signal, sys, time
from msal_extensions import CrossPlatLock

path, rounds = sys.argv[1], int(sys.argv[2])
left, took = 0, []

def spend(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass

{round}

for _ in range(rounds):
    kill_at_a_hand_over()
    left += os.path.exists(path)
    before = time.monotonic()
    with CrossPlatLock(path, timeout=60):
        took.append(time.monotonic() - before)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL))  # an existence-only newcomer
    os.unlink(path)
print(json.dumps([left, took]))
"""


def assert_no_stall(path: Path, kill_at_a_hand_over: str) -> None:
    """Whatever the killed processes left behind, ours got in at once, and the file was gone after
    that."""
    code = KILLED_ROUNDS.format(round=textwrap.dedent(kill_at_a_hand_over))
    left, took = json.loads(python(code, str(path), str(ROUNDS)).stdout)
    print(
        f"of {ROUNDS} times {left} left a file of a dead holder or on its way to nobody;"
        f" ours was in after {max(took) * 1000:.1f} ms at most"
    )
    assert len(took) == ROUNDS
    assert max(took) < 1


def test_waiters_killed_during_hand_overs_leave_no_stall(path: Path) -> None:
    """Two waiters hand the lock to each other and are killed; then a newcomer of ours tries."""
    assert_no_stall(
        path,
        """
        def waiter(ready):
            for number in range(10_000):
                if number == 0:
                    os.write(ready, b".")
                with CrossPlatLock(path, timeout=60):
                    pass
            os._exit(1)

        def fork_waiter(ready):
            child = os.fork()
            if child == 0:
                waiter(ready)
            return child

        def kill_at_a_hand_over():
            reading, ready = os.pipe()
            lock = CrossPlatLock(path, timeout=60).acquire()
            children = [fork_waiter(ready) for _ in range(2)]
            for _ in children:
                os.read(reading, 1)
            time.sleep(random.uniform(0, 0.002))
            lock.release()
            time.sleep(random.choice([0, random.uniform(0, 0.003)]))
            for child in children:
                os.kill(child, signal.SIGKILL)
            for child in children:
                os.waitpid(child, 0)
            os.close(reading), os.close(ready)
        """,
    )


def test_a_waiter_killed_while_it_is_handed_the_lock_leaves_no_stall(path: Path) -> None:
    """The only waiter is killed near the moment when the holder releases."""
    assert_no_stall(
        path,
        """
        def fork_waiter():
            child = os.fork()
            if child == 0:
                with CrossPlatLock(path, timeout=60):
                    time.sleep(60)
                os._exit(1)
            return child

        def kill_at_a_hand_over():
            lock = CrossPlatLock(path, timeout=60).acquire()
            child = fork_waiter()
            queued = f" {child} "
            deadline = time.monotonic() + 60
            while not any("-> FLOCK" in line and queued in line for line in open("/proc/locks")):
                assert time.monotonic() < deadline
            killer = os.fork()
            if killer == 0:
                spend(random.uniform(0, 0.001))
                os.kill(child, signal.SIGKILL)
                os._exit(0)
            spend(random.uniform(0, 0.001))
            lock.release()
            os.waitpid(killer, 0), os.waitpid(child, 0)
        """,
    )
