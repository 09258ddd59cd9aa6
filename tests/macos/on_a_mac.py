"""What only a real Mac can show: asks it, prints what came, and writes a record.

    python tests/macos/on_a_mac.py [--record FILE] [--only WORD ...] [--leave-out WORD ...]
                                   [--minutes NUMBER] [--wheel FILE]

Run by wheels.yml (through wheels_on_a_mac.py) with a Python that has the wheel, and pytest. The
questions are in tests/support/mac/questions. Those about the keychain make one, make it the default
one, and delete it; whatever happens, the former default keychain and the former search list are
back at the end, also after Ctrl-C and SIGTERM. Questions that can leave a dialog on the screen are
asked only with MSALEX_THROW_AWAY_MACHINE=1.

The record is a JSON file: versions of everything, how Python is signed, and for each question its
facts, times and codes, or why it could not be asked. Exits 0 when all that must hold holds, and 1
when something does not.

A real Mac should also run it over SSH, at its screen, and with the Pythons of python.org and of
Homebrew: the record says which of these it was.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]


def end_in_order(*_: object) -> NoReturn:
    """SIGTERM, as CI sends it when a run takes too long: all `with` blocks are left."""
    raise SystemExit("ended by SIGTERM")


def main() -> int:
    sys.path.insert(0, str(ROOT))
    from tests.support import plan

    parser = plan.arguments("Asks what only a real Mac can show.", "on_a_mac.json")
    parser.add_argument("--wheel", type=Path, help="the one that this Python has installed")
    options = parser.parse_args()
    if shutil.which("security") is None:
        raise SystemExit("there is no `security` here: this is for a Mac")
    from tests.support.mac import machine, questions

    signal.signal(signal.SIGTERM, end_in_order)
    chosen = plan.chosen(questions.ALL, options)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        machine.Desk(Path(directory).resolve(), options.wheel) as desk,
    ):
        parts = plan.go_through(chosen, desk, machine.facts(), options)
    return plan.verdict(parts, options.record)


if __name__ == "__main__":
    sys.exit(main())
