"""A keychain that several programs use, and the person that macOS asks, over the fake keychain.

Run by test_over_fakes.py as test_keychain.py is.  The fake keychain lies in a directory, so that
processes share it; fake_keychain.h has its rules.
"""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from msal_extensions import (
    KeychainDenied,
    KeychainPersistence,
    KeychainTimeout,
    LockError,
    PersistedTokenCache,
    PersistenceNotFound,
)
from msal_extensions import _transactions as transactions
from msal_extensions._native import keychain
from tests.support.processes import Member, eventually, python, together

CACHE = """
import json, os, sys, time
from msal_extensions import KeychainPersistence, PersistedTokenCache
number, directory = sys.argv[1:3]
cache = PersistedTokenCache(
    KeychainPersistence(directory + "/signal", "service", directory, timeout=60)
)
def change(name):
    entry = {"home_account_id": name, "environment": "e", "client_id": "c"}
    cache.modify("RefreshToken", entry, {"secret": "s" * 500})
def names():
    return {entry["home_account_id"] for entry in cache.search("RefreshToken")}
"""


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keychain of this test's own, which other processes share."""
    for name in ("keychains", "caches"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("FAKE_KEYCHAIN_DIRECTORY", str(tmp_path / "keychains"))
    monkeypatch.setenv("FAKE_CACHES", str(tmp_path / "caches"))
    monkeypatch.setenv("FAKE_KEYCHAIN_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FAKE_PROGRAM", "python3")


def person_is_asked(directory: Path) -> bool:
    """Whether the log of the fake keychain shows a call that asked."""
    log = directory / "log"
    return log.exists() and "asked" in log.read_text()


def persistence_in(directory: Path, signal_name: str = "signal", **options: Any) -> Any:
    return KeychainPersistence(directory / signal_name, "service", str(directory), **options)


def change(cache: PersistedTokenCache, name: str) -> None:
    entry = {"home_account_id": name, "environment": "e", "client_id": "c"}
    cache.modify("RefreshToken", entry, {"secret": "s"})


def names(cache: PersistedTokenCache) -> set[str]:
    return {entry["home_account_id"] for entry in cache.search("RefreshToken")}


class Load(NamedTuple):
    inside: bool
    interactive: bool


@pytest.fixture
def loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Load]:
    """Every load of the keychain by this process, and whether the lock was held meanwhile."""
    seen: list[Load] = []
    load = keychain.load

    def noted(item: keychain.Item, timeout: float, interactive: bool = True) -> bytes:
        inside = os.path.exists(f"{tmp_path}/signal.lockfile")
        seen.append(Load(inside, interactive))
        return load(item, timeout, interactive)

    monkeypatch.setattr(keychain, "load", noted)
    return seen


def test_a_search_loads_once_for_each_change_by_another_program(
    tmp_path: Path, loads: list[Load]
) -> None:
    """1.3.1 does, too; a second load may ask the person a second time."""
    cache, other = (PersistedTokenCache(persistence_in(tmp_path)) for _ in range(2))
    change(other, "first")
    assert names(cache) == {"first"}
    loads.clear()
    change(other, "second")
    del loads[:]
    end = time.monotonic() + 2.2  # longer than files need to settle
    while time.monotonic() < end:
        assert names(cache) == {"first", "second"}
        time.sleep(0.05)
    assert loads == [Load(inside=False, interactive=True)]


def test_a_change_loads_before_the_lock_and_not_inside(tmp_path: Path, loads: list[Load]) -> None:
    cache = PersistedTokenCache(persistence_in(tmp_path))
    for number in range(5):
        change(cache, str(number))
    assert len(names(cache)) == 5
    assert [load for load in loads if load.inside] == []
    assert len(loads) == 5


def test_a_flight_loads_once(tmp_path: Path, loads: list[Load]) -> None:
    cache = PersistedTokenCache(persistence_in(tmp_path))
    change(cache, "one")
    del loads[:]
    with cache.single_flight():
        assert names(cache) == {"one"}
    assert len(loads) == 1


@pytest.mark.parametrize("overtaken", [1, 3, 9])
def test_a_change_that_others_overtook_loads_again_outside_and_at_last_asks_nobody_inside(
    overtaken: int, tmp_path: Path, loads: list[Load], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, other = (PersistedTokenCache(persistence_in(tmp_path)) for _ in range(2))
    change(cache, "mine")
    load, left = keychain.load, [overtaken]

    def overtake(*arguments: Any) -> bytes:
        secret = load(*arguments)
        is_free = not os.path.exists(f"{tmp_path}/signal.lockfile")
        if left[0] > 0 and is_free and threading.current_thread() is threading.main_thread():
            left[0] -= 1
            thread = threading.Thread(target=change, args=(other, f"theirs{left[0]}"))
            thread.start()
            thread.join()
        return secret

    monkeypatch.setattr(keychain, "load", overtake)
    monkeypatch.setattr(transactions, "DEFAULT_TIMEOUT", 60.0)
    del loads[:]
    with cache.transaction(timeout=60):
        entry = {"home_account_id": "late", "environment": "e", "client_id": "c"}
        cache.modify("RefreshToken", entry, {"secret": "s"})
    inside = [load for load in loads if load.inside]
    assert inside == ([Load(inside=True, interactive=False)] if overtaken > 3 else [])
    expected = {"mine", "late", *(f"theirs{number}" for number in range(9 - 4, 9))}
    if overtaken < 9:
        expected = {"mine", "late", *(f"theirs{number}" for number in range(overtaken))}
    assert names(PersistedTokenCache(persistence_in(tmp_path))) == expected


def test_a_change_that_came_by_another_signal_file_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """azure-identity has a signal file for each of its two caches, and one item for both."""
    one, other = (PersistedTokenCache(persistence_in(tmp_path, name)) for name in ("cae", "nocae"))
    change(one, "first")
    load, left = keychain.load, [1]

    def overtake(*arguments: Any) -> bytes:
        secret = load(*arguments)
        if left[0] > 0 and threading.current_thread() is threading.main_thread():
            left[0] -= 1
            time.sleep(1.1)  # the item has the time of its last change in whole seconds
            thread = threading.Thread(target=change, args=(other, "theirs"))
            thread.start()
            thread.join()
        return secret

    monkeypatch.setattr(keychain, "load", overtake)
    change(one, "mine")
    assert names(PersistedTokenCache(persistence_in(tmp_path, "new"))) == set()  # not saved by that
    assert names(one) == {"first", "theirs", "mine"}


def test_a_change_leaves_the_lock_while_another_thread_of_the_program_waits_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keychain calls of a program take turns, so a look has to wait as well."""
    cache = PersistedTokenCache(persistence_in(tmp_path))
    change(cache, "one")
    look, late = keychain.look, [2]

    def waits(item: keychain.Item, timeout: float) -> bytes:
        if os.path.exists(f"{tmp_path}/signal.lockfile") and late[0] > 0:
            late[0] -= 1
            assert timeout <= 5
            raise KeychainTimeout(100060)
        return look(item, timeout)

    monkeypatch.setattr(keychain, "look", waits)
    change(cache, "two")
    assert late == [0]
    assert names(cache) == {"one", "two"}


def say_not_found(monkeypatch: pytest.MonkeyPatch, call: str, times: float) -> None:
    """Lets this function of _native.keychain say "not found" so many times."""
    real, left = getattr(keychain, call), [times]

    def fails(*arguments: Any) -> bytes:
        left[0] -= 1
        if left[0] >= 0:
            raise PersistenceNotFound
        found: bytes = real(*arguments)
        return found

    monkeypatch.setattr(keychain, call, fails)


def test_an_item_that_is_not_found_once_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(PersistedTokenCache(persistence_in(tmp_path)), "theirs")
    cache = PersistedTokenCache(persistence_in(tmp_path))
    say_not_found(monkeypatch, "load", 2)
    change(cache, "mine")
    assert names(cache) == {"theirs", "mine"}
    say_not_found(monkeypatch, "load", 2)
    assert json.loads(persistence_in(tmp_path).load())["RefreshToken"]


def test_an_item_that_no_search_finds_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SecItemCopyMatching says "not found" of a damaged keychain, and of a service that died."""
    change(PersistedTokenCache(persistence_in(tmp_path)), "theirs")
    before = persistence_in(tmp_path).load()
    monkeypatch.setattr(transactions, "_PATIENCE", 0.5)
    with monkeypatch.context() as patched:
        for call in ("load", "look"):
            say_not_found(patched, call, math.inf)
        cache = PersistedTokenCache(persistence_in(tmp_path))
        with pytest.raises(LockError, match="changing"):
            change(cache, "mine")
    assert persistence_in(tmp_path).load() == before
    change(cache, "later")
    assert names(cache) == {"theirs", "mine", "later"}


def test_an_item_that_another_program_just_made_is_added_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """.NET makes the item without our signal file, between our look and our save."""
    cache, other = (PersistedTokenCache(persistence_in(tmp_path, name)) for name in ("a", "b"))
    add, left = keychain.add, [1]

    def late(*arguments: Any) -> None:
        if left[0] > 0:
            left[0] = 0
            change(other, "theirs")
        add(*arguments)

    monkeypatch.setattr(keychain, "add", late)
    change(cache, "mine")
    assert names(cache) == {"mine", "theirs"}


# ---- a person ----


def written_by_another_program(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PROGRAM", "dotnet")
    change(PersistedTokenCache(persistence_in(directory)), "theirs")
    monkeypatch.setenv("FAKE_PROGRAM", "python3")


def away(code: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a program in front of which nobody sits.  (Its thread that asks never ends.)"""
    written_by_another_program(directory, monkeypatch)
    prelude = """
        import copy, os, pickle, signal, sys, threading, time
        from msal_extensions import *
        def made(**options):
            place = sys.argv[1]
            return KeychainPersistence(place + "/signal", "service", place, **options)
    """
    code = textwrap.dedent(prelude) + textwrap.dedent(code)
    environment = {"FAKE_PERSON": "away"}
    return python(code, str(directory), environment=environment).stdout


def test_a_person_that_is_away_ends_the_call_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
        try:
            made(timeout=0.3).load()
        except KeychainTimeout as error:
            assert isinstance(error, (KeychainError, TimeoutError))
            assert error.exit_status == 100060
            assert "Service:service" in str(error)
            for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
                same = type(error), str(error), error.exit_status
                assert (type(other), str(other), other.exit_status) == same
            print("in time")
    """
    assert away(code, tmp_path, monkeypatch) == "in time\n"


def test_ctrl_c_ends_a_call_that_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
        threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
        try:
            made(timeout=-1).load()
        except KeyboardInterrupt:
            print("interrupted")
    """
    assert away(code, tmp_path, monkeypatch) == "interrupted\n"


def test_a_second_call_waits_for_the_first_one_and_its_own_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
        for _ in range(2):
            try:
                made(timeout=0.3).load()
            except KeychainTimeout as error:
                print(error.strerror.split("(")[0].strip())
    """
    first, second = away(code, tmp_path, monkeypatch).splitlines()
    assert "asks a person" in first
    assert "another call of this program" in second


def test_other_programs_sign_in_while_a_person_is_asked_and_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_by_another_program(tmp_path, monkeypatch)
    asks = CACHE + "print('asks', flush=True)\nchange('mine')\n"
    environment = {**os.environ, "FAKE_PERSON": "away", "FAKE_PROGRAM": "python3"}
    command = [sys.executable, "-c", asks, "0", str(tmp_path)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        try:
            assert waiting.stdout is not None
            assert waiting.stdout.readline() == "asks\n"
            assert eventually(lambda: person_is_asked(tmp_path))
            monkeypatch.setenv("FAKE_PROGRAM", "dotnet")
            cache = PersistedTokenCache(persistence_in(tmp_path))
            for number in range(5):
                change(cache, str(number))  # LockError after 5 seconds, if that one kept the lock
            assert waiting.poll() is None
        finally:
            waiting.kill()
    assert names(cache) == {"theirs", *map(str, range(5))}


@pytest.mark.parametrize("person", ["away", "allow", "none"])
def test_a_program_that_must_not_ask_gets_an_error_at_once(
    person: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_by_another_program(tmp_path, monkeypatch)
    monkeypatch.setenv("FAKE_PERSON", person)
    with pytest.raises(KeychainDenied) as caught:
        persistence_in(tmp_path, interactive=False).load()
    assert caught.value.exit_status in (-25293, -25308)
    assert "interactive=False" in str(caught.value)
    with pytest.raises(KeychainDenied):
        change(PersistedTokenCache(persistence_in(tmp_path, interactive=False)), "mine")
    monkeypatch.setenv("FAKE_PERSON", "always")  # and the switch is on again for others
    assert persistence_in(tmp_path).load()


def test_copies_and_pickles_keep_the_options(tmp_path: Path) -> None:
    made = persistence_in(tmp_path, timeout=7, interactive=False)
    for other in (copy.copy(made), pickle.loads(pickle.dumps(made))):
        assert (other._timeout, other._interactive) == (7, False)
    for name in ("_timeout", "_interactive"):  # as in a pickle of an older version
        del made.__dict__[name]
    made.save("x")
    assert made.load() == "x"


# ---- many processes ----

LOADER = (
    CACHE
    + """
ready()
seen = 0
deadline = time.monotonic() + 300
while time.monotonic() < deadline:
    found = names()
    assert len(found) >= seen, (seen, found)
    seen = len(found)
    if "last" in found:
        print("done", seen)
        break
    time.sleep(0.01)
"""
)
SAVER = (
    CACHE
    + """
ready()
for step in range(int(sys.argv[3])):
    change(f"{number}-{step}")
    time.sleep(0.01)
change("last")
print("done", len(names()))
"""
)


def test_thirty_loading_programs_beside_a_saving_one_see_no_failure(tmp_path: Path) -> None:
    """GitGuardian/ggshield#1358: of 30 at once, 18 failed."""
    saves = 40
    change(PersistedTokenCache(persistence_in(tmp_path)), "first")
    members = [Member(LOADER, (str(number), str(tmp_path))) for number in range(30)]
    members.append(Member(SAVER, ("saver", str(tmp_path), str(saves))))
    said = together(members)
    assert said[-1].split() == ["done", str(saves + 2)]
    assert {line.split()[0] for line in said} == {"done"}


def test_programs_that_change_one_item_lose_nothing(tmp_path: Path) -> None:
    members = [Member(SAVER, (str(number), str(tmp_path), "10")) for number in range(8)]
    together(members)
    found = names(PersistedTokenCache(persistence_in(tmp_path)))
    assert found == {"last", *(f"{number}-{step}" for number in range(8) for step in range(10))}
