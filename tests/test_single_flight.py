"""single_flight(): threads and processes refresh a token once, and nobody else waits for it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from msal_extensions import (
    CrossPlatLock,
    FilePersistence,
    LockError,
    LockOrderError,
    PersistedTokenCache,
)
from tests.support.capability import requires
from tests.support.inside import freshness_of
from tests.support.processes import crowd, python
from tests.support.tokens import ACCESS_TOKEN, secrets_of, sign_in, token


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin"


@pytest.fixture
def cache(location: Path) -> PersistedTokenCache:
    return PersistedTokenCache(FilePersistence(location))


def in_a_thread(work: object) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


RENEW = """
def renew(cache, log):
    with cache.single_flight():
        if not list(cache.search("AccessToken")):
            with open(log, "a") as file:
                file.write("network\\n")
            time.sleep(0.3)
            entry = {"home_account_id": "u", "environment": "e", "client_id": "c",
                     "realm": "r", "target": "t"}
            cache.modify("AccessToken", entry, {
                "credential_type": "AccessToken", "secret": "new",
                "expires_on": str(int(time.time()) + 3600)})
        assert [entry["secret"] for entry in cache.search("AccessToken")] == ["new"]
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 4])
def test_of_many_threads_and_processes_one_goes_over_the_network(
    location: Path, tmp_path: Path, threads: int
) -> None:
    code = (
        RENEW
        + """
import threading, time
from msal_extensions import FilePersistence, PersistedTokenCache
caches = [PersistedTokenCache(FilePersistence(sys.argv[2]))]
caches.append(PersistedTokenCache(FilePersistence(sys.argv[2])))
ready()
failures = []
def guarded(cache):
    try:
        renew(cache, sys.argv[3])
    except BaseException as error:
        failures.append(error)
workers = [threading.Thread(target=guarded, args=(caches[number % 2],))
           for number in range(int(sys.argv[4]))]
for worker in workers: worker.start()
for worker in workers: worker.join()
assert not failures, failures
"""
    )
    log = tmp_path / "log"
    crowd(code, 8, str(location), str(log), str(threads))
    assert log.read_text() == "network\n"
    assert sorted(os.listdir(tmp_path)) == ["cache.bin", "log"]


def test_the_cache_is_free_during_a_flight(cache: PersistedTokenCache, location: Path) -> None:
    other = PersistedTokenCache(FilePersistence(location))
    begin = time.monotonic()
    with cache.single_flight():
        worker = in_a_thread(lambda: other.add(sign_in(1)))
        worker.join(timeout=20)
        assert not worker.is_alive()
        assert not os.path.exists(f"{location}.lockfile")
        assert secrets_of(cache) == {"access1"}
    assert time.monotonic() - begin < 5


def test_a_transaction_inside_a_flight_works(cache: PersistedTokenCache, location: Path) -> None:
    with cache.single_flight(), cache.transaction():
        cache.modify(ACCESS_TOKEN, token(1), token(1))
    assert secrets_of(PersistedTokenCache(FilePersistence(location))) == {"secret"}


def test_a_flight_inside_a_transaction_is_refused_at_once(
    cache: PersistedTokenCache, location: Path
) -> None:
    other = PersistedTokenCache(FilePersistence(location))
    lock = CrossPlatLock(f"{location}.lockfile")
    for outer in (cache.transaction(), other.transaction(), lock):
        begin = time.monotonic()
        with outer, pytest.raises(LockOrderError, match="inside the flight"):
            cache.single_flight().__enter__()
        assert time.monotonic() - begin < 1
    with cache._lock, pytest.raises(LockOrderError):
        cache.single_flight().__enter__()
    with cache.single_flight():  # nothing is left of the flights before
        pass


def test_another_threads_transaction_is_no_reason_to_refuse(cache: PersistedTokenCache) -> None:
    entered, leave = threading.Event(), threading.Event()

    def transact() -> None:
        with cache.transaction():
            entered.set()
            leave.wait(20)

    worker = in_a_thread(transact)
    entered.wait(20)
    with cache.single_flight():
        leave.set()
    worker.join()


def test_a_flight_inside_a_flight_of_the_same_thread_is_part_of_it(
    cache: PersistedTokenCache, location: Path
) -> None:
    other = PersistedTokenCache(FilePersistence(location))
    with cache.single_flight(), cache.single_flight(), other.single_flight():
        cache.modify(ACCESS_TOKEN, token(1), token(1))
        assert os.path.exists(f"{location}.lockfile.refresh")
    assert os.listdir(location.parent) == [location.name]


def test_waiting_for_a_flight_ends(cache: PersistedTokenCache, location: Path) -> None:
    waited = []

    def wait() -> None:
        for timeout in (0, 0.3):
            begin = time.monotonic()
            with pytest.raises(LockError, match="refresh"), cache.single_flight(timeout=timeout):
                pass
            waited.append(time.monotonic() - begin)

    with cache.single_flight():
        worker = in_a_thread(wait)
        worker.join(timeout=20)
    assert len(waited) == 2
    assert waited[0] < 0.25
    tick = time.get_clock_info("monotonic").resolution
    assert 0.3 - tick <= waited[1] < 5


@requires("os.fork")
def test_a_flight_whose_process_dies_is_over(location: Path) -> None:
    output = python(
        """
        import os, sys, time
        from msal_extensions import FilePersistence, PersistedTokenCache
        cache = PersistedTokenCache(FilePersistence(sys.argv[1]))
        if os.fork() == 0:
            cache.single_flight().__enter__()
            os.kill(os.getpid(), 9)
        os.wait()
        begin = time.monotonic()
        with cache.single_flight():
            print(time.monotonic() - begin < 2)
        """,
        str(location),
    )
    assert output.stdout == "True\n"


def test_a_flight_finds_what_was_changed_before_even_if_it_looks_the_same(
    cache: PersistedTokenCache, location: Path
) -> None:
    cache.modify(ACCESS_TOKEN, token(1), token(1, "old"))
    other = PersistedTokenCache(FilePersistence(location))
    other.modify(ACCESS_TOKEN, token(1), token(1, "new"))
    freshness_of(cache).stamp = freshness_of(
        other
    ).stamp  # as with a coarse clock and reused inode numbers
    with cache.single_flight():
        assert cache._cache == other._cache


def test_what_the_body_raises_ends_the_flight(cache: PersistedTokenCache, location: Path) -> None:
    with pytest.raises(KeyError), cache.single_flight():
        raise KeyError
    assert not os.path.exists(f"{location}.lockfile.refresh")
