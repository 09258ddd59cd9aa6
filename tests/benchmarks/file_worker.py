"""Loads and saves files with one version of this package: a worker of versus.py.

    python file_worker.py LABEL DIRECTORY

Prints who it is, then for each line {"do": NAME, "count": N} the seconds that N calls took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msal_extensions
from msal_extensions import CrossPlatLock, FilePersistence

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

    def lock_and_unlock() -> None:
        with lock:
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
    )
    return dict(zip(ROWS, found, strict=True))


def main() -> None:
    known = calls(Path(sys.argv[2]))
    print(json.dumps({"version": msal_extensions.__version__}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        call, count = known[order["do"]], order["count"]
        call()
        begin = time.perf_counter()
        for _ in range(count):
            call()
        print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)


if __name__ == "__main__":
    main()
