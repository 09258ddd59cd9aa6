"""Many saves beside an open changes(): nothing grows, and none of them is reported.

    MSALEX_CACHE_SAVES=100000 python3 dev.py test -s tests/test_cache_endurance.py

runs the full number.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import FilePersistence, PersistedTokenCache
from tests.support import tally
from tests.support.capability import requires
from tests.support.tokens import REFRESH_TOKEN, token

SAVES = int(os.environ.get("MSALEX_CACHE_SAVES", "2000"))
#: After each of these numbers of saves another process changes the cache.
ROUND = 500
#: Bytes that memory may grow by.  The first fifth of the saves does not count.
GROWTH = 2_000_000
#: Seconds for all.  A save waits for the disk, and disks differ.
PATIENCE = 120 + SAVES * 0.05

CODE = """
    import gc, json, os, sys, threading, time
    from msal_extensions import FilePersistence, PersistedTokenCache
    location, saves, every = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    GENEROUS = 60
    cache = PersistedTokenCache(FilePersistence(location))
    own = others = 0

    def entry(number):
        return {"credential_type": "RefreshToken", "home_account_id": f"user{number}",
                "environment": "login.example.com", "client_id": "client"}

    def measured():
        gc.collect()
        with open("/proc/self/statm") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return {"resident": resident, "descriptors": len(os.listdir("/proc/self/fd")),
                "threads": len(os.listdir("/proc/self/task"))}

    def save(number):
        user, secret = entry(number % 50), {"secret": f"secret{number}" * 20}
        if number % 10 == 7:
            cache.remove_rt(user)
        elif number % 10 == 8:
            with cache.transaction():
                cache.modify("RefreshToken", user, secret)
                cache.modify("RefreshToken", entry(50), secret)
        elif number % 10 == 9:
            with cache.single_flight():
                cache.modify("RefreshToken", user, secret)
        else:
            cache.modify("RefreshToken", user, secret)

    def let_another_change_it():
        '''It is told, perhaps more than once.'''
        print("change it", flush=True)
        assert sys.stdin.readline() == "done\\n"
        assert changes.wait(GENEROUS), "a change of another process was not told"
        while changes.wait(0.05):
            pass

    with cache.changes() as changes:
        for number in range(saves):
            save(number)
            own += changes.wait(0)
            if number % every == every - 1:
                others += 1
                let_another_change_it()
                assert len(list(cache.search("RefreshToken", query={"client_id": "other"}))) == 1
            if number == saves // 5:
                begin = measured()
        own += changes.wait(2.5)     # also when all stamps have settled
        end = measured()
    print(json.dumps({"begin": begin, "end": end, "own": own, "others": others}), flush=True)
"""


@requires("os.sysconf", "os.fork")
@pytest.mark.timeout(PATIENCE + 60)
def test_saves_beside_open_changes_leave_nothing_behind_and_are_not_told(tmp_path: Path) -> None:
    location = tmp_path / "cache.bin"
    found = _run(location)
    print(json.dumps(found))
    begin, end = found["begin"], found["end"]
    grown = end["resident"] - begin["resident"]
    print(f"{SAVES} saves, {begin['resident']} bytes resident, {grown} more at the end")
    tally.tried(SAVES)
    tally.lost(found["own"])
    assert found["own"] == 0
    assert found["others"] == SAVES // ROUND
    assert grown < GROWTH
    for what in ("descriptors", "threads"):
        assert end[what] == begin[what], what
    assert os.listdir(tmp_path) == ["cache.bin"]


def _run(location: Path) -> dict[str, Any]:
    """Saves in another process when this one asks, which changes the cache."""
    cache = PersistedTokenCache(FilePersistence(location))
    command = [sys.executable, "-c", textwrap.dedent(CODE), str(location), str(SAVES), str(ROUND)]
    entry = {**token(99), "client_id": "other"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            for number, line in enumerate(process.stdout):
                if line != "change it\n":
                    found: dict[str, Any] = json.loads(line)
                    return found
                cache.modify(REFRESH_TOKEN, entry, {**entry, "secret": f"of another {number}"})
                process.stdin.write("done\n")
                process.stdin.flush()
            raise AssertionError(f"it ended with {process.wait()}")
        finally:
            process.kill()
