"""prune() removes what nothing needs any more, keeps what something needs, and reveals no secret.

The sign-ins are made by MSAL's own add(), with its argument for the present time.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import FilePersistence, PersistedTokenCache
from tests.support.capability import REMOVABLE_OPEN_FILES, requires
from tests.support.meanwhile import overtaken
from tests.support.places import place_of
from tests.support.tokens import ACCESS_TOKEN, REFRESH_TOKEN, sign_in

ID_TOKEN, ACCOUNT, APP_METADATA = "IdToken", "Account", "AppMetadata"
DAY = 24 * 3600
#: It is in each secret and in nothing else.
CANARY = "c4n4ry"

Removed = dict[str, list[dict[str, Any]]]
Kept = dict[str, dict[str, Any]]


def signs_in(
    cache: PersistedTokenCache,
    user: int = 0,
    client: str = "client",
    days_ago: float = 0,
    **response: Any,
) -> None:
    """A sign-in that long ago; values that are None are left out of the response."""
    event = sign_in(user)
    event["client_id"] = client
    secrets = ("access_token", "refresh_token")
    answered: dict[str, Any] = event["response"]
    answered.update({name: f"{answered[name]}.{client}.{CANARY}" for name in secrets})
    answered["id_token"] = f"id{user}.{client}.{CANARY}"
    answered["id_token_claims"] = {"sub": f"user{user}", "preferred_username": f"user{user}@e"}
    answered.update(response)
    event["response"] = {name: value for name, value in answered.items() if value is not None}
    cache.add(event, now=time.time() - days_ago * DAY)


def obo(assertion: object, client: str = "client") -> str:
    """The client_id under which azure-identity keeps a token that it got on behalf of a user."""
    digest = hashlib.sha256(str(assertion).encode()).hexdigest()
    return f"{client}:obo:{digest}:https://login.example.com:tenant"


def stored(cache: PersistedTokenCache) -> Kept:
    found: Kept = json.loads(cache._persistence.load())
    return found


def write(cache: PersistedTokenCache, content: Any) -> None:
    """Writes as another program would."""
    FilePersistence(cache._persistence.get_location()).save(json.dumps(content))


def clients(entries: Iterable[dict[str, Any]]) -> list[str]:
    return sorted(entry["client_id"] for entry in entries)


def kinds(removed: Removed) -> dict[str, int]:
    """The number of entries of each kind; a kind without entries may be missing."""
    return {kind: len(entries) for kind, entries in removed.items() if entries}


def pruned(cache: PersistedTokenCache, **options: Any) -> Removed:
    """The result of prune(); checks that exactly these entries are no longer stored."""
    before = stored(cache)
    removed: Removed = cache.prune(**options)
    after = stored(cache)
    for kind, entries in before.items():
        if not isinstance(entries, dict):
            assert after[kind] == entries
            continue
        gone = [dict(entries[key]) for key in entries if key not in after.get(kind, {})]
        for entry in gone:
            entry.pop("secret", None)
        told = removed.get(kind, [])
        assert sorted(map(_as_text, gone)) == sorted(map(_as_text, told)), kind
        assert {key: entries[key] for key in after.get(kind, {})} == after.get(kind, {}), kind
    assert set(removed) <= set(before)
    assert CANARY not in repr(removed)
    return removed


def _as_text(entry: dict[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True)


class CountingPersistence(FilePersistence):
    """Counts the saves."""

    saves = 0

    def save(self, content: str) -> None:
        self.saves += 1
        super().save(content)


@pytest.fixture
def persistence(tmp_path: Path) -> CountingPersistence:
    return CountingPersistence(tmp_path / "cache.bin")


@pytest.fixture
def cache(persistence: CountingPersistence) -> PersistedTokenCache:
    return PersistedTokenCache(persistence)


# ---- by age ----


def test_a_sign_in_that_is_too_old_goes_with_all_that_it_left(cache: PersistedTokenCache) -> None:
    signs_in(cache, 1, "old", days_ago=91)
    signs_in(cache, 2, "new", days_ago=89)
    removed = pruned(cache, older_than=timedelta(days=90))
    removed.pop(ACCESS_TOKEN, None)  # it expired long ago, so any search may remove it
    assert kinds(removed) == {REFRESH_TOKEN: 1, ID_TOKEN: 1, ACCOUNT: 1, APP_METADATA: 1}
    assert removed[REFRESH_TOKEN][0]["home_account_id"] == "user1.tenant"
    kept = stored(cache)
    for kind in (REFRESH_TOKEN, ID_TOKEN, APP_METADATA):
        assert clients(kept[kind].values()) == ["new"], kind
    assert [entry["username"] for entry in kept[ACCOUNT].values()] == ["user2@e"]


def test_90_days_are_the_default(cache: PersistedTokenCache) -> None:
    signs_in(cache, 1, "old", days_ago=91)
    signs_in(cache, 2, "new", days_ago=89)
    assert clients(pruned(cache)[REFRESH_TOKEN]) == ["old"]


@pytest.mark.parametrize("days", [timedelta(days=10), 10 * DAY, 10.0 * DAY])
def test_an_age_is_a_time_or_a_number_of_seconds(cache: PersistedTokenCache, days: Any) -> None:
    for client, days_ago in (("9", 9.0), ("10", 10.1), ("11", 11.0)):
        signs_in(cache, 1, client, days_ago=days_ago)
    assert clients(pruned(cache, older_than=days)[REFRESH_TOKEN]) == ["10", "11"]


@pytest.mark.parametrize("older_than", [timedelta.max, math.inf, 1e300, 10**400])
def test_an_age_that_nothing_has_removes_nothing(
    cache: PersistedTokenCache, older_than: Any
) -> None:
    signs_in(cache, days_ago=36500)
    assert REFRESH_TOKEN not in kinds(pruned(cache, older_than=older_than))


@pytest.mark.parametrize(
    ("older_than", "error"),
    [
        (-1, ValueError),
        (-math.inf, ValueError),
        (timedelta(days=-1), ValueError),
        (math.nan, ValueError),
        ("90", TypeError),
        (b"90", TypeError),
        ([90], TypeError),
    ],
)
def test_an_age_that_is_none_is_refused_before_anything_is_changed(
    cache: PersistedTokenCache, older_than: Any, error: type[Exception]
) -> None:
    signs_in(cache, days_ago=36500)
    before = cache._persistence.load()
    with pytest.raises(error, match="older_than"):
        cache.prune(older_than=older_than)
    assert cache._persistence.load() == before


def test_an_age_of_0_removes_all_that_has_an_age(cache: PersistedTokenCache) -> None:
    signs_in(cache, 1, "one", days_ago=0.1)
    signs_in(cache, 2, "two", days_ago=100)
    assert clients(pruned(cache, older_than=0)[REFRESH_TOKEN]) == ["one", "two"]


STRANGE = [
    None,
    "",
    "soon",
    "nan",
    "inf",
    "1e400",
    "9" * 5000,
    "0x10",
    True,
    [1],
    {"seconds": 1},
    "2001-01-01T00:00:00Z",
]


@pytest.mark.parametrize("at", ["absent", *STRANGE], ids=lambda at: f"{at!r:.12}")
def test_a_refresh_token_whose_time_nobody_can_read_is_kept(
    cache: PersistedTokenCache, at: Any
) -> None:
    for client in ("client", obo("assertion")):
        signs_in(cache, 1, client, days_ago=1000)
    content = stored(cache)
    for entry in content[REFRESH_TOKEN].values():
        del entry["last_modification_time"]
        if at != "absent":
            entry["last_modification_time"] = at
    write(cache, content)
    removed = pruned(cache, older_than=timedelta(days=90))
    removed.pop(ACCESS_TOKEN, None)
    assert kinds(removed) == {}


def test_a_time_in_the_future_is_no_age(cache: PersistedTokenCache) -> None:
    signs_in(cache, 1, days_ago=-1000)
    assert kinds(pruned(cache, older_than=0)) == {}


def test_a_time_that_is_a_number_counts_too(cache: PersistedTokenCache) -> None:
    """Other libraries write numbers."""
    signs_in(cache, 1, days_ago=1000)
    content = stored(cache)
    for entry in content[REFRESH_TOKEN].values():
        entry["last_modification_time"] = int(entry["last_modification_time"])
    write(cache, content)
    assert kinds(pruned(cache))[REFRESH_TOKEN] == 1


# ---- on behalf of ----


def test_what_a_service_got_on_behalf_of_somebody_goes_after_2_days(
    cache: PersistedTokenCache,
) -> None:
    with cache.transaction():
        for number in range(50):
            signs_in(cache, 1, obo(number), days_ago=2.1)
        signs_in(cache, 1, obo("yesterday"), days_ago=1.9)
        signs_in(cache, 1, "client", days_ago=80)
    removed = pruned(cache)
    removed.pop(ACCESS_TOKEN, None)
    assert kinds(removed) == {REFRESH_TOKEN: 50, ID_TOKEN: 50, APP_METADATA: 50}
    kept = stored(cache)
    for kind in (REFRESH_TOKEN, ID_TOKEN, APP_METADATA):
        assert clients(kept[kind].values()) == sorted(["client", obo("yesterday")]), kind
    assert len(kept[ACCOUNT]) == 1


def test_what_a_service_got_goes_sooner_if_the_program_says_so(cache: PersistedTokenCache) -> None:
    signs_in(cache, 1, obo("an hour ago"), days_ago=1 / 24)
    signs_in(cache, 1, obo("now"))
    removed = pruned(cache, older_than=timedelta(minutes=30))
    assert clients(removed[REFRESH_TOKEN]) == [obo("an hour ago")]


# ---- what is still needed ----


def test_an_access_token_that_is_valid_keeps_what_belongs_to_it(
    cache: PersistedTokenCache,
) -> None:
    signs_in(cache, 1, "old", days_ago=91, expires_in=92 * DAY)
    signs_in(cache, 2, "expired", days_ago=91)
    removed = pruned(cache)
    removed.pop(ACCESS_TOKEN, None)
    assert clients(removed.pop(REFRESH_TOKEN)) == ["expired", "old"]
    assert kinds(removed) == {ID_TOKEN: 1, ACCOUNT: 1, APP_METADATA: 1}
    kept = stored(cache)
    assert clients(kept[ID_TOKEN].values()) == clients(kept[APP_METADATA].values()) == ["old"]
    assert [entry["home_account_id"] for entry in kept[ACCOUNT].values()] == ["user1.tenant"]


def test_a_programs_own_access_tokens_keep_its_metadata(cache: PersistedTokenCache) -> None:
    """Access tokens of acquire_token_for_client() belong to no account."""
    user = ("refresh_token", "id_token", "id_token_claims", "client_info")
    alone: dict[str, Any] = dict.fromkeys(user)
    signs_in(cache, 1, "daemon", **alone)
    signs_in(cache, 1, "gone", days_ago=91, **alone)
    removed = pruned(cache)
    removed.pop(ACCESS_TOKEN, None)
    assert clients(removed.pop(APP_METADATA)) == ["gone"]
    assert kinds(removed) == {}


def test_a_familys_refresh_token_keeps_what_its_members_have(cache: PersistedTokenCache) -> None:
    """Any application of the family may use it."""
    signs_in(cache, 1, "first", days_ago=1, foci="1")
    signs_in(cache, 1, "second", days_ago=100, foci="1")
    signs_in(cache, 1, "stranger", days_ago=100)
    signs_in(cache, 2, "second", days_ago=100, foci="1")
    removed = pruned(cache)
    removed.pop(ACCESS_TOKEN, None)
    assert clients(removed[REFRESH_TOKEN]) == ["second", "second", "stranger"]
    kept = stored(cache)
    assert clients(kept[APP_METADATA].values()) == ["first", "second"]
    assert clients(kept[ID_TOKEN].values()) == ["first", "second"]
    assert {entry["home_account_id"] for entry in kept[ID_TOKEN].values()} == {"user1.tenant"}
    assert [entry["home_account_id"] for entry in kept[ACCOUNT].values()] == ["user1.tenant"]


def test_one_users_tokens_keep_no_other_users_account(cache: PersistedTokenCache) -> None:
    signs_in(cache, 1, days_ago=1)
    signs_in(cache, 2, days_ago=100)
    removed = pruned(cache)
    removed.pop(ACCESS_TOKEN, None)
    assert kinds(removed) == {REFRESH_TOKEN: 1, ID_TOKEN: 1, ACCOUNT: 1}
    for kind in (REFRESH_TOKEN, ID_TOKEN, ACCOUNT):
        assert removed[kind][0]["home_account_id"] == "user2.tenant"


def test_a_refresh_token_that_is_kept_for_its_strange_time_is_needed(
    cache: PersistedTokenCache,
) -> None:
    signs_in(cache, 1, days_ago=100)
    content = stored(cache)
    for entry in content[REFRESH_TOKEN].values():
        entry["last_modification_time"] = "soon"
    write(cache, content)
    removed = pruned(cache)
    removed.pop(ACCESS_TOKEN, None)
    assert kinds(removed) == {}


# ---- told, saved once ----


def test_what_was_removed_is_told_without_its_secrets(cache: PersistedTokenCache) -> None:
    signs_in(cache, 1, obo(1), days_ago=91)
    assert CANARY in cache._persistence.load()
    removed = pruned(cache)
    assert CANARY not in repr(removed) + json.dumps(removed)
    assert CANARY not in cache._persistence.load().replace(f"access1.{obo(1)}.{CANARY}", "")
    for kind in (REFRESH_TOKEN, ID_TOKEN):
        (entry,) = removed[kind]
        assert entry["client_id"] == obo(1)
        assert "secret" not in entry
    assert removed[REFRESH_TOKEN][0]["last_modification_time"]


def test_what_the_program_does_with_the_answer_changes_nothing(cache: PersistedTokenCache) -> None:
    signs_in(cache, 1, "old", days_ago=91)
    signs_in(cache, 2, "new")
    before = stored(cache)[REFRESH_TOKEN]
    for entries in cache.prune().values():
        for entry in entries:
            entry["client_id"] = "changed"
    cache.modify(REFRESH_TOKEN, {"home_account_id": "x"}, {"secret": "s"})
    after = stored(cache)[REFRESH_TOKEN]
    assert {key: after[key] for key in after if key in before} == {
        key: entry for key, entry in before.items() if entry["client_id"] == "new"
    }


def test_a_prune_is_one_save_and_the_next_one_none(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    with cache.transaction():
        for number in range(20):
            signs_in(cache, number, obo(number), days_ago=91)
    persistence.saves = 0
    assert kinds(pruned(cache))[REFRESH_TOKEN] == 20
    assert persistence.saves == 1
    assert kinds(pruned(cache)) == {}
    assert persistence.saves == 1


def test_a_prune_of_nothing_saves_nothing(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    assert kinds(cache.prune()) == {}
    assert persistence.saves == 0
    signs_in(cache)
    assert persistence.saves == 1
    assert kinds(pruned(cache)) == {}
    assert persistence.saves == 1


def test_a_prune_inside_a_transaction_is_part_of_it(
    cache: PersistedTokenCache, persistence: CountingPersistence
) -> None:
    signs_in(cache, 1, "old", days_ago=91)
    persistence.saves = 0
    with cache.transaction():
        removed = cache.prune()
        signs_in(cache, 2, "new")
    assert persistence.saves == 1
    assert clients(removed[REFRESH_TOKEN]) == ["old"]
    assert clients(stored(cache)[REFRESH_TOKEN].values()) == ["new"]


def test_what_another_process_stored_is_pruned_too(cache: PersistedTokenCache) -> None:
    list(cache.search(REFRESH_TOKEN))
    other = PersistedTokenCache(FilePersistence(cache._persistence.get_location()))
    signs_in(other, 1, "old", days_ago=91)
    assert clients(pruned(cache)[REFRESH_TOKEN]) == ["old"]


# ---- beside others ----


@requires(REMOVABLE_OPEN_FILES)
@pytest.mark.parametrize("kind", ["file", "sealed", "own", "dictionary"])
def test_what_another_renewed_while_the_save_was_repeated_stays_and_is_not_told(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = place_of(kind, tmp_path, request)
    cache = place.cache()
    for client in ("renewed", "forgotten"):
        signs_in(cache, 1, client, days_ago=91)
    with overtaken(place, lambda: signs_in(place.cache(), 1, "renewed", expires_in=7200)):
        removed = cache.prune()
    removed.pop(ACCESS_TOKEN, None)
    assert clients(removed[REFRESH_TOKEN]) == ["forgotten"]
    assert clients(removed[ID_TOKEN]) == ["forgotten"]
    assert clients(removed[APP_METADATA]) == ["forgotten"]
    assert ACCOUNT not in kinds(removed)
    for each in (cache, place.cache()):
        assert clients(each.search(REFRESH_TOKEN)) == ["renewed"]
        assert clients(each.search(ID_TOKEN)) == ["renewed"]
        assert clients(each.search(APP_METADATA)) == ["renewed"]
        assert len(list(each.search(ACCOUNT))) == 1
        (entry,) = each.search(REFRESH_TOKEN)
        assert time.time() - float(entry["last_modification_time"]) < DAY


@requires(REMOVABLE_OPEN_FILES)
@pytest.mark.parametrize("kind", ["file", "dictionary"])
def test_an_account_that_another_signed_in_again_meanwhile_keeps_what_it_needs(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Account and metadata look like those that are to be removed."""
    place = place_of(kind, tmp_path, request)
    cache = place.cache()
    signs_in(cache, 1, "client", days_ago=91, id_token=None)
    again: dict[str, Any] = {"id_token": None, "refresh_token": "another one"}
    with overtaken(place, lambda: signs_in(place.cache(), 1, **again)):
        removed = cache.prune()
    removed.pop(ACCESS_TOKEN, None)
    assert kinds(removed) == {}
    for entry_kind in (REFRESH_TOKEN, ACCOUNT, APP_METADATA):
        assert len(list(place.cache().search(entry_kind))) == 1, entry_kind


# ---- what MSAL does not know ----


def test_kinds_that_msal_does_not_know_are_left_alone(cache: PersistedTokenCache) -> None:
    signs_in(cache, 1, days_ago=1000)
    content: dict[str, Any] = stored(cache)
    old = {"client_id": obo(1), "last_modification_time": "1", "secret": CANARY, "expires_on": "1"}
    content["PopToken"] = {"key": old, "other": None}
    content["Extensions"] = ["a", "list"]
    content["version"] = 3
    write(cache, content)
    removed = pruned(cache)
    assert kinds(removed)[REFRESH_TOKEN] == 1
    for kind in ("PopToken", "Extensions", "version"):
        assert stored(cache)[kind] == content[kind]
        assert kind not in removed


@pytest.mark.parametrize("damaged", [None, [], "text", 1, {}], ids=repr)
def test_a_damaged_entry_stops_nothing(cache: PersistedTokenCache, damaged: Any) -> None:
    signs_in(cache, 1, "old", days_ago=1000)
    signs_in(cache, 2, "new")
    content = stored(cache)
    for kind in (REFRESH_TOKEN, ID_TOKEN, ACCOUNT, APP_METADATA):
        content[kind]["damaged"] = damaged
    write(cache, content)
    removed: Removed = cache.prune()
    assert clients(removed[REFRESH_TOKEN]) == ["old"]
    assert "old" not in clients(
        entry
        for entry in stored(cache)[REFRESH_TOKEN].values()
        if isinstance(entry, dict) and "client_id" in entry
    )
    assert stored(cache)[REFRESH_TOKEN]["damaged"] == damaged
    assert CANARY not in repr(removed)


@pytest.mark.parametrize("name", ["client_id", "home_account_id", "environment", "realm"])
@pytest.mark.parametrize("value", [None, 1, [], {}, "absent"], ids=repr)
def test_an_entry_with_a_damaged_field_stops_nothing(
    cache: PersistedTokenCache, name: str, value: Any
) -> None:
    for user, client in ((1, "damaged"), (2, "old")):
        signs_in(cache, user, client, days_ago=1000)
    content = stored(cache)
    for entries in content.values():
        for entry in entries.values():
            if entry.get("client_id", entry.get("username")) in ("damaged", "user1@e"):
                entry.pop(name, None)
                if value != "absent":
                    entry[name] = value
    write(cache, content)
    removed: Removed = cache.prune()
    assert "old" in [entry.get("client_id") for entry in removed[REFRESH_TOKEN]]
    assert CANARY not in repr(removed)


@pytest.mark.parametrize("damaged", [[], None, "text", {"key": None}], ids=repr)
def test_a_damaged_kind_stops_nothing(cache: PersistedTokenCache, damaged: Any) -> None:
    for kind in (ACCESS_TOKEN, ID_TOKEN, ACCOUNT, APP_METADATA):
        signs_in(cache, 1, "old", days_ago=1000)
        write(cache, {**stored(cache), kind: damaged})
        removed: Removed = cache.prune()
        assert clients(removed[REFRESH_TOKEN]) == ["old"], kind
        write(cache, {})


@pytest.mark.parametrize(
    "expires_on", ["absent", None, "", "soon", "nan", [], "9" * 5000], ids=repr
)
def test_an_access_token_whose_end_nobody_can_read_stops_nothing_and_keeps_what_belongs_to_it(
    cache: PersistedTokenCache, expires_on: Any
) -> None:
    signs_in(cache, 1, "old", days_ago=1000)
    content = stored(cache)
    for entry in content[ACCESS_TOKEN].values():
        del entry["expires_on"]
        if expires_on != "absent":
            entry["expires_on"] = expires_on
    write(cache, content)
    assert kinds(cache.prune()) == {REFRESH_TOKEN: 1}


def test_a_refresh_token_under_a_key_of_another_library_stays_with_what_it_needs(
    cache: PersistedTokenCache,
) -> None:
    """MSAL.NET and Java name a family's refresh token by the family.  MSAL Python finds and uses
    it, but removes only under the key that it would make itself."""
    signs_in(cache, 1, "old", days_ago=1000, foci="1")
    content = stored(cache)
    (entry,) = content[REFRESH_TOKEN].values()
    content[REFRESH_TOKEN] = {"user1.tenant-login.example.com-refreshtoken-1--": entry}
    write(cache, content)
    removed = pruned(cache)
    removed.pop(ACCESS_TOKEN, None)
    assert kinds(removed) == {}
    assert stored(cache)[ACCOUNT] == content[ACCOUNT]


def test_a_refresh_token_of_another_name_of_the_authority_keeps_the_account(
    cache: PersistedTokenCache,
) -> None:
    """login.windows.net and login.microsoftonline.com are one authority, and MSAL knows that."""
    signs_in(cache, 1, "client", days_ago=100)
    content = stored(cache)
    for kind in (REFRESH_TOKEN, ID_TOKEN, ACCOUNT, APP_METADATA):
        for entry in content[kind].values():
            entry["environment"] = "login.microsoftonline.com"
    for entry in content[REFRESH_TOKEN].values():
        entry["environment"] = "login.windows.net"
        entry["last_modification_time"] = str(int(time.time()))
    write(cache, content)
    removed = pruned(cache)
    removed.pop(ACCESS_TOKEN, None)
    assert ACCOUNT not in kinds(removed)
