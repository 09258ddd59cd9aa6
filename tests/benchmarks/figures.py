"""Figures as text: medians, spreads, tables, and whether an aim was reached."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tests.benchmarks.chart import Bar, Panel
from tests.benchmarks.harness import Row

#: Measurement -> library -> row: what lock_measure.py and cache_measure.py return.
Results = Mapping[str, Mapping[str, Row]]

FLOOR, OURS, BARE, PORTALOCKER = "floor", "ours", "1.3.1-bare", "1.3.1-portalocker"
US, MS = 1e6, 1e3


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


def unsteadiness(values: Sequence[float]) -> float:
    """The third quartile, in first quartiles."""
    if len(values) < 2:
        return 1
    low, _, high = statistics.quantiles(values, n=4)
    return high / low


def times(one: float | None, other: float | None) -> str:
    return "" if not one or not other else number(one / other)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


class Aim(NamedTuple):
    """What this package set out to reach."""

    what: str
    measured: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def limit(self) -> str:
        return f">= {self.at_least:g}" if self.at_most is None else f"<= {self.at_most:g}"

    @property
    def reached(self) -> bool:
        """False for what could not be measured, too."""
        if self.at_most is not None:
            return self.measured <= self.at_most
        return self.at_least is not None and self.measured >= self.at_least


def aims_table(aims: Sequence[Aim]) -> str:
    return table(
        ["aim", "at least / at most", "measured", "reached"],
        [
            [it.what, it.limit, number(it.measured), "yes" if it.reached else "**no**"]
            for it in aims
        ],
    )


def name(row: Row) -> str:
    """A library and its version, as the tables have it."""
    label = row["label"] if row["label"].startswith("1.3.1") else f"{row['label']} {row['version']}"
    return f"**{label.strip()}**" if row["library"] == OURS else label.strip()


def bars(
    title: str, unit: str, rows: Mapping[str, Row], value: Callable[[Row], float | None]
) -> Panel:
    """A panel of the chart, with a bar for each library."""
    drawn = []
    for row in rows.values():
        at = value(row)
        kind = row["library"] if row["library"] in (OURS, FLOOR) else "bar"
        drawn.append(Bar(row["label"], at, "never" if at is None else f"{number(at)} {unit}", kind))
    return Panel(title, unit, drawn)


def scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale
