"""`prune`: what nobody has used for long goes, and the report counts it."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from msal_extensions import EncryptedFilePersistence, KeyFile
from msal_extensions._command import actions
from msal_extensions._command.report import Report
from tests.support.key_sources import new_key
from tests.support.moving import (
    CANARY,
    new_report,
    place,
    references_of,
    signed_in,
    without_looks,
    yes,
)

DAY = 86400.0


def prune(
    *names: str, days: float = 90, confirm: Callable[[str], bool] = yes, key_file: str = ""
) -> Report:
    report = new_report("prune")
    places = [place(name, key_file=key_file) for name in names]
    with without_looks():
        actions.prune(report, places, days * DAY, confirm)
    return report


def aged(count: int, days: float) -> str:
    """A cache in which the first account was last used so many days ago."""
    cache = json.loads(signed_in(count))
    first = next(iter(cache["RefreshToken"].values()))
    first["last_modification_time"] = str(int(time.time() - days * DAY))
    return json.dumps(cache)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return tmp_path / "cache.json"


def test_it_counts_by_kind_what_it_has_removed(plain: Path) -> None:
    plain.write_text(aged(2, days=100))
    report = prune(f"plain:{plain}")
    assert references_of(report) == []
    assert "1 RefreshToken" in report.done[0]
    assert CANARY not in str(report)
    assert len(json.loads(plain.read_text())["RefreshToken"]) == 1
    report = prune(f"plain:{plain}")
    assert report.done[0].startswith("Nothing removed")


def test_how_long_is_given_in_days(plain: Path) -> None:
    plain.write_text(aged(2, days=20))
    assert prune(f"plain:{plain}").done[0].startswith("Nothing")
    assert "1 RefreshToken" in prune(f"plain:{plain}", days=10).done[0]


def test_an_encrypted_cache_stays_encrypted(tmp_path: Path) -> None:
    key_file = str(new_key(tmp_path / "key"))
    persistence = EncryptedFilePersistence(tmp_path / "caches" / "x", KeyFile(key_file))
    persistence.save(aged(2, days=100))
    report = prune(f"encrypted:{tmp_path}/caches/x", key_file=key_file)
    assert references_of(report) == []
    assert len(json.loads(persistence.load())["RefreshToken"]) == 1
    assert os.listdir(tmp_path / "caches") == ["x"]


@pytest.mark.parametrize(
    ("content", "reference"),
    [(b"[]", "MSX-84"), (b"5", "MSX-84"), (b"{", "MSX-41"), (b"\xff", "MSX-40")],
)
def test_what_is_no_token_cache_stays_as_it_is(plain: Path, content: bytes, reference: str) -> None:
    plain.write_bytes(content)
    assert references_of(prune(f"plain:{plain}")) == [reference]
    assert plain.read_bytes() == content


def test_it_asks_before_and_changes_nothing_without_a_yes(plain: Path) -> None:
    content = aged(2, days=100)
    plain.write_text(content)
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    report = prune(f"plain:{plain}", f"plain:{plain.parent}/missing", confirm=no)
    assert references_of(report) == ["MSX-20", "MSX-80"]
    assert "90 days" in asked[0]
    assert plain.read_text() == content


@pytest.mark.parametrize("days", [-1.0, math.nan, math.inf])
def test_an_age_without_a_meaning_removes_nothing(plain: Path, days: float) -> None:
    content = aged(2, days=100)
    plain.write_text(content)
    report = prune(f"plain:{plain}", days=days)
    assert plain.read_text() == content
    assert references_of(report) == ([] if days == math.inf else ["MSX-01"])
