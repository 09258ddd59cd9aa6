"""The cache in asyncio: a second task of a thread is refused at once, with advice.

Locks belong to threads.  All tasks of a thread would be inside at once, so the second one is
refused.  docs/asyncio.md says how to use the cache; this file runs the examples of that page.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import msal
import pytest

from msal_extensions import (
    CrossPlatLock,
    FilePersistence,
    LockError,
    LockOrderError,
    PersistedTokenCache,
)
from tests.support.places import Place, place_of
from tests.support.processes import GENEROUS, python
from tests.support.tokens import (
    REFRESH_TOKEN,
    metadata_only,
    secrets_of,
    sign_in,
    token,
)

#: Seconds for a step that must not wait: less than the default timeouts.
AT_ONCE = 4.0
PAGE = Path(__file__).resolve().parents[1] / "docs" / "asyncio.md"

Result = TypeVar("Result")
Enter = Callable[[PersistedTokenCache], AbstractContextManager[PersistedTokenCache]]


def flight(cache: PersistedTokenCache) -> AbstractContextManager[PersistedTokenCache]:
    return cache.single_flight()


def transaction(cache: PersistedTokenCache) -> AbstractContextManager[PersistedTokenCache]:
    return cache.transaction()


@pytest.fixture(params=["file", "dictionary"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request.param, tmp_path, request)


@pytest.fixture(params=[flight, transaction])
def enter(request: pytest.FixtureRequest) -> Enter:
    found: Enter = request.param
    return found


@pytest.fixture(params=["one object", "another object"])
def second(request: pytest.FixtureRequest, place: Place, cache: PersistedTokenCache) -> Any:
    """The cache of the second task."""
    return cache if request.param == "one object" else place.cache()


@pytest.fixture
def cache(place: Place) -> PersistedTokenCache:
    return place.cache()


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Like asyncio.run(), but with a time limit."""
    return asyncio.run(asyncio.wait_for(work, GENEROUS))


def elsewhere(work: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(1) as another:
        return another.submit(work).result(GENEROUS)


def set_token(cache: PersistedTokenCache, number: int, secret: str) -> None:
    cache.modify(REFRESH_TOKEN, token(number), token(number, secret))


def stored(place: Place) -> set[str]:
    """The secrets of the stored refresh tokens, as another thread finds them."""
    return elsewhere(lambda: secrets_of(place.cache(), REFRESH_TOKEN))


def everybody_gets_in(place: Place, *caches: PersistedTokenCache) -> None:
    """Nothing is held: this thread, another thread and a task all get in."""

    def both(cache: PersistedTokenCache) -> None:
        for name in (flight, transaction):
            with name(cache):
                pass

    async def task(cache: PersistedTokenCache) -> None:
        both(cache)

    for cache in (*caches, place.cache()):
        begin = time.monotonic()
        elsewhere(lambda cache=cache: both(cache))  # type: ignore[misc]
        run(task(cache))
        both(cache)
        assert time.monotonic() - begin < AT_ONCE


class Inside:
    """A task that is inside until the test lets it leave."""

    def __init__(self, context: AbstractContextManager[object]) -> None:
        self._context = context
        self._entered, self._leave = asyncio.Event(), asyncio.Event()
        self.task = asyncio.ensure_future(self._stay())

    async def _stay(self) -> None:
        with self._context:
            self._entered.set()
            await self._leave.wait()

    async def __aenter__(self) -> Inside:
        waiting = asyncio.ensure_future(self._entered.wait())
        await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.task.done():
            self.task.result()
        return self

    async def leave(self) -> None:
        self._leave.set()
        await self.task

    async def __aexit__(self, *_: object) -> None:
        await self.leave()


async def in_a_task(work: Callable[[], Result]) -> Result:
    """Runs the work in a task of its own, in this thread."""

    async def do() -> Result:
        return work()

    return await asyncio.ensure_future(do())


def is_refused(context: AbstractContextManager[object]) -> str:
    """The work is refused at once; returns the words of the error."""
    begin = time.monotonic()
    with pytest.raises(LockOrderError) as caught, context:
        pytest.fail("a second task is inside")
    assert time.monotonic() - begin < AT_ONCE
    return str(caught.value)


# ---- a second task is refused ----------------------------------------------------------------


def test_of_five_tasks_one_is_inside_and_four_are_told_the_recipe(
    place: Place, cache: PersistedTokenCache, enter: Enter
) -> None:
    """Found by a review of the cache: all five were inside."""
    inside = most = 0
    told: list[str] = []

    async def task(over: asyncio.Event) -> None:
        nonlocal inside, most
        try:
            with enter(cache):
                inside += 1
                most = max(most, inside)
                await over.wait()
                inside -= 1
        except LockOrderError as error:
            told.append(str(error))

    async def five() -> None:
        over = asyncio.Event()
        begin = time.monotonic()
        tasks = [asyncio.ensure_future(task(over)) for _ in range(5)]
        while inside + len(told) < 5:
            await asyncio.sleep(0)
        assert time.monotonic() - begin < AT_ONCE
        over.set()
        await asyncio.gather(*tasks)

    run(five())
    assert (most, len(told)) == (1, 4)
    for words in told:
        assert "task" in words
        assert "asyncio.to_thread(" in words
        assert "single_flight()" in words
    everybody_gets_in(place, cache)


def test_a_second_task_is_refused_by_whatever_object(
    place: Place, cache: PersistedTokenCache, second: PersistedTokenCache, enter: Enter
) -> None:
    async def main() -> None:
        async with Inside(enter(cache)):
            words = await in_a_task(lambda: is_refused(enter(second)))
            assert "asyncio.to_thread" in words
            await in_a_task(lambda: is_refused(enter(second)))  # each time

    run(main())
    everybody_gets_in(place, cache, second)


def test_a_second_task_begins_no_flight_while_the_first_one_has_a_transaction(
    place: Place, cache: PersistedTokenCache, second: PersistedTokenCache
) -> None:
    async def main() -> None:
        async with Inside(cache.transaction()):
            await in_a_task(lambda: is_refused(second.single_flight()))

    run(main())
    everybody_gets_in(place, cache, second)


def test_a_refused_task_changes_nothing_for_the_first_one(
    place: Place, cache: PersistedTokenCache, second: PersistedTokenCache
) -> None:
    async def main() -> None:
        async with Inside(cache.transaction()):
            await in_a_task(lambda: is_refused(second.transaction()))
            with pytest.raises(LockError):
                elsewhere(lambda: place.cache().transaction(0).__enter__())
        async with Inside(cache.single_flight()):
            await in_a_task(lambda: is_refused(second.single_flight()))
            with pytest.raises(LockError):
                elsewhere(lambda: place.cache().single_flight(0).__enter__())

    run(main())


def test_a_callback_of_the_loop_is_refused_like_another_task(
    place: Place, cache: PersistedTokenCache, second: PersistedTokenCache, enter: Enter
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str] = loop.create_future()
        async with Inside(enter(cache)):
            loop.call_soon(lambda: done.set_result(is_refused(enter(second))))
            assert "asyncio.to_thread" in await asyncio.wait_for(done, AT_ONCE)

    run(main())
    everybody_gets_in(place, cache, second)


@pytest.mark.parametrize("timeout", [0, 0.1, 1e12, -1])
def test_a_second_task_is_refused_at_once_whatever_its_timeout(
    cache: PersistedTokenCache, timeout: float
) -> None:
    async def main() -> None:
        async with Inside(cache.transaction()):
            await in_a_task(lambda: is_refused(cache.transaction(timeout)))
        async with Inside(cache.single_flight()):
            await in_a_task(lambda: is_refused(cache.single_flight(timeout)))

    run(main())


def test_when_the_first_task_is_done_the_second_one_gets_in(
    place: Place, cache: PersistedTokenCache, second: PersistedTokenCache, enter: Enter
) -> None:
    async def main() -> None:
        for number in range(3):
            async with Inside(enter(cache)):
                await in_a_task(lambda: is_refused(enter(second)))
            async with Inside(enter(second)):
                set_token(second, number, f"stored{number}")

    run(main())
    assert stored(place) == {"stored0", "stored1", "stored2"}


@pytest.mark.parametrize("how", ["cancelled", "failed", "timed out"])
def test_a_task_that_ended_inside_leaves_the_lock_free(
    place: Place, cache: PersistedTokenCache, second: PersistedTokenCache, enter: Enter, how: str
) -> None:
    async def inside(entered: asyncio.Event) -> None:
        with enter(cache):
            set_token(cache, 1, "changed inside")
            entered.set()
            if how == "failed":
                raise KeyError
            await asyncio.sleep(GENEROUS)

    async def main() -> None:
        entered = asyncio.Event()
        if how == "timed out":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(inside(entered), 0.05)
        else:
            task = asyncio.ensure_future(inside(entered))
            await entered.wait()
            task.cancel()
            await asyncio.wait({task})
        assert entered.is_set()
        async with Inside(enter(second)):
            set_token(second, 2, "of the second")
        assert await in_a_task(lambda: secrets_of(second, REFRESH_TOKEN)) >= {"of the second"}

    run(main())
    assert stored(place) == {"changed inside", "of the second"}
    everybody_gets_in(place, cache, second)


def test_a_loop_that_ends_while_a_task_is_inside_leaves_the_lock_free(
    place: Place, cache: PersistedTokenCache, enter: Enter
) -> None:
    """asyncio.run() cancels the tasks that are left."""

    async def inside() -> None:
        with enter(cache):
            await asyncio.sleep(GENEROUS)

    async def main() -> None:
        tasks.append(asyncio.ensure_future(inside()))
        await asyncio.sleep(0)

    tasks: list[object] = []
    run(main())
    everybody_gets_in(place, cache)


# ---- what is not refused ---------------------------------------------------------------------


def test_a_task_may_enter_again_what_it_is_inside(
    place: Place, cache: PersistedTokenCache, second: PersistedTokenCache
) -> None:
    async def main() -> None:
        with cache.single_flight(), second.single_flight():
            await asyncio.sleep(0)
            with cache.transaction(), cache.transaction(), second.transaction():
                set_token(cache, 1, "nested")
                await asyncio.sleep(0)

    run(main())
    assert stored(place) == {"nested"}
    everybody_gets_in(place, cache, second)


def test_a_task_may_enter_what_its_thread_was_inside_before_the_loop(
    place: Place, cache: PersistedTokenCache, second: PersistedTokenCache, enter: Enter
) -> None:
    async def main(number: int) -> None:
        with enter(cache), enter(second):
            set_token(second, number, f"stored{number}")
            await asyncio.sleep(0)
        with enter(second), enter(cache):
            pass

    with enter(cache):
        for number in range(2):
            run(main(number))
        with pytest.raises(LockError):
            elsewhere(lambda: place.cache().transaction(0).__enter__()) if (
                enter is transaction
            ) else elsewhere(lambda: place.cache().single_flight(0).__enter__())
    assert stored(place) == {"stored0", "stored1"}
    everybody_gets_in(place, cache, second)


def test_tasks_of_other_threads_wait_as_threads_do(
    place: Place, cache: PersistedTokenCache, second: PersistedTokenCache, enter: Enter
) -> None:
    left = threading.Event()
    entered: list[bool] = []

    async def of_another_thread() -> None:
        with enter(second):
            entered.append(left.is_set())

    async def main() -> None:
        waiting = threading.Thread(target=run, args=(of_another_thread(),), daemon=True)
        async with Inside(enter(cache)):
            waiting.start()
            await asyncio.sleep(0.05)
            left.set()
        await asyncio.to_thread(waiting.join, GENEROUS)
        assert not waiting.is_alive()

    run(main())
    assert entered == [True]


def test_programs_without_asyncio_do_not_import_it(tmp_path: Path) -> None:
    """Its import takes as long as that of this whole package."""
    done = python(
        """
        import sys
        from msal_extensions import FilePersistence, PersistedTokenCache
        before = "asyncio" in sys.modules   # MSAL may need it
        cache = PersistedTokenCache(FilePersistence(sys.argv[1]))
        with cache.single_flight(), cache.transaction():
            cache.modify("RefreshToken", {"home_account_id": "h"}, {"secret": "s"})
        print(before, "asyncio" in sys.modules)
        """,
        str(tmp_path / "cache.bin"),
    )
    before, after = done.stdout.split()
    assert before == after


# ---- add() and modify() of another task ------------------------------------------------------


def test_a_change_by_another_task_joins_and_is_stored_when_the_with_has_ended(
    place: Place, cache: PersistedTokenCache, second: PersistedTokenCache
) -> None:
    async def main() -> None:
        async with Inside(cache.transaction()):
            await in_a_task(lambda: set_token(cache, 1, "of the first"))
            await in_a_task(lambda: second.add(sign_in(2)))
            await in_a_task(lambda: set_token(second, 3, "of the second"))
            await in_a_task(lambda: set_token(cache, 4, "of the first, after that"))
        expected = {"of the first", "refresh2", "of the second", "of the first, after that"}
        assert stored(place) == expected
        for each in (cache, second):
            assert secrets_of(each, REFRESH_TOKEN) == expected

    run(main())
    everybody_gets_in(place, cache, second)


def test_a_change_by_another_task_is_stored_at_once_while_the_first_one_is_in_a_flight(
    place: Place, cache: PersistedTokenCache, second: PersistedTokenCache
) -> None:
    async def main() -> None:
        async with Inside(cache.single_flight()):
            await in_a_task(lambda: second.add(sign_in(2)))
            assert stored(place) == {"refresh2"}
            await in_a_task(lambda: second.remove_rt({**next(iter(tokens()))}))
            assert stored(place) == set()

    def tokens() -> list[dict[str, Any]]:
        return list(second.search(REFRESH_TOKEN))

    run(main())


def test_a_change_by_another_task_joins_although_the_first_one_fails(
    place: Place, cache: PersistedTokenCache, second: PersistedTokenCache
) -> None:
    async def main() -> None:
        inside = Inside(cache.transaction())
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(inside)
            await in_a_task(lambda: set_token(cache, 1, "of the first"))
            await in_a_task(lambda: second.add(sign_in(2)))
            inside.task.cancel()
            stack.pop_all()
        await asyncio.wait({inside.task})
        assert inside.task.cancelled()

    run(main())
    assert stored(place) == {"of the first", "refresh2"}


# ---- the recipe ------------------------------------------------------------------------------


class Renewals:
    """A renewal over a slow network, which needs the loop to go on."""

    def __init__(self, cache: PersistedTokenCache) -> None:
        self.cache = cache
        self.inside = self.most = self.over_the_network = 0
        self._mutex = threading.Lock()

    def renew(self, loop: asyncio.AbstractEventLoop) -> set[str]:
        with self.cache.single_flight():
            with self._mutex:
                self.inside += 1
                self.most = max(self.most, self.inside)
            # The loop must go on while the other threads wait for this one, or this line fails.
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), loop).result(GENEROUS)
            if not secrets_of(self.cache, REFRESH_TOKEN):
                self.over_the_network += 1
                self.cache.add(sign_in(1))
            with self._mutex:
                self.inside -= 1
            return secrets_of(self.cache, REFRESH_TOKEN)


def test_with_the_recipe_one_is_inside_at_a_time_and_the_loop_is_not_stalled(
    place: Place, cache: PersistedTokenCache
) -> None:
    renewals = Renewals(cache)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        found = await asyncio.gather(*(asyncio.to_thread(renewals.renew, loop) for _ in range(5)))
        assert found == [{"refresh1"}] * 5

    run(main())
    assert (renewals.most, renewals.over_the_network) == (1, 1)
    everybody_gets_in(place, cache)


def test_with_the_recipe_two_caches_of_one_place_take_turns(
    place: Place, cache: PersistedTokenCache
) -> None:
    one, other = Renewals(cache), Renewals(place.cache())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        each = (renewals.renew for renewals in (one, other) for _ in range(3))
        await asyncio.gather(*(asyncio.to_thread(renew, loop) for renew in each))

    run(main())
    assert one.over_the_network + other.over_the_network == 1


# ---- the page --------------------------------------------------------------------------------


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    """Each example gets what the text before it has made, and a cache with a token."""
    cache = PersistedTokenCache(FilePersistence(tmp_path / "cache.bin"))
    # MSAL takes the tenant of an authority from its token endpoint: see metadata_only().
    cache.add({**sign_in(1), "token_endpoint": "https://login.example.com/t"})
    app = msal.PublicClientApplication(
        "client",
        authority="https://login.example.com/tenant",
        instance_discovery=False,
        token_cache=cache,
        http_client=metadata_only(),
    )
    (account,) = app.get_accounts()
    given: dict[str, Any] = {"cache": cache, "app": app, "account": account, "scopes": ["scope"]}
    entered: list[str] = []
    acquire = CrossPlatLock.acquire

    def counting(lock: CrossPlatLock, timeout: float | None = None) -> CrossPlatLock:
        entered.append(threading.current_thread().name)
        return acquire(lock, timeout)

    tried, results = 0, []
    with mock.patch.object(CrossPlatLock, "acquire", counting):
        for number, example in enumerate(examples()):
            names = dict(given)
            exec(compile(example, f"example {number + 1} of {PAGE.name}", "exec"), names)
            main: Callable[[], Awaitable[Any]] | None = names.get("main")
            if main is not None:
                tried += 1
                assert secrets_of(cache) == {"access1"}
                results = run(_of(main))
                assert {result["access_token"] for result in results if result} <= {"access1"}
    assert tried == len(examples()) == 3
    assert len(results) == 1
    assert not results[0]  # the last example signs out
    assert secrets_of(cache) == set()
    assert entered
    assert "MainThread" not in entered  # no example waits in the thread of the loop
    assert any(name.startswith("flights") for name in entered)


async def _of(main: Callable[[], Awaitable[Any]]) -> list[dict[str, Any]]:
    found = await main()
    return found if isinstance(found, list) else [found]


def test_the_page_has_the_recipe_of_the_error(tmp_path: Path) -> None:
    cache = PersistedTokenCache(FilePersistence(tmp_path / "cache.bin"))

    async def main() -> str:
        async with Inside(cache.single_flight()):
            return await in_a_task(lambda: is_refused(cache.single_flight()))

    words = run(main())
    text = " ".join(PAGE.read_text("utf-8").split())
    recipe = [line.strip() for line in words.splitlines() if "(" in line and line[:1] == " "]
    assert len(recipe) >= 4
    for line in recipe:
        assert line in text, line
