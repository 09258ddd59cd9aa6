"""Entries and sign-ins for the tests of the cache."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any
from unittest import mock

import msal

ACCESS_TOKEN = msal.TokenCache.CredentialType.ACCESS_TOKEN
REFRESH_TOKEN = msal.TokenCache.CredentialType.REFRESH_TOKEN


def token(number: int, secret: str = "secret", expires_in: float = 3600) -> dict[str, str]:
    """An entry for an access token."""
    return {
        "credential_type": ACCESS_TOKEN,
        "home_account_id": f"user{number}",
        "environment": "login.example.com",
        "client_id": "client",
        "realm": "tenant",
        "target": "scope",
        "secret": secret,
        "expires_on": str(int(time.time() + expires_in)),
    }


def sign_in(number: int = 0) -> dict[str, Any]:
    """What MSAL gives to add() after a sign-in."""
    user = json.dumps({"uid": f"user{number}", "utid": "tenant"}).encode()
    return {
        "client_id": "client",
        "scope": ["scope"],
        "token_endpoint": "https://login.example.com/tenant/oauth2/v2.0/token",
        "environment": "login.example.com",
        "response": {
            "access_token": f"access{number}",
            "refresh_token": f"refresh{number}",
            "token_type": "Bearer",
            "expires_in": 3600,
            "client_info": base64.urlsafe_b64encode(user).decode(),
        },
    }


def secrets_of(cache: msal.TokenCache, kind: str = ACCESS_TOKEN) -> set[str]:
    return {entry["secret"] for entry in cache.search(kind)}


def add_token(cache: msal.TokenCache, secret: str) -> None:
    """Adds an entry of its own for this access token."""
    entry = {**token(0, secret), "home_account_id": secret}
    cache.modify(ACCESS_TOKEN, entry, entry)


def secrets_in(path: Path) -> set[str]:
    """The secrets of the access tokens in a file."""
    stored = json.loads(path.read_text())
    return {entry["secret"] for entry in stored.get(ACCESS_TOKEN, {}).values()}


def _purges() -> bool:
    cache = msal.TokenCache()
    cache.modify(ACCESS_TOKEN, token(1, expires_in=-10), token(1, expires_in=-10))
    return not secrets_of(cache)


#: Does a search of this MSAL remove expired access tokens?  MSAL 1.29 does not.
PURGES = _purges()


def metadata_only() -> Any:
    """An http_client for MSAL that has the authority's metadata, and no token."""
    metadata = {
        "authorization_endpoint": "https://login.example.com/a",
        "token_endpoint": "https://login.example.com/t",
        "issuer": "https://login.example.com/tenant",
    }
    answer = mock.Mock(status_code=200, headers={}, text=json.dumps(metadata))
    return mock.Mock(get=lambda *_, **__: answer)
