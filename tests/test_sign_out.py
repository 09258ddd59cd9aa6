"""Sign-outs, refreshes and sign-ins that meet in one commit: nothing comes back or is lost.

MSALEX_SIGN_OUTS is the number of sign-outs of each kind (default 20; the full number is 200).
"""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msal
import pytest

from msal_extensions import PersistedTokenCache
from tests.support import tally
from tests.support.dictionary_store import DictionaryPersistence, Shelf
from tests.support.meanwhile import KINDS, before_saves, elsewhere, overtaken
from tests.support.meanwhile import robbable_place_fixture as robbable_place_fixture
from tests.support.places import Place, place_of
from tests.support.processes import PATIENCE
from tests.support.tokens import (
    ACCESS_TOKEN,
    PURGES,
    REFRESH_TOKEN,
    metadata_only,
    secrets_of,
    sign_in,
    token,
)

SIGN_OUTS = int(os.environ.get("MSALEX_SIGN_OUTS", "20"))
#: Threads, and the number of sign-ins of each.
WRITERS, SIGN_INS = 8, 60

needs_purging = pytest.mark.skipif(not PURGES, reason="this MSAL does not purge expired tokens")


def app_with(cache: PersistedTokenCache) -> msal.PublicClientApplication:
    return msal.PublicClientApplication(
        "client",
        authority="https://login.example.com/tenant",
        validate_authority=False,
        instance_discovery=False,
        token_cache=cache,
        http_client=metadata_only(),
    )


def accounts(app: msal.ClientApplication, number: int = 0) -> list[dict[str, Any]]:
    """The accounts of one user."""
    return [
        each for each in app.get_accounts() if each["home_account_id"] == f"user{number}.tenant"
    ]


def sign_out(cache: PersistedTokenCache) -> None:
    """MSAL's sign-out: one removal after the other, the refresh token's first."""
    app = app_with(cache)
    [account] = accounts(app)
    app.remove_account(account)


def sign_out_in_a_transaction(cache: PersistedTokenCache) -> None:
    app = app_with(cache)
    [account] = accounts(app)
    with cache.transaction():
        app.remove_account(account)


def refresh(number: int = 0) -> dict[str, Any]:
    """What MSAL gives to add() after it renewed the tokens of user 0."""
    event = sign_in()
    event["response"].update(access_token=f"renewed{number}", refresh_token=f"rotated{number}")
    return {**event, "skip_account_creation": True}


def with_scope(event: dict[str, Any], scope: str) -> dict[str, Any]:
    """A second access token; the refresh token keeps its scope, and with it its key."""
    response = {key: value for key, value in event["response"].items() if key != "refresh_token"}
    return {**event, "scope": [scope], "response": response}


def signed_in(place: Place) -> PersistedTokenCache:
    """A cache with a user that has two access tokens, and another user."""
    cache = place.cache()
    for event in (sign_in(0), with_scope(sign_in(0), "other"), sign_in(1)):
        cache.add(event)
    return cache


def what_is_left(place: Place) -> list[str]:
    """What is stored of user 0, except access tokens, which expire by themselves."""
    stored = json.loads(place.store().read().data)
    return [
        kind
        for kind, entries in stored.items()
        for entry in entries.values()
        if entry.get("home_account_id") == "user0.tenant" and kind != ACCESS_TOKEN
    ]


@pytest.mark.parametrize("leave", [sign_out, sign_out_in_a_transaction])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sign_out_beside_a_refresh_leaves_no_live_refresh_token(
    kind: str,
    leave: Callable[[PersistedTokenCache], None],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Another process saved the refresh in between, so the commit of the sign-out must be
    repeated."""
    left: list[list[str]] = []
    for number in range(SIGN_OUTS):
        directory = tmp_path / str(number)
        directory.mkdir()
        place = place_of(kind, directory, request)
        cache = signed_in(place)
        other = place.cache()
        assert "refresh0" in secrets_of(other, REFRESH_TOKEN)
        times = range(number % 3 + 1)
        with overtaken(place, *(functools.partial(other.add, refresh(each)) for each in times)):
            leave(cache)
        left.append(what_is_left(place))
        for each in (place.cache(), cache, other):
            assert secrets_of(each, REFRESH_TOKEN) == {"refresh1"}
            assert accounts(app_with(each)) == []
            assert len(accounts(app_with(each), 1)) == 1
    print(f"{sum(not each for each in left)} of {len(left)} sign-outs left nothing alive")
    tally.tried(len(left))
    tally.lost(sum(map(bool, left)))
    assert not any(left)


def test_a_sign_out_in_a_transaction_is_one_save(place: Place) -> None:
    """Outside of a transaction each entry is a save, because the loop is MSAL's."""
    saves: list[int] = []
    for leave, expected in ((sign_out_in_a_transaction, 1), (sign_out, 4)):
        cache = signed_in(place)
        saves.clear()
        with before_saves(place, lambda: saves.append(1)):
            leave(cache)
        assert len(saves) == expected
        assert secrets_of(place.cache(), REFRESH_TOKEN) == {"refresh1"}
        assert secrets_of(place.cache()) == {"access1"}


def test_a_sign_out_in_a_transaction_is_seen_as_a_whole_by_others(place: Place) -> None:
    cache, other = signed_in(place), place.cache()
    seen: list[tuple[int, int]] = []

    def look() -> None:
        app = app_with(other)
        tokens = {entry["home_account_id"] for entry in other.search(REFRESH_TOKEN)}
        seen.append((len(accounts(app)), "user0.tenant" in tokens))

    with before_saves(place, lambda: elsewhere(look)):
        sign_out_in_a_transaction(cache)
    look()
    assert seen == [(1, 1), (0, 0)]


# ---- what expired ---------------------------------------------------------------------------


@needs_purging
def test_a_purge_beside_a_renewal_leaves_what_was_renewed(place: Place) -> None:
    """Another process saved the renewal in between, so the commit of the purge must be repeated."""
    cache, other = place.cache(), place.cache()
    lost = 0
    for number in range(SIGN_OUTS):
        expired, renewed = token(1, expires_in=-10), token(1, f"renewed{number}")
        gone = token(2, expires_in=-10)
        with cache.transaction():
            for entry in (expired, gone):
                cache.modify(ACCESS_TOKEN, entry, entry)
        renew = functools.partial(cache.modify, ACCESS_TOKEN, renewed, renewed)
        with overtaken(place, renew):
            secrets_of(other)
        found = [secrets_of(each) for each in (place.cache(), other, cache)]
        lost += found != [{f"renewed{number}"}] * 3
    print(f"{SIGN_OUTS} purges beside a renewal: {lost} lost")
    tally.tried(SIGN_OUTS)
    tally.lost(lost)
    assert lost == 0


# ---- sign-ins beside each other --------------------------------------------------------------


def sign_in_to(number: int, user: int) -> dict[str, Any]:
    """A sign-in has its own access token, and the user's one refresh token."""
    event = sign_in(user)
    event["response"].update(access_token=f"access{number}", refresh_token=f"refresh{number}")
    return {**event, "environment": "login.example.com", "scope": ["scope"]}


@pytest.mark.parametrize("users", [1, WRITERS])
def test_sign_ins_beside_each_other_lose_nothing_when_locks_are_stolen(users: int) -> None:
    """The lock is taken away in 10 % of the saves; each add() has 5 s, as in a program."""
    shelf = Shelf(steals=0.1, seed=users)
    failures: list[BaseException] = []

    def events_of(writer: int) -> list[dict[str, Any]]:
        numbers = range(writer * SIGN_INS, (writer + 1) * SIGN_INS)
        # Each sign-in has a tenant of its own, so it has its own access token and account.
        return [
            {
                **sign_in_to(number, writer % users),
                "token_endpoint": f"https://login.example.com/t{number}/oauth2/v2.0/token",
            }
            for number in numbers
        ]

    def work(writer: int) -> None:
        cache = PersistedTokenCache(DictionaryPersistence("shelf", shelf))
        for event in events_of(writer):
            try:
                cache.add(event)
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert failures == []
    cache = PersistedTokenCache(DictionaryPersistence("shelf", shelf))
    expected = {f"access{number}" for number in range(WRITERS * SIGN_INS)}
    lost = expected - secrets_of(cache)
    print(f"{len(expected)} sign-ins, {shelf.refused} swaps lost: {len(lost)} access tokens lost")
    assert not lost
    assert shelf.refused > 0
    # One thread's last sign-in was the last of all; the user's refresh token is from it.
    for user in range(users):
        last = {
            events_of(writer)[-1]["response"]["refresh_token"]
            for writer in range(WRITERS)
            if writer % users == user
        }
        found = [
            entry["secret"]
            for entry in cache.search(REFRESH_TOKEN)
            if entry["home_account_id"] == f"user{user}.tenant"
        ]
        assert len(found) == 1
        assert found[0] in last
    entries = list(cache.search(msal.TokenCache.CredentialType.ACCOUNT))
    assert len(entries) == len(expected)


def test_sign_ins_and_sign_outs_beside_each_other_end_as_in_some_order(place: Place) -> None:
    """No user has an account without a token, or a token without an account."""
    for number in range(2):
        place.cache().add(sign_in(number))

    def come_and_go(writer: int) -> None:
        cache = place.cache()
        app = app_with(cache)
        for _ in range(5):
            with cache.transaction(timeout=PATIENCE):
                cache.add(sign_in(writer))
            for account in accounts(app, writer):
                with cache.transaction(timeout=PATIENCE):
                    app.remove_account(account)
        if writer % 2:
            with cache.transaction(timeout=PATIENCE):
                cache.add(sign_in(writer))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(come_and_go, range(4)))
    assert secrets_of(place.cache(), REFRESH_TOKEN) == {"refresh1", "refresh3"}
    app = app_with(place.cache())
    assert {each["home_account_id"] for each in app.get_accounts()} == {
        "user1.tenant",
        "user3.tenant",
    }
