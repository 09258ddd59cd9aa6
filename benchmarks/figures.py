"""Figures as text: medians, spreads, tables, and whether an aim was reached."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.libraries import OURS
from benchmarks.rows import Row

US, MS = 1e6, 1e3


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def middle(values: Sequence[float | None]) -> float | None:
    """The median, where None means "never"; None when there is none."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known and 2 * len(known) > len(values) else None


def number(value: float) -> str:
    """Three significant digits, never with an exponent."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value) or 1)))}f}"


def spread(values: Sequence[float | None], scale: float) -> str:
    """The median (lowest to highest); the quartiles instead when there are many values."""
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
    """How many times the first quartile the third one is."""
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
        """False also for a figure that could not be measured."""
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


def facts(about: Mapping[str, str]) -> str:
    """The list at the top of a page: what is known of the run."""
    return "\n".join(f"- {what}: {value}" for what, value in about.items())
