"""Extended attributes: a save exchanges the file, and what its user attached to it stays.

1.3.1 writes into the file itself, so there they stay as well.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from msal_extensions import FilePersistence
from tests.support.capability import needs, requires

#: freedesktop.org defines the first one for tags; the second is a program's own, with bytes.
ATTRIBUTES = {"user.xdg.tags": b"work", "user.example": bytes(range(256))}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with attributes."""
    location = tmp_path / "cache.bin"
    FilePersistence(location).save("old")
    try:
        for name, value in ATTRIBUTES.items():
            os.setxattr(location, name, value)
    except OSError as error:
        needs(f"the file system of {tmp_path} has no user attributes: {error.strerror}")
    return location


@requires("os.setxattr")
def test_a_save_keeps_the_attributes_of_the_user(cache: Path) -> None:
    FilePersistence(cache).save("new")
    assert {name: os.getxattr(cache, name) for name in os.listxattr(cache)} == ATTRIBUTES


@requires("os.setxattr")
def test_attributes_that_are_too_large_to_copy_fail_no_save(cache: Path) -> None:
    for number in range(200):  # the names alone take more room than a save has for them
        try:
            os.setxattr(cache, f"user.{number:0>120}", b"")
        except OSError:  # the file system has no more room
            break
    persistence = FilePersistence(cache)
    persistence.save("new")
    assert persistence.load() == "new"
