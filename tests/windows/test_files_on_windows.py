"""Files on Windows: their access lists, other programs that have them open, and long paths."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import (
    FilePersistence,
    PersistenceDenied,
    PersistenceError,
    PersistenceIsADirectory,
)
from tests.support.capability import cannot_exist_here

SIZE = 300_000
on_windows: Any = ctypes  # mypy checks this module elsewhere, where ctypes has no WinDLL
kernel32 = on_windows.WinDLL("kernel32", use_last_error=True)
advapi32 = on_windows.WinDLL("advapi32", use_last_error=True)
DACL = 4  # DACL_SECURITY_INFORMATION
READONLY, HIDDEN = 1, 2
GENERIC_READ, WRITE_ATTRIBUTES = 0x80000000, 0x100
SHARE_READ, SHARE_ALL, OPEN_EXISTING = 1, 7, 3


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin"


def access_list(path: Path) -> str:
    """The access list, in the security descriptor definition language."""
    needed = ctypes.c_ulong()
    advapi32.GetFileSecurityW(str(path), DACL, None, 0, ctypes.byref(needed))
    descriptor = ctypes.create_string_buffer(needed.value)
    assert advapi32.GetFileSecurityW(str(path), DACL, descriptor, needed, ctypes.byref(needed))
    text = ctypes.c_wchar_p()
    assert advapi32.ConvertSecurityDescriptorToStringSecurityDescriptorW(
        descriptor, 1, DACL, ctypes.byref(text), None
    )
    assert text.value is not None
    return text.value


@contextmanager
def opened(path: Path, sharing: int, access: int = GENERIC_READ) -> Iterator[ctypes.c_void_p]:
    """Another program has the file open, for reading or for something else."""
    kernel32.CreateFileW.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(
        kernel32.CreateFileW(str(path), access, sharing, None, OPEN_EXISTING, 0, None)
    )
    assert handle.value not in (None, ctypes.c_void_p(-1).value)
    try:
        yield handle
    finally:
        kernel32.CloseHandle(handle)


def times_undo_attributes(directory: Path) -> bool:
    """Whether a file is hidden no more after its times were set, as a save sets them: Wine 10."""
    probe = directory / "probe"
    probe.touch()
    assert kernel32.SetFileAttributesW(str(probe), HIDDEN)
    with opened(probe, SHARE_ALL, WRITE_ATTRIBUTES) as handle:
        now = (ctypes.c_ulong * 2)(0, 0x1DC0000)
        assert kernel32.SetFileTime(handle, None, None, ctypes.byref(now))
    hidden = kernel32.GetFileAttributesW(str(probe)) & HIDDEN
    probe.unlink()
    return not hidden


def test_a_new_file_is_for_its_owner_the_system_and_administrators(location: Path) -> None:
    FilePersistence(location).save("secret")
    entries = access_list(location)
    print(entries)
    assert ";;;WD)" not in entries  # everybody
    assert ";;;AU)" not in entries  # everybody who has logged in
    assert ";;;BU)" not in entries  # users


def test_a_save_keeps_the_access_list_and_attributes(location: Path) -> None:
    location.write_text("old")
    assert kernel32.SetFileAttributesW(str(location), HIDDEN)
    before = access_list(location)
    FilePersistence(location).save("new")
    assert location.read_text() == "new"
    assert access_list(location) == before
    if times_undo_attributes(location.parent):
        cannot_exist_here("a hidden file whose times were set, in Wine 10")
    assert kernel32.GetFileAttributesW(str(location)) & HIDDEN


def test_a_read_only_file_and_a_directory_are_refused_at_once(location: Path) -> None:
    persistence = FilePersistence(location)
    persistence.save("old")
    location.chmod(0o400)
    before = time.monotonic()
    with pytest.raises(PersistenceDenied, match="read-only"):
        persistence.save("new")
    assert time.monotonic() - before < 0.5
    location.chmod(0o600)
    assert persistence.load() == "old"
    with pytest.raises(PersistenceIsADirectory):
        FilePersistence(location.parent).save("x")
    assert os.listdir(location.parent) == [location.name]


def test_a_save_waits_for_a_program_that_has_the_file_open(location: Path) -> None:
    """1.3.1 and .NET read without sharing deletion: no rename over it succeeds meanwhile."""
    persistence = FilePersistence(location)
    persistence.save("old")

    def save() -> None:
        persistence.save("new")

    with opened(location, SHARE_READ):
        saving = threading.Thread(target=save)
        saving.start()
        time.sleep(0.2)
        assert persistence.load() == "old"
    saving.join()
    assert persistence.load() == "new"


def test_a_program_that_keeps_it_open_is_told_and_nothing_is_lost(location: Path) -> None:
    persistence = FilePersistence(location)
    persistence.save("old")
    with opened(location, SHARE_READ):
        with pytest.raises(PersistenceDenied) as caught:
            persistence.save("new")
        assert persistence.load() == "old"
    assert "WinError" in str(caught.value)
    assert os.listdir(location.parent) == [location.name]


def test_a_reader_beside_a_busy_writer_never_sees_a_torn_file(location: Path) -> None:
    persistence = FilePersistence(location)
    persistence.save("00000000" * (SIZE // 8))
    code = (
        "import sys; from msal_extensions import FilePersistence\n"
        "persistence, number = FilePersistence(sys.argv[1]), 0\n"
        "while True:\n"
        "    persistence.save(f'{number:08d}' * int(sys.argv[2]))\n"
        "    number += 1"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(location), str(SIZE // 8)])
    versions: set[str] = set()
    reads, until = 0, time.monotonic() + 30
    try:
        while (reads < 500 or len(versions) < 30) and time.monotonic() < until:
            content = persistence.load()
            assert content == content[:8] * (SIZE // 8)
            versions.add(content[:8])
            reads += 1
    finally:
        writer.kill()
        writer.wait()
    print(f"{reads} reads, {len(versions)} versions seen, 0 torn")
    assert len(versions) >= 30
    left = [name for name in os.listdir(location.parent) if name != location.name]
    for name in left:  # makes them a minute old
        os.utime(location.parent / name, (time.time() - 61, time.time() - 61))
    FilePersistence(location).save("x")
    assert os.listdir(location.parent) == [location.name]


def test_paths_may_be_long_and_of_any_script(tmp_path: Path) -> None:
    deep = "\\\\?\\" + str(tmp_path)
    for part in ("Jürgen Müller", "токены", "x" * 100, "y" * 100):
        deep += "\\" + part
        os.mkdir(deep)
    location = deep.removeprefix("\\\\?\\") + "\\🔑.bin"
    assert len(location) > 260
    persistence = FilePersistence("\\\\?\\" + location)
    persistence.save("é")
    assert persistence.load() == "é"
    assert persistence.time_last_modified() > 0
    persistence.touch()
    persistence.delete()
    assert os.listdir(deep) == []


def test_a_file_has_the_stamp_that_its_save_gave_it(location: Path) -> None:
    """The times are set before the rename, and the rename and the close change nothing."""
    persistence = FilePersistence(location)
    for number in range(20):
        before = time.time()
        persistence.save(str(number))
        assert before - 2 <= location.stat().st_mtime <= time.time() + 2
        assert persistence.load() == str(number)


def test_a_relative_path_and_one_with_slashes_lead_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prefix that each path gets takes its text as it is: so that is put in order before."""
    monkeypatch.chdir(tmp_path)
    drive = tmp_path.drive
    for location in (
        "cache.bin",
        ".\\sub\\..\\cache.bin",
        f"{drive}cache.bin",
        str(tmp_path).replace("\\", "/") + "/cache.bin",
        str(tmp_path) + "\\cache.bin. .",
    ):
        FilePersistence(location).save(location)
        assert (tmp_path / "cache.bin").read_text() == location
        assert FilePersistence(location).load() == location
        assert os.listdir(tmp_path) == ["cache.bin"]
    with pytest.raises(PersistenceError):
        FilePersistence("NUL").load()


def test_what_a_message_says_has_no_prefix(location: Path) -> None:
    with pytest.raises(PersistenceError) as caught:
        FilePersistence(location).load()
    assert "\\\\?\\" not in str(caught.value)
