"""``doctor`` on a machine that is broken in one way: what all these tests expect of it.

the_finding(doctor("plain:" + str(cache)), "MSX-26", "read-only")
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support import command
from tests.support.command import FINE, PROBLEMS, WARNINGS, Said
from tests.support.processes import GENEROUS

#: Seconds, as --timeout.  Nothing of these tests needs as many.
TIMEOUT = 5.0


# A forked child that becomes another user may not be able to read Python's own files.
codecs.lookup("ascii")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir(mode=0o700)
    return made


class Both(NamedTuple):
    """What doctor said, as JSON and as text."""

    status: int
    json: dict[str, Any]
    text: str

    @property
    def references(self) -> list[str]:
        return [finding["reference"] for finding in self.json["findings"]]

    def check(self, name: str) -> str:
        """The words of the check of this name."""
        (words,) = [each["words"] for each in self.json["checks"] if each["name"] == name]
        return str(words)


def doctor(*places: str, **how: Any) -> Both:
    """Runs it twice.

    :param how: As for command.run().
    """
    return _both(lambda *more: command.run("doctor", *more, *places, **how))


def _both(run: Callable[..., Said]) -> Both:
    begin = time.monotonic()
    said = run("--json", f"--timeout={TIMEOUT}")
    told = run(f"--timeout={TIMEOUT}")
    assert time.monotonic() - begin < GENEROUS
    assert said.errors == told.errors == ""
    assert said.status == told.status
    return Both(said.status, said.json, told.text)


def doctor_here(*places: str) -> Both:
    """The same in this process, whose kernel and user may be made up."""
    return _both(lambda *more: _main("doctor", *more, *places))


def _main(*arguments: str) -> Said:
    from msal_extensions.__main__ import main

    with contextlib.redirect_stdout(io.StringIO()) as text:
        status = main(arguments)
    return Said(status, text.getvalue(), "")


def the_finding(
    said: Both, reference: str, *words: str, status: int = PROBLEMS, also: tuple[str, ...] = ()
) -> Mapping[str, Any]:
    """The only finding.  It names the cause, has one remedy, and decides the last line.

    :param also: References of findings that are there as well.
    """
    assert sorted(said.references) == sorted([reference, *also]), json.dumps(said.json, indent=1)
    (found,) = [each for each in said.json["findings"] if each["reference"] == reference]
    for each in words:
        assert each in found["words"], found
    assert said.status == status
    assert found["severity"] == ("problem" if status == PROBLEMS else "warning")
    assert found["remedy"]
    shown = " ".join(said.text.split())
    assert shown.count(f"[{reference}]") == 1
    assert shown.count("fix:") == len(said.references)
    last = said.text.rstrip().splitlines()[-1]
    assert reference in last
    assert ("Not good to go" in last) is (status == PROBLEMS)
    return dict(found)


def is_fine(said: Both) -> bool:
    assert said.references == [], json.dumps(said.json["findings"], indent=1)
    return said.status == FINE and said.text.rstrip().splitlines()[-1] == "Good to go."


def warned(said: Both, reference: str, *words: str) -> Mapping[str, Any]:
    return the_finding(said, reference, *words, status=WARNINGS)
