"""The lock benchmark's rows as a page of Markdown and a chart."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.benchmarks.chart import Panel, render
from tests.benchmarks.figures import (
    BARE,
    FLOOR,
    MS,
    OURS,
    PORTALOCKER,
    US,
    Aim,
    Results,
    aims_table,
    bars,
    middle,
    name,
    scaled,
    spread,
    table,
    times,
    unsteadiness,
)
from tests.benchmarks.harness import Row

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
    return aims_table(
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

    Seen on ext4 without a journal: it looks past inodes deleted in the last minutes, so that
    making a file costs ten times as much soon after any program removed thousands of them.
    """
    unsteady = unsteadiness(rows[FLOOR]["samples"])
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
        ["", "who waits is in after, ms", "who comes then is in after, ms", "kills"],
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
        return "strace was not to be had: whether the calls are the same was not looked at."
    same = ours == floor
    listed = "\n".join(ours)
    verdict = "Both made these calls, in this order, when this page was made (strace):"
    if not same:
        verdict = "**They differ.** This package made:"
        listed += "\n```\n\nThe C program made:\n\n```\n" + "\n".join(floor)
    return f"{verdict}\n\n```\n{listed}\n```"


def page(results: Results, about: Mapping[str, str]) -> str:
    facts = "\n".join(f"- {what}: {value}" for what, value in about.items())
    busy, many = results["contended"][OURS], results["crowd"][OURS]
    size, entries = many["processes"], many["wanted"] // many["processes"]
    return f"""# The lock, measured

Made by `{about["Command"]}`; do not edit. Ratios hold within this run only.

![Bars: acquire and release, hand-over, wait, recovery, by library](lock-benchmarks.svg)

{facts}

{noise(results["uncontended"])}{aims(results)}

## Nobody else there

One acquire and release, a new lock object each time, in a process of each library; the rounds of
all take turns. 1.3.1 without portalocker only makes and removes a file. portalocker, fasteners and
plain flock leave theirs behind. The C program makes the system calls of this package and does
nothing else.

{uncontended(results["uncontended"])}

{calls(results["uncontended"])}

## 8 processes, each wants it {busy["wanted"] // 8} times for 5 ms, no pause

Held: share of the time, from the first entry to the last, that somebody was inside. Hand-over: from
one's release until another, who waited, is inside. Served: until the first process had all its
turns; 0 means that one waited while another took it again and again. Of each run the median, and
the lowest and highest of all runs. Plain flock waits in the kernel and knows no time-out.

{contended(results["contended"])}

## {size} processes, 2 ms

Each wants it {entries} times, and waits for 60 s at most. Only this package and plain flock run to
the end; the others are stopped after 10 s, so that those of their waits that were longer are
missing. 1.3.1 gives up after 5 s and is left out.

{crowd(results["crowd"])}

## The holder is killed

From SIGKILL until another process is inside; the kernel needs a part of that to take a Python
process down. 1.3.1 without portalocker never gets in again until somebody removes the file.

{killed(results["killed"])}
"""


def summary(results: Results) -> str:
    """What the one who ran it sees."""
    return noise(results["uncontended"]) + aims(results)


def chart(results: Results, about: Mapping[str, str]) -> str:
    def panel(title: str, unit: str, what: str, value: Callable[[Row], float | None]) -> Panel:
        return bars(title, unit, results[what], value)

    return render(
        [
            panel(
                "Acquire and release, nobody else there (median)",
                *("us", "uncontended"),
                lambda row: scaled(middle(row["samples"]), US),
            ),
            panel(
                "Hand-over to one who waits: 8 processes, 5 ms inside, no pause (median)",
                *("ms", "contended"),
                lambda row: scaled(middle(row["handover_p50"]), MS),
            ),
            panel(
                "Longest wait but 1 %: 8 processes, 5 ms inside, no pause",
                *("ms", "contended"),
                lambda row: scaled(middle(row["wait_p99"]), MS),
            ),
            panel(
                "The holder is killed: a process that waits is in after",
                *("ms", "killed"),
                lambda row: scaled(middle(row["waiter"]), MS),
            ),
        ],
        f"Shorter is better; logarithmic. {about['Date']}, {about['Machine']},"
        f" {about['File system']}.",
    )
