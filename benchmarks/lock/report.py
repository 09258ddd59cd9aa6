"""The lock benchmark's rows as a page of Markdown and a chart."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import figures
from benchmarks.chart import bars, render
from benchmarks.figures import MS, US, Aim, middle, name, spread, table, times
from benchmarks.libraries import BARE, FLOOR, OURS, PORTALOCKER
from benchmarks.rows import Results, Row

FLOCK = "flock"
#: Quartiles of the C program that are so far apart say that the ratios mean little.
NOISY = 1.4


def tail_ratios(row: Row) -> list[float]:
    pairs = zip(row["wait_p99"], row["wait_mean"], strict=True)
    return [p99 / mean for p99, mean in pairs if mean]


def aims(results: Results) -> str:
    """What this package set out to reach, and whether it did in this run."""
    alone, busy = results["uncontended"], results["contended"]
    many, dead = results["crowd"][OURS], results["killed"][OURS]
    at = {key: middle(row["samples"]) or 0 for key, row in alone.items()}
    ours, flock = busy[OURS], busy[FLOCK]
    p50, p99 = (
        (middle(ours[key]) or 0) / (middle(flock[key]) or 1)
        for key in ("handover_p50", "handover_p99")
    )
    slowest = max((value or 99) * MS for value in dead["waiter"] + dead["newcomer"])
    errors = sum(sum(it.values()) for it in many["errors"]) + sum(many["overlaps"])
    stalls, held = at[PORTALOCKER] / at[OURS], 100 * (middle(ours["held"]) or 0)
    tail = middle(tail_ratios(many)) or 0
    return figures.aims_table(
        [
            Aim("nobody else there: x the C floor", at[OURS] / at[FLOOR], at_most=1.3),
            Aim("... times faster than 1.3.1 with portalocker", stalls, at_least=6),
            Aim("... x 1.3.1 without portalocker", at[OURS] / at[BARE], at_most=1.5),
            Aim("8 processes: percent of the time held", held, at_least=95),
            Aim("... hand-over p50, x plain flock", p50, at_most=3),
            Aim("... hand-over p99, x plain flock", p99, at_most=5),
            Aim("... least served / most served", min(ours["fairness"]), at_least=0.5),
            Aim("64 processes: errors and overlaps", errors, at_most=0),
            Aim("... p99 wait / mean wait", tail, at_most=2),
            Aim("holder killed: the slowest next one, ms", slowest, at_most=10),
        ]
    )


def noise(rows: Mapping[str, Row]) -> str:
    """A warning when not even the C program took the same time throughout.

    Seen on ext4 without a journal: it skips inodes that were deleted in the last minutes, so
    making a file costs ten times as much soon after any program removed thousands of files.
    """
    unsteady = figures.unsteadiness(rows[FLOOR]["samples"])
    if unsteady < NOISY:
        return ""
    return (
        f"**A noisy run**: the C program's own quartiles are {unsteady:.1f} x apart. Wait until"
        " nothing else uses the disk, and run it again.\n\n"
    )


def uncontended(rows: Mapping[str, Row]) -> str:
    floor, bare = middle(rows[FLOOR]["samples"]), middle(rows[BARE]["samples"])
    stalls = middle(rows[PORTALOCKER]["samples"])
    lines = []
    for row in rows.values():
        at = middle(row["samples"])
        ratios = [times(at, floor), times(stalls, at), times(at, bare)]
        lines.append([name(row), spread(row["samples"], US), *ratios])
    return table(
        [
            *("", "us (quartiles)", "x the C floor"),
            *("times faster than 1.3.1 with portalocker", "x 1.3.1 without it"),
        ],
        lines,
    )


def contended(rows: Mapping[str, Row]) -> str:
    lines = []
    p50, p99 = (middle(rows[FLOCK][key]) for key in ("handover_p50", "handover_p99"))
    for row in rows.values():
        of_flock = [
            times(middle(row["handover_p50"]), p50),
            times(middle(row["handover_p99"]), p99),
        ]
        lines.append(
            [
                name(row),
                spread(row["held"], 100) + " %",
                spread(row["handover_p50"], MS),
                spread(row["handover_p99"], MS),
                " and ".join(of_flock),
                f"{middle(row['fairness']) or 0:.2f}",
                f"{sum(row['entries']):,} of {row['wanted'] * len(row['entries']):,}",
                str(sum(row["overlaps"])),
            ]
        )
    return table(
        [
            *("", "held", "hand-over p50, ms", "p99, ms", "x flock", "least / most served"),
            *("entries", "overlaps"),
        ],
        lines,
    )


def crowd(rows: Mapping[str, Row]) -> str:
    return table(
        ["", "mean wait, ms", "p99 wait, ms", "p99 / mean", "entries", "errors", "overlaps"],
        [
            [
                name(row),
                spread(row["wait_mean"], MS),
                spread(row["wait_p99"], MS),
                spread(tail_ratios(row), 1),
                f"{sum(row['entries']):,} of {row['wanted'] * len(row['entries']):,}",
                str(sum(sum(errors.values()) for errors in row["errors"])),
                str(sum(row["overlaps"])),
            ]
            for row in rows.values()
        ],
    )


def killed(rows: Mapping[str, Row]) -> str:
    return table(
        ["", "a waiter is in after, ms", "a newcomer is in after, ms", "kills"],
        [
            [
                name(row),
                spread(row["waiter"], MS),
                spread(row["newcomer"], MS),
                str(len(row["waiter"]) + len(row["newcomer"])),
            ]
            for row in rows.values()
        ],
    )


def calls(rows: Mapping[str, Row]) -> str:
    ours, floor = rows[OURS].get("calls", []), rows[FLOOR].get("calls", [])
    if not ours or not floor:
        return "strace could not run here, so nobody compared the system calls of the two."
    same = ours == floor
    listed = "\n".join(ours)
    verdict = "Both made these calls, in this order, when this page was made (strace):"
    if not same:
        verdict = "**They differ.** This package made:"
        listed += "\n```\n\nThe C program made:\n\n```\n" + "\n".join(floor)
    return f"{verdict}\n\n```\n{listed}\n```"


def page(results: Results, about: Mapping[str, str]) -> str:
    busy, many = results["contended"][OURS], results["crowd"][OURS]
    size, entries = many["processes"], many["wanted"] // many["processes"]
    return f"""# The lock, measured

Made by `{about["Command"]}`; do not edit. Ratios hold within this run only.

![Bars: acquire and release, hand-over, wait, recovery, by library](lock-benchmarks.svg)

{figures.facts(about)}

{noise(results["uncontended"])}{aims(results)}

## Nobody else there

One acquire and release, a new lock object each time. pytest-benchmark measured it
(`benchmarks/lock/test_lock.py`). Each 1.3.1 had a process of pytest to itself, because its import
name is that of this package; all other libraries shared a third one. These processes took turns.
The C program makes the system calls of this package and does nothing else; it took its own time.
1.3.1 without portalocker only makes and removes a file. portalocker, fasteners and plain flock
leave their file behind.

{uncontended(results["uncontended"])}

{calls(results["uncontended"])}

## 8 processes, each wants it {busy["wanted"] // 8} times for 5 ms, no pause

Here and below worker processes measured (`benchmarks/lock/worker.py`): they noted when they asked
for the lock, had it and gave it back. Held: share of the time, from the first entry to the last,
that a process was inside. Hand-over: from one release until another process, which waited, is
inside. Served: until the first process had all its turns; 0 means that one process waited while
another took the lock again and again. Of each run the median, and the lowest and highest of all
runs. Plain flock waits in the kernel and knows no time-out.

{contended(results["contended"])}

## {size} processes, 2 ms

Each wants it {entries} times, and waits for 60 s at most. Only this package and plain flock run to
the end. The others are stopped earlier, after 10 s in a full run, so their waits that were longer
are missing. 1.3.1 gives up after 5 s and is left out.

{crowd(results["crowd"])}

## The holder is killed

From SIGKILL until another process is inside; the kernel needs a part of that time to end a Python
process. 1.3.1 without portalocker never gets in again until somebody removes the file.

{killed(results["killed"])}
"""


def summary(results: Results) -> str:
    """What the command prints at the end."""
    return noise(results["uncontended"]) + aims(results)


def chart(results: Results, about: Mapping[str, str]) -> str:
    busy, inside = results["contended"], "8 processes, 5 ms inside, no pause"
    return render(
        [
            bars("Acquire and release, nobody else there (median)", "us", results["uncontended"]),
            bars(f"Hand-over to a waiter: {inside} (median)", "ms", busy, "handover_p50"),
            bars(f"Longest wait but 1 %: {inside}", "ms", busy, "wait_p99"),
            bars(
                "The holder is killed: a waiter is in after",
                *("ms", results["killed"], "waiter"),
            ),
        ],
        about,
    )
