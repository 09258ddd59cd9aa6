"""Moves that are killed, or that fail, at one system call after another.

    tried, complaints = sweep(Way(...), KILL, first=0, step=1)

After each of them one of the two places has everything, and the same move once more ends well.
This runs in a process of its own, which has never used GLib: its state does not survive a fork.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from msal_extensions import PersistenceNotFound
from tests.support.moving import migrate, place, references_of, signed_in, with_canary
from tests.support.seccomp import GO_ON, KILL, supervised

CONTENT = signed_in(2)
#: References of a second move.  The last one: the first move had ended before it was killed.
ENDS_WELL: tuple[list[str], ...] = ([], ["MSX-20"])
#: How an exception is told that is none of the operating system's.
UNTYPED = re.compile(r"There was an error that nobody expected: \w*(Error|Exception)$")


class Way(NamedTuple):
    """A move."""

    directory: str  # of everything but the key file
    source: str
    target: str
    key_file: str

    @property
    def options(self) -> dict[str, Any]:
        return {"key_file": self.key_file, "timeout": 10.0}


def in_a_child(function: Any, *arguments: Any) -> Any:
    """What a function returns in a child, so that this process opens no keyring."""
    return supervised(lambda: function(*arguments)).result


def begin(way: Way) -> None:
    """FROM has the content, and TO nothing."""
    for name in (way.source, way.target):
        place(name, **way.options).open().delete()
    for path in Path(way.directory).iterdir():
        if path.is_file():
            path.unlink()
    place(way.source, **way.options).open().save(CONTENT)


def content_of(way: Way, name: str) -> str:
    """ "whole", "nothing", or what is wrong."""
    try:
        text = place(name, **way.options).open().load()
    except PersistenceNotFound:
        return "nothing"
    except Exception as error:
        return repr(error)
    if not text:
        return "nothing"
    with contextlib.suppress(ValueError):
        if json.loads(text) == json.loads(CONTENT):
            return "whole"
    return "damaged"


def move(way: Way) -> tuple[list[str], list[str], list[str]]:
    """What the move has done, the references, and the words."""
    report = migrate(way.source, way.target, **way.options)
    return report.done, references_of(report), [finding.words for finding in report.findings]


def look(way: Way) -> tuple[str, str]:
    return content_of(way, way.source), content_of(way, way.target)


def wrong(way: Way, code: int, first: Any) -> list[str]:
    """What is wrong after a move."""
    complaints = []
    states = in_a_child(look, way)
    if "whole" not in states or not set(states) <= {"whole", "nothing"}:
        complaints.append(f"it left {states}")
    if first is not None:
        done, references, words = first
        if bool(done) == bool(set(references) - {"MSX-35"}):
            complaints.append(f"it says {done} and {words}")
        if any(UNTYPED.match(each) for each in words):
            complaints.append(f"its error has no type: {words}")
        if done and states != ("nothing", "whole"):
            complaints.append(f"it says {done}, and left {states}")
    _, references, words = in_a_child(move, way)
    if references not in ENDS_WELL:
        complaints.append(f"the second move says {words}")
    states = in_a_child(look, way)
    if states != ("nothing", "whole"):
        complaints.append(f"the second move left {states}")
    # A killed save leaves a temporary file beside plain text; a later save or delete removes it.
    if not way.target.startswith("plain:") and (found := with_canary(Path(way.directory))):
        complaints.append(f"the second move left {found}")
    return complaints


def sweep(way: Way, code: int, first: int, step: int) -> tuple[int, list[str]]:
    """Moves that are killed (or fail with this errno) at one call of many."""
    complaints: list[str] = []
    tried, number = 0, first
    while True:
        in_a_child(begin, way)

        def answer(call: int, _: str, number: int = number) -> int:
            return code if call == number else GO_ON

        run = supervised(lambda: move(way), answer)
        if len(run.calls) <= number:
            assert run.result is not None
            assert run.result[0], run.result
            return tried, complaints
        tried += 1
        name = "SIGKILL" if code == KILL else errno.errorcode[code]
        found = wrong(way, code, run.result)
        complaints += [f"{name} at {number}, {run.calls[number]}: {each}" for each in found]
        number += step


def main() -> None:
    """Arguments: a Way as JSON, then code, first and step.  Prints the result as JSON."""
    way = Way(*json.loads(sys.argv[1]))
    import_all(way.key_file)
    print(json.dumps(sweep(way, *map(int, sys.argv[2:]))))


def import_all(key_file: str) -> None:
    """The first move imports modules: those calls are Python's own."""
    from msal_extensions import FilePersistence, libsecret
    from msal_extensions._native import libsecret as native
    from msal_extensions._stores import libsecret as store
    from msal_extensions._stores import signalled

    del libsecret, native, store, signalled
    with tempfile.TemporaryDirectory() as directory:
        one, other = f"plain:{directory}/one", f"encrypted:{directory}/other"
        FilePersistence(f"{directory}/one").save("{}")
        for names in ((one, other), (other, one)):
            assert migrate(*names, key_file=key_file).done


if __name__ == "__main__":
    main()
