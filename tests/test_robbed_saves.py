"""Whatever others do between two steps of a save, no saved change is lost.

A writer stops at one system call (tests/native/linux/pause.c).  Meanwhile its lock file is deleted,
or its directory is moved away, and another program saves.  MSALEX_ROBBED_SAVES says how often each
is done (default 20).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import FilePersistence, PersistedTokenCache
from tests.support import native, tally
from tests.support.own_persistences import Sealed
from tests.support.processes import PATIENCE

pytest.importorskip("fcntl")

TIMES = int(os.environ.get("MSALEX_ROBBED_SAVES", "20"))
#: The pause of a save for which the other one waits, and the longest wait: TURN_TRIES in
#: csrc/file_posix.c.
DELAY_MS, TURN_MS = 15, 50

ROOT = Path(__file__).resolve().parents[1]

CHANGE = """
def change(persistence, name):
    entry = {"home_account_id": name, "environment": "login.example", "client_id": "client"}
    cache = PersistedTokenCache(persistence)
    cache.modify(cache.CredentialType.REFRESH_TOKEN, entry, entry)
"""
WRITER = f"""
import os, sys
from msal_extensions import FilePersistence, PersistedTokenCache
from tests.support.own_persistences import Sealed
{CHANGE}
for line in sys.stdin:
    directory, location, name, call, kind = line.split()
    os.chdir(directory)
    os.environ["PAUSE"] = call
    if name == "-":
        FilePersistence(location).save("of the writer that stood still")
    else:
        change({{"plain": FilePersistence, "sealed": Sealed}}[kind](location), name)
    os.environ.pop("PAUSE")
    print("saved", flush=True)
"""


@pytest.fixture(scope="module")
def pause(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return native.preloaded(tmp_path_factory.mktemp("pause") / "pause.so", "pause.c")


class Writer:
    """A process that saves when it is told to, and stops at a call."""

    def __init__(self, pause: Path, delay_ms: int | None = None) -> None:
        self._stopped, tell = os.pipe()
        wait, self._go = os.pipe()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "LD_PRELOAD": str(pause),
            "PAUSE_TELL": str(tell),
            "PAUSE_WAIT": str(wait),
            **({} if delay_ms is None else {"PAUSE_MS": str(delay_ms)}),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[tell, wait],
            text=True,
        )
        os.close(tell)
        os.close(wait)

    def start(
        self, directory: Path, location: str | Path, name: str, call: str, kind: str = "plain"
    ) -> None:
        """Returns when the process has stopped at the call."""
        assert self.process.stdin is not None
        print(directory, location, name, call, kind, file=self.process.stdin, flush=True)
        assert select.select([self._stopped], [], [], PATIENCE)[0], "it never came to the call"
        assert os.read(self._stopped, 1) == b"!"

    def go_on(self) -> None:
        os.write(self._go, b"!")

    def assert_saved(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "saved\n"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)
        os.close(self._stopped)
        os.close(self._go)


@pytest.fixture
def writer(pause: Path) -> Iterator[Writer]:
    running = Writer(pause)
    yield running
    running.close()


@pytest.fixture
def delayed_writer(pause: Path) -> Iterator[Writer]:
    running = Writer(pause, DELAY_MS)
    yield running
    running.close()


def change(location: Path, name: str, kind: type[FilePersistence] = FilePersistence) -> None:
    namespace: dict[str, Any] = {"PersistedTokenCache": PersistedTokenCache}
    exec(CHANGE, namespace)
    namespace["change"](kind(location), name)


def accounts(location: Path, kind: type[FilePersistence] = FilePersistence) -> set[str]:
    cache = PersistedTokenCache(kind(location))
    return {entry["home_account_id"] for entry in cache.search(cache.CredentialType.REFRESH_TOKEN)}


@pytest.mark.parametrize("call", ["sync", "rename"])
def test_a_directory_that_is_moved_away_and_made_anew_costs_no_change(
    tmp_path: Path, writer: Writer, call: str
) -> None:
    """mv ~/.azure ~/.azure.bak; mkdir ~/.azure"""
    lost = []
    for number in range(TIMES):
        home = tmp_path / str(number)
        home.mkdir()
        location, moved = home / "cache.bin", home.with_suffix(".bak")
        change(location, "before")
        writer.start(tmp_path, location, "first", call)
        home.rename(moved)
        home.mkdir()
        change(location, "second")
        writer.go_on()
        writer.assert_saved()
        if not {"first", "second"} <= accounts(location):
            lost.append(number)
        # The directory is not checked again at the rename.
        assert "before" in accounts(moved / "cache.bin")
        assert ("first" in accounts(moved / "cache.bin")) == (call == "rename")
        assert os.listdir(home) == ["cache.bin"]
    print(f"{TIMES} directories moved away: {len(lost)} changes lost")
    tally.tried(TIMES)
    tally.lost(len(lost))
    assert lost == []


@pytest.mark.parametrize("first", [False, True], ids=["", "first save"])
@pytest.mark.parametrize(("name", "kind"), [("plain", FilePersistence), ("sealed", Sealed)])
def test_a_lock_file_that_is_deleted_during_a_save_costs_no_change(
    tmp_path: Path, writer: Writer, name: str, kind: type[FilePersistence], first: bool
) -> None:
    """A sealed file checks its lease during a save like a plain one."""
    lost = 0
    expected = {"first", "second"} | (set() if first else {"before"})
    for number in range(TIMES):
        location = tmp_path / str(number)
        if not first:
            change(location, "before", kind)
        writer.start(tmp_path, location, "first", "sync", name)
        (tmp_path / f"{number}.lockfile").unlink()
        change(location, "second", kind)
        writer.go_on()
        writer.assert_saved()
        lost += accounts(location, kind) != expected
    print(f"{TIMES} lock files deleted, {name} file: {lost} changes lost")
    tally.tried(TIMES)
    tally.lost(lost)
    assert lost == 0


@pytest.mark.parametrize("first", [False, True], ids=["", "first save"])
@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_a_lock_file_that_is_deleted_during_a_slow_rename_costs_no_change(
    tmp_path: Path, delayed_writer: Writer, kind: str, first: bool
) -> None:
    """The second writer waits for the first one's turn, but not for ever.  A round that took longer
    than that, on a busy machine, proves nothing."""
    robbed, lost, tries = 0, 0, 0
    expected = {"first", "second"} | (set() if first else {"before"})
    while robbed < TIMES and tries < 20 * TIMES:
        tries += 1
        home = tmp_path / str(tries)
        home.mkdir()
        location = home / "cache.bin"
        if not first:
            change(location, "before")
        delayed_writer.start(
            home, "cache.bin" if kind == "relative" else location, "first", "rename"
        )
        began = time.monotonic()
        (home / "cache.bin.lockfile").unlink(missing_ok=True)
        change(location, "second")
        delayed_writer.assert_saved()
        if time.monotonic() - began < TURN_MS / 1000:
            robbed += 1
            lost += accounts(location) != expected
    print(f"{robbed} lock files deleted, {kind} location: {lost} changes lost")
    tally.tried(robbed)
    tally.lost(lost)
    assert robbed > 0
    assert lost == 0


@pytest.mark.parametrize("call", ["sync", "rename"])
def test_a_writer_that_stands_still_keeps_its_temporary_file(
    tmp_path: Path, writer: Writer, call: str
) -> None:
    """However old the file is, and whatever others save or delete there."""
    location = tmp_path / "cache.bin"
    FilePersistence(location).save("old")
    writer.start(tmp_path, location, "-", call)
    os.kill(writer.process.pid, signal.SIGSTOP)
    [temporary] = tmp_path.glob(".msalex-*.tmp")
    os.utime(temporary, (time.time() - 3600, time.time() - 3600))
    for name in ("cache.bin", "other.bin"):
        FilePersistence(tmp_path / name).save("of another program")  # this save sweeps
        FilePersistence(tmp_path / name).delete()
    assert temporary.exists()
    os.kill(writer.process.pid, signal.SIGCONT)
    writer.go_on()
    writer.assert_saved()
    assert os.listdir(tmp_path) == ["cache.bin"]
    assert location.read_text() == "of the writer that stood still"


@pytest.mark.parametrize("call", ["sync", "rename"])
def test_a_delete_removes_what_a_killed_writer_left(
    tmp_path: Path, writer: Writer, call: str
) -> None:
    location = tmp_path / "cache.bin"
    FilePersistence(location).save("old")
    writer.start(tmp_path, location, "-", call)
    writer.process.kill()
    writer.process.wait(PATIENCE)
    [temporary] = tmp_path.glob(".msalex-*.tmp")
    os.utime(temporary, (time.time() - 3, time.time() - 3))  # as if 3 s had passed
    FilePersistence(location).delete()
    assert os.listdir(tmp_path) == []
