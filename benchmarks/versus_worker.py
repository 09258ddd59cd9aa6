"""Loads, saves, locks and signs in with one version of this package: a worker of versus.py.

    python -m benchmarks.versus_worker LABEL DIRECTORY

Prints its version, then for each line {"do": NAME, "count": N} the seconds that N calls took.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msal_extensions
from benchmarks.serving import serve
from msal_extensions import CrossPlatLock, FilePersistence, PersistedTokenCache
from tests.support.tokens import ACCESS_TOKEN, sign_in

TEXT = "x" * 20_000
#: What each row of the report does, by its name.
ROWS = (
    "load",
    "save",
    "load through a link",
    "save through a link",
    "time_last_modified",
    "touch",
    "lock and unlock",
    "look whether it is still held",
    "find an access token among 100",
    "sign in, 100 users known",
    "transaction without a change",
)


def calls(directory: Path) -> dict[str, Callable[[], object]]:
    """The calls that are measured, ready to be made."""
    real = directory / "real" / "cache.bin"
    link = directory / "link.bin"
    persistence, signal = FilePersistence(real), FilePersistence(directory / "signal")
    persistence.save(TEXT)
    link.symlink_to("real/cache.bin")
    linked, lock = FilePersistence(link), CrossPlatLock(str(real) + ".lockfile")
    held = CrossPlatLock(str(real) + ".held").acquire()

    cache = PersistedTokenCache(FilePersistence(directory / "tokens" / "cache.bin"))
    with cache.transaction():
        for user in range(100):
            cache.add(sign_in(user))
    event = sign_in(50)
    wanted = next(cache.search(ACCESS_TOKEN, query={"home_account_id": "user50.tenant"}))
    query = {
        name: wanted[name] for name in ("home_account_id", "environment", "client_id", "realm")
    }
    scopes = wanted["target"].split()
    time.sleep(2.1)  # until its stamp is settled

    def lock_and_unlock() -> None:
        with lock:
            pass

    def find() -> None:
        next(cache.search(ACCESS_TOKEN, target=scopes, query=query))

    def sign_in_again() -> None:
        event["response"]["access_token"] = str(time.perf_counter_ns())
        cache.add(event)

    def transaction() -> None:
        with cache.transaction():
            pass

    found = (
        persistence.load,
        lambda: persistence.save(TEXT),
        linked.load,
        lambda: linked.save(TEXT),
        persistence.time_last_modified,
        signal.touch,
        lock_and_unlock,
        held.still_held,
        find,
        sign_in_again,
        transaction,
    )
    return dict(zip(ROWS, found, strict=True))


def timed(call: Callable[[], object], count: int) -> dict[str, float]:
    call()
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return {"seconds": time.perf_counter() - begin}


def main() -> None:
    known = calls(Path(sys.argv[2]))
    serve(
        msal_extensions.__version__,
        {name: functools.partial(timed, call) for name, call in known.items()},
    )


if __name__ == "__main__":
    main()
