"""What only a real Windows can show: asks it, prints what came, and writes a record.

    python tests/windows/on_windows.py [--record FILE] [--only WORD ...] [--leave-out WORD ...]
                                       [--minutes NUMBER]

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

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    sys.path.insert(0, str(ROOT))
    from tests.support import plan

    parser = plan.arguments("Asks what only a real Windows can show.", "on_windows.json")
    options = parser.parse_args()
    if sys.platform != "win32":
        raise SystemExit("this is for Windows")
    from tests.support.windows import machine, questions

    chosen = plan.chosen(questions.ALL, options)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        desk = machine.Desk(Path(directory))
        parts = plan.go_through(chosen, desk, machine.facts(), options)
    return plan.verdict(parts, options.record)


if __name__ == "__main__":
    sys.exit(main())
