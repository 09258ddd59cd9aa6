"""Ctrl-C at any moment: the lock is free, or an object that the program still has holds it.

CPython runs signal handlers when a function of Python begins, after a call, and when a loop
repeats. These tests are stricter: they raise an exception at every byte code of the package.  There
is one exception to that: between the body of a ``with`` and the call of its ``__exit__`` no version
of CPython runs a handler.  (An exception there would skip the ``__exit__`` of every lock,
threading's own included.)  Nor does one run a handler at a NOP.  A ``try:`` compiles to a NOP, and
some compilers leave it outside of the ``try`` around it.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import msal_extensions
from msal_extensions import CrossPlatLock, FilePersistence, LockError, PersistedTokenCache
from msal_extensions._native import lock as native_lock
from tests.support import tally
from tests.support.capability import REMOVABLE_OPEN_FILES, requires
from tests.support.processes import GENEROUS, PATIENCE, eventually, python
from tests.support.tokens import REFRESH_TOKEN, secrets_of, sign_in, token

pytestmark = pytest.mark.slow

#: The number of interrupts at random moments; the full number is 20000.
INTERRUPTS = int(os.environ.get("MSALEX_INTERRUPTS", "400"))

Place = tuple[CodeType, int]
Moment = Place | int

PACKAGE = os.path.dirname(msal_extensions.__file__)
LAYER = {
    *(os.path.join(PACKAGE, name) for name in ("lock.py", "_holding.py", "token_cache.py")),
    *(os.path.join(PACKAGE, name) for name in ("_reloading.py", "_pending.py", "_transactions.py")),
    native_lock.__file__,
    contextlib.__file__,
}
#: Seconds for what other threads do, which takes no time unless something hangs.
AT_ONCE = 4.0
TEST_S = 3000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lockfile"


# ---- an interrupt at each byte code ------------------------------------------------------


@functools.cache
def without_a_look(code: CodeType) -> frozenset[int]:
    """The byte codes that call the ``__exit__`` of a ``with`` after its body, and NOPs."""
    steps = [step for step in dis.get_instructions(code) if step.opname != "CACHE"]
    found: set[int] = set()
    found.update(step.offset for step in steps if step.opname == "NOP")
    for at, step in enumerate(steps):
        if step.opname == "LOAD_CONST" and step.argval is None:
            call = [after.opname for after in steps[at + 1 : at + 5]]
            if call[:2] in (["LOAD_CONST", "LOAD_CONST"], ["DUP_TOP", "DUP_TOP"]) and any(
                name.startswith("CALL") for name in call[2:]
            ):
                end = 4 + (call[2] == "PRECALL")
                start = at - (steps[at - 1].opname in ("SWAP", "ROT_TWO"))  # the body's result
                found.update(inner.offset for inner in steps[start : at + end])
    return frozenset(found)


class Interrupt:
    """Raises an exception once while ``work`` runs: after so many byte codes of the layer, or when
    it reaches a place for the first time."""

    def __init__(self, work: Callable[[], object], at: Moment | None = None) -> None:
        self.work, self.at = work, at
        self.count = 0
        self.places: dict[Place, None] = {}  # all places that it reached

    def run(self) -> bool:
        """True when it interrupted the work.  The exception and all its frames are gone then."""
        before = sys.gettrace()
        try:
            sys.settrace(self._enter)
            self.work()
        except KeyboardInterrupt:
            return True
        except LockError:
            return False
        finally:
            sys.settrace(before)
        return False

    def _enter(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename not in LAYER and frame.f_code is not self.work.__code__:
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
        place = frame.f_code, frame.f_lasti
        if event == "opcode" and frame.f_lasti not in without_a_look(frame.f_code):
            now = self.at in (self.count, place)
            self.places[place] = None
            self.count += 1
            if now:
                self.at = None
                tally.tried()
                self.interrupt()
        return self._step

    def interrupt(self) -> None:
        raise KeyboardInterrupt


def moments(work: Callable[[], object], *, with_native: bool = True) -> list[Moment]:
    """The moments to interrupt: each place once; or each byte code that runs, if the full number is
    asked for."""
    Interrupt(work).run()  # the first run does what is done only once
    trial = Interrupt(work)
    trial.run()
    full = "MSALEX_INTERRUPTS" in os.environ
    chosen: list[Moment] = [*range(trial.count)]
    if not full:
        native = native_lock.__file__
        places = [(code.co_filename, (code, offset)) for code, offset in trial.places]
        chosen = [place for name, place in places if with_native or name != native]
    print(f"{len(trial.places)} byte codes, {len(chosen)} interrupts")
    return chosen


def is_free(path: str | os.PathLike[str]) -> bool:
    """Does a stranger get the lock at once?  A second native lock is such a stranger."""
    stranger = native_lock.Lock(os.fspath(path), "stranger")
    got = stranger.acquire(0, 0)
    stranger.release()
    return got


def in_a_thread(work: Callable[[], object], seconds: float = GENEROUS) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


def apart(test: Callable[..., None]) -> Callable[..., None]:
    """Runs a test in a thread of its own.

    After an exception at some byte codes, for example within an ``except`` of contextlib, CPython
    keeps a handled exception for ever: ``sys.exc_info()`` of that thread.
    """

    @functools.wraps(test)
    def run(**given: Any) -> None:
        in_a_thread(lambda: test(**given), TEST_S)

    return run


def enter_and_leave(path: Path) -> None:
    with CrossPlatLock(path, timeout=0):
        pass


def assert_everybody_gets_in(path: Path) -> None:
    assert is_free(path)
    enter_and_leave(path)
    in_a_thread(lambda: enter_and_leave(path))
    assert not path.exists()


@apart
def test_a_lock_made_for_its_with_is_free_after_an_interrupt_at_any_byte_code(path: Path) -> None:
    """Finding 6 of a review of the lock: it was held until the process ended."""

    def work() -> None:
        with CrossPlatLock(path):
            pass

    reached = 0
    for moment in moments(work):
        reached += Interrupt(work, moment).run()
        assert is_free(path), moment
    assert reached > 100  # in 3.13 tracing by byte codes misses some
    assert_everybody_gets_in(path)


@apart
def test_a_lock_that_the_program_keeps_says_honestly_whether_it_is_held(path: Path) -> None:
    """Finding 6 of a review of the lock, after an interrupt at any byte code."""
    lock = CrossPlatLock(path, timeout=0)

    def by_with() -> None:
        with lock:
            pass

    def by_calls() -> None:
        lock.acquire()
        lock.release()

    held = 0
    for work in (by_with, by_calls):
        for moment in moments(work):
            Interrupt(work, moment).run()
            assert lock.locked != is_free(path), moment
            if lock.locked:
                held += 1
                assert lock.still_held()
                with pytest.raises(LockError, match=r"by this very object.*release\(\)"):
                    lock.acquire()
                lock.release()
            else:
                with pytest.raises(LockError, match="not held"):
                    lock.release()
            with lock:  # and it can be used again
                assert lock.still_held()
            assert is_free(path), moment
    print(f"held {held} times")
    assert_everybody_gets_in(path)


@apart
def test_an_interrupt_while_it_is_entered_again_changes_nothing_for_the_outer_one(
    path: Path,
) -> None:
    outer = CrossPlatLock(path, reentrant=True)

    def work() -> None:
        with outer, CrossPlatLock(path):
            pass

    for moment in moments(work):
        Interrupt(work, moment).run()
        assert outer.locked != is_free(path), moment
        while outer.locked:
            assert outer.still_held()
            outer.release()
        assert is_free(path), moment
    assert_everybody_gets_in(path)


@pytest.mark.parametrize("timeout", [0, 0.001])
@apart
def test_a_wait_that_is_interrupted_or_times_out_holds_nobody_up(
    path: Path, timeout: float
) -> None:
    holders: list[CrossPlatLock] = []

    def work() -> None:
        with CrossPlatLock(path, timeout=timeout):
            pass

    in_a_thread(lambda: holders.append(CrossPlatLock(path).acquire()))
    for moment in moments(work):
        Interrupt(work, moment).run()  # or it ends before: it does not always ask equally often
        assert holders[0].still_held()
    holders[0].release()
    assert eventually(lambda: is_free(path) and not path.exists())
    assert_everybody_gets_in(path)


# ---- and of the cache --------------------------------------------------------------------


def cache_add(cache: PersistedTokenCache) -> None:
    cache.add(sign_in(1))


def cache_transaction(cache: PersistedTokenCache) -> None:
    with cache.transaction():
        cache.modify(REFRESH_TOKEN, token(2), token(2, "rotated"))
        with cache.transaction():
            pass


def cache_single_flight(cache: PersistedTokenCache) -> None:
    with cache.single_flight():
        cache.modify(REFRESH_TOKEN, token(3))


@pytest.mark.parametrize("operation", [cache_add, cache_transaction, cache_single_flight])
@apart
def test_a_cache_saves_again_at_once_after_an_interrupt_at_any_byte_code(
    tmp_path: Path, operation: Callable[[PersistedTokenCache], None]
) -> None:
    """P12 of a review of the cache: no save of this thread succeeded any more.  Saves come from
    this thread, from another one, and through another object."""
    location = str(tmp_path / "cache.bin")
    kept = PersistedTokenCache(FilePersistence(location))
    cache = kept

    def work() -> None:
        operation(cache)

    saved = 0
    cache = PersistedTokenCache(FilePersistence(location))
    for number, moment in enumerate(moments(work, with_native=False)):
        cache = PersistedTokenCache(FilePersistence(location))
        with kept.transaction():
            for user in (2, 3):
                kept.modify(REFRESH_TOKEN, token(user), token(user, f"before {number}"))
        with contextlib.suppress(LockError):
            Interrupt(work, moment).run()
        assert is_free(cache._lock_location), moment
        assert is_free(cache._lock_location + ".refresh"), moment
        for run in (in_a_thread, lambda save: save()):
            saved += 1
            secret = f"saved {saved}"
            before = time.monotonic()
            entry = token(4)
            run(functools.partial(cache.modify, REFRESH_TOKEN, entry, {**entry, "secret": secret}))
            assert time.monotonic() - before < AT_ONCE, moment
            assert secret in Path(location).read_text(), moment
        assert f"saved {saved}" in secrets_of(kept, REFRESH_TOKEN), moment
        assert not cache._lock._is_owned()


@apart
def test_the_program_may_save_while_it_handles_the_interrupt(tmp_path: Path) -> None:
    """P12 of a review of the cache: the handler still has the exception, and so all the frames on
    its way."""
    location = str(tmp_path / "cache.bin")
    cache = PersistedTokenCache(FilePersistence(location))

    def work() -> None:
        cache.modify(REFRESH_TOKEN, token(1), token(1, "interrupted"))

    def and_save(secret: str) -> None:
        interrupt = Interrupt(work, moment)
        sys.settrace(interrupt._enter)
        try:
            work()
        except KeyboardInterrupt:
            cache.modify(REFRESH_TOKEN, token(2), token(2, secret))
        else:  # in 3.13 tracing by byte codes misses some
            sys.settrace(None)
            cache.modify(REFRESH_TOKEN, token(2), token(2, secret))
        finally:
            sys.settrace(None)

    for number, moment in enumerate(moments(work, with_native=False)):
        and_save(f"during {number}")
        assert f"during {number}" in Path(location).read_text(), moment
        assert is_free(cache._lock_location), moment


def test_a_commit_within_a_lost_lock_of_the_program_takes_one_of_its_own(tmp_path: Path) -> None:
    """P12 of a review of the cache: at the end it tried for 5 s, and then blamed another
    program."""
    cache = PersistedTokenCache(FilePersistence(tmp_path / "cache.bin"))
    with CrossPlatLock(cache._lock_location) as outer:
        removed = Path(cache._lock_location)
        with cache.transaction():
            cache.modify(REFRESH_TOKEN, token(1), token(1, "saved"))
            try:
                removed.unlink()
            except PermissionError:  # on Windows a file that is open cannot be removed
                return
        assert not outer.still_held()
        cache.modify(REFRESH_TOKEN, token(2), token(2, "too"))
    assert secrets_of(cache, REFRESH_TOKEN) == {"saved", "too"}
    assert os.listdir(tmp_path) == ["cache.bin"]


# ---- at random moments -------------------------------------------------------------------


@requires("signal.setitimer")
def test_interrupts_at_random_moments_leave_nothing_behind(tmp_path: Path) -> None:
    """Finding 6 of a review of the lock and P12 of a review of the cache, with real signals."""
    code = """
        import json, os, random, signal, sys, threading, time
        from msal_extensions import CrossPlatLock, FilePersistence, PersistedTokenCache
        from msal_extensions._native import lock as native_lock
        directory, wanted = sys.argv[1], int(sys.argv[2])
        path, armed = os.path.join(directory, "lockfile"), False
        kept = CrossPlatLock(path)
        cache = PersistedTokenCache(FilePersistence(os.path.join(directory, "cache.bin")))
        entry = {"home_account_id": "a", "environment": "e", "client_id": "c"}
        def handle(*_):
            global armed
            if armed:
                armed = False
                raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, handle)
        def with_one():
            with CrossPlatLock(path):
                pass
        def with_kept():
            with kept:
                pass
        def by_calls():
            kept.acquire()
            kept.release()
        def modify():
            cache.modify("RefreshToken", entry, {"secret": str(time.monotonic())})
        def transact():
            with cache.transaction():
                modify()
        def fly():
            with cache.single_flight():
                pass
        def repeat(work, most):
            global armed
            armed = True
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, most))
            while armed:
                work()
        def interrupt(work, most):
            try:
                repeat(work, most)       # 3.13 leaves the end of a loop outside of a try
            except KeyboardInterrupt:
                pass
        def free(name):
            stranger = native_lock.Lock(name, "stranger")
            got = stranger.acquire(0, 0)
            stranger.release()
            return got
        found = dict(interrupts=0, kept_held=0, dishonest=0, leaked=0, mutexes=0, failed=0)
        def other_thread():
            mutex = vars(cache)["_PersistedTokenCache__transactions"]._mutex
            if not mutex.acquire(blocking=False):
                found["mutexes"] += 1
            else:
                mutex.release()
            if not cache._lock.acquire(blocking=False):
                found["mutexes"] += 1
            else:
                cache._lock.release()
        works = [(with_one, 2e-4), (with_kept, 2e-4), (by_calls, 2e-4), (modify, 2e-3),
                 (transact, 2e-3), (fly, 1e-3)]
        for number in range(wanted):
            interrupt(*works[number % len(works)])
            found["interrupts"] += 1
            found["dishonest"] += kept.locked == free(path)
            if kept.locked:
                found["kept_held"] += 1
                kept.release()
            names = path, cache._lock_location, cache._lock_location + ".refresh"
            found["leaked"] += sum(not free(name) for name in names)
            if number % len(works) > 2:
                thread = threading.Thread(target=other_thread)
                thread.start()
                thread.join()
            try:
                with_kept()
                if number % 20 < 6:
                    modify()
            except RuntimeError:
                found["failed"] += 1
        print(json.dumps(found))
    """
    sums: Counter[str] = Counter()
    for begin in range(0, INTERRUPTS, 1000):
        wanted = min(1000, INTERRUPTS - begin)
        done = python(code, str(tmp_path), str(wanted), patience=PATIENCE + wanted)
        sums.update(json.loads(done.stdout))
    print(dict(sums))
    tally.tried(sums["interrupts"])
    assert sums.pop("interrupts") == INTERRUPTS
    del sums["kept_held"]  # an object holds the lock, and says so
    tally.lost(sum(sums.values()))
    assert not any(sums.values()), sums
    assert os.listdir(tmp_path) == ["cache.bin"]


# ---- a signal handler that wants the lock --------------------------------------------------


@contextlib.contextmanager
def called_in_a_wait(path: str, handler: Callable[[], None]) -> Iterator[CrossPlatLock]:
    """In the block another holder has the lock.  While the thread waits for it, a signal handler
    calls ``handler``; after that the lock is given back."""
    import signal

    called = threading.Event()
    ready = threading.Event()

    def hold() -> None:
        with CrossPlatLock(path):
            ready.set()
            called.wait(GENEROUS)

    def handle(*_: object) -> None:
        try:
            handler()
        finally:
            called.set()

    holder = threading.Thread(target=hold)
    before = signal.signal(signal.SIGALRM, handle)
    try:
        holder.start()
        assert ready.wait(GENEROUS)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        yield CrossPlatLock(path, timeout=GENEROUS)
        assert called.is_set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        called.set()
        holder.join()


@requires("signal.setitimer")
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_handler_that_wants_the_lock_its_thread_waits_for_is_refused_at_once(
    path: Path, reentrant: bool
) -> None:
    """P13 of a review of the cache: the wait and its handler waited for each other."""
    said = []

    def handler() -> None:
        with pytest.raises(LockError) as caught:
            CrossPlatLock(path, timeout=3, reentrant=reentrant).acquire()
        said.append(str(caught.value))

    with called_in_a_wait(str(path), handler) as lock, lock:
        assert lock.still_held()
    assert len(said) == 1
    assert "is waiting for the lock" in said[0]
    assert str(path) in said[0]
    assert_everybody_gets_in(path)


@requires("signal.setitimer")
def test_a_handler_that_changes_the_cache_its_thread_waits_with_is_refused_at_once(
    tmp_path: Path,
) -> None:
    """P13 of a review of the cache: both changes failed after 5 s."""
    cache = PersistedTokenCache(FilePersistence(tmp_path / "cache.bin"))
    another = PersistedTokenCache(FilePersistence(tmp_path / "cache.bin"))
    said = []

    def handler() -> None:
        for one in (cache, another):
            for change in (
                functools.partial(one.add, sign_in(1)),
                functools.partial(one.modify, REFRESH_TOKEN, token(2), token(2)),
            ):
                with pytest.raises(LockError) as caught:
                    change()
                said.append(str(caught.value))

    with called_in_a_wait(cache._lock_location, handler):
        cache.modify(REFRESH_TOKEN, token(3), token(3, "outer"))
    assert len(said) == 4
    assert all("is waiting for the lock" in words for words in said)
    assert secrets_of(another, REFRESH_TOKEN) == {"outer"}
    in_a_thread(lambda: cache.add(sign_in(1)))
    cache.add(sign_in(2))


@requires("signal.setitimer")
def test_a_handler_may_change_the_cache_inside_a_transaction_of_its_thread(tmp_path: Path) -> None:
    import signal

    cache = PersistedTokenCache(FilePersistence(tmp_path / "cache.bin"))

    def handle(*_: object) -> None:
        cache.modify(REFRESH_TOKEN, token(1), token(1, "by the handler"))

    before = signal.signal(signal.SIGALRM, handle)
    try:
        with cache.transaction():
            signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert secrets_of(PersistedTokenCache(cache._persistence), REFRESH_TOKEN) == {"by the handler"}


@requires(REMOVABLE_OPEN_FILES)
@apart
def test_a_handler_comes_in_between_at_any_byte_code_of_acquire(path: Path) -> None:
    """The handler is refused, or it enters and leaves first; the interrupted wait gets in either
    way."""
    said: list[str] = []
    entered = 0

    class Handler(Interrupt):
        def interrupt(self) -> None:
            nonlocal entered
            try:
                with CrossPlatLock(path, timeout=1):
                    entered += 1
            except LockError as error:
                said.append(str(error))

    def work() -> None:
        with CrossPlatLock(path, timeout=1) as lock:
            assert lock.still_held()

    for moment in moments(work):
        assert not Handler(work, moment).run()
        assert is_free(path)
    print(f"refused {len(said)} times, entered {entered} times")
    assert said
    assert entered
    assert all("This thread" in words for words in said)


# ---- where SIGINT is ignored -------------------------------------------------------------


@requires("os.fork")
def test_the_tests_of_ctrl_c_do_not_depend_on_what_the_caller_does_with_sigint() -> None:
    """A shell that is not interactive ignores SIGINT in programs that it starts in the
    background."""
    name = "test_ctrl_c_ends_a_wait"
    command = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        " os.execv(sys.executable, [sys.executable, '-m', 'pytest', '-q', '-k', sys.argv[1],"
        " sys.argv[2]])"
    )
    done = python(command, name, str(Path(__file__).with_name("test_lock.py")), check=False)
    assert "1 passed" in done.stdout, done.stdout
