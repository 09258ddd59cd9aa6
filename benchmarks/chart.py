"""Bars on a logarithmic axis, as SVG: readable in a README, in light and in dark mode."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from benchmarks.figures import MS, US, middle, number
from benchmarks.libraries import FLOOR, OURS
from benchmarks.rows import Row

WIDTH, MARGIN, LABELS, VALUES = 860, 24, 170, 150
BAR, GAP, HEAD, TAIL = 18, 8, 52, 34
STYLE = """
  text { font: 13px -apple-system, "Segoe UI", "Helvetica Neue", Helvetica, Arial, sans-serif;
         fill: #1f2328; paint-order: stroke; stroke: #ffffff; stroke-width: 4px; }
  .title { font-weight: 600; font-size: 15px; }
  .small { font-size: 11.5px; fill: #59636e; }
  .card { fill: #ffffff; stroke: #d1d9e0; }
  .grid { stroke: #d1d9e0; }
  .bar { fill: #8c959f; }
  .ours { fill: #0969da; }
  .floor { fill: #c4cad1; }
  .bold { font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; stroke: #0d1117; }
    .small { fill: #9198a1; }
    .card { fill: #0d1117; stroke: #3d444d; }
    .grid { stroke: #30363d; }
    .bar { fill: #6e7681; }
    .ours { fill: #4493f8; }
    .floor { fill: #484f58; }
  }
"""


class Bar(NamedTuple):
    """One library; it has no value if it never got the lock."""

    label: str
    value: float | None
    text: str  # after the bar
    kind: str = "bar"  # or "ours", or "floor" for the time that nothing can beat


class Panel(NamedTuple):
    """One measurement."""

    title: str
    unit: str  # of the axis
    bars: Sequence[Bar]


def bars(title: str, unit: str, rows: Mapping[str, Row], what: str = "samples") -> Panel:
    """A panel with a bar for each library: the median, in ms or us, of one entry of its row."""
    drawn = []
    for row in rows.values():
        seconds = middle(row[what])
        at = None if seconds is None else seconds * {"us": US, "ms": MS}[unit]
        kind = row["library"] if row["library"] in (OURS, FLOOR) else "bar"
        drawn.append(Bar(row["label"], at, "never" if at is None else f"{number(at)} {unit}", kind))
    return Panel(title, unit, drawn)


def _decades(panel: Panel) -> tuple[int, int]:
    values = [bar.value for bar in panel.bars if bar.value]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _panel(panel: Panel, top: float) -> tuple[list[str], float]:
    """The lines of one panel, and where the next begins."""
    low, high = _decades(panel)
    left, right = MARGIN + LABELS, WIDTH - MARGIN - VALUES
    bottom = top + HEAD + len(panel.bars) * (BAR + GAP)

    def x(value: float) -> float:
        return left + (math.log10(value) - low) / (high - low) * (right - left)

    lines = [f'<text class="title" x="{MARGIN}" y="{top + 22:g}">{escape(panel.title)}</text>']
    for decade in range(low, high + 1):
        at = x(10.0**decade)
        number = _number(10.0**decade)
        lines.append(
            f'<line class="grid" x1="{at:.1f}" y1="{top + HEAD - 8:g}" x2="{at:.1f}"'
            f' y2="{bottom:g}"/>'
        )
        lines.append(
            f'<text class="small" x="{at:.1f}" y="{bottom + 15:g}" text-anchor="middle">'
            f"{number} {escape(panel.unit)}</text>"
        )
    for index, bar in enumerate(panel.bars):
        y = top + HEAD + index * (BAR + GAP)
        middle = y + BAR / 2 + 4.5
        bold = ' class="bold"' if bar.kind == "ours" else ""
        end = left if bar.value is None else max(x(bar.value), left + 2)
        lines.append(
            f'<text{bold} x="{left - 10}" y="{middle:g}" text-anchor="end">'
            f"{escape(bar.label)}</text>"
        )
        if bar.value is not None:
            lines.append(
                f'<rect class="{bar.kind}" x="{left}" y="{y:g}" width="{end - left:.1f}"'
                f' height="{BAR}" rx="2"/>'
            )
        lines.append(f'<text{bold} x="{end + 7:.1f}" y="{middle:g}">{escape(bar.text)}</text>')
    return lines, bottom + TAIL


def render(panels: Sequence[Panel], about: Mapping[str, str]) -> str:
    """The whole file; shorter bars are better in every panel."""
    run = ", ".join(about[what] for what in ("Date", "Machine", "File system"))
    caption = f"Shorter is better; logarithmic. {run}."
    lines: list[str] = []
    top = MARGIN / 2
    for panel in panels:
        if any(bar.value for bar in panel.bars):
            drawn, top = _panel(panel, top)
            lines += drawn
    height = top + 28
    lines.append(f'<text class="small" x="{MARGIN}" y="{top + 10:g}">{escape(caption)}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:g}"'
            f' viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(caption)}">',
            f"<style>{STYLE}</style>",
            f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}"'
            ' rx="6"/>',
            *lines,
            "</svg>\n",
        ]
    )
