"""Figures as text: medians, spreads, tables; and what the figures are measured against."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.benchmarks.lock_peers import FLOOR

Row = dict[str, Any]
#: Measurement -> library -> row: what lock_measure.py returns.
Results = Mapping[str, Mapping[str, Row]]

OURS, FLOCK, BARE, PORTALOCKER = "ours", "flock", "1.3.1-bare", "1.3.1-portalocker"
US, MS = 1e6, 1e3
#: Quartiles of the C program that are so far apart say that the ratios mean little.
NOISY = 1.4


def middle(values: Sequence[float | None]) -> float | None:
    """The median; None when there is none, or when it is "never"."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known and 2 * len(known) > len(values) else None


def number(value: float) -> str:
    """Three significant digits, never with an exponent."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value) or 1)))}f}"


def spread(values: Sequence[float | None], scale: float) -> str:
    """median (lowest to highest), or with the quartiles when there are many."""
    at = middle(values)
    if at is None:
        return "never"
    known = sorted(value * scale for value in values if value is not None)
    if len(known) == 1:
        return number(at * scale)
    low, high = known[0], known[-1]
    if len(known) > 10:
        low, _, high = statistics.quantiles(known, n=4)
    return f"{number(at * scale)} ({number(low)} to {number(high)})"


def times(one: float | None, other: float | None) -> str:
    return "" if not one or not other else number(one / other)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


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
    at_most: Callable[[float, float], bool] = float.__le__
    at_least: Callable[[float, float], bool] = float.__ge__
    wanted = (
        ("nobody else there: x the C floor", at[OURS] / at[FLOOR], at_most, 1.3),
        (
            "... times faster than 1.3.1 with portalocker",
            at[PORTALOCKER] / at[OURS],
            *(at_least, 6.0),
        ),
        ("... x 1.3.1 without portalocker", at[OURS] / at[BARE], at_most, 1.5),
        (
            "8 processes: percent of the time held",
            100 * (middle(ours["held"]) or 0),
            at_least,
            95.0,
        ),
        ("... hand-over p50, x plain flock", p50, at_most, 3.0),
        ("... hand-over p99, x plain flock", p99, at_most, 5.0),
        ("... least served / most served", min(ours["fairness"]), at_least, 0.5),
        ("64 processes: errors and overlaps", float(errors), at_most, 0.0),
        ("... p99 wait / mean wait", middle(tail_ratios(many)) or 0, at_most, 2.0),
        ("holder killed: the slowest next one, ms", slowest, at_most, 10.0),
    )
    return table(
        ["aim", "at least / at most", "measured", "reached"],
        [
            [
                what,
                f"{'<=' if test is at_most else '>='} {limit:g}",
                number(value),
                "yes" if test(value, limit) else "**no**",
            ]
            for what, value, test, limit in wanted
        ],
    )


def noise(rows: Mapping[str, Row]) -> str:
    """A warning when not even the C program took the same time throughout.

    Seen on ext4 without a journal: it looks past inodes deleted in the last minutes, so that
    making a file costs ten times as much soon after any program removed thousands of them.
    """
    samples = rows[FLOOR]["samples"]
    low, _, high = statistics.quantiles(samples, n=4) if len(samples) > 1 else (1, 1, 1)
    if high < NOISY * low:
        return ""
    return (
        f"**A noisy run**: the C program's own quartiles are {high / low:.1f} x apart. Wait until"
        " nothing else uses the disk, and run it again.\n\n"
    )
