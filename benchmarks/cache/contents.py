"""Token caches that are measured: their contents, and what they are compared with."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import os
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


def random_text(size: int) -> str:
    """As random as a token is."""
    return _base64url(os.urandom(size))[:size]


def sign_in(user: int, scope: str = SCOPES[0]) -> dict[str, Any]:
    """What MSAL hands to add() when a user has signed in, or has got a token for another scope."""
    account = {"uid": f"user-{user:030}", "utid": TENANT}
    claims = {"oid": account["uid"], "preferred_username": f"user{user}@example.com"}
    body = _base64url(json.dumps({**claims, "filler": random_text(ID_SIZE // 2)}).encode())
    refresh = {"refresh_token": random_text(REFRESH_SIZE)} if scope == SCOPES[0] else {}
    return {
        "client_id": CLIENT,
        "scope": [scope],
        "token_endpoint": f"https://{ENVIRONMENT}/{TENANT}/oauth2/v2.0/token",
        "environment": ENVIRONMENT,
        "grant_type": "authorization_code",
        "response": {
            "token_type": "Bearer",
            "expires_in": 24 * 3600,
            "access_token": random_text(ACCESS_SIZE),
            **refresh,
            "id_token": f"{random_text(40)}.{body}.{random_text(ID_SIZE // 3)}",
            "client_info": _base64url(json.dumps(account).encode()),
        },
    }


@functools.cache
def content(users: int) -> str:
    """The text of a cache in which this many users have signed in."""
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
    """Writes the bytes once, durably: no cache that keeps its word can do less."""

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
    """MSAL's own cache in memory, and one stat of the file before each search."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self.deserialize(Path(path).read_text())

    def search(self, *args: Any, **kwargs: Any) -> Any:
        os.stat(self._path)
        return super().search(*args, **kwargs)


def package(path: str) -> Any:
    """A cache of the msal_extensions that is installed."""
    from msal_extensions import FilePersistence, PersistedTokenCache

    return PersistedTokenCache(FilePersistence(path))
