"""Peers that only check whether the lock file exists get their turn while ours keep it busy.

What this costs is measured, not asserted: python3 -m benchmarks.lock.starvation, which also
runs Node, another poller, 64 processes, and kills in the gaps.  MSALEX_STARVATION_SECONDS is the
length of the run beside 1.3.1 (default 12: enough to be refused twice in a row).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support import tally
from tests.support.capability import requires
from tests.support.contenders import BARE, OURS, Account, described, run
from tests.support.processes import GENEROUS

pytest.importorskip("fcntl")

from tests.support.stage import GAP_DUE_S, Player, is_queued, until

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("MSALEX_STARVATION_SECONDS", "12"))
SHORT_S = 3  # seconds; the first gap comes later
BUSY = 6


def assert_clean(account: Account) -> None:
    assert described(account.overlaps()) == []
    assert account.errors == {}
    assert account.files == []
    assert account.refused("ours") == 0


def test_1_3_1_is_not_refused_twice_in_a_row_while_six_of_ours_are_busy(tmp_path: Path) -> None:
    """Found by a review beside the real libraries: 4 of 4 were refused."""
    account = run(tmp_path, SECONDS, (OURS, BUSY), (BARE._replace(think=(0, 0.5)), 4))
    print(
        f"ours hold {account.held('ours'):.1%}; 1.3.1: {len(account.of('bare'))} waits,"
        f" {account.refused('bare')} refused, the longest {account.longest('bare'):.1f} s"
    )
    tally.tried(len(account.of("bare")))
    tally.lost(account.refused_twice("bare"))
    assert_clean(account)
    assert account.refused_twice("bare") == 0


def test_six_of_ours_alone_all_get_in_and_leave_nothing(tmp_path: Path) -> None:
    account = run(tmp_path, SHORT_S, (OURS, BUSY))
    print(f"ours hold {account.held('ours'):.1%}, {len(account.of('ours'))} entries")
    assert_clean(account)


@requires("os.fork")
def test_in_a_gap_a_caller_without_patience_takes_the_name_and_the_waiter_comes_later(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lockfile"
    holder, waiter, third = Player(), Player(), Player()
    try:
        assert holder.acquire(str(path), 0).how == "in"
        waiter.begin(str(path), GENEROUS)
        assert until(lambda: is_queued(waiter.pid), GENEROUS)
        time.sleep(GAP_DUE_S)
        holder.release()
        assert not path.exists()  # free for a peer
        assert third.acquire(str(path), 0).how == "in"
        assert path.exists()
        third.release()
        assert waiter.end().how == "in"
        waiter.release()
    finally:
        for player in (holder, waiter, third):
            player.close()
    assert os.listdir(tmp_path) == []
