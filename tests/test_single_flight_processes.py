"""Many processes find an expired token: one refreshes it, and no other program is held up.

MSALEX_FLIGHT_PROCESSES sets their number; the default is the 64 of the promise, and 8 in the
comparison without single_flight.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from msal_extensions import FilePersistence, PersistedTokenCache
from samples.local_identity_provider import LocalIdentityProvider
from tests.support import tally
from tests.support.processes import PATIENCE, Member, together
from tests.support.provider import provider_fixture as provider_fixture
from tests.support.reference import reference_python
from tests.support.sign_in import sign_in

pytestmark = pytest.mark.slow

PROCESSES, PROCESSES_ALONE = (
    int(os.environ.get("MSALEX_FLIGHT_PROCESSES", default)) for default in ("64", "8")
)
#: Longer than 1.3.1 (5 s) and Java (6 s) wait for a lock.
SLOW_ANSWER_S = 7.0
REFERENCE_PATIENCE_S = 5.0
#: 1.3.1 with each of its two locks; also the secrets that they save.
REFERENCES = {"portalocker", "bare"}

# Arguments: cache file, authority, client id, "alone" or "together".  Prints the source of its
# token, and the token.
PROGRAM = """
    import contextlib, hashlib, json, msal
    from msal_extensions import FilePersistence, PersistedTokenCache
    location, authority, client_id, how = sys.argv[1:]
    cache = PersistedTokenCache(FilePersistence(location))
    app = msal.PublicClientApplication(
        client_id, authority=authority, instance_discovery=False, token_cache=cache)
    (account,) = app.get_accounts()
    ready()
    with cache.single_flight() if how == "together" else contextlib.nullcontext():
        result = app.acquire_token_silent(["User.Read"], account) or {}
    token = hashlib.sha256(result.get("access_token", "").encode()).hexdigest()
    print(json.dumps([result.get("token_source", "nowhere"), token]))
"""

# 1.3.1: waits for a line, then saves one token, and prints how long that took.
SAVER = """
    import sys, time
    from msal_extensions import FilePersistence, PersistedTokenCache
    cache, name = PersistedTokenCache(FilePersistence(sys.argv[1])), sys.argv[2]
    print("ready", flush=True)
    sys.stdin.readline()
    before = time.monotonic()
    entry = {"home_account_id": name, "environment": "e", "client_id": "c"}
    cache.modify("RefreshToken", entry, {"secret": name})
    print(time.monotonic() - before)
"""


@pytest.fixture
def location(provider: LocalIdentityProvider, tmp_path: Path) -> Path:
    """A cache with an expired access token, and a refresh token that is good for one use."""
    location = tmp_path / "cache.bin"
    lifetime, provider.token_lifetime = provider.token_lifetime, -10
    sign_in(provider, PersistedTokenCache(FilePersistence(location)))
    provider.token_lifetime = lifetime
    return location


@pytest.fixture
def savers(location: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """1.3.1 with each of its locks, ready to save."""
    with contextlib.ExitStack() as stack:
        processes = []
        for engine in REFERENCES:
            command, environment = reference_python(portalocker=engine == "portalocker")
            process = subprocess.Popen(
                [*command, "-c", textwrap.dedent(SAVER), str(location), engine],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            processes.append(process)
        yield processes


def programs(provider: LocalIdentityProvider, location: Path, how: str, count: int) -> list[Member]:
    arguments = (str(location), provider.authority, provider.client_id, how)
    return [Member(PROGRAM, arguments)] * count


def wait_for_refresh(provider: LocalIdentityProvider) -> None:
    deadline = time.monotonic() + PATIENCE
    while not provider.token_requests["refresh_token"]:
        assert time.monotonic() < deadline, "nobody refreshed"
        time.sleep(0.01)


def sources(outputs: list[str]) -> tuple[Counter[str], set[str]]:
    """The sources of the tokens, and the tokens."""
    results: list[tuple[str, str]] = [json.loads(output) for output in outputs]
    return Counter(source for source, _ in results), {token for _, token in results}


def test_one_of_many_processes_refreshes_while_others_save(
    provider: LocalIdentityProvider, location: Path, savers: list[subprocess.Popen[str]]
) -> None:
    provider.response_delay = SLOW_ANSWER_S
    seconds: list[float] = []

    def save_during_the_flight() -> None:
        wait_for_refresh(provider)
        for saver in savers:
            output, errors = saver.communicate("\n", timeout=PATIENCE)
            assert saver.returncode == 0, errors
            seconds.append(float(output))

    outputs = together(
        programs(provider, location, "together", PROCESSES), meanwhile=save_during_the_flight
    )
    found, tokens = sources(outputs)
    print(f"{provider.token_requests['refresh_token']} refresh of {PROCESSES} processes; {found}")
    print(f"1.3.1 saved meanwhile, within {max(seconds):.3f} s")
    tally.tried(PROCESSES)
    tally.lost(PROCESSES - found["identity_provider"] - found["cache"])
    assert provider.token_requests["refresh_token"] == 1
    assert found == {"identity_provider": 1, "cache": PROCESSES - 1}
    assert len(tokens) == 1
    assert max(seconds) < REFERENCE_PATIENCE_S  # otherwise 1.3.1 may have entered without the lock
    cache = PersistedTokenCache(FilePersistence(location))
    secrets = {it["secret"] for it in cache.search(cache.CredentialType.REFRESH_TOKEN)}
    assert secrets > REFERENCES
    assert len(secrets - REFERENCES) == 1  # the token after the rotation


def test_without_single_flight_many_refresh(
    provider: LocalIdentityProvider, location: Path
) -> None:
    """Shows what single_flight() is for, and that the test above can fail."""
    provider.response_delay = SLOW_ANSWER_S / 2
    found, _ = sources(together(programs(provider, location, "alone", PROCESSES_ALONE)))
    requests = provider.token_requests["refresh_token"]
    print(f"without single_flight {PROCESSES_ALONE} processes asked {requests} times; {found}")
    assert requests > 1
