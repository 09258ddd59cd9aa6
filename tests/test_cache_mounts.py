"""One cache through two mounts, as from two hosts: no change by the other host is lost.

On FUSE or NFS the kernel remembers the result of stat(), and sshfs remembers it as well.  So a file
can have the old stamp although its content is new.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

pytest.importorskip("fcntl")

from msal_extensions import FilePersistence, PersistedTokenCache
from msal_extensions._native import files
from tests.support.mounts import mounted
from tests.support.tokens import secrets_in, secrets_of, sign_in

#: Seconds until a search trusts the stamp of a file, and a little more.
SETTLED_S = 2.2


@pytest.mark.parametrize("kind", ["bindfs", "sshfs"])
def test_what_was_saved_through_another_mount_is_not_saved_over(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (
        mounted(kind, source, tmp_path / "one") as one,
        mounted(kind, source, tmp_path / "other") as other,
    ):
        caches = [PersistedTokenCache(FilePersistence(mount / "cache")) for mount in (one, other)]
        caches[0].add(sign_in(0))
        for _ in range(2):
            for cache in caches:
                secrets_of(cache)
            time.sleep(SETTLED_S)
        for cache in caches:
            secrets_of(cache)  # now the kernel and sshfs remember the stamp
        for number, cache in enumerate(caches, start=1):
            cache.add(sign_in(number))
        for cache in caches:
            with cache.single_flight():  # it knows the token that the flight before received
                assert secrets_of(cache) == {"access0", "access1", "access2"}
    assert secrets_in(source / "cache") == {"access0", "access1", "access2"}


def test_a_file_is_remote_where_another_host_could_change_it(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    (tmp_path / "link").symlink_to("here")
    (tmp_path / "nowhere").symlink_to("missing")
    assert not files.is_remote(str(tmp_path / "here"))
    assert not files.is_remote(str(tmp_path / "link"))
    assert files.is_remote(str(tmp_path / "missing"))  # a later file there may be remote
    assert files.is_remote(str(tmp_path / "nowhere"))
    with mounted("bindfs", tmp_path, tmp_path.with_name(tmp_path.name + "-mount")) as mount:
        assert files.is_remote(str(mount / "here"))
        (tmp_path / "away").symlink_to(mount / "here")
        assert files.is_remote(str(tmp_path / "away"))
