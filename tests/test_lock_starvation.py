"""Peers that only look whether the lock file exists get their turn while ours keep the lock busy.

What this costs is measured, not asserted: python3 -m tests.benchmarks.lock_starvation, which also
runs Node, another poller, 64 processes, and kills in the gaps.  MSALEX_STARVATION_SECONDS is the
length of the run beside 1.3.1 (default 12: enough to be refused twice in a row).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.contenders import BARE, OURS, Account, described, run

pytest.importorskip("fcntl")

SECONDS = float(os.environ.get("MSALEX_STARVATION_SECONDS", "12"))
SHORT_S = 3  # less than it takes to the first gap
BUSY = 6


def assert_clean(account: Account) -> None:
    assert described(account.overlaps()) == []
    assert account.errors == {}
    assert account.files == []
    assert account.refused("ours") == 0


def test_1_3_1_is_not_refused_twice_in_a_row_while_six_of_ours_are_busy(tmp_path: Path) -> None:
    """The starvation of the review beside the real libraries: 4 of 4 were refused."""
    account = run(tmp_path, SECONDS, (OURS, BUSY), (BARE._replace(think=(0, 0.5)), 4))
    print(
        f"ours hold {account.held('ours'):.1%}; 1.3.1: {len(account.of('bare'))} waits,"
        f" {account.refused('bare')} refused, the longest {account.longest('bare'):.1f} s"
    )
    assert_clean(account)
    assert account.refused_twice("bare") == 0


def test_six_of_ours_alone_all_get_in_and_leave_nothing(tmp_path: Path) -> None:
    account = run(tmp_path, SHORT_S, (OURS, BUSY))
    print(f"ours hold {account.held('ours'):.1%}, {len(account.of('ours'))} entries")
    assert_clean(account)
