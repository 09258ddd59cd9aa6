"""SIGKILL at a system call of acquire or release: newcomers get in, and no file is left behind.

The suite tries every third call, on tmpfs and on the disk of this checkout.  MSALEX_KILLS=all tries
each call, also on overlayfs and bindfs, and also around the gap that our locks leave for peers.
The waits of the newcomers are printed.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import file_systems, strace, tally
from tests.support.capability import needs, requires

pytest.importorskip("fcntl")

from tests.support.stage import (
    BEHIND,
    BEHIND_A_GAP,
    DEAD_HOLDER,
    DEAD_PEER,
    FREE,
    GAP,
    GIVE_UP,
    WAITED_FOR,
    Result,
    Theatre,
)

pytestmark = pytest.mark.slow

ALL = os.environ.get("MSALEX_KILLS") == "all"
STEP = 1 if ALL else 3
MOST = 10  # of the same call: before a peer counts as dead, all processes are checked
#: Generous: the aim is 100 ms, and a file without any information counts as dead after 5 s.
DEADLINE_S = 3
BUILD = Path(__file__).resolve().parents[1] / "build"  # on the disk of the checkout; git ignores it
PATIENCE_S = {FREE: 5, BEHIND: 5, DEAD_HOLDER: 5, DEAD_PEER: 5, GIVE_UP: 0.05, WAITED_FOR: 5}
LONG = {BEHIND_A_GAP: 5.0, GAP: 5.0}  # seconds for each
WITH_HELPER = (BEHIND, DEAD_HOLDER, GIVE_UP, BEHIND_A_GAP)
CASES = [
    (file_system, scenario)
    for file_system in file_systems.MOUNT
    for scenario in (*PATIENCE_S, *(LONG if ALL and file_system == "disk" else ()))
    if ALL or file_system in ("disk", "tmpfs") or (file_system, scenario) == ("bindfs", FREE)
    # The pid in a peer's file there may be another host's, so only its age of a minute counts.
    if (file_system, scenario) != ("bindfs", DEAD_PEER)
]


@pytest.fixture
def directory() -> Iterator[Path]:
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as made:
        yield Path(made)


def left_behind(file_system: str, result: Result) -> list[str]:
    """On FUSE a temporary file stays until the next process makes one."""
    return [
        name for name in result.files if file_system != "bindfs" or not name.startswith(".msalex-")
    ]


@requires("os.fork")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("file_system", "scenario"), CASES)
def test_wherever_one_is_killed_a_newcomer_enters_and_nothing_is_left(
    file_system: str, scenario: str, directory: Path
) -> None:
    """Finding 12 of a review of the lock: on bindfs newcomers waited for 5 s."""
    needs(strace.missing() or file_systems.missing(file_system))
    patience = {**PATIENCE_S, **LONG}[scenario]
    killed, slow, worst = 0, 0, 0.0
    with Theatre(file_system, directory) as theatre:
        for thread in ("main", *(["helper"] if scenario in WITH_HELPER else [])):
            calls = theatre.play(scenario, patience, thread).calls
            calls = [call for call in calls if int(call.split(":")[1]) <= MOST]
            for call in calls[::STEP]:
                name, when = call.split(":")[:2]
                inject = f"{name}:signal=KILL:when={when}"
                result = theatre.play(scenario, patience, thread, inject)
                where = f"{thread}, {call}: {result}"
                killed += result.signal == signal.SIGKILL and not result.hung
                tally.tried(result.signal == signal.SIGKILL)
                assert not result.hung, where
                assert result.newcomer.how == "in", where
                assert result.newcomer.seconds < DEADLINE_S, where
                assert result.first is None or result.first.how == "in", where
                assert left_behind(file_system, result) == [], where
                slow += result.newcomer.seconds > 0.1
                worst = max(worst, result.newcomer.seconds)
    print(f"{killed} kills; newcomers in after {worst * 1000:.1f} ms at most, {slow} after 100 ms")
    assert killed > 0
