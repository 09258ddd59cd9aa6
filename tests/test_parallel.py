"""Tests run in parallel, in order, or in shares, and the same of them: none is lost on the way."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dev import pytest_arguments
from tests.conftest import pytest_collection_modifyitems
from tests.test_capability import WAYS_TO_SKIP, run_pytest


@pytest.mark.parametrize("more", [[], ["--quick"]])
def test_without_arguments_tests_run_in_parallel(more: list[str]) -> None:
    arguments = pytest_arguments(more)
    assert arguments[arguments.index("-n") + 1].isdecimal()
    assert arguments[-2:] == ["--dist", "worksteal"]
    assert ("not slow" in arguments) == bool(more)


@pytest.mark.parametrize("chosen", [["tests/test_lock.py"], ["-k", "lock"], ["-q", "-x"]])
def test_with_arguments_they_run_in_order_unless_workers_are_asked_for(chosen: list[str]) -> None:
    assert pytest_arguments(chosen) == chosen
    assert pytest_arguments(["--quick", *chosen]) == ["-m", "not slow", *chosen]
    for workers in (["-n", "3"], ["-n3"], ["--numprocesses=3"]):
        expected = [*chosen, *workers, "--dist", "worksteal"]
        assert pytest_arguments([*chosen, *workers]) == expected


def test_in_parallel_a_skip_on_ci_fails_too(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, "true", "-n2", **WAYS_TO_SKIP)
    assert status == 1, output
    assert "skipped in" not in output
    for way in WAYS_TO_SKIP:
        assert f"test_{way}.py" in output


class Collected(SimpleNamespace):
    """As much of a test as decides when it runs, and where."""

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


def arranged(items: list[Collected], **config: Any) -> list[Collected]:
    hook = SimpleNamespace(pytest_deselected=lambda items: None)
    kept = [*items]
    pytest_collection_modifyitems(
        cast(pytest.Config, SimpleNamespace(hook=hook, **config)), cast(list[pytest.Item], kept)
    )
    return kept


TESTS = [
    Collected(path=Path(f"test_{file}.py"), number=number, marks={"first"} if file == "c" else {})
    for file in "abcde"
    for number in range(3)
]


def test_the_longest_begins_first_where_others_run_beside_it() -> None:
    assert arranged(TESTS) == TESTS
    in_parallel = arranged(TESTS, workerinput={})
    assert [test.path.stem for test in in_parallel[:4]] == ["test_c"] * 3 + ["test_a"]
    assert len(in_parallel) == len(TESTS)


def test_shares_are_whole_files_and_together_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for number in range(3):
        monkeypatch.setenv("MSALEX_SHARE", f"{number}/3")
        shares.append(arranged(TESTS))
    assert [{test.path.stem[-1] for test in share} for share in shares] == [
        *({"a", "d"}, {"b", "e"}, {"c"}),
    ]
    assert sum(map(len, shares)) == len(TESTS)
