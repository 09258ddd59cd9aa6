"""How peers get in while six of ours keep the lock busy, and what it costs.

    python3 -m benchmarks.lock.starvation [--runs 3] [--seconds 20] [row ...]

Ours hold for 10 ms without a pause; beside them, in runs of their own, four of each peer: the real
1.3.1 without portalocker (5 s of patience, looks every 250 ms), the real lock of the Node package
(50 s; and the 5 s that identity gives it), and a poller (100 ms, 12 s).  They hold for 10 ms too,
and pause for a second at most.  Prints a table and the aims; asserts nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import Aim, aims_table, percentile, table
from tests.support import journal
from tests.support.contenders import BARE, NODE, OURS, POLLER, Account, Contender, Crowd, run

SHORT_S = 3.5  # less than it takes to the first gap
GAP_S = 0.15  # nobody is in for so long: that is a gap, not a hand-over
BUSY = 6
PEERS = 4
CROWD = OURS._replace(hold=(0.002, 0.002))
CROWD_SIZE = 64


class Run(NamedTuple):
    """One run, and what it counts."""

    account: Account
    peer: str
    kills: int = 0
    latest_s: float = 0  #: after a kill in a gap: the longest wait for the next entry

    @property
    def attempts(self) -> int:
        return len(self.account.of(self.peer)) if self.peer else 0

    @property
    def waits(self) -> list[journal.Visit]:
        return [it for it in self.account.of("ours") if it.entered is not None]

    @property
    def idle(self) -> list[journal.Span]:
        """The gaps."""
        account = self.account
        spans = journal.gaps(journal.inside(account.visits), account.start, account.stop)
        return [it for it in spans if it.within(it.begin, it.end) >= GAP_S]

    def ratio(self, between_gaps: bool) -> float:
        """Of the waits of ours: p99 / mean."""
        idle = self.idle
        waits = [
            it.waited
            for it in self.waits
            if not between_gaps or not journal.between(idle, it.asked, it.entered or it.left)
        ]
        return percentile(waits, 0.99) / statistics.fmean(waits) if waits else float("nan")


def beside(peer: Contender | None, seconds: float) -> Run:
    with tempfile.TemporaryDirectory() as directory:
        members = [(OURS, BUSY), *([(peer, PEERS)] if peer else [])]
        return Run(run(Path(directory), seconds, *members), peer.kind if peer else "")


def crowded(seconds: float) -> Run:
    with tempfile.TemporaryDirectory() as directory:
        return Run(run(Path(directory), seconds, (CROWD, CROWD_SIZE)), "")


def killed_in_gaps(seconds: float) -> Run:
    """One of ours is killed in each gap, and another one takes its place."""
    with tempfile.TemporaryDirectory() as directory, Crowd(Path(directory)) as crowd:
        spares = crowd.start(OURS, BUSY + max(1, int(seconds / 2)))
        crowd.processes = spares[:BUSY]
        waiting = spares[BUSY:]
        try:
            assert all(process.is_ready() for process in spares)
            crowd.go(seconds)
            kills, missing_since = 0, time.monotonic() + 1  # nobody has begun yet
            while crowd.left() > 0.5:
                time.sleep(0.002)
                now = time.monotonic()
                if crowd.path.exists():
                    missing_since = now
                elif now - missing_since > GAP_S / 2 and waiting:
                    crowd.processes[kills].kill()
                    crowd.processes.append(waiting.pop())
                    crowd.join(crowd.processes[-1])
                    kills, missing_since = kills + 1, now + 1
            account = crowd.finish()
        finally:
            for process in waiting:
                process.close()
        longest = max((it.within(it.begin, it.end) for it in Run(account, "").idle), default=0)
        return Run(account, "", kills, longest)


ROWS: dict[str, Callable[[float], Run]] = {
    "no peer": lambda seconds: beside(None, seconds),
    "no peer, short": lambda _: beside(None, SHORT_S),
    "1.3.1 without portalocker, 5 s": lambda seconds: beside(BARE, seconds),
    "Node, 50 s": lambda seconds: beside(NODE, seconds),
    "Node as identity has it, 5 s": lambda seconds: beside(NODE._replace(patience=(5, 5)), seconds),
    "poller of 100 ms, 12 s": lambda seconds: beside(POLLER, seconds),
    "64 processes, 2 ms": crowded,
    "killed in gaps": killed_in_gaps,
}
HEAD = (
    *("six of ours and", "ours hold, %", "entries of ours", "of the peer", "refused", "twice"),
    *("longest wait, s: ours", "peer", "gaps", "p99 / mean: all", "between", "overlaps", "left"),
)


def row(name: str, runs: Sequence[Run]) -> list[str]:
    peer = runs[0].peer
    held = [100 * it.account.held("ours") for it in runs]
    entries = [sum(v.entered is not None for v in it.account.of(peer)) for it in runs]
    twice = sum(it.account.refused_twice(peer) for it in runs)
    files = sorted({name for it in runs for name in it.account.files})
    return [
        name,
        f"{statistics.fmean(held):.1f} ({min(held):.1f})",
        str(sum(len(it.waits) for it in runs)),
        str(sum(entries)) if peer else "",
        str(sum(it.account.refused(peer) for it in runs)) if peer else "",
        str(twice) if peer else "",
        f"{max(it.account.longest('ours') for it in runs):.2f}",
        f"{max(it.account.longest(peer) for it in runs):.2f}" if peer else "",
        str(sum(len(it.idle) for it in runs)),
        f"{max(it.ratio(False) for it in runs):.2f}",
        f"{max(it.ratio(True) for it in runs):.2f}",
        str(sum(len(it.account.overlaps()) for it in runs)),
        " ".join(files) or "nothing",
    ]


def aims(results: dict[str, list[Run]]) -> list[Aim]:
    found = []
    for name, runs in results.items():
        peer = runs[0].peer
        held = statistics.fmean(it.account.held("ours") for it in runs)
        if peer:
            waits = sum(len([v for v in it.account.visits if v.kind == peer]) for it in runs)
            refused = sum(it.account.refused(peer) for it in runs)
            twice = sum(it.account.refused_twice(peer) for it in runs)
            found.append(Aim(f"{name}: refused", refused / max(1, waits), at_most=0.01))
            found.append(Aim(f"{name}: twice in a row", twice, at_most=0))
            found.append(Aim(f"{name}: ours hold", held, at_least=0.84))
        elif name.startswith("64"):
            all_waits = max(it.ratio(False) for it in runs)
            found.append(Aim(f"{name}: p99 / mean", all_waits, at_most=3.5))
            between = max(it.ratio(True) for it in runs)
            found.append(Aim(f"{name}: p99 / mean between gaps", between, at_most=2))
        elif name.startswith("killed"):
            found.append(Aim(f"{name}: kills", sum(it.kills for it in runs), at_least=len(runs)))
            found.append(Aim(f"{name}: longest pause", max(it.latest_s for it in runs), 0.5))
        else:
            at_least = 0.98 if name.endswith("short") else 0.92
            found.append(Aim(f"{name}: ours hold", held, at_least=at_least))
    every = [it for runs in results.values() for it in runs]
    found.append(Aim("overlaps", sum(len(it.account.overlaps()) for it in every), at_most=0))
    found.append(Aim("files left", sum(len(it.account.files) for it in every), at_most=0))
    found.append(Aim("errors", sum(sum(it.account.errors.values()) for it in every), at_most=0))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="row", help=", ".join(ROWS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    told = parser.parse_args()
    results: dict[str, list[Run]] = {}
    for name, measure in ROWS.items():
        if told.rows and not any(wanted in name for wanted in told.rows):
            continue
        results[name] = [measure(told.seconds) for _ in range(told.runs)]
        print("| " + " | ".join(row(name, results[name])) + " |", flush=True)
        for it in results[name]:
            for error, count in it.account.errors.items():
                print(f"{count} times: {error}")
    print("\n" + table(HEAD, [row(name, runs) for name, runs in results.items()]))
    print("\n" + aims_table(aims(results)))


if __name__ == "__main__":
    main()
