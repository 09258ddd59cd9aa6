"""The lock while strace kills the process that uses it, or makes one of its system calls fail.

    with Theatre("tmpfs", tmp_path) as theatre:
        calls = theatre.play(FREE, 5).calls
        result = theatre.play(FREE, 5, inject="openat:error=EIO:when=1")

Three processes play.  The *subject* is new in each case, and strace traces one of its threads.  The
*first* holds the lock before the subject, or waits for it.  The *newcomer* takes the lock when the
subject is gone, or checks that the subject really keeps others out.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from msal_extensions import CrossPlatLock, LockError
from tests.support.file_systems import HERE, on

ROOT = Path(__file__).resolve().parents[2]

QUEUED_S = 0.4  # the longest time until a wait is in the kernel's queue
GAP_DUE_S = 4.4  # seconds after the making of a lock file
HANG_S = 30
NEWCOMER_S = 20
WITHOUT_PID_S = 10  # a file of that age without a readable pid counts as a dead peer's
LOOK_S = 0.1  # the newcomer's patience while somebody is inside
DEAD = "999999999"  # greater than any pid
#: The start of a line such as "openat(3, ...) = 4", as strace writes it.
NAME = re.compile(r"^(\w+)\(")

#: The scenes: the situation before, and the work of the subject.
FREE = "free"
DEAD_HOLDER = "a dead holder's file"  # of a process of ours
DEAD_PEER = "a dead peer's file"
BEHIND = "behind one of ours"  # which leaves meanwhile
HELD = "held by one of ours"
LIVING_PEER = "a living peer's file"
GIVE_UP = "give-up of a wait"  # the holder leaves after that only
WAITED_FOR = "release with a waiter"  # only the release is traced
BEHIND_A_GAP = "behind one of ours that leaves a gap"  # for peers, after holding the lock long
GAP = "release into a gap, with a waiter"
RELEASES = (WAITED_FOR, GAP)
#: In these scenes another process is inside until the subject has ended.
OCCUPIED = (HELD, LIVING_PEER, GIVE_UP)


class Case(NamedTuple):
    """One run of the subject."""

    directory: str  #: an empty directory
    scenario: str
    patience: float
    thread: str = "main"  #: or "helper": the thread that waits in flock for the subject
    inject: str = ""  #: for strace -e inject=; "": only record the calls


class Said(NamedTuple):
    """How the wait of a process ended."""

    how: str  #: "in", "out" (the time was over), "refused" (a typed error), else an exception
    errno: int | None = None
    text: str = ""
    seconds: float = 0


class Result(NamedTuple):
    """The result of a case."""

    met: bool  #: strace did what it was told to do
    signal: int  #: the signal that ended the subject, or 0
    hung: bool
    said: Said | None  #: how the wait of the subject ended
    released: str | None  #: "released", or the error of its release; None if it said nothing
    beside: Said | None  #: the wait of the newcomer while the subject said that it was inside
    first: Said | None  #: how the wait of the first ended, if it waited all the time
    newcomer: Said
    files: list[str]  #: in the directory after the newcomer has left
    calls: list[str]  #: of the traced thread, from the beginning to the end of the section


def try_lock(lock: CrossPlatLock, timeout: float) -> Said:
    before = time.monotonic()
    try:
        lock.acquire(timeout)
    except LockError as error:
        code = getattr(error, "errno", None)
        seconds = time.monotonic() - before
        return Said("out" if code is None else "refused", code, str(error), seconds)
    except Exception as error:  # this must not happen
        return Said(type(error).__name__, None, str(error), time.monotonic() - before)
    return Said("in", seconds=time.monotonic() - before)


class Line:
    """One end of a connection that carries lines of JSON between two processes."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._rest = b""

    def say(self, what: object) -> None:
        os.write(self._write, json.dumps(what).encode() + b"\n")

    def hear(self, seconds: float) -> Any:
        """The next message within the time, or None; None too when the other process has ended."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest:
            left = max(0, deadline - time.monotonic())
            if not select.select([self._read], [], [], left)[0]:
                return None
            more = os.read(self._read, 65536)
            if not more:
                return None
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


def fork(play: Callable[[Line], None]) -> tuple[int, Line]:
    """A child that plays a part; returns its pid, and the line to it."""
    there, mine = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(there[1])
            os.close(mine[0])
            play(Line(there[0], mine[1]))
        finally:
            os._exit(0)
    os.close(there[0])
    os.close(mine[1])
    return pid, Line(mine[0], there[1])


class Player:
    """A process of ours that obeys: the first, or the newcomer."""

    def __init__(self) -> None:
        self.pid, self._line = fork(self._play)

    @staticmethod
    def _play(line: Line) -> None:
        lock = None
        while True:
            told = line.hear(3600)
            if told is None:
                return
            if told["do"] == "acquire":
                lock = CrossPlatLock(told["path"])
                line.say(try_lock(lock, told["timeout"]))
            else:
                if lock is not None and lock.locked:
                    lock.release()
                line.say(None)

    def begin(self, path: str, timeout: float) -> None:
        self._line.say({"do": "acquire", "path": path, "timeout": timeout})

    def end(self) -> Said:
        said = self._line.hear(HANG_S + NEWCOMER_S)
        return Said("hang") if said is None else Said(*said)

    def acquire(self, path: str, timeout: float) -> Said:
        self.begin(path, timeout)
        return self.end()

    def release(self) -> None:
        self._line.say({"do": "release"})
        self._line.hear(HANG_S)

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._line.close()


def is_queued(pid: int) -> bool:
    """Does the kernel list a blocked flock of that process?"""
    return f"-> FLOCK  ADVISORY  WRITE {pid} " in Path("/proc/locks").read_text()


def threads(pid: int | str) -> list[int]:
    return [int(name) for name in os.listdir(f"/proc/{pid}/task")]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


class Subject:
    """The process that strace kills, or in which it makes a call fail."""

    def __init__(self, case: Case, path: str) -> None:
        self._case, self._path = case, path
        self._wait: int | None = None
        self.pid, self.line = fork(self._play)

    def _play(self, line: Line) -> None:
        lock = CrossPlatLock(self._path)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        if self._case.scenario in RELEASES:
            lock.acquire(NEWCOMER_S)
        if self._case.thread == "helper":
            with CrossPlatLock(self._path + ".warm", timeout=NEWCOMER_S):
                pass
        line.say("ready")
        signal.sigwait([signal.SIGUSR1])
        if self._case.scenario not in RELEASES:
            said = try_lock(lock, self._case.patience)
            line.say(said)
            if said.how != "in":
                return
            line.hear(HANG_S)
        try:
            lock.release()
            line.say("released")
        except Exception as error:
            line.say(f"{type(error).__name__}: {error}")
        line.hear(HANG_S)

    def __enter__(self) -> None:
        """Kills it if the block raises: alone it would wait for ever, with our standard output."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            os.kill(self.pid, signal.SIGKILL)

    def thread(self) -> int | None:
        """The number of the thread to trace."""
        others = [thread for thread in threads(self.pid) if thread != self.pid]
        return self.pid if self._case.thread == "main" else others[0] if others else None

    def has_ended(self) -> bool:
        """Has it ended?  It stays a zombie, so its pid stays its own."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def signal(self) -> int:
        """The signal that ended it; waits for its end."""
        if self._wait is None:
            self._wait = os.waitpid(self.pid, 0)[1]
        return os.WTERMSIG(self._wait) if os.WIFSIGNALED(self._wait) else 0


@contextlib.contextmanager
def traced(subject: Subject, inject: str, log: Path) -> Iterator[bool]:
    """strace traces one of its threads in the block; False if the thread is gone."""
    thread = subject.thread()
    if thread is None:
        yield False
        return
    strace = shutil.which("strace")
    assert strace
    more = ["-e", f"inject={inject}"] if inject else []
    command = [strace, "-qq", "-e", "signal=none", *more, "-o", str(log), "-p", str(thread)]
    status = Path(f"/proc/{subject.pid}/task/{thread}/status")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def sees_all() -> bool:
        """Has strace stopped the thread once, let it go on, and does it wait for its next call?"""
        waits_in = Path(f"/proc/{process.pid}/wchan").read_text()
        try:
            told = status.read_text()
        except FileNotFoundError:
            return True  # an idle helper ended meanwhile; strace will have seen nothing
        return (
            "TracerPid:\t0\n" not in told
            and "State:\tS" in told
            and waits_in in ("", "0", "do_wait")
        )

    try:
        yield until(sees_all, HANG_S)
    finally:
        try:
            process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Stage:
    """Plays one case after the other."""

    def __init__(self, scratch: str) -> None:
        self._scratch = scratch
        self.first, self.newcomer = Player(), Player()

    def _set(self, case: Case, path: str) -> None:
        """Prepares the situation before the subject comes."""
        if case.scenario in (BEHIND, BEHIND_A_GAP, HELD, GIVE_UP):
            assert self.first.acquire(path, NEWCOMER_S).how == "in"
        elif case.scenario == DEAD_PEER:
            Path(path).write_text(f"{DEAD} az")
        elif case.scenario == LIVING_PEER:
            Path(path).write_text("1 init")
            os.utime(path, (time.time() - WITHOUT_PID_S, time.time() - WITHOUT_PID_S))
        elif case.scenario == DEAD_HOLDER:
            dead = Player()
            assert dead.acquire(path, NEWCOMER_S).how == "in"
            dead.close()
            assert Path(path).exists()

    def play(self, case: Case) -> Result:
        path = case.directory + "/lockfile"
        log = Path(self._scratch, "strace.log")
        warm = path + ".warm"
        self._set(case, path)
        if case.scenario == BEHIND_A_GAP:
            time.sleep(GAP_DUE_S)
        if case.thread == "helper":
            assert self.newcomer.acquire(warm, NEWCOMER_S).how == "in"
        subject = Subject(case, path)
        if case.thread == "helper":
            until(lambda: is_queued(subject.pid), NEWCOMER_S)
            self.newcomer.release()
        assert subject.line.hear(NEWCOMER_S) == "ready"
        if case.scenario == GAP:
            time.sleep(GAP_DUE_S)
        said = beside = first = released = None
        hung = False
        with subject, traced(subject, case.inject, log) as is_there:
            if case.scenario in RELEASES:
                self.first.begin(path, NEWCOMER_S)
                until(lambda: is_queued(self.first.pid), QUEUED_S)
            os.kill(subject.pid, signal.SIGUSR1)
            if case.scenario in (BEHIND, BEHIND_A_GAP):
                until(lambda: is_queued(subject.pid) or subject.has_ended(), QUEUED_S)
                self.first.release()
            heard = subject.line.hear(HANG_S)
            if case.scenario in RELEASES:
                released = heard
            elif heard is not None:
                said = Said(*heard)
                if said.how == "in":
                    beside = self.newcomer.acquire(path, LOOK_S)
                    self.newcomer.release()
                    with contextlib.suppress(BrokenPipeError):
                        subject.line.say("release")
                    released = subject.line.hear(HANG_S)
            with contextlib.suppress(BrokenPipeError):
                subject.line.say("end")
            hung = not until(subject.has_ended, HANG_S)
            if hung:
                os.kill(subject.pid, signal.SIGKILL)
        number = subject.signal()
        subject.line.close()
        if case.scenario in RELEASES:
            first = self.first.end()
        if case.scenario == LIVING_PEER:
            Path(path).unlink(missing_ok=True)
        self.first.release()
        newcomer = self.newcomer.acquire(path, NEWCOMER_S)
        self.newcomer.release()
        files = sorted(os.listdir(case.directory))
        written = log.read_text() if log.exists() else ""
        log.unlink(missing_ok=True)
        met = is_there and ("(INJECTED)" in written or "killed by SIG" in written)
        calls = section(written.splitlines(), case.thread)
        return Result(met, number, hung, said, released, beside, first, newcomer, files, calls)

    def close(self) -> None:
        self.first.close()
        self.newcomer.close()


def section(log: list[str], thread: str) -> list[str]:
    """The calls of a log that belong to the lock, as "name:when" for strace; `when` counts the
    calls of that name in this thread.  ":wakes" follows a futex call that wakes others."""
    seen: Counter[str] = Counter()
    calls: list[str] = []
    for line in log:
        name = NAME.match(line)
        if name is None or name[1] in ("rt_sigtimedwait", "restart_syscall"):
            continue
        seen[name[1]] += 1
        if name[1] in ("write", "read", "select", "pselect6") and thread == "main":
            continue  # of the connection to the stage
        if name[1] in ("exit", "exit_group"):
            break
        wakes = ":wakes" if "FUTEX_WAKE" in line else ""
        calls.append(f"{name[1]}:{seen[name[1]]}{wakes}")
    return calls


class Theatre:
    """A stage on a file system, from the outside of its mount namespace."""

    def __init__(self, file_system: str, directory: Path) -> None:
        self._here, self._number = directory / HERE, 0
        program = [sys.executable, "-m", "tests.support.stage"]
        self._process = subprocess.Popen(
            on(file_system, directory, program, ROOT),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def play(
        self, scenario: str, patience: float, thread: str = "main", inject: str = ""
    ) -> Result:
        self._number += 1
        case = Case(f"{self._here}/{self._number}", scenario, patience, thread, inject)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the stage ended at {case}"
        result = Result(*json.loads(answer))
        said = [None if it is None else Said(*it) for it in (result.said, result.beside)]
        first = None if result.first is None else Said(*result.first)
        newcomer = Said(*result.newcomer)
        return result._replace(said=said[0], beside=said[1], first=first, newcomer=newcomer)

    def __enter__(self) -> Theatre:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=HANG_S)
        self._process.kill()
        self._process.communicate()


def main() -> None:
    scratch = tempfile.mkdtemp()
    stage = Stage(scratch)
    try:
        for line in sys.stdin:
            case = Case(*json.loads(line))
            os.mkdir(case.directory)
            print(json.dumps(stage.play(case)), flush=True)
            shutil.rmtree(case.directory)
    finally:
        stage.close()
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
