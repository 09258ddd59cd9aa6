"""The identity provider of samples/ as a fixture.

Import provider_fixture into a test module and ask for `provider`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from samples.local_identity_provider import LocalIdentityProvider

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SCOPES = ["https://graph.microsoft.com/.default"]


@pytest.fixture(name="provider")
def provider_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalIdentityProvider]:
    """A running provider that requests trusts, and so does MSAL.

    The variable names its certificate, not MSAL's verify=, because requests prefers
    REQUESTS_CA_BUNDLE, which may be set on this machine.
    """
    with LocalIdentityProvider() as running:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", running.certificate)
        monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
        yield running
