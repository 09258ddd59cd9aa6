"""Random operations and faults: store and caches always show what a simple model says.

Two processes have caches over one file, and two threads have caches over one dictionary.
tests/support/cache_model.py has the model.  MSALEX_EXAMPLES is the number of examples for each
store, and MSALEX_SEED chooses others; see `python3 dev.py prove`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, configuration, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support import tally
from tests.support.cache_actor import Acting, ActingProcess, ActingThread, acting
from tests.support.cache_model import CacheModel, Entries, Order, Stored, encoded, flattened, key_of
from tests.support.capability import REMOVABLE_OPEN_FILES, requires
from tests.support.dictionary_store import DictionaryPersistence, DictionaryStore, Shelf
from tests.support.tokens import ACCESS_TOKEN, REFRESH_TOKEN, sign_in

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("MSALEX_EXAMPLES", "300"))
SEED = os.environ.get("MSALEX_SEED")
STEPS = 20
#: For one tick of the clock an equal stamp may hide other content; then the test searches again.
TICK_S = 0.06
#: How often one save may change the cache again before the cache gives up.
ROUNDS = 10

CAN_FORK = not requires("os.fork").args[0]
CAN_ROB = not requires(REMOVABLE_OPEN_FILES).args[0]
ACCOUNT = "Account"
KINDS = (REFRESH_TOKEN, ACCESS_TOKEN, ACCOUNT)
USERS = (0, 1)
#: Most of these are equal in Python and different in JSON.
VALUES = (1, True, 1.0, "one", [1], [True])


class Op(NamedTuple):
    """One call that changes one cache."""

    do: str
    user: int
    kind: str
    value: Any

    def order(self) -> Order:
        """The operation as an order, for the model and for an actor."""
        if self.do == "add":
            event = sign_in(self.user)
            event["response"]["refresh_token"] += str(self.value)
            return {"do": "add", "event": event}
        entry = {
            "home_account_id": f"user{self.user}.tenant",
            "environment": "login.example.com",
            "client_id": "client",
            "realm": "tenant",
            "target": "scope",
            "expires_on": "4000003600",
        }
        if self.do == "backwards":
            entry = dict(reversed(entry.items()))
        return {
            "do": "in place" if self.do == "in place" else "modify",
            "kind": self.kind,
            "entry": entry,
            "new": None if self.do == "remove" else {"extra": self.value},
        }


USER = st.sampled_from(USERS)
KIND = st.sampled_from(KINDS)


def ops(do: str, kinds: Sequence[str], values: Sequence[Any]) -> st.SearchStrategy[Op]:
    """All operations of this kind."""
    kind, value = st.sampled_from(kinds), st.sampled_from(values)
    return st.builds(Op, st.just(do), USER, kind, value)


MODIFY = ops("modify", KINDS[:2], VALUES)
#: Operations that do not search first.
BLIND = st.one_of(
    MODIFY,
    ops("remove", KINDS, [None]),
    ops("add", [""], [1, 2]),
    ops("backwards", KINDS[:2], VALUES),
)
OP = BLIND | ops("in place", KINDS[:2], VALUES)
OPS = st.lists(OP, min_size=1, max_size=2)
OTHERS = st.lists(OP, max_size=2)

#: The cache objects: the number of the actor that has it, and its number in that actor.
CACHES = {"A": (0, 0), "a": (0, 1), "B": (1, 0)}
CACHE = st.sampled_from(tuple(CACHES))


class Nested(NamedTuple):
    """The save itself changes the cache."""

    op: Op


class Conflict(NamedTuple):
    """Somebody takes the lock away, and the cache of the other actor is changed."""

    others: Sequence[Op]


class Fail(NamedTuple):
    """The save fails."""


class Sibling(NamedTuple):
    """Another cache object of the same thread is changed."""

    op: Op


class Search(NamedTuple):
    kind: str


class Bytes(NamedTuple):
    """A change with a value that JSON cannot hold."""

    op: Op


class Fork(NamedTuple):
    """A child searches, changes something, and ends."""

    op: Op


class Refused(NamedTuple):
    """The other actor finds that the lock is held."""


#: Events before one save.
Before = Sequence[Nested | Conflict | Fail]
#: Events inside a transaction.
InBody = Op | Search | Conflict | Sibling | Fork | Bytes | Refused


class World:
    """A store, and two actors that use it."""

    name: str
    can_fork = False
    can_rob = True
    #: Does the store refuse content that was made from another version?
    sees_versions = False

    def __init__(self) -> None:
        self.actors: list[Acting] = []
        self.counts: Counter[str] = Counter()

    def open(self) -> Order:
        """A new place with nothing in it; returns what an actor needs to open it."""
        raise NotImplementedError

    def content(self) -> Entries:
        raise NotImplementedError

    def rob(self) -> None:
        """Takes the lock away from its holder."""
        raise NotImplementedError

    def leave(self) -> None:
        """Ends the example."""

    def close(self) -> None:
        for actor in self.actors:
            actor.close()


class FileWorld(World):
    """Processes, over a file."""

    name = "file"
    can_fork, can_rob = CAN_FORK, CAN_ROB

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory, self._number = directory, 0
        self.actors = [ActingProcess(), ActingProcess()]

    def open(self) -> Order:
        self._number += 1
        self._location = self._directory / f"{self._number}.json"
        self._lock = self._directory / f"{self._number}.lock"
        return {"location": str(self._location), "lock": str(self._lock)}

    def content(self) -> Entries:
        try:
            return flattened(self._location.read_text())
        except FileNotFoundError:
            return {}

    def rob(self) -> None:
        self._lock.unlink(missing_ok=True)  # it may be gone already

    def leave(self) -> None:
        self._location.unlink(missing_ok=True)
        assert not self._lock.exists()


class DictionaryWorld(World):
    """Threads, over a dictionary with versions."""

    name = "dictionary"
    sees_versions = True

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._shelf, self._lock = Shelf(), str(directory / "lock")
        self.actors = [ActingThread(self._make), ActingThread(self._make)]

    def _make(self, _: Order) -> tuple[Any, str | None]:
        return DictionaryPersistence("shelf", self._shelf), self._lock

    def open(self) -> Order:
        self._shelf = Shelf()
        return {}

    def content(self) -> Entries:
        return flattened(self._shelf.data.decode())

    def rob(self) -> None:
        self._shelf.commit.steal()


class Cache:
    """One cache object, and its model."""

    def __init__(self, actor: Acting, number: int, stored: Stored) -> None:
        self.model = CacheModel(stored)
        self.actor = actor
        self._number = number

    def tell(self, order: Order) -> None:
        self.actor.tell({"cache": self._number, **order})

    def answer(self, order: Order) -> Order:
        """The answer to a call that saves nothing."""
        self.tell(order)
        heard = self.hear()
        assert "done" in heard, heard
        return heard

    def hear(self) -> Order:
        heard = self.actor.hear()
        self.model.lines += heard["lines"]
        return heard

    def does(self, order: Order) -> Order:
        """The answer to a call; it must raise nothing."""
        heard = self.answer(order)
        assert heard["done"] is None, heard
        return heard

    def order(self, op: Op) -> Order:
        """Sends the order of an operation.  An entry that is not stored yet is never changed in
        place."""
        order = op.order()
        if order["do"] == "in place" and self.model.is_pending(key_of(order)):
            return {**order, "do": "modify"}
        return order

    def assert_told(self) -> None:
        """The log has a line if events were dropped, and only then."""
        model = self.model
        most = model.dropped + model.dropped_idle
        told = f"{model.lines} lines, {most} events dropped"
        assert min(model.dropped, 1) <= model.lines <= most, told
        model.dropped = model.dropped_idle = model.lines = 0


class Machine(RuleBasedStateMachine):
    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.counts = self.world.counts
        self.counts["examples"] += 1
        self.stored = Stored()
        self.is_idle = False  # true again when the whole step succeeded
        #: An endless save takes ten rounds; one in each example is enough.
        self.is_tired = False
        place = {"do": "open", "caches": 2, **self.world.open()}
        for actor in self.world.actors:
            actor.tell(place)
            heard = actor.hear()
            assert heard["done"] is None, heard
        self.caches = {
            name: Cache(self.world.actors[actor], number, self.stored)
            for name, (actor, number) in CACHES.items()
        }
        self.is_idle = True

    def teardown(self) -> None:
        if self.is_idle:
            self.world.leave()
        else:
            for actor in self.world.actors:
                actor.start_over()

    # ---- the parts of a step ----

    @contextlib.contextmanager
    def _step(self) -> Generator[None]:
        self.counts["steps"] += 1
        self.is_idle = False
        yield
        self._assert_stored()
        self.is_idle = True

    def _assert_stored(self) -> None:
        content = self.world.content()
        assert content == self.stored.entries, f"stored {content}, expected {self.stored.entries}"

    def _other(self, cache: Cache) -> Cache:
        """An actor that is not in the middle of a call."""
        return self.caches["A" if cache is self.caches["B"] else "B"]

    def _change(self, cache: Cache, op: Op, before: Sequence[Before] = ()) -> None:
        """A call that is not inside a transaction.

        :param before: The events before its first save, before its second save, and so on.
        """
        self.counts["changes"] += 1
        cache.model.begin(is_explicit=False)
        order = cache.order(op)
        cache.model.change(order)
        cache.tell(order)
        self._follow(cache, before)

    def _change_inside(self, cache: Cache, op: Op) -> None:
        self.counts["changes"] += 1
        order = cache.order(op)
        if order["do"] == "in place":
            cache.model.look()
        cache.model.change(order)
        cache.does(order)

    def _follow(self, cache: Cache, before: Sequence[Before], raises: str | None = None) -> None:
        """Follows a call to its end.

        :param raises: The error that the program itself raises.
        """
        model, saves, failed = cache.model, 0, False
        content: Entries = {}
        live = 0  # the number of changes in the content
        while True:
            heard = cache.hear()
            if saves and not failed:
                if heard["refused"]:
                    model.look()
                else:
                    model.save(content, live)
            if "done" in heard:
                break
            assert not failed, "it goes on after a failed save"
            content, live = flattened(heard["replace"]), len(model.live)
            self._assert_right(model, content)
            for event in before[saves] if saves < len(before) else ():
                failed = failed or isinstance(event, Fail)
                self._disturb(cache, event)
            saves += 1
            cache.tell({"do": "fail" if failed else "go"})
        self._end(cache, heard, saves, failed, raises)

    def _disturb(self, cache: Cache, event: Nested | Conflict | Fail) -> None:
        if isinstance(event, Conflict):
            self._rob(cache, event.others)
        elif isinstance(event, Nested):
            self.counts["nested changes"] += 1
            cache.model.change(event.op.order())
            cache.does(event.op.order())
        else:
            self.counts["failing saves"] += 1

    def _assert_right(self, model: CacheModel, content: Entries) -> None:
        """Is this the content that the cache should be about to store?

        If others have changed the store meanwhile, the cache may not know it yet, except while it
        holds the lock of a file, because then nothing would refuse its save.
        """
        if model.has_sibling:
            model.look()
        if model.seen != self.stored.version:
            may_be_stale = model.is_robbed or self.world.sees_versions
            if may_be_stale and content == model.memory:
                return
            model.look()
        assert content == model.memory, f"storing {content}, expected {model.memory}"

    def _end(
        self, cache: Cache, heard: Order, saves: int, failed: bool, raises: str | None
    ) -> None:
        """A call has ended."""
        model, told = cache.model, heard["done"]
        if not failed:
            model.look()
        expected = {"PersistenceError"} if failed else {raises}
        if saves == ROUNDS and model.live and not failed:  # the changes never end
            expected, failed = {"LockError"}, True
        if model.is_gone:
            expected = expected - {None} | {"LockLost"}
            self.counts["refused changes"] += 1
        assert told in expected, f"{heard}, expected {expected}"
        if not failed:
            unsaved = f"not on disk: {model.memory}, stored: {self.stored.entries}"
            assert model.memory == self.stored.entries, unsaved
        self.counts["dropped events"] += model.dropped
        cache.assert_told()
        model.end(is_saved=not failed)
        self._assert_stored()

    def _rob(self, cache: Cache, others: Sequence[Op]) -> None:
        if not self.world.can_rob:
            return
        self.counts["conflicts"] += 1
        self.world.rob()
        cache.model.is_robbed = True
        for op in others:
            self._change(self._other(cache), op)

    def _search(self, cache: Cache, kind: str) -> None:
        self.counts["searches"] += 1
        model = cache.model
        model.look()
        for pause in (0,) if self.world.sees_versions else (0, TICK_S):
            time.sleep(pause)
            heard = cache.does({"do": "search", "kind": kind})
            found = sorted(encoded(entry) for entry in heard["found"])
            if found == model.of(kind):
                break
            self.counts["late searches"] += 1
        assert found == model.of(kind), f"found {found}, expected {model.of(kind)}"
        self.counts["dropped events"] += model.dropped
        cache.assert_told()

    def _refuse_bytes(self, cache: Cache, op: Op) -> None:
        self.counts["refused bytes"] += 1
        heard = cache.answer({**op.order(), "do": "bytes"})
        assert heard["done"] == "TypeError", heard

    def _fork(self, cache: Cache, op: Op) -> None:
        """The child gets a model of its own, in which nothing waits."""
        if not self.world.can_fork:
            return
        self.counts["forks"] += 1
        cache.does({"do": "fork"})
        parent, cache.model = cache.model, CacheModel(self.stored)
        self._search(cache, op.kind)
        if parent.is_explicit and not parent.is_robbed:
            heard = cache.answer({"do": "begin", "timeout": 0.01})
            assert heard["done"] == "LockError", heard
            assert str(cache.actor.pid) in heard["words"], heard
        else:
            self._change(cache, op)
        cache.model = parent
        cache.does({"do": "leave"})

    # ---- the steps ----

    @rule(name=CACHE, op=OP)
    def change(self, name: str, op: Op) -> None:
        with self._step():
            self._change(self.caches[name], op)

    @rule(name=CACHE, kind=KIND)
    def search(self, name: str, kind: str) -> None:
        with self._step():
            self._search(self.caches[name], kind)

    @rule(name=CACHE, op=OP)
    def failing_save(self, name: str, op: Op) -> None:
        with self._step():
            self._change(self.caches[name], op, [[Fail()]])

    @rule(
        name=CACHE,
        op=OP,
        before=st.lists(
            st.lists(st.builds(Nested, BLIND) | st.builds(Conflict, OTHERS), max_size=2),
            min_size=1,
            max_size=3,
        ),
        fails=st.booleans(),
    )
    def disturbed_save(self, name: str, op: Op, before: list[Before], fails: bool) -> None:
        with self._step():
            self._change(self.caches[name], op, [*before, [Fail()]] if fails else before)

    @rule(
        name=CACHE,
        body=st.lists(
            st.one_of(
                OP,
                st.builds(Search, KIND),
                st.builds(Conflict, OTHERS),
                st.builds(Sibling, OP),
                st.builds(Fork, OP),
                st.builds(Bytes, MODIFY),
                st.just(Refused()),
            ),
            max_size=4,
        ),
        before=st.one_of(
            st.none(), st.just(Fail()), st.builds(Nested, BLIND), st.builds(Conflict, OTHERS)
        ),
        raises=st.booleans(),
    )
    def transaction(
        self, name: str, body: list[InBody], before: Fail | Nested | Conflict | None, raises: bool
    ) -> None:
        with self._step():
            self.counts["transactions"] += 1
            cache = self.caches[name]
            cache.does({"do": "begin"})
            cache.model.begin(is_explicit=True)
            for each in body:
                self._in_the_body(cache, each)
            cache.tell({"do": "end", "raises": raises})
            self._follow(cache, [[before]] if before else [], "InTheBody" if raises else None)

    def _in_the_body(self, cache: Cache, event: InBody) -> None:
        if isinstance(event, Op):
            self._change_inside(cache, event)
        elif isinstance(event, Search):
            self._search(cache, event.kind)
        elif isinstance(event, Bytes):
            self._refuse_bytes(cache, event.op)
        elif isinstance(event, Fork):
            self._fork(cache, event.op)
        elif isinstance(event, Sibling):
            siblings = [each for each in self.caches.values() if each.actor is cache.actor]
            for other in siblings:
                if other is not cache:
                    self.counts["changes by a sibling"] += 1
                    before = self.stored.version
                    self._change(other, event.op)
                    cache.model.has_sibling |= self.stored.version != before
        elif cache.model.is_robbed:
            pass  # one holder is enough; another would not be refused
        elif isinstance(event, Conflict):
            self._rob(cache, event.others)
        else:
            heard = self._other(cache).answer({"do": "begin", "timeout": 0})
            assert heard["done"] == "LockError", heard

    @rule(name=CACHE, op=MODIFY)
    def bytes_are_refused(self, name: str, op: Op) -> None:
        with self._step():
            cache = self.caches[name]
            if not cache.model.waiting:  # otherwise it is open whether that is saved meanwhile
                self._refuse_bytes(cache, op)

    @rule(name=CACHE, ops=OPS)
    @precondition(lambda self: self.world.can_fork)
    def fork(self, name: str, ops: list[Op]) -> None:
        with self._step():
            for op in ops:
                self._fork(self.caches[name], op)

    @precondition(lambda self: not self.is_tired)
    @rule(name=CACHE, op=OP, user=USER)
    def save_that_changes_the_cache_each_time(self, name: str, op: Op, user: int) -> None:
        with self._step():
            self.counts["endless saves"] += 1
            self.is_tired = True
            rounds = [Nested(Op("modify", user, REFRESH_TOKEN, n)) for n in range(ROUNDS + 1)]
            self._change(self.caches[name], op, [[each] for each in rounds])


def explore(world: World, directory: Path) -> None:
    """Runs the state machine and reports what it did."""
    configuration.set_hypothesis_home_dir(directory)  # and not the working directory

    class Exploring(Machine):
        pass

    Exploring.world = world
    Exploring.__qualname__ = f"{Machine.__qualname__} over a {world.name}"
    differences, began = 1, time.monotonic()
    try:
        run_state_machine_as_test(
            Exploring if SEED is None else seed(int(SEED))(Exploring),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                derandomize=SEED is None,
                deadline=None,
                database=None,
                print_blob=True,
                report_multiple_bugs=False,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
        differences = 0
    finally:
        counts = ", ".join(f"{count:,} {name}" for name, count in sorted(world.counts.items()))
        took = f"{time.monotonic() - began:.0f} s"
        print(f"\n{world.name}, {took}, seed: {SEED or 'always the same one'}: {counts}")
        print(f"differences: {differences}")
        tally.tried(world.counts["examples"])
        tally.lost(differences)


TIMEOUT_S = 600 + EXAMPLES


@pytest.fixture
def file_world(tmp_path: Path) -> Iterator[FileWorld]:
    world = FileWorld(tmp_path)
    yield world
    world.close()


@pytest.fixture
def dictionary_world(tmp_path: Path) -> Iterator[DictionaryWorld]:
    with acting(DictionaryStore):
        world = DictionaryWorld(tmp_path)
        yield world
        world.close()


@pytest.mark.timeout(TIMEOUT_S)
def test_two_processes_store_in_a_file_what_the_model_says(
    file_world: FileWorld, tmp_path: Path
) -> None:
    explore(file_world, tmp_path)


@pytest.mark.timeout(TIMEOUT_S)
def test_two_threads_store_in_a_dictionary_what_the_model_says(
    dictionary_world: DictionaryWorld, tmp_path: Path
) -> None:
    explore(dictionary_world, tmp_path)
