"""Crowds in an encrypted file, with each source of its key: nothing is lost, and one key is made.

A program that is killed leaves a file that opens, and no text outside of it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from msal_extensions import EncryptedFilePersistence, PersistedTokenCache
from tests.support import tally
from tests.support.arena import Arena, loaded, missed_by, named, written_by
from tests.support.capability import LOCK_QUEUE, requires
from tests.support.key_sources import SOURCES, kernel_keys, make_source, remove_kernel_keys
from tests.support.key_sources import own_keys as own_keys
from tests.support.processes import PATIENCE, together

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("own_keys"),
    requires("os.fork", LOCK_QUEUE),
]

ROOT = Path(__file__).resolve().parents[1]
CANARY = "canary-of-a-killed-writer"
#: First saves at once by this many processes, and how often.
CROWD, RACES = 16, 100
#: For each source that is tried, in pairs of writers.
KILLS = 30


@pytest.fixture(autouse=True)
def _programs_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def opened(location: Path | str, kind: str, keys: Path) -> EncryptedFilePersistence:
    return EncryptedFilePersistence(location, make_source(kind, keys))


def opening(kind: str, keys: Path) -> str:
    """The line that does the same in a program."""
    return (
        "import pathlib, tests.test_encrypted_crowds;"
        f" persistence = tests.test_encrypted_crowds.opened(location, {kind!r},"
        f" pathlib.Path({str(keys)!r}))"
    )


@pytest.mark.parametrize("kind", SOURCES)
def test_12_processes_modify_and_2_search_and_nothing_is_lost_or_missed(
    tmp_path: Path, kind: str
) -> None:
    keys = tmp_path / "keys"
    arena = Arena(tmp_path / "arena", partial(opened, kind=kind, keys=keys), opening(kind, keys))
    writers = named("ours", 12)
    outputs = together(arena.writers(writers) + arena.readers(len(writers), count=2))
    expected = arena.seeded | written_by(writers)
    assert arena.stored == expected
    assert missed_by(loaded(outputs[12:])) == {}
    assert {reader["seen"] for reader in loaded(outputs[12:])} == {len(expected)}
    assert sorted(path.name for path in arena.directory.iterdir()) == ["cache.bin", "done"]
    if kind == "kernel":
        assert len(kernel_keys(keys)) == 1


# ---- the first key ------------------------------------------------------------------------


def race(place: Path, number: int, barrier: object) -> None:
    """One process of the crowd, in all rounds: it saves at the same time as the others."""
    wait = partial(barrier.wait, PATIENCE)  # type: ignore[attr-defined]
    for turn in range(RACES):
        # Two files with two locks share the keys; and save() takes no lock.
        location = place / f"{turn}" / f"{number % 2}" / "cache.bin"
        persistence = opened(location, "kernel", place / f"{turn}")
        wait()
        if number < CROWD // 2:
            persistence.save(f'{{"by": "{number}"}}')
        else:
            entry = {"home_account_id": "h", "environment": "e", "client_id": "c"}
            PersistedTokenCache(persistence).modify("RefreshToken", entry, {"secret": "s"})
        wait()
        for other in "01":
            path = place / f"{turn}" / other / "cache.bin"
            assert opened(path, "kernel", place / f"{turn}").load()[0] == "{"


def test_16_processes_that_save_at_once_make_one_kernel_key_and_can_open_each_others_files(
    tmp_path: Path,
) -> None:
    make_source("kernel", tmp_path / "0")  # or skips
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(CROWD)
    crowd = [
        context.Process(target=race, args=(tmp_path, number, barrier)) for number in range(CROWD)
    ]
    try:
        for process in crowd:
            process.start()
        for process in crowd:
            process.join(PATIENCE + RACES)
        made = [len(kernel_keys(tmp_path / f"{turn}")) for turn in range(RACES)]
        tally.tried(RACES)
        tally.lost(sum(number != 1 for number in made))
        assert [process.exitcode for process in crowd] == [0] * CROWD
        assert made == [1] * RACES
    finally:
        for process in crowd:
            process.kill()
            process.join()
        for turn in range(RACES):
            remove_kernel_keys(tmp_path / f"{turn}")


# ---- kills --------------------------------------------------------------------------------

# Arguments: the location, the number of the process.
WRITES_FOR_EVER = """
    import itertools, os, pathlib, sys
    from msal_extensions import PersistedTokenCache
    location = sys.argv[1]
    {opening}
    cache = PersistedTokenCache(persistence)
    for number in itertools.count():
        name = f"{canary}.{{sys.argv[2]}}.{{number}}"
        entry = {{"home_account_id": name, "environment": "e", "client_id": "c"}}
        with cache.transaction(timeout=60):
            cache.modify("RefreshToken", entry, {{"secret": name}})
            if number > 20:
                cache.modify("RefreshToken", entry, None)
        os.write(1, (name + "\\n").encode())
"""


def files_with(canary: str, directory: Path) -> list[str]:
    found = []
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a temporary one of a writer that lives
            if path.is_file() and canary.encode() in path.read_bytes():
                found.append(path.name)
    return found


@contextlib.contextmanager
def writing(code: str, location: Path, number: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has saved something, and goes on."""
    command = [sys.executable, "-c", code, str(location), str(number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(CANARY.encode())
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["file", "kernel"])
def test_writers_that_are_killed_leave_a_file_that_opens_and_no_text_beside(
    tmp_path: Path, kind: str
) -> None:
    keys, location = tmp_path / "keys", tmp_path / "caches" / "cache.bin"
    persistence = opened(location, kind, keys)
    opening_here = textwrap.dedent(opening(kind, keys))
    code = textwrap.dedent(WRITES_FOR_EVER.format(opening=opening_here, canary=CANARY))
    for number in range(0, KILLS, 2):
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(writing(code, location, number + each)) for each in range(2)
            ]
            time.sleep(random.uniform(0, 0.02))
            for writer in writers:
                writer.kill()
                assert files_with(CANARY, tmp_path) == []
        assert files_with(CANARY, tmp_path) == []
        # What a writer has said to have saved is there, of the first of both at least.
        assert persistence.load().startswith("{")
        assert opened(location, kind, keys).load().startswith("{")
    entry = {"home_account_id": "after", "environment": "e", "client_id": "c"}
    PersistedTokenCache(persistence).modify("RefreshToken", entry, {"secret": "after"})
    stored = opened(location, kind, keys).load()
    assert "after" in stored
    assert all(f"{CANARY}.{number}.0" in stored for number in range(KILLS))
    long_ago = time.time() - 3600
    for path in location.parent.iterdir():
        os.utime(path, (long_ago, long_ago))  # young ones could be those of a living writer
    persistence.delete()
    assert [path.name for path in location.parent.iterdir()] == []
