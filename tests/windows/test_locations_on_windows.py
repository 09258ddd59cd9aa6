"""Locations on Windows: every name that its file systems allow, and every length."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from msal_extensions import CrossPlatLock, FilePersistence, LockError, PersistedTokenCache
from tests.support.capability import cannot_exist_here
from tests.support.processes import python

#: Legal in NTFS, and what Python gives for such a name: half of a pair of UTF-16.
HALF = "half \ud83d of a pair.bin"


def test_a_name_with_half_of_a_pair_is_saved_loaded_and_locked(tmp_path: Path) -> None:
    """The C library's own test of that name is in tests/native/windows/seam_system.c."""
    location = str(tmp_path / HALF)
    try:
        with open(location, "w") as file:  # as 1.3.1 makes it
            file.write("[]")
    except FileNotFoundError:
        cannot_exist_here("a file of such a name, under Wine")
    persistence = FilePersistence(location)
    assert persistence.load() == "[]"
    persistence.save("{}")
    with open(location) as file:
        assert file.read() == "{}"
    with CrossPlatLock(location + ".lockfile"):
        assert sorted(os.listdir(tmp_path)) == [HALF, HALF + ".lockfile"]
    persistence.delete()
    assert os.listdir(tmp_path) == []


def test_the_old_encoding_of_file_names_changes_no_location(tmp_path: Path) -> None:
    """With PYTHONLEGACYWINDOWSFSENCODING os.fsencode() gives the code page of the system."""
    output = python(
        """
        import os, sys
        from msal_extensions import CrossPlatLock, FilePersistence
        location = os.path.join(sys.argv[1], "J\\u00fcrgen \\u6f22.bin")
        FilePersistence(location).save("{}")
        with CrossPlatLock(location + ".lockfile"):
            print(ascii(sorted(os.listdir(sys.argv[1]))))
        """,
        str(tmp_path),
        environment={"PYTHONLEGACYWINDOWSFSENCODING": "1"},
    )
    assert output.stdout == f"{['Jürgen 漢.bin', 'Jürgen 漢.bin.lockfile']!a}\n"


@pytest.mark.parametrize("length", [200, 232, 243, 247, 248, 260, 300, 600])
def test_a_location_of_any_length_works_without_a_prefix(length: int, tmp_path: Path) -> None:
    """The directory has that many characters, and is made by the first save."""
    directory = str(tmp_path)
    while len(directory) < length - 101:
        directory += "\\" + "d" * 100
    directory += "\\" + "e" * (length - len(directory) - 1)
    location = directory + "\\cache.bin"
    persistence = FilePersistence(location)
    persistence.save("{}")
    persistence.save('{"second": {}}')
    assert persistence.load() == '{"second": {}}'
    cache = PersistedTokenCache(persistence)
    assert list(cache.search(cache.CredentialType.ACCESS_TOKEN)) == []
    with CrossPlatLock(location + ".lockfile"):
        assert sorted(os.listdir("\\\\?\\" + directory)) == ["cache.bin", "cache.bin.lockfile"]
    persistence.delete()
    assert os.listdir("\\\\?\\" + directory) == []


@pytest.mark.parametrize("other", [str.upper, str.lower, str.swapcase])
def test_another_spelling_of_the_lock_is_the_same_lock_for_a_thread(
    other: Callable[[str], str], tmp_path: Path
) -> None:
    path = str(tmp_path / "Cache.Lockfile")
    with (
        CrossPlatLock(path),
        pytest.raises(LockError, match="This thread already holds the lock"),
    ):
        CrossPlatLock(other(path), timeout=20).acquire()
