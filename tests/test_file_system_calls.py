"""A path is resolved once; from then on the kernel only gets names in its directory.

Between two uses of a path another user could exchange a directory on it for a link.  So one place
(place_posix.c) finds where a path leads.  These tests check the calls that reach the kernel.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from pathlib import Path
from typing import NamedTuple

import pytest

from msal_extensions import FilePersistence, PersistedTokenCache
from tests.support.capability import SYMBOLIC_LINKS, requires
from tests.support.seccomp import GO_ON, supervised
from tests.support.strace import Call, traced

EVENT = {
    "client_id": "c",
    "token_endpoint": "https://login.example/token",
    "response": {"access_token": "secret", "expires_in": 3600},
}
OTHER_EVENT = {**EVENT, "client_id": "d"}
#: The code of each operation, with the persistence p, and the code before it.
OPERATIONS = {
    "save a new file": ("", "p.save('new')"),
    "save over an old one": ("p.save('old')", "p.save('new')"),
    "load": ("p.save('old')", "p.load()"),
    "delete": ("p.save('old')", "p.delete()"),
    "touch a new file": ("", "p.touch()"),
    "touch an old one": ("p.save('old')", "p.touch()"),
    "verify": ("p.save('old')", "p.verify()"),
    "the first change in a cache": ("c = PersistedTokenCache(p)", f"c.add({EVENT})"),
    "a change in a cache": (f"c = PersistedTokenCache(p); c.add({EVENT})", f"c.add({OTHER_EVENT})"),
    "quarantine": (
        "p.save('damaged'); c = PersistedTokenCache(p, on_unreadable='quarantine')",
        "list(c.search('AccessToken'))",
    ),
}
NUMBERED = re.compile(r"/proc/self/fd/\d+")
#: These calls follow every link, but they open and change nothing: they compare stamps, and ask
#: whether there is a lock file (a hint) or a directory (verify()).
STAMPS = ("stat", "lstat", "newfstatat", "statx")


def is_allowed(call: Call, path: str, location: Path) -> bool:
    """May this path, which has a slash, reach the kernel?"""
    if NUMBERED.fullmatch(path):
        return True
    if call.name in ("open", "openat", "openat2"):
        return "O_PATH" in call.arguments and "O_DIRECTORY" in call.arguments
    if call.name in STAMPS:
        return path in (str(location), f"{location}.lockfile", str(location.parent))
    return call.name == "inotify_add_watch"


class Traced(NamedTuple):
    """All operations, each done once, at a location of its own."""

    locations: dict[str, Path]
    calls: dict[str, list[Call]]


@pytest.fixture(scope="module", params=["plain", "linked"])
def traces(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """Once without a link on the path; once with a linked directory and a linked file."""
    scratch = tmp_path_factory.mktemp("traces")
    snippet, locations = "from msal_extensions import FilePersistence, PersistedTokenCache\n", {}
    # The first use imports modules.  Those calls are Python's own, and not about a cache file.
    snippet += f"PersistedTokenCache(FilePersistence({str(scratch / 'used')!r})).add({EVENT})\n"
    for number, (operation, (before, work)) in enumerate(OPERATIONS.items()):
        directory = scratch / str(number)
        (directory / "real").mkdir(parents=True)
        locations[operation] = directory / "real" / "cache.bin"
        if request.param == "linked":
            (directory / "link").symlink_to("real")
            locations[operation] = directory / "link" / "cache.bin"
            if "new file" not in operation and "first" not in operation:
                (directory / "real" / "target").touch()
                locations[operation].symlink_to("target")
        snippet += f"p = FilePersistence({str(locations[operation])!r})\n{before}\n"
        snippet += f"with marked({operation!r}): {work}\n"
    return Traced(locations, traced(scratch, "%file,flock", snippet))


@requires(SYMBOLIC_LINKS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_once_a_directory_is_open_no_path_reaches_the_kernel(
    operation: str, traces: Traced
) -> None:
    calls = [call for call in traces.calls[operation] if call.name != "flock"]
    assert calls
    bad = [
        call
        for call in calls
        for path in call.strings
        if "/" in path and not is_allowed(call, path, traces.locations[operation])
    ]
    print(f"{operation}: {len(calls)} calls with a path or a name, {len(bad)} with a bad one")
    assert not bad, "\n".join(f"{call.name}({call.arguments})" for call in bad)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_file_with_content_is_ever_flocked(operation: str, traces: Traced) -> None:
    """MSAL.NET has a shared flock of a data file while it reads, and ours must not be in its
    way."""
    flocks = [call for call in traces.calls[operation] if call.name == "flock"]
    flocked = {Path(call.descriptor).name for call in flocks}
    print(f"{operation}: {len(flocks)} flocks, of {sorted(flocked)}")
    flocked = {name for name in flocked if not name.startswith("#")}  # they began without a name
    assert flocked <= {"cache.bin.lockfile", "cache.bin.refresh"}


def test_at_each_call_of_a_guarded_save_another_process_may_read_under_a_shared_flock(
    tmp_path: Path,
) -> None:
    location = tmp_path / "cache.bin"
    cache = PersistedTokenCache(FilePersistence(location))
    cache.add(EVENT)
    seen = set()

    def read_as_dotnet(number: int, name: str) -> int:
        with location.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            seen.add((os.fstat(file.fileno()).st_ino, file.read()[-1:]))
        return GO_ON

    run = supervised(lambda: cache.add(OTHER_EVENT), read_as_dotnet)
    print(f"{len(run.calls)} calls, a shared flock beside each")
    assert "fdatasync" in run.calls
    assert len(seen) == 2  # the old file and the new one
    assert {end for _, end in seen} == {b"}"}


#: Where the turn of a save is locked (csrc/os_linux.c), and fcntl_locking(2).
TURN_AT, F_OFD_GETLK = (1 << 62) + 1, 36


def has_turn(location: Path) -> bool:
    """Whether a process has the turn on the file that has the name."""
    question = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, TURN_AT, 1, 0)
    with location.open("rb+") as file:
        (kind,) = struct.unpack_from("h", fcntl.fcntl(file, F_OFD_GETLK, question))
    return bool(kind != fcntl.F_UNLCK)


@pytest.mark.parametrize("overtaken", [False, True])
def test_the_turn_of_a_guarded_save_is_on_the_file_that_has_the_name(
    overtaken: bool, tmp_path: Path
) -> None:
    """Also when another program has saved since this save opened the file: a turn on the file that
    has lost its name would keep out nobody."""
    location = tmp_path / "cache.bin"
    cache = PersistedTokenCache(FilePersistence(location))
    cache.add(EVENT)
    calls: list[str] = []
    turns = []

    def look(number: int, name: str) -> int:
        calls.append(name)
        if name == "fdatasync" and overtaken:
            (tmp_path / "another").write_bytes(location.read_bytes())
            os.replace(tmp_path / "another", location)
        if name.startswith("renameat") and "fdatasync" in calls:  # not of the lock file
            turns.append(has_turn(location))
        return GO_ON

    supervised(lambda: cache.add(OTHER_EVENT), look)
    assert turns == [True]
    assert not has_turn(location)
