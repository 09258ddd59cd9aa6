"""What MSAL gives to a token cache when a user signs in at the loopback provider."""

from __future__ import annotations

import json
from typing import Any

import msal

from samples.local_identity_provider import LocalIdentityProvider

USER_SCOPES = ["User.Read"]


def public_app(
    provider: LocalIdentityProvider, cache: msal.TokenCache | None = None
) -> msal.PublicClientApplication:
    """MSAL as a desktop program uses it."""
    return msal.PublicClientApplication(
        provider.client_id,
        authority=provider.authority,
        instance_discovery=False,
        token_cache=cache,
    )


def sign_in(
    provider: LocalIdentityProvider, cache: msal.TokenCache, username: str = "ann@example.org"
) -> dict[str, Any]:
    """A whole device code flow; returns MSAL's result."""
    app = public_app(provider, cache)
    flow = app.initiate_device_flow(USER_SCOPES)
    provider.approve_device(flow["user_code"], username)
    result = app.acquire_token_by_device_flow(flow)
    assert isinstance(result, dict)
    assert "access_token" in result, result.get("error")
    return result


class _Recorder(msal.TokenCache):  # type: ignore[misc]
    """Keeps the arguments of add()."""

    def add(self, event: dict[str, Any], **kwargs: Any) -> None:
        self.event = event
        super().add(event, **kwargs)


def sign_in_event(provider: LocalIdentityProvider) -> str:
    """The argument of ``TokenCache.add()`` after a sign-in, as JSON."""
    recorder = _Recorder()
    sign_in(provider, recorder)
    return json.dumps(recorder.event, default=str)
