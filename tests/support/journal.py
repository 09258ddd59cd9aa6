"""What processes did with a lock, written down so that a SIGKILL loses nothing.

Each process appends lines to a file of its own.  A line is one write, which the kernel keeps even
if the process dies at once.

    journal = Journal(file)             journal.note(thread, ASKED)  ...
    visits = read(file, killed_ns)      overlaps(visits), gaps(spans, begin, end)

A line is "<what> <thread> <CLOCK_MONOTONIC in ns>"; this clock is the same in all processes of a
machine.  A process writes ENTERED after it got the lock, LEFT before it gives the lock back, and
GONE after that.  So visits that overlap in the journals really were inside together.  The Python of
1.3.1 imports this module, so it needs the standard library only.
"""

from __future__ import annotations

import bisect
import heapq
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ASKED, ENTERED, LEFT, GONE, GAVE_UP = "?", "+", "-", ".", "!"


class Journal:
    """The writer's side."""

    def __init__(self, file: str | Path) -> None:
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, thread: int, what: str) -> int:
        """Writes down that this happens now; returns the time."""
        now = time.monotonic_ns()
        os.write(self._descriptor, f"{what} {thread} {now}\n".encode())
        return now


class Visit(NamedTuple):
    """One wait for the lock, and the time inside if it succeeded; in nanoseconds."""

    kind: str
    thread: str  #: the process and its thread
    asked: int
    entered: int | None
    left: int  #: the end of the section, or of the wait; or the moment of the kill
    gave_up: bool = False
    gone: int = 0  #: when the lock was given back

    @property
    def waited(self) -> float:
        """The length of the wait, in seconds."""
        return ((self.left if self.entered is None else self.entered) - self.asked) / 1e9


def read(file: Path, killed: int) -> list[Visit]:
    """The visits of one process.  A visit that was not over when the process was killed, or when
    the journal was read, ends at ``killed``."""
    process, _, rest = file.stem.partition("-")
    kind = rest.partition(".")[0]
    visits: list[Visit] = []
    asked: dict[str, int] = {}
    entered: dict[str, int] = {}
    leaving: dict[str, int] = {}  # for each thread the number of its visit
    for line in file.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break  # the process was killed during this write
        what, thread, at = line.split()
        now, name = int(at), f"{process}.{thread}{rest.removeprefix(kind)}"
        if what == ASKED:
            asked[thread] = now
        elif what == ENTERED:
            entered[thread] = now
        elif what == LEFT:
            leaving[thread] = len(visits)
            visits.append(
                Visit(kind, name, asked.pop(thread), entered.pop(thread), now, gone=killed)
            )
        elif what == GONE:
            number = leaving.pop(thread)
            visits[number] = visits[number]._replace(gone=now)
        else:
            visits.append(Visit(kind, name, asked.pop(thread), None, now, gave_up=True))
    for thread, since in asked.items():
        name = f"{process}.{thread}{rest.removeprefix(kind)}"
        inside = entered.get(thread)
        end = max(killed, inside or since)
        visits.append(Visit(kind, name, since, inside, end, gone=end))
    return visits


class Overlap(NamedTuple):
    """Two visits that were inside at the same time; the first one entered first."""

    first: Visit
    second: Visit


def overlaps(visits: Iterable[Visit]) -> list[Overlap]:
    """All overlaps, in the order of their beginnings."""
    found: list[Overlap] = []
    inside: list[tuple[int, int, Visit]] = []  # sorted by their ends
    entries = sorted((visit.entered, n, visit) for n, visit in enumerate(visits) if visit.entered)
    for entered, number, visit in entries:
        while inside and inside[0][0] <= entered:
            heapq.heappop(inside)
        found += [Overlap(other, visit) for _, _, other in sorted(inside)]
        heapq.heappush(inside, (visit.left, number, visit))
    return found


class Span(NamedTuple):
    """From one moment to another, in nanoseconds."""

    begin: int
    end: int

    def within(self, begin: int, end: int) -> float:
        """The seconds of it that lie between the two moments."""
        return max(0, min(self.end, end) - max(self.begin, begin)) / 1e9


def union(spans: Iterable[Span]) -> list[Span]:
    """The spans in order; those that touch or overlap become one."""
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.begin <= merged[-1].end:
            merged[-1] = Span(merged[-1].begin, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def gaps(spans: Iterable[Span], begin: int, end: int) -> list[Span]:
    """The times between the two moments that no span covers."""
    found, at = [], begin
    for span in union(spans):
        if span.begin > at:
            found.append(Span(at, min(span.begin, end)))
        at = max(at, span.end)
    found.append(Span(at, end))
    return [span for span in found if span.end > span.begin]


def inside(visits: Iterable[Visit], *kinds: str) -> list[Span]:
    """The times when somebody was inside; or somebody of these kinds, if any are given."""
    return union(
        Span(visit.entered, visit.left)
        for visit in visits
        if visit.entered is not None and (not kinds or visit.kind in kinds)
    )


def between(spans: Sequence[Span], begin: int, end: int) -> Sequence[Span]:
    """The spans that reach into the time between the two moments.  They must be in order, and no
    two may touch."""
    first = bisect.bisect_right(spans, begin, key=lambda span: span.end)
    last = bisect.bisect_left(spans, end, key=lambda span: span.begin)
    return spans[first:last]
