"""Threads that add, update, search and expire, on one cache object or on several over one file.

MSALEX_CACHE_ROUNDS=1000 is the size of the promise; without it there are fewer.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.processes import python

ROUNDS = int(os.environ.get("MSALEX_CACHE_ROUNDS", "200"))
SECONDS = 100

# In a process of its own: should threads wait for each other for ever, it says where, and ends.
PROGRAM = """
    import base64, faulthandler, itertools, json, sys, threading, time
    from msal_extensions import FilePersistence, PersistedTokenCache

    location, objects, rounds, seconds = sys.argv[1], *map(int, sys.argv[2:])
    faulthandler.dump_traceback_later(seconds, exit=True)
    caches = [PersistedTokenCache(FilePersistence(location)) for _ in range(objects)]
    failures, expired_seen, missed = [], 0, 0

    def sign_in(user):
        account = json.dumps({"uid": user, "utid": "tenant"}).encode()
        return {
            "client_id": "client", "scope": ["scope"], "environment": "login.example.com",
            "token_endpoint": "https://login.example.com/tenant/oauth2/v2.0/token",
            "response": {"access_token": user, "refresh_token": user, "expires_in": 3600,
                         "client_info": base64.urlsafe_b64encode(account).decode()}}

    def add(cache, number):
        cache.add(sign_in(f"user{number}"))

    def update(cache, number):
        entry = next(cache.search("RefreshToken", query={"home_account_id": "first.tenant"}))
        cache.update_rt(entry, f"rotated{number}")

    def search(cache, number, seen=set()):
        global missed
        found = {entry["secret"] for entry in cache.search("AccessToken")}
        missed += len(seen - found)
        seen |= found

    def expire(cache, number):
        global expired_seen
        entry = {"credential_type": "AccessToken", "home_account_id": f"expired{number}",
                 "environment": "e", "client_id": "c", "target": "t", "realm": "r",
                 "secret": "expired", "expires_on": str(int(time.time()) - 10)}
        cache.modify("AccessToken", entry, entry)
        expired_seen += sum(e["secret"] == "expired" for e in cache.search("AccessToken"))

    def run(work, cache):
        try:
            for number in range(rounds):
                work(cache, number)
        except BaseException as error:
            failures.append(f"{work.__name__}: {error!r}")
            raise

    caches[0].add(sign_in("first"))
    threads = [threading.Thread(target=run, args=(work, cache)) for work, cache
               in zip((add, update, search, expire), itertools.cycle(caches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    list(caches[0].search("AccessToken"))  # purges what a busy lock made the others leave
    print(json.dumps({"failures": failures, "expired": expired_seen, "missed": missed}))
"""


@pytest.mark.parametrize("objects", [1, 4])
def test_4_threads_finish_and_nothing_is_lost(tmp_path: Path, objects: int) -> None:
    location = tmp_path / "cache.bin"
    output = python(PROGRAM, str(location), str(objects), str(ROUNDS), str(SECONDS)).stdout
    assert json.loads(output) == {"failures": [], "expired": 0, "missed": 0}
    stored = json.loads(location.read_text())
    users = {f"user{number}" for number in range(ROUNDS)}
    assert {entry["secret"] for entry in stored["AccessToken"].values()} == users | {"first"}
    refresh = {entry["secret"] for entry in stored["RefreshToken"].values()}
    assert refresh == users | {f"rotated{ROUNDS - 1}"}
