"""`migrate` while others remove lock files, save, hold locks, or press Ctrl-C: nothing is lost."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from msal_extensions import CrossPlatLock, FilePersistence
from msal_extensions._command import changing, migration
from msal_extensions.errors import PersistenceDenied
from msal_extensions.lock import FileLock
from tests.support.capability import REMOVABLE_OPEN_FILES, requires
from tests.support.moving import PATH, Files, migrate, references_of, signed_in
from tests.support.processes import python


@pytest.fixture
def site(tmp_path: Path) -> Files:
    return Files(tmp_path)


def before_the_look(number: int, change: Callable[[], object]) -> Callable[..., object]:
    """migration._load(), and a change by somebody else before it is called so often, and then
    before each of its calls."""
    real, calls = migration._load, 0

    def load(persistence: object) -> object:
        nonlocal calls
        calls += 1
        if calls >= number:
            change()
        return real(persistence)  # type: ignore[arg-type]

    return load


#: The calls of _load(): for the question; then FROM, TO, what was saved in TO, FROM once more.
LAST_LOOK = 5


def test_a_save_by_a_program_without_a_lock_is_moved_too(
    site: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(signed_in(1))
    saved: list[str] = []

    def save() -> None:
        if not saved:
            saved.append(signed_in(2))
            FilePersistence(site.plain).save(saved[0])

    monkeypatch.setattr(migration, "_load", before_the_look(LAST_LOOK, save))
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == []
    assert site.there() == saved[0]
    assert not site.plain.exists()


def test_a_program_that_saves_again_and_again_without_a_lock_loses_nothing(
    site: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(signed_in(1))
    count = iter(range(1000))

    def save() -> None:
        FilePersistence(site.plain).save(json.dumps({"AccessToken": {"n": next(count)}}))

    monkeypatch.setattr(migration, "_load", before_the_look(LAST_LOOK, save))
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == ["MSX-65"]
    assert f"clear {site.target}" in report.findings[0].remedy
    assert json.loads(site.plain.read_text()) == {"AccessToken": {"n": next(count) - 1}}


@requires(REMOVABLE_OPEN_FILES)
def test_nothing_is_removed_without_the_lock(site: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(signed_in(1))
    lock_file = Path(f"{site.plain}.lockfile")
    removals: list[bool] = []

    def rob() -> None:
        removals.append(lock_file.exists())
        lock_file.unlink(missing_ok=True)

    monkeypatch.setattr(migration, "_load", before_the_look(LAST_LOOK, rob))
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert any(removals)
    assert references_of(report) == ["MSX-61"]
    assert json.loads(site.plain.read_text()) == json.loads(signed_in(1))


@requires(REMOVABLE_OPEN_FILES)
def test_a_lock_file_that_was_removed_once_costs_another_try_only(
    site: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(signed_in(1))
    lock_file = Path(f"{site.plain}.lockfile")
    robbed: list[bool] = []

    def rob() -> None:
        if not robbed:
            robbed.append(True)
            lock_file.unlink()

    monkeypatch.setattr(migration, "_load", before_the_look(LAST_LOOK, rob))
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert robbed
    assert references_of(report) == []
    assert set(site.files()) == {"sealed.bin"}


@pytest.mark.parametrize("busy", ["plain", "sealed"])
def test_the_lock_of_both_places_is_waited_for_no_longer_than_the_timeout(
    site: Files, busy: str
) -> None:
    site.fill(signed_in(1))
    location = getattr(site, busy)
    # This thread would join its own holding.
    with CrossPlatLock(f"{location}.lockfile"), ThreadPoolExecutor(1) as pool:
        options: dict[str, Any] = {"key_file": site.key_file, "timeout": 0.1}
        report = pool.submit(partial(migrate, site.source, site.target, **options)).result()
    assert references_of(report) == ["MSX-60"]
    assert set(site.files()) == {"plain.json"}


def test_when_the_removal_fails_both_are_there_and_the_same_again_ends_it(
    site: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(signed_in(1))

    def refuse(self: FilePersistence) -> None:
        raise PersistenceDenied(13, "Permission denied", self.get_location())

    with monkeypatch.context() as patch:
        patch.setattr(FilePersistence, "delete", refuse)
        report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == ["MSX-25"]
    assert "do the same again" in report.findings[0].remedy
    assert report.done == []
    assert set(site.files()) == {"plain.json", "sealed.bin"}
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == []
    assert set(site.files()) == {"sealed.bin"}


def interrupted(work: Callable[[], object], number: int) -> bool:
    """Does the work, with Ctrl-C at the line of this number in our module.

    :returns: Whether there was such a line.
    """
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in (migration.__file__, changing.__file__):
            return None
        if event == "line":
            count += 1
            if count == number:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def interrupt_each_line(site: Files) -> int:
    """Moves with Ctrl-C at each line in turn, and the same again; returns how many lines."""
    text = signed_in(1)
    again = partial(migrate, site.source, site.target, key_file=site.key_file, timeout=1.0)
    for number in itertools.count(1):
        for name in site.files():
            (site.directory / name).unlink()
        site.fill(text)
        there = interrupted(again, number)
        assert text in (
            site.plain.read_text() if site.plain.exists() else None,
            site.there() if site.sealed.exists() else None,
        )
        if there:
            assert references_of(again()) in ([], ["MSX-20"])
        assert site.there() == text
        assert set(site.files()) == {"sealed.bin"}
        if not there:
            return number - 1
    raise AssertionError


def test_ctrl_c_at_any_line_loses_nothing_and_the_same_again_ends_well(tmp_path: Path) -> None:
    """In a process of its own: CPython keeps the context of an exception that a trace raises."""
    code = """
    import sys
    from pathlib import Path
    from tests.test_command_migrate_meanwhile import Files, interrupt_each_line
    print(interrupt_each_line(Files(Path(sys.argv[1]))))
    """
    done = python(code, str(tmp_path), environment={"PYTHONPATH": PATH})
    assert int(done.stdout) > 50


@pytest.mark.parametrize("order", [1, -1])
def test_all_processes_take_the_two_locks_in_one_order(
    site: Files, monkeypatch: pytest.MonkeyPatch, order: int
) -> None:
    """Or two moves in opposite directions could wait for each other."""
    taken: list[str] = []

    class Lock(FileLock):
        def __init__(self, path: str) -> None:
            taken.append(path)
            super().__init__(path)

    monkeypatch.setattr(changing, "FileLock", Lock)
    paths = [f"{site.directory}/{name}" for name in "ab"]
    with changing.locked(paths[::order], 1.0):
        assert taken == paths
