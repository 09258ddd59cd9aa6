"""Questions that only a real machine can answer: how they are asked, shown and recorded.

tests/windows/on_windows.py and tests/macos/on_a_mac.py use it. A question returns whether its
promise holds, and facts for the record. `must` says whether the answer decides the exit status:
where the system documents nothing, the facts alone count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Answer = tuple[bool, dict[str, Any]]


class CannotAsk(Exception):
    """Why a question cannot be asked on this machine."""


class Question(NamedTuple):
    sentence: str
    must: bool
    ask: Callable[[Any], Answer]


Asker = Callable[..., Callable[[Callable[[Any], Answer]], None]]


def part() -> tuple[list[Question], Asker]:
    """The questions of a module, and a decorator that adds a function to them."""
    asked: list[Question] = []

    def question(sentence: str, must: bool = True) -> Callable[[Callable[[Any], Answer]], None]:
        return lambda ask: asked.append(Question(sentence, must, ask))

    return asked, question


def milliseconds(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median_ms": round(1000 * statistics.median(ordered), 2),
        "most_ms": round(1000 * ordered[-1], 2),
    }


def arguments(description: str, record: str) -> argparse.ArgumentParser:
    """What every plan can be told."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--record", type=Path, default=Path(record))
    parser.add_argument("--only", nargs="+", default=[], help="words in the questions to ask")
    parser.add_argument("--leave-out", nargs="+", default=[], help="and in those not to ask")
    parser.add_argument(
        "--minutes", type=float, default=80, help="after which no further question is asked"
    )
    return parser


def asked(question: Question, desk: Any) -> dict[str, Any]:
    """One question's part of the record; `holds` is None when there was no answer."""
    started = time.perf_counter()
    told: dict[str, Any] = {"question": question.sentence, "must_hold": question.must}
    try:
        holds, told["facts"] = question.ask(desk)
        told["holds"] = bool(holds)
    except CannotAsk as reason:
        told |= {"holds": None, "not_asked": str(reason)}
    except Exception:
        told |= {"holds": False, "facts": {"failed": traceback.format_exc(limit=-6)}}
    told["seconds"] = round(time.perf_counter() - started, 1)
    return told


def shown(told: dict[str, Any]) -> str:
    verdict = {True: "holds", False: "DOES NOT HOLD", None: "not asked"}[told["holds"]]
    lines = [f"==== {told['question']}: {verdict} ({told['seconds']} s)"]
    if "not_asked" in told:
        lines.append(f"     {told['not_asked']}")
    for name, fact in told.get("facts", {}).items():
        text = fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False)
        lines += [f"     {name}: {line}" for line in text.strip().splitlines() or [""]]
    return "\n".join(lines)


def chosen(questions: Iterable[Question], options: argparse.Namespace) -> list[Question]:
    """Those that the options name."""

    def is_meant(sentence: str) -> bool:
        words = sentence.lower()
        if options.only and not any(word.lower() in words for word in options.only):
            return False
        return not any(word.lower() in words for word in options.leave_out)

    return [question for question in questions if is_meant(question.sentence)]


def go_through(
    questions: Sequence[Question], desk: Any, machine: dict[str, Any], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Ask one after the other.  The record is complete after each of them."""
    record: dict[str, Any] = {"machine": machine, "questions": []}
    print(json.dumps(machine, indent=2, ensure_ascii=False), flush=True)
    deadline = time.monotonic() + 60 * options.minutes
    for question in questions:
        if time.monotonic() < deadline:
            told = asked(question, desk)
        else:
            told = {"question": question.sentence, "must_hold": question.must, "holds": None}
            told |= {"not_asked": f"{options.minutes:g} minutes were over", "seconds": 0}
        record["questions"].append(told)
        print(shown(told), flush=True)
        text = json.dumps(record, indent=2, ensure_ascii=False)
        options.record.write_text(text + "\n", encoding="utf-8")
    parts: list[dict[str, Any]] = record["questions"]
    return parts


def verdict(parts: Sequence[dict[str, Any]], record: Path) -> int:
    """Print what was not asked and what does not hold: the exit status."""
    failed = [told["question"] for told in parts if told["must_hold"] and told["holds"] is False]
    silent = [told["question"] for told in parts if told["holds"] is None]
    print(f"{len(parts) - len(silent)} of {len(parts)} questions answered; the record is {record}")
    for sentence in silent:
        print(f"not asked: {sentence}")
    for sentence in failed:
        print(f"DOES NOT HOLD: {sentence}")
    return 1 if failed else 0
