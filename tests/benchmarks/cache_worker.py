"""One process with a token cache, as cache_measure.py tells it: `cache_worker.py LIBRARY PATH`.

Needs msal and the one msal_extensions under test; says on stdout which version that is, then
answers each command, a line of JSON on stdin, by a line of JSON:

    {"do": "sign_in", "count": N, "users": U}    nanoseconds of each of N sign-ins
    {"do": "hit", "count": N, "users": U}        nanoseconds for N searches of one access token
    {"do": "scan", "count": N, "users": U}       the same of one refresh token
    {"do": "modify", "name": ..., ...}           changes among others: see modify()

Besides the two packages there are "floor", which writes the bytes that are in the file durably and
nothing else, and "memory", MSAL's own cache without any file, plus one stat of it.
"""

from __future__ import annotations

import base64
import importlib.metadata
import itertools
import json
import logging
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import msal

ENVIRONMENT, TENANT, CLIENT = "login.example.com", "tenant", "client"
#: What a user has after some work: these access tokens, one refresh and one ID token.
SCOPES = [f"https://resource{number}.example.com/.default" for number in range(8)]
TOKENS_OF_A_USER = len(SCOPES) + 2
#: Characters, as Microsoft Entra's are.
ACCESS_SIZE, REFRESH_SIZE, ID_SIZE = 1900, 1300, 1100
REFRESH_TOKEN = msal.TokenCache.CredentialType.REFRESH_TOKEN
ACCESS_TOKEN = msal.TokenCache.CredentialType.ACCESS_TOKEN


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _text(size: int) -> str:
    """As random as a token is."""
    return _base64url(os.urandom(size))[:size]


def sign_in(user: int, scope: str = SCOPES[0]) -> dict[str, Any]:
    """What MSAL hands to add() when a user has signed in, or has got a token for another scope."""
    account = {"uid": f"user-{user:030}", "utid": TENANT}
    claims = {"oid": account["uid"], "preferred_username": f"user{user}@example.com"}
    body = _base64url(json.dumps({**claims, "filler": _text(ID_SIZE // 2)}).encode())
    refresh = {"refresh_token": _text(REFRESH_SIZE)} if scope == SCOPES[0] else {}
    return {
        "client_id": CLIENT,
        "scope": [scope],
        "token_endpoint": f"https://{ENVIRONMENT}/{TENANT}/oauth2/v2.0/token",
        "environment": ENVIRONMENT,
        "grant_type": "authorization_code",
        "response": {
            "token_type": "Bearer",
            "expires_in": 24 * 3600,
            "access_token": _text(ACCESS_SIZE),
            **refresh,
            "id_token": f"{_text(40)}.{body}.{_text(ID_SIZE // 3)}",
            "client_info": _base64url(json.dumps(account).encode()),
        },
    }


def content(users: int) -> str:
    """A cache in which so many users have signed in."""
    cache = msal.SerializableTokenCache()
    for user, scope in itertools.product(range(users), SCOPES):
        cache.add(sign_in(user, scope))
    return json.dumps(cache._cache, separators=(",", ":"))


def query(user: int) -> dict[str, str]:
    return {
        "home_account_id": f"user-{user:030}.{TENANT}",
        "environment": ENVIRONMENT,
        "client_id": CLIENT,
    }


class Floor:
    """Writes the bytes once, durably: what no cache that keeps its word can do without."""

    def __init__(self, path: str) -> None:
        self._path, self._temporary = path, path + ".tmp"
        self._data = Path(path).read_bytes()

    def add(self, event: dict[str, Any]) -> None:
        fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            left = memoryview(self._data)
            while left:
                left = left[os.write(fd, left) :]
            os.fdatasync(fd)
        finally:
            os.close(fd)
        os.rename(self._temporary, self._path)


class Memory(msal.SerializableTokenCache):  # type: ignore[misc]
    """MSAL's own cache; before each search somebody asks whether the file has changed."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self.deserialize(Path(path).read_text())

    def search(self, *args: Any, **kwargs: Any) -> Any:
        os.stat(self._path)
        return super().search(*args, **kwargs)


def package(path: str) -> Any:
    """Whichever msal_extensions is installed."""
    from msal_extensions import FilePersistence, PersistedTokenCache

    return PersistedTokenCache(FilePersistence(path))


LIBRARIES = {"floor": Floor, "memory": Memory}


# ---- the commands ----


def do_sign_in(cache: Any, count: int, users: int) -> list[int]:
    """Users who were there sign in again: the cache keeps its size."""
    taken = []
    for number in range(count):
        event = sign_in(number % users)
        before = time.perf_counter_ns()
        cache.add(event)
        taken.append(time.perf_counter_ns() - before)
    return taken


def do_hit(cache: Any, count: int, users: int) -> int:
    """MSAL takes the first that is found, when all parts of the key are known."""
    wanted, target = {**query(users // 2), "realm": TENANT}, [SCOPES[0]]
    before = time.perf_counter_ns()
    for _ in range(count):
        next(cache.search(ACCESS_TOKEN, target=target, query=wanted))
    return time.perf_counter_ns() - before


def do_scan(cache: Any, count: int, users: int) -> int:
    """Other searches look at all entries of their kind."""
    wanted = query(users // 2)
    before = time.perf_counter_ns()
    for _ in range(count):
        (_entry,) = cache.search(REFRESH_TOKEN, query=wanted)
    return time.perf_counter_ns() - before


def do_modify(cache: Any, name: str, start: int, stop: int, count: int) -> dict[str, Any]:
    """From ``start`` on store ``count`` refresh tokens, one by one, or until ``stop``."""
    taken: list[int] = []
    stored: list[str] = []
    errors: dict[str, int] = {}
    time.sleep(max(0, start - time.monotonic_ns()) / 1e9)
    for number in range(count):
        before = time.monotonic_ns()
        if before >= stop:
            break
        account = f"{name}.{number}"
        entry = {**query(0), "home_account_id": account, "credential_type": REFRESH_TOKEN}
        try:
            cache.modify(REFRESH_TOKEN, entry, {"secret": _text(REFRESH_SIZE)})
            stored.append(account)
        except Exception as error:  # 1.3.1's time-outs, and JSON that it found torn
            kind = type(error).__name__
            errors[kind] = errors.get(kind, 0) + 1
        taken.append(time.monotonic_ns() - before)
    return {"taken": taken, "stored": stored, "errors": errors}


COMMANDS = {"sign_in": do_sign_in, "hit": do_hit, "scan": do_scan, "modify": do_modify}


def main(library: str, path: str) -> None:
    named = library in LIBRARIES
    cache = LIBRARIES.get(library, package)(path)
    version = "" if named else importlib.metadata.version("msal-extensions")
    logging.disable()  # 1.3.1 warns whenever it goes in without a lock
    print(json.dumps({"version": version, "python": platform.python_version()}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        run: Any = COMMANDS[command.pop("do")]
        print(json.dumps(run(cache, **command)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
