"""What only a real Windows can show: asks it, prints what came, and writes a record.

    python tests/windows/on_windows.py [--record FILE] [--only WORD ...] [--leave-out WORD ...]

Run by wheels.yml, with a Python that has the wheel and the tests' packages installed, in a Visual
Studio command prompt (for `cl`). tests/support/windows/questions.py has the questions. Some of them
change the machine for a moment: they attach virtual disks, make scheduled tasks, or switch on
Controlled Folder Access. They undo that, and ask only where they may: as an administrator, and only
with MSALEX_THROW_AWAY_MACHINE=1.

The record is a JSON file: versions of everything, and for each question its facts, times and codes,
or why it could not be asked. Exits 0 when all that must hold holds, and 1 when something does not.

A real machine should also run it with the Store's Python, with a display language other than
English, with Defender's scans on, and on Windows Server: the record says which of these it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def asked(question: Any, desk: Any) -> dict[str, Any]:
    """One question's part of the record; `holds` is None when there was no answer."""
    started = time.perf_counter()
    part: dict[str, Any] = {"question": question.sentence, "must_hold": question.must}
    try:
        holds, part["facts"] = question.ask(desk)
        part["holds"] = holds
    except desk.CannotAsk as reason:
        part |= {"holds": None, "not_asked": str(reason)}
    except Exception:
        part |= {"holds": False, "facts": {"failed": traceback.format_exc(limit=-6)}}
    part["seconds"] = round(time.perf_counter() - started, 1)
    return part


def shown(part: dict[str, Any]) -> str:
    verdict = {True: "holds", False: "DOES NOT HOLD", None: "not asked"}[part["holds"]]
    lines = [f"==== {part['question']}: {verdict} ({part['seconds']} s)"]
    if "not_asked" in part:
        lines.append(f"     {part['not_asked']}")
    for name, fact in part.get("facts", {}).items():
        text = fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False)
        lines += [f"     {name}: {line}" for line in text.strip().splitlines() or [""]]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Asks what only a real Windows can show.")
    parser.add_argument("--record", type=Path, default=Path("on_windows.json"))
    parser.add_argument("--only", nargs="+", default=[], help="words in the questions to ask")
    parser.add_argument("--leave-out", nargs="+", default=[], help="and in those not to ask")
    options = parser.parse_args()
    if sys.platform != "win32":
        raise SystemExit("this is for Windows")
    sys.path.insert(0, str(ROOT))
    from tests.support.windows import machine, questions

    record: dict[str, Any] = {"machine": machine.facts(), "questions": []}
    print(json.dumps(record["machine"], indent=2, ensure_ascii=False), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        desk = machine.Desk(Path(directory))
        for question in questions.ALL:
            words = question.sentence.lower()
            if options.only and not any(word.lower() in words for word in options.only):
                continue
            if any(word.lower() in words for word in options.leave_out):
                continue
            part = asked(question, desk)
            record["questions"].append(part)
            print(shown(part), flush=True)
            text = json.dumps(record, indent=2, ensure_ascii=False)
            options.record.write_text(text + "\n", encoding="utf-8")
    parts = record["questions"]
    failed = [part["question"] for part in parts if part["must_hold"] and part["holds"] is False]
    silent = [part["question"] for part in parts if part["holds"] is None]
    answered = len(parts) - len(silent)
    print(f"{answered} of {len(parts)} questions answered; the record is {options.record}")
    for question in silent:
        print(f"not asked: {question}")
    for question in failed:
        print(f"DOES NOT HOLD: {question}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
