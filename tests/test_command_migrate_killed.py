"""A move that is killed, or fails, at any system call leaves everything in one of the places.

The suite tries some of the calls.  MSALEX_MOVES=all tries each one: `python3 dev.py prove moves`.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fcntl")

from tests.support import keyring, tally
from tests.support.capability import needs, requires
from tests.support.key_sources import new_key
from tests.support.killed_moves import Way
from tests.support.moving import ROOT
from tests.support.processes import finished
from tests.support.seccomp import KILL

pytestmark = [pytest.mark.slow, requires("os.fork")]

ALL = os.environ.get("MSALEX_MOVES") == "all"
#: Every how many calls the suite tries one.  The calls of a keyring are many more, and slower.
STEP = 1 if ALL else 7
KEYRING_STEP = 1 if ALL else 61
#: Seconds for one of these tests.
LIMIT_S = 4 * 3600 if ALL else 600
WAYS = [("plain", "encrypted"), ("encrypted", "plain"), ("plain", "plain")]
KEYRING_WAYS = [("keyring", "encrypted"), ("encrypted", "keyring"), ("plain", "keyring")]


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    return str(new_key(tmp_path / "keys" / "key"))


@pytest.fixture
def session(tmp_path: Path) -> Iterator[keyring.Keyring]:
    needs(keyring.missing())
    with keyring.running(tmp_path / "keyring") as running:
        yield running


def swept(
    tmp_path: Path, kinds: tuple[str, str], key_file: str, code: int, step: int, **more: str
) -> None:
    """Tries one call of many, in a process of its own."""
    directory = tmp_path / "caches"
    directory.mkdir(mode=0o700)
    source, target = (f"{kind}:{directory}/{name}" for kind, name in zip(kinds, "ab", strict=True))
    way = Way(str(directory), source, target, key_file)
    arguments = [json.dumps(way), str(code), str(step // 2), str(step)]
    command = [sys.executable, "-m", "tests.support.killed_moves", *arguments]
    said = finished(command, Path(ROOT), {**os.environ, **more}, seconds=LIMIT_S)
    tried, complaints = json.loads(said.splitlines()[-1])
    print(f"{' -> '.join(kinds)}: {tried} tried")
    tally.tried(tried)
    tally.lost(len(complaints))
    assert tried > 0
    assert not complaints, "\n".join(complaints)


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("kinds", WAYS, ids="-".join)
def test_a_move_killed_at_any_system_call_loses_nothing_and_can_be_done_again(
    kinds: tuple[str, str], tmp_path: Path, key_file: str
) -> None:
    swept(tmp_path, kinds, key_file, KILL, STEP)


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
@pytest.mark.parametrize("kinds", WAYS, ids="-".join)
def test_a_move_with_an_error_at_any_system_call_loses_nothing_and_says_so(
    kinds: tuple[str, str], code: int, tmp_path: Path, key_file: str
) -> None:
    swept(tmp_path, kinds, key_file, code, STEP)


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("kinds", KEYRING_WAYS, ids="-".join)
def test_a_move_from_or_to_a_real_keyring_killed_at_any_system_call_loses_nothing(
    kinds: tuple[str, str], tmp_path: Path, key_file: str, session: keyring.Keyring
) -> None:
    swept(tmp_path, kinds, key_file, KILL, KEYRING_STEP, **session.environment)
