"""The soak of tests/soak.py for 15 s: kills, stops and forks, and no two inside together.

MSALEX_SOAK_SECONDS sets the time.  Here no 1.3.1 enters by force, so each overlap counts.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.soak import problems, soak, summary
from tests.support import tally
from tests.support.contenders import BARE

pytest.importorskip("fcntl")

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("MSALEX_SOAK_SECONDS", "15"))
SEED = int(os.environ.get("MSALEX_SEED", "1"))


@pytest.mark.timeout(SECONDS + 600)
def test_among_kills_stops_forks_and_1_3_1_nobody_is_inside_beside_another(tmp_path: Path) -> None:
    counts = soak(tmp_path, SECONDS, seed=SEED, peers=[BARE.kind])
    print(summary(counts))
    tally.tried(sum(visit.entered is not None for visit in counts.account.visits))
    tally.lost(len(problems(counts)))
    assert problems(counts) == []
    assert counts.kills > 0
    assert counts.stops > 0
