"""The lock for a long time, while processes are killed, stopped and forked around it.

    python3 -m tests.soak [--seconds 1200] [--processes 5] [--threads 3] [--seed 1]
        [--without-portalocker] [--directory D]

It runs processes of ours with several threads each, some hasty and some patient, which fork now and
then, beside the real 1.3.1 with and without portalocker.  At any moment it may kill a process and
replace it, or stop it for up to 1.2 s.  Each process writes what it does into a journal, which
outlives it (support/journal.py).  At the end the program prints a summary.  The exit status is 0
only if no two processes that respect the lock were inside together, no wake-up was lost, and
nothing is left: no file, descriptor or thread.

1.3.1 with portalocker goes on without the lock after 5 s, and when it leaves it removes any file
with the lock file's name.  The overlaps that follow from this are its own fault ("P") and are
counted apart: an overlap with such an entry, and an overlap with a visit whose file it may have
removed.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support import journal
from tests.support.contenders import (
    BARE,
    FORCE_S,
    OURS,
    PORTALOCKER,
    Account,
    Contender,
    Crowd,
    Process,
    described,
)
from tests.support.journal import Overlap, Span, Visit

#: Seconds between two disturbances, on average.  Each is a kill or a stop.
PAUSE_S = 0.4
KILLS = 0.55  # share of the disturbances
STOP_S = (0.02, 1.2)
LOOK_S = 0.01  # between two looks at the lock file
#: A wait lost its wake-up when the lock was free for more than LOST_S during it.  The first
#: ALLOWED_S of each free time do not count: the gap for peers, or a hand-over on a busy machine,
#: takes that long.
ALLOWED_S, LOST_S = 0.4, 1.0
#: A forked child of a killed process goes on for at most this time.
CHILDREN_S = 4
NEWCOMER_S = 10
#: A process may note an entry so late: it may be stopped for STOP_S first.
NOTED_NS = 1_300_000_000
TAG = b" msalex1 "  # in each record of ours


#: The processes take turns with these pairs: the shortest and the longest patience, in seconds.
PATIENCE = ((20, 20), (0, 2), (0, 0.05), (5, 20), (0, 0))


def ours(chance: random.Random, threads: int, patience: tuple[float, float]) -> Contender:
    """One of our processes, with a random speed, and with this patience."""
    return OURS._replace(
        threads=threads,
        hold=(0.0005, chance.choice((0.002, 0.005, 0.02))),
        think=(0, chance.choice((0.01, 0.1, 0.3, 0.6))),
        patience=patience,
        forks=chance.choice((0, 0, 0.02, 0.1)),
    )


def peer(chance: random.Random, kind: Contender) -> Contender:
    return kind._replace(hold=(0.001, 0.01), think=(0, chance.choice((0.1, 1))))


def robs(removal: Visit, pair: Overlap) -> bool:
    """May a peer, when it left, have removed the file of one of the two, so that the other got in?

    A process may be stopped between the grant of the lock and the note of it.
    """
    first, second = pair
    assert first.entered is not None
    assert second.entered is not None
    granted = max(min(first.asked, second.asked), first.entered - NOTED_NS)
    return granted <= removal.gone and removal.left <= second.entered


class Counts(NamedTuple):
    """The result of a run."""

    account: Account
    kills: int
    stops: int
    peers: Sequence[Span]  #: when a peer's file was at the path
    stopped: Sequence[Span]
    newcomer_s: float  #: how long a newcomer waits at the end, beside what killed ones left

    @property
    def forks(self) -> int:
        """The number of forked children that waited for the lock; about as many slept."""
        return len({it.thread for it in self.account.visits if it.thread.count(".") == 2})

    def split(self) -> tuple[list[Overlap], list[Overlap]]:
        """The overlaps that must not happen, and those that are 1.3.1's own fault."""
        visits = self.account.visits
        tainted = {it for it in visits if it.kind == PORTALOCKER.kind and it.waited >= FORCE_S}
        real, own = [], []
        for pair in journal.overlaps(visits):
            if not tainted.isdisjoint(pair) or any(robs(it, pair) for it in tainted):
                own.append(pair)
                # Our processes check the file before they remove it; a peer does not, and may rob
                # the next.
                tainted.update(it for it in pair if it.kind != OURS.kind)
            else:
                real.append(pair)
        return real, own

    def lost(self) -> list[tuple[Visit, float]]:
        """Waits of ours during which the lock was free for too long, with the seconds."""
        account = self.account
        taken = [*journal.inside(account.visits), *self.peers, *self.stopped]
        end = max((it.left for it in account.visits), default=0)
        free = [
            span
            for span in journal.gaps(taken, account.start, end)
            if span.within(span.begin, span.end) > ALLOWED_S
        ]
        found = []
        for wait in account.visits:
            until = wait.left if wait.entered is None else wait.entered
            spans = journal.between(free, wait.asked, until)
            seconds = sum(max(0, it.within(wait.asked, until) - ALLOWED_S) for it in spans)
            if wait.kind == OURS.kind and seconds > LOST_S:
                found.append((wait, seconds))
        return found


class Soak:
    """Disturbs the crowd, and watches the lock file meanwhile."""

    def __init__(self, crowd: Crowd, chance: random.Random, threads: int) -> None:
        self._crowd, self._chance, self._threads = crowd, chance, threads
        self._starting: list[Process] = []
        self._stopped: dict[int, tuple[Process, int, float]] = {}
        self._peers: list[Span] = []
        self._patience = itertools.cycle(PATIENCE)
        self.kills = self.stops = 0

    def start(self, kind: str) -> list[Process]:
        made = {it.kind: it for it in (BARE, PORTALOCKER)}.get(kind)
        if made:
            return self._crowd.start(peer(self._chance, made))
        contender = ours(self._chance, self._threads, next(self._patience))
        return self._crowd.start(contender)

    def run(self, seconds: float) -> None:
        self._crowd.go(seconds)
        next_at, looked = time.monotonic() + 1, time.monotonic_ns()
        while self._crowd.left() > 0:
            time.sleep(LOOK_S)
            looked = self._look(looked)
            self._let_go()
            if time.monotonic() > next_at:
                next_at = time.monotonic() + self._chance.uniform(0, 2 * PAUSE_S)
                self._disturb()
        self._let_go(all_of_them=True)
        for process in self._starting:  # these became ready too late
            self._crowd.join(process)

    def _look(self, before: int) -> int:
        """Notes the time since the last look as the peers' when a peer's file is there."""
        content = None
        with contextlib.suppress(FileNotFoundError):
            content = self._crowd.path.read_bytes()[:256]
        now = time.monotonic_ns()
        if content is not None and TAG not in content:
            self._peers.append(Span(before, now + int(2 * LOOK_S * 1e9)))
        return now

    def _let_go(self, all_of_them: bool = False) -> None:
        """Resumes the processes whose stop is over, and lets those begin that have become ready."""
        for number, (process, since, until) in list(self._stopped.items()):
            if all_of_them or time.monotonic() > until:
                self._crowd.resume(process, since)
                del self._stopped[number]
        for process in [it for it in self._starting if it.is_ready(0)]:
            self._starting.remove(process)
            self._crowd.join(process)

    def _disturb(self) -> None:
        living = [it for it in self._crowd.processes if not it.killed and it not in self._starting]
        if len(self._starting) > len(living):
            return  # a busy machine: new processes start more slowly than others die
        process = self._chance.choice(living)
        number = process.process.pid
        if self._chance.random() < KILLS:
            process.kill()
            self.kills += 1
            if number in self._stopped:
                _, since, _ = self._stopped.pop(number)
                self._crowd.stops.append(Span(since, process.killed))
            self._starting += self.start(process.kind)
        elif number not in self._stopped:
            until = time.monotonic() + self._chance.uniform(*STOP_S)
            self._stopped[number] = process, self._crowd.stop(process), until
            self.stops += 1

    def counts(self) -> Counts:
        """The result, when all processes have ended."""
        from msal_extensions import CrossPlatLock

        self._crowd.finish()
        time.sleep(CHILDREN_S)
        before = time.monotonic()
        with CrossPlatLock(self._crowd.path, timeout=NEWCOMER_S):
            seconds = time.monotonic() - before
        return Counts(
            self._crowd.account(),
            self.kills,
            self.stops,
            journal.union(self._peers),
            journal.union(self._crowd.stops),
            seconds,
        )


def soak(
    directory: Path,
    seconds: float,
    processes: int = 5,
    threads: int = 3,
    seed: int = 1,
    peers: Sequence[str] = (BARE.kind, PORTALOCKER.kind),
) -> Counts:
    """Runs the whole soak in an empty directory."""
    with Crowd(directory) as crowd:
        soaking = Soak(crowd, random.Random(seed), threads)
        for kind in [OURS.kind] * processes + [*peers] * 2:
            soaking.start(kind)
        soaking.run(seconds)
        return soaking.counts()


def _entries(visits: Iterable[Visit]) -> str:
    by_kind = Counter(it.kind for it in visits if it.entered is not None)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(by_kind.items()))


def problems(counts: Counts) -> list[str]:
    """One sentence for each thing that must not happen."""
    account = counts.account
    found = [f"overlap: {text}" for text in described(counts.split()[0])]
    found += [f"lost wake-up, free for {s:.1f} s: {wait}" for wait, s in counts.lost()[:5]]
    found += [f"{count} times: {error}" for error, count in account.errors.items()]
    found += [f"left behind: {name}" for name in account.files]
    if account.descriptors or account.threads:
        found.append(f"left open: {account.descriptors} descriptors, {account.threads} threads")
    return found


def summary(counts: Counts) -> str:
    account, (real, own) = counts.account, counts.split()
    forced = [it for it in account.visits if it.kind == PORTALOCKER.kind and it.waited >= FORCE_S]
    peers = (BARE.kind, PORTALOCKER.kind)
    seconds = (account.stop - account.start) / 1e9
    busy = sum(it.within(account.start, account.stop) for it in journal.inside(account.visits))
    return "\n".join(
        (
            f"{seconds:.0f} s: {_entries(account.visits)} entries; somebody inside"
            f" {busy / seconds:.0%} of the time",
            f"{counts.kills} kills, {counts.stops} stops, {counts.forks} forked children that"
            " waited, and about as many that slept",
            f"given up: {account.refused(OURS.kind)} ours, {account.refused(*peers)} of 1.3.1;"
            f" entered by force: {len(forced)}",
            f"longest wait: ours {account.longest(OURS.kind):.2f} s,"
            f" 1.3.1 {account.longest(*peers):.2f} s; the newcomer at the end"
            f" {counts.newcomer_s:.3f} s",
            f"overlaps: {len(real)}; 1.3.1's own (P): {len(own)}",
            f"lost wake-ups: {len(counts.lost())}",
            f"left: {account.files or 'no file'}, {account.descriptors} descriptors,"
            f" {account.threads} threads",
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without-portalocker", action="store_true", help="then there is no P")
    parser.add_argument("--directory", help="where; a temporary one is made there")
    told = parser.parse_args()
    directory = tempfile.mkdtemp(dir=told.directory)
    peers = [BARE.kind] if told.without_portalocker else [BARE.kind, PORTALOCKER.kind]
    counts = soak(Path(directory), told.seconds, told.processes, told.threads, told.seed, peers)
    print(summary(counts))
    found = problems(counts)
    if found:
        print("\n".join([*found, f"the journals are in {directory}"]))
    else:
        shutil.rmtree(directory)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
