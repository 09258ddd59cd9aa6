"""When a system call of the lock fails, the lock still works, or says why it does not.

It keeps others out, or raises an error that says why, and never says "held" when it is free.
The suite tries a sample of the system calls of a wait and a release, with 14 errors;
MSALEX_ERRNOS=all tries all.  The results are printed.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.support import strace, tally
from tests.support.capability import needs, requires

pytest.importorskip("fcntl")

from tests.support.stage import (
    BEHIND,
    BEHIND_A_GAP,
    DEAD_HOLDER,
    DEAD_PEER,
    FREE,
    GAP,
    GIVE_UP,
    HELD,
    LIVING_PEER,
    OCCUPIED,
    RELEASES,
    WAITED_FOR,
    Result,
    Theatre,
)

pytestmark = pytest.mark.slow

ERRORS = (
    *("EPERM", "ENOENT", "EINTR", "EIO", "ENXIO", "EAGAIN", "ENOMEM", "EACCES", "EBUSY"),
    *("EMFILE", "ENOSPC", "EROFS", "ENOLCK", "EOPNOTSUPP"),
)
#: The suite tries one combination in 29, which has no common divisor with 14: so each error has its
#: turn.
ALL = os.environ.get("MSALEX_ERRNOS") == "all"
STEP = 1 if ALL else 29
#: Scenario, patience, and whether the helper thread that waits for the lock is traced as well.
SCENARIOS = [
    (FREE, 2.0, False),
    (FREE, 0.0, False),
    (DEAD_HOLDER, 2.0, True),
    (DEAD_HOLDER, 0.0, False),
    (DEAD_PEER, 2.0, False),
    (BEHIND, 2.0, True),
    (HELD, 0.1, True),
    (HELD, 0.0, False),
    (LIVING_PEER, 0.3, False),
    (GIVE_UP, 0.05, True),
    (WAITED_FOR, 2.0, False),
    *([(GAP, 2.0, False), (BEHIND_A_GAP, 2.0, True)] if ALL else []),
]
#: Calls of Python and the C library, and calls that cannot fail; close is exempt.  So is a futex
#: that wakes others: it does not fail, and the C library relies on that.
NOT_OURS = {
    *("close", "brk", "mmap", "munmap", "mprotect", "madvise", "getpid", "gettid", "exit"),
    *(
        "sched_yield",
        "rt_sigprocmask",
        "rt_sigaction",
        "set_robust_list",
        "rseq",
        "clock_nanosleep",
    ),
    *("write", "read", "select", "pselect6", "prctl"),
}
#: The same for scenarios that last for seconds, also with MSALEX_ERRNOS=all.
LONG_STEP = 5
MOST = 3  # of the same call, where a wait checks again and again
#: These errors mean that another process holds the lock.
MEANS_HELD = {("flock", "EAGAIN"), ("fcntl", "EAGAIN")}
#: So do these at the first look: another user's file that we may not open; and on SMB, where locks
#: are mandatory, a file that cannot be read.
MEANS_HELD |= {("openat", "EACCES"), ("openat", "EPERM")}
MEANS_HELD |= {("pread64", "EACCES"), ("pread64", "EAGAIN"), ("fcntl", "EACCES")}


def fault(scenario: str, call: str, error: str, result: Result) -> str | None:
    """What is wrong with a result, or None."""
    name = call.partition(":")[0]
    if name == "futex" and (f"{call}:wakes" in result.calls or result.signal == signal.SIGABRT):
        return None  # another call this time, or the C library's, which ends the process
    if result.hung:
        return "it hangs"
    if result.signal:
        return f"signal {result.signal}"
    if scenario in RELEASES:
        if result.first is None or result.first.how != "in":
            return "the waiter is not in"
        if not said_so(result):
            return f"release raised {result.released}"
        return after(name, result)
    if result.said is None:
        return "it said nothing"
    how = result.said.how
    if how == "in":
        if scenario in OCCUPIED or result.beside is None or result.beside.how != "out":
            return "two inside"
        if not said_so(result):
            return f"release raised {result.released}"
    elif how == "out":
        if scenario not in OCCUPIED and (name, error) not in MEANS_HELD:
            return 'a false "held"'
    elif how != "refused":
        return f"not a typed refusal: {how}"
    return after(name, result)


def said_so(result: Result) -> bool:
    """The process released the lock, or raised a typed error."""
    return result.released is not None and result.released.startswith(("released", "Lock"))


def after(name: str, result: Result) -> str | None:
    """The same question after the process has ended."""
    if result.newcomer.how != "in":
        return f"then a newcomer: {result.newcomer}"
    left = [it for it in result.files if not it.startswith(".msalex-") or "unlink" not in name]
    return f"left behind: {left}" if left else None


@requires("os.fork")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("scenario", "patience", "helper"), SCENARIOS)
def test_a_call_that_fails_makes_it_neither_lie_nor_hang(
    scenario: str, patience: float, helper: bool, tmp_path: Path
) -> None:
    """Findings 7 and 14 of a review of the lock: a read error let it in, and timeout=0 said "held"
    for other errors."""
    needs(strace.missing())
    step = LONG_STEP if scenario in (GAP, BEHIND_A_GAP) else STEP
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    number = 0
    with Theatre("disk", tmp_path) as theatre:
        for thread in ("main", "helper") if helper else ("main",):
            for call in theatre.play(scenario, patience, thread).calls:
                name, when, *wakes = call.split(":")
                if name in NOT_OURS or int(when) > MOST or wakes:
                    continue
                for error in ERRORS:
                    number += 1
                    if number % step:
                        continue
                    inject = f"{name}:error={error}:when={when}"
                    result = theatre.play(scenario, patience, thread, inject)
                    wrong = fault(scenario, f"{name}:{when}", error, result)
                    if wrong is not None:
                        faults.append(f"{thread}, {inject}: {wrong}: {result}")
                    said = result.released if result.said is None else result.said.how
                    said = said or f"ended by signal {result.signal}"
                    outcomes[said if result.met else "not met"] += 1
    print(f"{scenario}, {patience} s: {dict(outcomes)}, {len(faults)} wrong")
    tally.tried(sum(outcomes.values()) - outcomes["not met"])
    tally.lost(len(faults))
    assert not faults, "\n".join(faults)
    assert sum(outcomes.values()) > outcomes["not met"]
