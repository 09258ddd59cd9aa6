"""SIGKILL at a system call of acquire and release: newcomers enter, and nothing is left behind.

In the suite every third call, on tmpfs and on the disk of this checkout; with MSALEX_KILLS=all each
call, also on overlayfs and bindfs, and also around the gap that ours leave for peers.  How long
newcomers took is printed.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import file_systems, strace
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

ALL = os.environ.get("MSALEX_KILLS") == "all"
STEP = 1 if ALL else 3
MOST = 10  # of the same call: all processes are looked at before a peer counts as dead
#: Generous: the aim is 100 ms, and a file that nothing is known of counts as dead after 5 s.
DEADLINE_S = 3
BUILD = Path(__file__).resolve().parents[1] / "build"  # on the disk of the checkout, ignored by git
PATIENCE_S = {FREE: 5, BEHIND: 5, DEAD_HOLDER: 5, DEAD_PEER: 5, GIVE_UP: 0.05, WAITED_FOR: 5}
LONG = {BEHIND_A_GAP: 5.0, GAP: 5.0}  # seconds for each
WITH_HELPER = (BEHIND, DEAD_HOLDER, GIVE_UP, BEHIND_A_GAP)
CASES = [
    (file_system, scenario)
    for file_system in file_systems.MOUNT
    for scenario in (*PATIENCE_S, *(LONG if ALL and file_system == "disk" else ()))
    if ALL or file_system in ("disk", "tmpfs") or (file_system, scenario) == ("bindfs", FREE)
    # A pid in a peer's file there may be another host's, so it counts as dead after a minute.
    if (file_system, scenario) != ("bindfs", DEAD_PEER)
]


@pytest.fixture
def directory() -> Iterator[Path]:
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as made:
        yield Path(made)


def left_behind(file_system: str, result: Result) -> list[str]:
    """On FUSE a temporary file stays until somebody makes the next one."""
    return [
        name for name in result.files if file_system != "bindfs" or not name.startswith(".msalex-")
    ]


@requires("os.fork")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("file_system", "scenario"), CASES)
def test_wherever_one_is_killed_a_newcomer_enters_and_nothing_is_left(
    file_system: str, scenario: str, directory: Path
) -> None:
    """Finding 12 of the lock's review (bindfs)."""
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
                assert not result.hung, where
                assert result.newcomer.how == "in", where
                assert result.newcomer.seconds < DEADLINE_S, where
                assert result.first is None or result.first.how == "in", where
                assert left_behind(file_system, result) == [], where
                slow += result.newcomer.seconds > 0.1
                worst = max(worst, result.newcomer.seconds)
    print(f"{killed} kills; newcomers in after {worst * 1000:.1f} ms at most, {slow} after 100 ms")
    assert killed > 0
