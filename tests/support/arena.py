"""A crowd of programs in one cache: writers that count what they wrote, readers that miss nothing.

arena = Arena(tmp_path)
outputs = together(arena.writers(named("ours", 32)) + arena.readers(32))
assert arena.stored == arena.seeded | written_by(named("ours", 32))
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msal_extensions import FilePersistence, PersistedTokenCache
from msal_extensions.persistence import BasePersistence
from tests.support.processes import Member

REFRESH_TOKEN = PersistedTokenCache.CredentialType.REFRESH_TOKEN
ROUNDS = 20
#: Entries that exist before the writers begin.
SEEDED = 50

#: The line of both programs that makes the persistence.
FILE = "persistence = FilePersistence(location)"
# Arguments: name of the process, cache file, directory for the marks of processes that are done,
# rounds, pause in seconds between two changes.  It also runs with 1.3.1, and only 1.3.1 may give
# up.
WRITER = """
    import json, pathlib, random, time
    from msal_extensions import FilePersistence, LockError, PersistedTokenCache
    me, location, done, rounds, pause = sys.argv[1:]
    persistence = FilePersistence(location)
    cache = PersistedTokenCache(persistence)
    gave_up, longest, number = 0, 0.0, 0
    ready()
    while number < int(rounds):
        time.sleep(random.uniform(0, 2 * float(pause)))
        name, before = f"{me}.{number}", time.monotonic()
        entry = {"home_account_id": name, "environment": "e", "client_id": "c"}
        try:
            cache.modify("RefreshToken", entry, {"secret": name})
            number += 1
        except LockError:
            if hasattr(cache, "transaction"):
                raise
            gave_up += 1
        longest = max(longest, time.monotonic() - before)
    pathlib.Path(done, me).touch()
    print(json.dumps({"gave_up": gave_up, "longest": longest}))
"""
# Arguments: cache file, directory for the marks of processes that are done, number of writers,
# pause.  It searches until all writers are done, and once more.
READER = """
    import json, os, time
    from msal_extensions import FilePersistence, PersistedTokenCache
    location, done, writers, pause = sys.argv[1:]
    persistence = FilePersistence(location)
    cache = PersistedTokenCache(persistence)
    ready()
    seen, missed, looks, over = set(), {}, 0, False
    while not over:
        over = len(os.listdir(done)) == int(writers)
        found = {entry["secret"] for entry in cache.search("RefreshToken")}
        for name in seen - found:
            missed[name] = missed.get(name, 0) + 1
        seen |= found
        looks += 1
        time.sleep(float(pause))
    print(json.dumps({"looks": looks, "missed": missed, "seen": len(seen)}))
"""


class Arena:
    """A cache with entries, and the programs that will use it at the same time.

    :param make: Makes the persistence of a location, in this process.
    :param code: The line that makes it in the programs, in place of FILE.
    """

    def __init__(
        self,
        directory: Path,
        make: Callable[[Path], BasePersistence] = FilePersistence,
        code: str = FILE,
    ) -> None:
        self.directory, self._make, self._code = directory, make, code
        self.location = directory / "cache.bin"
        self.done = directory / "done"
        self.done.mkdir(parents=True)
        self.seeded = {f"seeded.{number}" for number in range(SEEDED)}
        with self.cache.transaction() as cache:
            for name in self.seeded:
                entry = {"home_account_id": name, "environment": "e", "client_id": "c"}
                cache.modify(REFRESH_TOKEN, entry, {"secret": name})

    @property
    def cache(self) -> PersistedTokenCache:
        return PersistedTokenCache(self._make(self.location))

    @property
    def stored(self) -> set[str]:
        return {entry["secret"] for entry in self.cache.search(REFRESH_TOKEN)}

    def writers(
        self,
        processes: Sequence[str],
        pause: float = 0,
        start: tuple[list[str], dict[str, str]] | None = None,
    ) -> list[Member]:
        command, environment = start or ([sys.executable], {})
        where = (str(self.location), str(self.done), str(ROUNDS), str(pause))
        code = WRITER.replace(FILE, self._code)
        return [Member(code, (name, *where), command, environment) for name in processes]

    def readers(self, writers: int, pause: float = 0, count: int = 4) -> list[Member]:
        where = (str(self.location), str(self.done), str(writers), str(pause))
        return [Member(READER.replace(FILE, self._code), where)] * count


def named(who: str, many: int) -> list[str]:
    return [f"{who}{number}" for number in range(many)]


def written_by(processes: Sequence[str]) -> set[str]:
    """The entries that these writers wrote."""
    return {f"{process}.{number}" for process in processes for number in range(ROUNDS)}


def loaded(outputs: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(output) for output in outputs]


def missed_by(readers: Sequence[dict[str, Any]]) -> Counter[str]:
    """Entries that one reader had found before and did not find later, and how often."""
    missed = sum((Counter(reader["missed"]) for reader in readers), Counter[str]())
    looks = sum(reader["looks"] for reader in readers)
    print(f"{looks:,} searches, {missed.total():,} misses of something seen before")
    assert looks > 100
    return missed
