"""How much a test has tried, in its own unit, for the table of `python3 dev.py prove`.

    tally.tried()           # one more kill, save, example ... was tried
    tally.lost(2)           # two of them did not survive

pytest keeps the two sums as properties of the test, and writes them into its report
(--junitxml).  They may be told from any thread of the test's process.
"""

from __future__ import annotations

from collections import Counter

import pytest

_sums: Counter[str] = Counter()


def tried(count: int = 1) -> None:
    _sums["tried"] += count


def lost(count: int = 1) -> None:
    _sums["lost"] += count


# ---- hooks; conftest.py imports them -----------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    _sums.clear()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    item.user_properties += _sums.items()
