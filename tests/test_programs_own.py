"""Programs use our classes in every way in which they could use those of 1.3.1.

They mock them, derive from them without a call of our __init__(), copy and pickle them, set their
attributes, and use names of their own.  P19 to P25 number findings of a review of the cache; each
test says what was found.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msal
import pytest

from msal_extensions import (
    CrossPlatLock,
    FilePersistence,
    LibsecretPersistence,
    LockError,
    PersistedTokenCache,
    PersistenceNotFound,
)
from msal_extensions.persistence import BasePersistence
from tests.support.processes import python
from tests.support.reference import reference_python
from tests.support.tokens import (
    ACCESS_TOKEN,
    REFRESH_TOKEN,
    metadata_only,
    secrets_in,
    secrets_of,
    sign_in,
    token,
)


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "directory" / "cache.bin"


def works(cache: PersistedTokenCache, other: Callable[[], PersistedTokenCache]) -> None:
    """Sign-in, search, single flight, change, and a save by another object all work."""
    cache.add(sign_in(1))
    with cache.single_flight():
        assert secrets_of(cache) == {"access1"}
    other().modify(ACCESS_TOKEN, token(2), token(2, "second"))
    assert secrets_of(cache) == {"access1", "second"}
    cache.remove_at(token(2))
    assert secrets_of(other()) == {"access1"}


# ---- P19: has_state_changed ----

CHANGED = """
    import json, sys
    from msal_extensions import FilePersistence, PersistedTokenCache
    cache = PersistedTokenCache(FilePersistence(sys.argv[1]))
    found = [cache.has_state_changed]
    event = json.loads(sys.argv[2])
    for _ in range(2):
        cache.add(event)
        found.append(cache.has_state_changed)
    (refresh,) = list(cache.search("RefreshToken"))
    found.append(cache.has_state_changed)
    cache.update_rt(refresh, "rotated")
    found.append(cache.has_state_changed)
    cache.remove_rt(refresh)
    found.append(cache.has_state_changed)
    cache.add(event)
    cache.serialize()
    found.append(cache.has_state_changed)
    cache.add(event)
    cache.deserialize("{}")
    found.append(cache.has_state_changed)
    print(found)
"""


def test_has_state_changed_is_what_it_is_in_1_3_1(tmp_path: Path) -> None:
    """P19: it was False after add(); MSAL's own tests look at it."""
    command, environment = reference_python(portalocker=True)
    event = json.dumps(sign_in(1))
    theirs = python(CHANGED, str(tmp_path / "t"), event, command=command, environment=environment)
    ours = python(CHANGED, str(tmp_path / "o"), event)
    assert "True" in theirs.stdout
    assert ours.stdout == theirs.stdout


# ---- P20: mocks ----


def wired(persistence: Any) -> Any:
    """A mock that keeps its text."""
    kept: dict[str, Any] = {}

    def save(content: str) -> None:
        kept.update(content=content, time=time.time())

    def load() -> str:
        if not kept:
            raise PersistenceNotFound
        text: str = kept["content"]
        return text

    def modified() -> float:
        if not kept:
            raise PersistenceNotFound
        found: float = kept["time"]
        return found

    persistence.save.side_effect = save
    persistence.load.side_effect = load
    persistence.time_last_modified.side_effect = modified
    persistence.is_encrypted = False
    return persistence


@pytest.mark.parametrize(
    "make",
    [
        lambda: mock.Mock(spec=FilePersistence),
        lambda: mock.MagicMock(spec=FilePersistence),
        lambda: mock.create_autospec(FilePersistence, instance=True),
        lambda: mock.create_autospec(FilePersistence),
        lambda: mock.Mock(spec=LibsecretPersistence),
        lambda: mock.Mock(),
        lambda: mock.MagicMock(),
    ],
    ids=["Mock", "MagicMock", "instance", "class", "Libsecret", "without spec", "MagicMock alone"],
)
def test_a_mock_is_a_persistence(make: Callable[[], Any], tmp_path: Path) -> None:
    """P20: some mocks raised a TypeError."""
    persistence = make()
    persistence.get_location.side_effect = lambda: str(tmp_path / "mock")
    wired(persistence)
    lock = tmp_path / "lockfile"
    works(PersistedTokenCache(persistence, lock), lambda: PersistedTokenCache(persistence, lock))
    with PersistedTokenCache(persistence, lock).changes() as changes:
        assert not changes.wait(0)
    assert persistence.save.called


# ---- P21: no __init__() of ours ----


def test_a_subclass_need_not_call_our_init(location: Path) -> None:
    """P21: it raised an AttributeError."""

    class Own(FilePersistence):
        def __init__(self) -> None:
            self._location = str(location)

    location.parent.mkdir()
    Own().save("{}")
    assert Own().load() == "{}"
    works(PersistedTokenCache(Own()), lambda: PersistedTokenCache(Own()))
    Own().verify()
    Own().delete()


def test_a_subclass_that_overrides_all_needs_no_attribute_of_ours(tmp_path: Path) -> None:
    """P21: it raised an AttributeError."""
    kept: dict[str, Any] = {}

    class Own(FilePersistence):
        def __init__(self) -> None:
            pass

        def save(self, content: str) -> None:
            kept.update(content=content, time=time.time())

        def load(self) -> str:
            if not kept:
                raise PersistenceNotFound
            return str(kept["content"])

        def time_last_modified(self) -> float:
            if not kept:
                raise PersistenceNotFound
            return float(kept["time"])

        def get_location(self) -> str:
            return str(tmp_path / "nowhere")

    works(PersistedTokenCache(Own()), lambda: PersistedTokenCache(Own()))


def test_what_1_3_1_pickled_works(location: Path, tmp_path: Path) -> None:
    """P21: it raised an AttributeError."""
    command, environment = reference_python(portalocker=False)
    dump = """
        import pickle, sys
        from msal_extensions import FilePersistence
        with open(sys.argv[2], "wb") as file:
            pickle.dump(FilePersistence(sys.argv[1]), file)
    """
    pickled = tmp_path / "pickle"
    python(dump, str(location), str(pickled), command=command, environment=environment)
    persistence = pickle.loads(pickled.read_bytes())
    assert type(persistence) is FilePersistence
    works(PersistedTokenCache(persistence), lambda: PersistedTokenCache(persistence))


# ---- P22: copies ----


def used_by_msal(persistence: BasePersistence) -> None:
    app = msal.PublicClientApplication(
        "client",
        authority="https://login.example.com/tenant",
        token_cache=persistence,
        validate_authority=False,
        instance_discovery=False,
        http_client=metadata_only(),
    )
    assert isinstance(app.get_accounts(), list)


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))],
    ids=["copy", "deepcopy", "pickle"],
)
@pytest.mark.parametrize(
    "use",
    [lambda it: None, lambda it: hasattr(it, "search"), used_by_msal],
    ids=["new", "asked", "used by MSAL"],
)
def test_a_copy_of_a_persistence_saves_into_its_own_file(
    use: Callable[[Any], object], copied: Callable[[Any], Any], location: Path, tmp_path: Path
) -> None:
    """P22: it saved into the file of the original."""
    first = FilePersistence(location)
    use(first)
    second = copied(first)
    second._location = str(tmp_path / "second")
    second.add(sign_in(2))
    first.add(sign_in(1))
    assert secrets_in(tmp_path / "second") == {"access2"}
    assert secrets_in(location) == {"access1"}
    assert copied(second).load() == second.load()


def test_a_copied_cache_follows_the_persistence_by_itself(location: Path) -> None:
    cache = PersistedTokenCache(FilePersistence(location))
    cache.add(sign_in(1))
    copied = copy.copy(cache)
    PersistedTokenCache(FilePersistence(location)).add(sign_in(2))
    assert secrets_of(cache) == {"access1", "access2"}
    copied.add(sign_in(3))
    assert secrets_in(location) == {"access1", "access2", "access3"}


# ---- P23: attributes ----


class Lazy(FilePersistence):
    """Sets an attribute at its first use."""

    def entry(self) -> str:
        if getattr(self, "_entry", None) is None:
            self._entry = "made"
        return self._entry

    @property
    def broken(self) -> str:
        return self.mispelled  # type: ignore[attr-defined,no-any-return]


def test_attributes_are_what_python_says(location: Path) -> None:
    """P23: our own __getattr__() was asked first."""
    persistence = Lazy(location)
    assert persistence.entry() == "made"
    with pytest.raises(AttributeError, match="mispelled"):
        _ = persistence.broken
    for name in ("_save", "_reload", "_commit", "_purge", "serialize", "deserialize", "laod"):
        assert not hasattr(persistence, name), name


def test_asking_for_a_method_has_no_effect(location: Path) -> None:
    """P23: it made directories."""
    persistence = FilePersistence(location)
    os.rmdir(location.parent)
    before = dict(vars(persistence))
    for name in dir(persistence):
        hasattr(persistence, name)
    assert vars(persistence) == before
    assert not location.parent.exists()


def test_a_persistence_has_all_that_msal_asks_of_a_token_cache(location: Path) -> None:
    """P23: compares our list of names with the code of MSAL."""
    sources = [Path(msal.__file__).with_name(name) for name in ("application.py",)]
    asked = {
        word.split(".token_cache.")[1].split("(")[0].split(".")[0].split(",")[0].strip(" )")
        for source in sources
        for word in source.read_text(encoding="utf-8").split()
        if ".token_cache." in word
    }
    assert {"search", "add", "remove_rt", "CredentialType"} <= asked
    public = {name for name in vars(msal.TokenCache) if not name.startswith("_")}
    persistence = FilePersistence(location)
    missing = {name for name in asked | public if not hasattr(persistence, name)}
    assert missing == set()


def test_msal_signs_in_and_out_with_a_persistence(location: Path) -> None:
    persistence = FilePersistence(location)
    persistence.add(sign_in(1))
    assert len(list(persistence.find(REFRESH_TOKEN))) == 1
    used_by_msal(persistence)
    assert PersistedTokenCache(persistence).has_state_changed is False
    (refresh,) = persistence.search(REFRESH_TOKEN)
    persistence.remove_rt(refresh)
    assert secrets_of(PersistedTokenCache(persistence), REFRESH_TOKEN) == set()


# ---- P25: names of the program's own ----


class Collides:
    """Takes the place of a helper of the program: only the program may use it."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        raise AssertionError("a helper of the program was called")

    __bool__ = __iter__ = __len__ = __enter__ = __exit__ = __call__
    __eq__ = __lt__ = __call__
    __hash__ = None  # type: ignore[assignment]


#: Names of MSAL or 1.3.1: a program overrides them to change what the cache does.
NOT_OURS = {
    *dir(msal.SerializableTokenCache()),
    *("_persistence", "_lock_location", "_last_sync", "_reload_if_necessary"),
    *("_location", "_file_persistence", "_agent", "_dp_agent", "_abc_impl"),
    *("_get_app_metadata", "_service_name", "_account_name"),
}
#: Names that programs are known to use, or that earlier versions of ours had.
LIKELY = (
    *("_save", "_read", "_replace", "_stamp", "_commit", "_load", "_reload", "_parse", "_text"),
    *("_encoded", "_purge", "_quarantine", "_remember", "_leave", "_pending", "_content", "_lock2"),
    *("_modified", "_generation", "_saving", "_transaction", "_probe", "_occupy", "_copy_aside"),
    *("_swept", "_store", "_memo", "_mutex", "_freshness", "_entry", "_cache_for_msal", "_write"),
)


def private(thing: object) -> Iterator[str]:
    """Private names that a subclass could use by chance: not those that Python mangles."""
    mangled = tuple(f"_{kind.__name__.lstrip('_')}__" for kind in type(thing).__mro__)
    for name in {*dir(thing), *LIKELY}:
        if name.startswith("_") and not name.startswith(("__", *mangled)) and name not in NOT_OURS:
            yield name


def test_a_cache_has_no_name_that_a_subclass_could_meet(location: Path) -> None:
    """P25: `_commit` and `_save` were such names."""
    names = list(private(PersistedTokenCache(FilePersistence(location))))
    assert set(LIKELY) <= set(names)
    own = type("Own", (PersistedTokenCache,), {name: Collides() for name in names})

    def make() -> PersistedTokenCache:
        made: PersistedTokenCache = own(FilePersistence(location))
        return made

    works(make(), make)
    cache = make()
    expired = token(3, expires_in=-9)
    cache.modify(ACCESS_TOKEN, expired, expired)
    assert secrets_of(cache) == {"access1"}
    with cache.changes() as changes:
        assert not changes.wait(0)


def test_a_cache_changes_and_looks_up_without_methods_that_1_3_1_has_not(location: Path) -> None:
    """A subclass that was written for 1.3.1 may have other methods with these names."""
    members = {name: Collides() for name in ("transaction", "single_flight", "changes")}
    own = type("Own", (PersistedTokenCache,), members)
    cache = own(FilePersistence(location))
    cache.add(sign_in(1))
    expired = token(2, expires_in=-9)
    cache.modify(ACCESS_TOKEN, expired, expired)
    assert secrets_of(cache) == {"access1"}
    assert secrets_in(location) == {"access1"}
    location.write_text("damaged")
    healing = own(FilePersistence(location), on_unreadable="quarantine")
    assert secrets_of(healing) == set()


def test_a_lock_has_no_name_that_a_subclass_could_meet(location: Path) -> None:
    location.parent.mkdir()
    names = {*private(CrossPlatLock(location)), "acquire", "release", "locked", "still_held"}
    own = type("Own", (CrossPlatLock,), {name: Collides() for name in names - {"_lockpath"}})
    with own(location), pytest.raises(LockError), CrossPlatLock(location):
        pytest.fail("two were inside")
    with CrossPlatLock(location), pytest.raises(LockError), own(location):
        pytest.fail("two were inside")


@pytest.mark.parametrize("overrides", [False, True])
def test_a_persistence_has_no_name_that_a_subclass_could_meet(
    overrides: bool, location: Path
) -> None:
    """P25: `_replace` and `_read` were such names."""
    names = list(private(FilePersistence(location)))
    assert set(LIKELY) <= set(names)
    members: dict[str, Any] = {name: Collides() for name in names}
    if overrides:
        members["save"] = lambda self, content: FilePersistence(location).save(content)
    own = type("Own", (FilePersistence,), members)
    works(PersistedTokenCache(own(location)), lambda: PersistedTokenCache(own(location)))
    own(location).verify()
    own(location).touch()
    own(location).delete()


def test_a_persistence_of_ones_own_may_have_any_name(tmp_path: Path) -> None:
    """P25: ours used `_stamp`."""
    kept = wired(mock.Mock())
    members: dict[str, Any] = {name: Collides() for name in LIKELY}
    for name in ("save", "load", "time_last_modified"):
        members[name] = staticmethod(getattr(kept, name))
    members["get_location"] = lambda self: str(tmp_path / "own")
    own = type("Own", (BasePersistence,), members)
    works(PersistedTokenCache(own()), lambda: PersistedTokenCache(own()))


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_bytes_of_ones_own_serialize_reach_ones_own_persistence(kind: Any, tmp_path: Path) -> None:
    """P25: it raised a TypeError; programs encrypt there."""
    kept: dict[str, Any] = {}

    class Bytes(BasePersistence):
        def save(self, content: Any) -> None:
            assert type(content) is bytes
            kept.update(content=content, time=time.time())

        def load(self) -> Any:
            if not kept:
                raise PersistenceNotFound
            return bytearray(kept["content"])

        def time_last_modified(self) -> float:
            if not kept:
                raise PersistenceNotFound
            return float(kept["time"])

        def get_location(self) -> str:
            return str(tmp_path / "bytes")

    class Turned(PersistedTokenCache):
        def serialize(self) -> Any:
            return kind(super().serialize().encode()[::-1])

        def deserialize(self, state: Any) -> None:
            super().deserialize(bytes(state)[::-1] if state else state)

    works(Turned(Bytes()), lambda: Turned(Bytes()))
    assert kept["content"].endswith(b"{")
