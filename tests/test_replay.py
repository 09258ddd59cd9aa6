"""A save that must be repeated, or failed: which of its changes are made again.

There are two cases, in which others have changed the store meanwhile.  As long as its call has not
returned, a change is made as if it had come a moment later.  A call that raised leaves its change
waiting, and the program was told that it failed; then a change that others made in the meantime
wins.  P5, P10, P17 and P27 number findings of a review of the cache; each test says what was found.
"""

from __future__ import annotations

import functools
import json
import logging
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import msal
import pytest

from msal_extensions import LockError, PersistedTokenCache, PersistenceError
from msal_extensions._pending import Call, Change, Event, Pending, Rule
from msal_extensions.errors import LockLost
from tests.support.meanwhile import before_saves, elsewhere, failing, full, overtaken
from tests.support.meanwhile import robbable_place_fixture as robbable_place_fixture
from tests.support.places import Place
from tests.support.processes import GENEROUS
from tests.support.tokens import ACCESS_TOKEN, REFRESH_TOKEN, secrets_of, sign_in, token

Found = dict[str, Any]


def entry(user: str) -> Found:
    return {"home_account_id": user, "environment": "e", "client_id": "c"}


def put(cache: PersistedTokenCache, user: str, secret: Any) -> None:
    cache.modify(REFRESH_TOKEN, entry(user), {"secret": secret})


def remove(cache: PersistedTokenCache, user: str) -> None:
    cache.modify(REFRESH_TOKEN, entry(user))


def seen(cache: PersistedTokenCache) -> Found:
    return {each["home_account_id"]: each["secret"] for each in cache.search(REFRESH_TOKEN)}


def stored(place: Place) -> Found:
    return seen(place.cache())


@pytest.fixture
def cache(place: Place) -> PersistedTokenCache:
    return place.cache()


@pytest.fixture
def other(place: Place) -> PersistedTokenCache:
    """Another object over the same content, as another process has it."""
    return place.cache()


def event(access: str, refresh: str) -> Found:
    """A sign-in of one user: several entries."""
    found = sign_in()
    found["response"].update(access_token=access, refresh_token=refresh)
    return found


# ---- while its call has not returned -------------------------------------------------------


def test_a_sign_in_that_was_overtaken_is_stored_whole_and_as_the_last_one(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    cache.add(event("access0", "refresh0"))
    with overtaken(place, lambda: other.add(event("access2", "refresh2"))):
        cache.add(event("access1", "refresh1"))
    for each in (cache, other, place.cache()):
        assert secrets_of(each) == {"access1"}
        assert secrets_of(each, REFRESH_TOKEN) == {"refresh1"}


def test_a_change_that_was_overtaken_is_made_again_whatever_is_stored(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    put(cache, "a", "old")
    with overtaken(
        place,
        lambda: put(other, "a", "of another"),
        lambda: remove(other, "a"),
        lambda: put(other, "b", "unrelated"),
    ):
        put(cache, "a", "new")
    assert stored(place) == seen(cache) == {"a": "new", "b": "unrelated"}


def test_a_removal_that_was_overtaken_removes_what_is_stored_by_then(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    put(cache, "a", "old")
    with overtaken(place, lambda: put(other, "a", "rotated")):
        remove(cache, "a")
    assert stored(place) == seen(cache) == {}


def test_a_transaction_that_was_overtaken_elsewhere_is_stored(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    """Its changes to one entry build on each other, and the last one counts."""
    for user in "abcd":
        put(cache, user, "old")
    with overtaken(place, lambda: put(other, "z", "unrelated")), cache.transaction():
        put(cache, "a", "first")
        put(cache, "a", "last")
        put(cache, "b", "removed at last")
        remove(cache, "b")
        remove(cache, "c")
        put(cache, "c", "anew")
        put(cache, "e", "first of all")
        remove(cache, "d")
    assert stored(place) == seen(cache)
    assert stored(place) == {"a": "last", "c": "anew", "e": "first of all", "z": "unrelated"}


def change_in_a_transaction(cache: PersistedTokenCache, *changes: Callable[[], None]) -> None:
    with cache.transaction():
        for change in changes:
            change()


def test_what_a_transaction_would_overwrite_stays_and_the_rest_is_saved(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    """The change may depend on the content that the program read."""
    put(cache, "a", 1)
    put(cache, "b", "old")
    with (
        overtaken(place, lambda: put(other, "a", 10)),
        pytest.raises(LockLost, match="changed meanwhile"),
    ):
        change_in_a_transaction(
            cache, lambda: put(cache, "a", seen(cache)["a"] + 1), lambda: put(cache, "b", "new")
        )
    assert stored(place) == seen(cache) == {"a": 10, "b": "new"}
    put(cache, "c", "next")  # and the change is lost
    assert stored(place) == seen(cache) == {"a": 10, "b": "new", "c": "next"}


def test_a_program_that_is_told_of_a_change_meanwhile_does_it_again(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    """The program adds up a sum: each number counts."""

    def add_up(mine: PersistedTokenCache, number: int) -> None:
        with mine.transaction():
            put(mine, "a", seen(mine).get("a", 0) + number)

    told = 0
    with overtaken(place, *[lambda: add_up(other, 100)] * 3):
        for _ in range(10):
            while True:
                try:
                    add_up(cache, 1)
                except LockLost:
                    told += 1
                else:
                    break
    assert stored(place) == {"a": 310}
    assert told == 3


def test_that_an_entry_changed_meanwhile_is_a_lock_error_of_the_package() -> None:
    import msal_extensions

    assert vars(msal_extensions)["LockLost"] is LockLost
    assert issubclass(LockLost, LockError)


def removes_a(other: PersistedTokenCache) -> None:
    remove(other, "a")


def stores_b(other: PersistedTokenCache) -> None:
    put(other, "b", "there too")


@pytest.mark.parametrize("meanwhile", [removes_a, stores_b])
def test_an_entry_that_came_or_went_meanwhile_is_not_overwritten_by_a_transaction(
    place: Place,
    cache: PersistedTokenCache,
    other: PersistedTokenCache,
    meanwhile: Callable[[PersistedTokenCache], None],
) -> None:
    put(cache, "a", "old")
    expected: Found = {}

    def changed() -> None:
        meanwhile(other)
        expected.update(seen(other))

    with overtaken(place, changed), pytest.raises(LockLost):
        change_in_a_transaction(
            cache, lambda: put(cache, "a", "new"), lambda: put(cache, "b", "new")
        )
    mine = {"a": "new"} if "b" in expected else {"b": "new"}
    assert stored(place) == seen(cache) == {**expected, **mine}


def test_a_transaction_is_content_when_others_made_its_change_too(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    put(cache, "a", "old")
    with overtaken(place, lambda: put(other, "a", "new")), cache.transaction():
        put(cache, "a", "new")
    assert stored(place) == {"a": "new"}


def test_a_transaction_that_changed_nothing_is_told_what_others_changed_meanwhile(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    """It has nothing to save, and what it relies on is not stored any more."""
    put(cache, "a", "same")

    def lose_the_lock() -> None:
        place.rob()
        elsewhere(lambda: put(other, "a", "of another"))

    with pytest.raises(LockLost):
        change_in_a_transaction(cache, lambda: put(cache, "a", "same"), lose_the_lock)
    assert stored(place) == seen(cache) == {"a": "of another"}


def test_a_transaction_is_not_told_that_others_renewed_what_had_expired(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    """The cache, and not the program, removes it in the middle of the transaction."""
    expired, renewed = token(1, expires_in=-10), token(1, "renewed")
    cache.modify(ACCESS_TOKEN, expired, expired)
    renew = functools.partial(other.modify, ACCESS_TOKEN, renewed, renewed)
    with overtaken(place, renew), cache.transaction():
        assert secrets_of(cache) == set()
        put(cache, "a", "mine")
    assert secrets_of(place.cache()) == secrets_of(cache) == {"renewed"}
    assert stored(place) == {"a": "mine"}


def test_a_transaction_removes_whatever_is_stored(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    """Otherwise a live refresh token would stay after a sign-out."""
    put(cache, "a", "old")
    put(cache, "b", "stays")
    with overtaken(place, lambda: put(other, "a", "rotated")), cache.transaction():
        remove(cache, "a")
    assert stored(place) == seen(cache) == {"b": "stays"}


def test_a_sign_in_may_replace_what_others_stored_unless_a_transaction_is_around_it(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    cache.add(event("access0", "refresh0"))
    with overtaken(place, lambda: put(other, "user0.tenant", "of another")), cache.transaction():
        cache.add(sign_in(1))  # another user
    assert secrets_of(place.cache()) == {"access0", "access1"}
    with overtaken(place, lambda: other.add(event("access2", "refresh2"))), pytest.raises(LockLost):
        change_in_a_transaction(cache, lambda: cache.add(event("access3", "refresh3")))
    assert "refresh2" in secrets_of(place.cache(), REFRESH_TOKEN)
    assert "refresh3" not in secrets_of(place.cache(), REFRESH_TOKEN)


# ---- after its call has raised --------------------------------------------------------------


def cannot(place: Place, change: Callable[[], object]) -> None:
    with full(place), pytest.raises(PersistenceError):
        change()


def test_a_change_that_could_not_be_saved_is_there_and_saved_with_the_next_one(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    put(cache, "a", "old")
    put(cache, "b", "old")
    cannot(place, lambda: put(cache, "a", "waits"))
    cannot(place, lambda: remove(cache, "b"))
    assert seen(cache) == {"a": "waits"}
    assert stored(place) == {"a": "old", "b": "old"}
    put(other, "c", "of another")
    assert seen(cache) == {"a": "waits", "c": "of another"}
    put(cache, "d", "next")
    assert stored(place) == seen(cache) == {"a": "waits", "c": "of another", "d": "next"}


@pytest.mark.parametrize("error", [lambda: PersistenceError(28, "full"), KeyboardInterrupt])
def test_an_empty_transaction_saves_what_waits(
    place: Place, cache: PersistedTokenCache, error: Callable[[], BaseException]
) -> None:
    with failing(place, error), pytest.raises((PersistenceError, KeyboardInterrupt)):
        put(cache, "a", "waits")
    assert stored(place) == {}
    with cache.transaction():
        pass
    assert stored(place) == seen(cache) == {"a": "waits"}


@pytest.mark.parametrize("is_removal", [False, True])
def test_a_change_that_ctrl_c_kept_from_memory_waits_too(
    place: Place, cache: PersistedTokenCache, is_removal: bool
) -> None:
    put(cache, "a", "old")
    change = functools.partial(remove, cache, "a") if is_removal else None
    with (
        mock.patch.object(msal.TokenCache, "modify", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        (change or functools.partial(put, cache, "a", "new"))()
    put(cache, "b", "unrelated")
    expected = {"b": "unrelated"} if is_removal else {"a": "new", "b": "unrelated"}
    assert stored(place) == seen(cache) == expected


def test_what_failed_again_waits_still(place: Place, cache: PersistedTokenCache) -> None:
    for secret in ("first", "second", "third"):
        cannot(place, lambda secret=secret: put(cache, "a", secret))  # type: ignore[misc]
        cannot(place, lambda: change_in_a_transaction(cache))  # otherwise it would be saved
    put(cache, "b", "next")
    assert stored(place) == seen(cache) == {"a": "third", "b": "next"}


def fails_to_rotate(cache: PersistedTokenCache) -> None:
    put(cache, "a", "rt2")


def fails_to_remove(cache: PersistedTokenCache) -> None:
    remove(cache, "a")


def rotates(other: PersistedTokenCache) -> None:
    put(other, "a", "rt3")


def signs_out(other: PersistedTokenCache) -> None:
    remove(other, "a")


def signs_in_again(other: PersistedTokenCache) -> None:
    remove(other, "a")
    put(other, "a", "rt-new")


@pytest.mark.parametrize(
    ("failed", "meanwhile", "expected"),
    [
        (fails_to_rotate, rotates, "rt3"),
        (fails_to_remove, signs_in_again, "rt-new"),
        (fails_to_rotate, signs_out, None),
    ],
)
def test_what_waits_undoes_nothing_that_others_did_since(
    place: Place,
    cache: PersistedTokenCache,
    other: PersistedTokenCache,
    failed: Callable[[PersistedTokenCache], None],
    meanwhile: Callable[[PersistedTokenCache], None],
    expected: str | None,
) -> None:
    """P5: it did; the program was told minutes ago that its change had failed."""
    put(cache, "a", "rt1")
    cannot(place, lambda: failed(cache))
    meanwhile(other)
    kept = {} if expected is None else {"a": expected}
    assert seen(cache) == kept
    put(cache, "b", "anything")
    assert stored(place) == seen(cache) == {**kept, "b": "anything"}


@pytest.mark.parametrize("signs_out_then", [False, True])
def test_a_change_that_was_overtaken_and_then_failed_replaced_what_was_stored_by_then(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache, signs_out_then: bool
) -> None:
    """It replaces the entry of the other cache, and not the missing entry that it was first made
    for."""
    saves: list[int] = []

    def hook() -> None:
        saves.append(len(saves))
        if len(saves) > 1:
            raise PersistenceError(28, "No space left on device")
        place.rob()
        elsewhere(lambda: put(other, "a", "of another"))

    with before_saves(place, hook), pytest.raises(PersistenceError):
        put(cache, "a", "new")
    assert len(saves) > 1
    if signs_out_then:
        remove(other, "a")
    put(other, "b", "unrelated")
    put(cache, "c", "next")
    waited = {} if signs_out_then else {"a": "new"}
    assert stored(place) == {**waited, "b": "unrelated", "c": "next"}


def test_a_sign_in_waits_as_a_whole(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    cache.add(event("access1", "refresh1"))
    cannot(place, lambda: cache.add(event("access2", "refresh2")))
    other.add(sign_in(7))  # another user
    with cache.transaction():
        pass
    for each in (cache, place.cache()):
        assert secrets_of(each) == {"access2", "access7"}
        assert secrets_of(each, REFRESH_TOKEN) == {"refresh2", "refresh7"}


def infos(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("msal_extensions") and record.levelno == logging.INFO
    ]


def test_a_sign_in_that_waits_is_dropped_as_a_whole_and_the_log_says_so_once(
    place: Place,
    cache: PersistedTokenCache,
    other: PersistedTokenCache,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Others changed one of its entries.  Otherwise the access token of one sign-in would lie
    beside the refresh token of another, which nobody stored."""
    cache.add(event("access1", "refresh1"))
    cannot(place, lambda: cache.add(event("access2", "refresh2")))
    assert secrets_of(cache) == {"access2"}
    [found] = other.search(REFRESH_TOKEN)
    other.update_rt(found, "rotated")
    with caplog.at_level(logging.INFO, "msal_extensions"):
        cache.add(sign_in(7))
        cache.add(sign_in(8))
        assert secrets_of(cache) == {"access1", "access7", "access8"}
    for each in (cache, place.cache()):
        assert secrets_of(each) == {"access1", "access7", "access8"}
        assert secrets_of(each, REFRESH_TOKEN) == {"rotated", "refresh7", "refresh8"}
    assert len(infos(caplog)) == 1, infos(caplog)
    assert not any(word in infos(caplog)[0] for word in ("access2", "refresh2", "rotated"))


def test_what_waits_and_is_stored_already_stands_in_nobodys_way(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    """A failed save may have stored the change all the same, and others may have stored a part of
    it."""
    cache.add(event("access1", "refresh1"))
    cannot(place, lambda: cache.add(event("access2", "refresh2")))
    [found] = [dict(each) for each in cache.search(REFRESH_TOKEN)]
    other.modify(REFRESH_TOKEN, found, found)
    cache.add(sign_in(7))
    assert secrets_of(place.cache()) == {"access2", "access7"}
    assert secrets_of(place.cache(), REFRESH_TOKEN) == {"refresh2", "refresh7"}


def test_changes_of_one_entry_that_wait_are_saved_or_dropped_together(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    """Each replaced the entry that the one before would have stored."""
    put(cache, "a", "rt1")
    for secret in ("rt2", "rt3", "rt4"):
        cannot(place, lambda secret=secret: put(cache, "a", secret))  # type: ignore[misc]
    put(cache, "b", "next")
    assert stored(place) == {"a": "rt4", "b": "next"}
    for secret in ("rt5", "rt6"):
        cannot(place, lambda secret=secret: put(cache, "a", secret))  # type: ignore[misc]
    put(other, "a", "of another")
    put(cache, "c", "next")
    assert stored(place) == seen(cache) == {"a": "of another", "b": "next", "c": "next"}


def test_a_call_that_changed_one_entry_twice_waits_with_both_changes() -> None:
    """A signal handler came in the middle of an add(), for example."""
    call, pending = Call(), Pending()
    call.event = Event(call)
    for secret in ("first", "second"):
        change = Change(REFRESH_TOKEN, "key", Rule.ALWAYS, {"secret": secret})
        pending.record(call, change)
    pending.note_replaced({REFRESH_TOKEN: {"key": {"secret": "old"}}})
    call.is_over = True
    memory = {REFRESH_TOKEN: {"key": {"secret": "old"}}}
    pending.apply_to(memory)
    assert memory == {REFRESH_TOKEN: {"key": {"secret": "second"}}}
    assert pending.all() == (call.event,)


def test_of_a_transaction_that_failed_each_change_waits_by_itself(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    put(cache, "a", "old")
    cannot(
        place,
        lambda: change_in_a_transaction(
            cache, lambda: put(cache, "a", "new"), lambda: put(cache, "b", "new")
        ),
    )
    put(other, "a", "of another")
    with cache.transaction():
        pass
    assert stored(place) == seen(cache) == {"a": "of another", "b": "new"}


def test_a_change_that_waits_in_place_of_an_earlier_one_replaces_what_that_replaced() -> None:
    """Another thread may reload between the end of the second call and the tidying."""
    pending, old = Pending(), {"secret": "old"}
    for secret in ("first", "second"):
        call = Call()
        pending.record(call, Change(REFRESH_TOKEN, "key", Rule.ALWAYS, {"secret": secret}))
        call.is_over = True
    pending.note_replaced({REFRESH_TOKEN: {"key": old}})
    pending.tidy()
    assert len(pending) == 1
    memory = {REFRESH_TOKEN: {"key": old}}
    pending.apply_to(memory)
    assert memory == {REFRESH_TOKEN: {"key": {"secret": "second"}}}


def test_what_waits_is_not_replayed_over_what_came_while_it_is_saved_at_last(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    """The program was told that it failed, so it waits, even while the call that will save it has
    not returned yet."""
    put(cache, "a", "rt1")
    cannot(place, lambda: put(cache, "a", "rt2"))
    with overtaken(place, lambda: put(other, "a", "rt3")):
        put(cache, "b", "next")
    assert stored(place) == seen(cache) == {"a": "rt3", "b": "next"}


#: Values that are equal in Python, but differ in JSON.
LOOK_ALIKES = [
    (1, True),
    (True, 1),
    (1, 1.0),
    (0, False),
    (0, -0.0),
    ({"deep": [1, {"er": 1}]}, {"deep": [1, {"er": True}]}),
]


@pytest.mark.parametrize(("one", "alike"), LOOK_ALIKES, ids=repr)
def test_what_waits_gives_way_to_what_only_python_takes_for_equal(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache, one: Any, alike: Any
) -> None:
    put(cache, "a", one)
    cannot(place, lambda: put(cache, "a", "waits"))
    put(other, "a", alike)
    put(cache, "b", "next")
    assert json.dumps(stored(place)) == json.dumps({"a": alike, "b": "next"})


def test_what_waits_does_not_mind_another_order_of_names(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    put(cache, "a", {"x": 1, "y": 2})
    cannot(place, lambda: put(cache, "a", "waits"))
    turned = {"secret": {"y": 2, "x": 1}, **dict(reversed(entry("a").items()))}
    other.modify(REFRESH_TOKEN, turned, turned)
    put(cache, "b", "next")
    assert stored(place) == {"a": "waits", "b": "next"}


# ---- entries that a program changed in place -------------------------------------------------


def changed_in_place(cache: PersistedTokenCache) -> Found:
    """A search yields the cache's own entry."""
    [found] = cache.search(REFRESH_TOKEN)
    found["secret"] = "in place"
    changed: Found = found
    return changed


def test_an_entry_changed_in_place_is_saved_though_it_was_overtaken(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    """P10: the change was lost."""
    put(cache, "a", "old")
    found = changed_in_place(cache)
    with overtaken(place, lambda: put(other, "b", "of another")):
        cache.modify(REFRESH_TOKEN, found, found)
    assert stored(place) == seen(cache) == {"a": "in place", "b": "of another"}


def test_an_entry_changed_in_place_waits_like_any_other(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    """P10: the change was lost."""
    put(cache, "a", "old")
    found = changed_in_place(cache)
    cannot(place, lambda: cache.modify(REFRESH_TOKEN, found, found))
    put(other, "b", "of another")
    put(cache, "c", "next")
    assert stored(place) == {"a": "in place", "b": "of another", "c": "next"}


def test_an_entry_changed_in_place_gives_way_like_any_other(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    """P5 and P10: the entry that was stored before is what counts."""
    put(cache, "a", "old")
    found = changed_in_place(cache)
    cannot(place, lambda: cache.modify(REFRESH_TOKEN, found, found))
    put(other, "a", "of another")
    put(cache, "c", "next")
    assert stored(place) == seen(cache) == {"a": "of another", "c": "next"}


# ---- values that are equal only in Python ---------------------------------------------------


@pytest.mark.parametrize(("one", "alike"), LOOK_ALIKES, ids=repr)
def test_a_change_between_values_that_only_python_takes_for_equal_is_saved(
    place: Place, cache: PersistedTokenCache, one: Any, alike: Any
) -> None:
    """P17: it was never saved."""
    put(cache, "a", one)
    put(cache, "a", alike)
    assert json.dumps(stored(place)) == json.dumps({"a": alike})


@pytest.mark.parametrize(("one", "alike"), LOOK_ALIKES, ids=repr)
def test_a_change_between_such_values_is_saved_by_a_transaction_that_was_overtaken(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache, one: Any, alike: Any
) -> None:
    put(cache, "a", one)
    with overtaken(place, lambda: put(other, "b", "of another")), cache.transaction():
        put(cache, "a", alike)
    assert json.dumps(stored(place), sort_keys=True) == json.dumps({"a": alike, "b": "of another"})


# ---- what JSON cannot hold -------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [b"bytes", {"deep": [b"bytes"]}, {1, 2}, {(1, 2): "tuple"}], ids=repr
)
def test_an_entry_that_json_cannot_hold_is_refused_and_changes_nothing(
    place: Place, cache: PersistedTokenCache, value: Any
) -> None:
    """P27: the cache could never be saved again."""
    put(cache, "a", "old")
    with pytest.raises(TypeError):
        put(cache, "a", value)
    with pytest.raises(TypeError):
        change_in_a_transaction(
            cache, lambda: put(cache, "b", "of the transaction"), lambda: put(cache, "c", value)
        )
    assert seen(cache) == {"a": "old", "b": "of the transaction"}
    put(cache, "d", "next")
    assert stored(place) == seen(cache)
    assert stored(place) == {"a": "old", "b": "of the transaction", "d": "next"}


def test_after_a_sign_in_with_what_json_cannot_hold_others_are_saved(
    place: Place, cache: PersistedTokenCache
) -> None:
    """P27: no later change was saved."""
    with pytest.raises(TypeError):
        cache.add(event("access0", b"refresh"))  # type: ignore[arg-type]
    cache.add(sign_in(1))
    assert "refresh1" in secrets_of(place.cache(), REFRESH_TOKEN)
    assert secrets_of(cache, ACCESS_TOKEN) == secrets_of(place.cache(), ACCESS_TOKEN)


def test_what_a_program_put_into_memory_and_json_cannot_hold_fails_one_save_only(
    place: Place, cache: PersistedTokenCache
) -> None:
    put(cache, "a", "old")
    (found,) = cache._cache[REFRESH_TOKEN].values()
    found["secret"] = object()
    with pytest.raises(TypeError):
        put(cache, "b", "first")
    put(cache, "b", "second")
    assert stored(place) == seen(cache) == {"a": "old", "b": "second"}


# ---- beside a read that takes its time ---------------------------------------------------------


def test_a_slow_read_by_another_thread_brings_nothing_old_into_a_transaction(
    place: Place, cache: PersistedTokenCache, other: PersistedTokenCache
) -> None:
    """The thread reads before the transaction begins, and is done with it in the middle."""
    put(cache, "a", "old")
    put(other, "b", "there before the read")
    kind: Any = type(place.store())
    read, has_read, goes_on = kind.read, threading.Event(), threading.Event()

    def slow(store: Any) -> Any:
        content = read(store)
        if threading.current_thread() is thread and not has_read.is_set():
            has_read.set()
            assert goes_on.wait(GENEROUS)
        return content

    thread = threading.Thread(target=lambda: seen(cache))
    with mock.patch.object(kind, "read", slow):
        thread.start()
        assert has_read.wait(GENEROUS)
        put(other, "c", "there after the read")
        with cache.transaction():
            goes_on.set()
            thread.join()
            put(cache, "d", "mine")
    assert sorted(stored(place)) == sorted(seen(cache)) == ["a", "b", "c", "d"]


# ---- the tools of these tests ----------------------------------------------------------------


def test_the_hooks_of_these_tests_work(place: Place, cache: PersistedTokenCache) -> None:
    counts: list[int] = []
    with before_saves(place, lambda: counts.append(1)):
        put(cache, "a", "old")
        put(cache, "a", "old")
        elsewhere(lambda: put(place.cache(), "b", "of another thread"))
        with overtaken(place, lambda: put(place.cache(), "c", "of a third")):
            remove(cache, "a")
    assert len(counts) == 3
    assert stored(place) == {"b": "of another thread", "c": "of a third"}
