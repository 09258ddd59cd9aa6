"""One process that changes a token cache among others, as measure.py tells it.

    python -m benchmarks.cache.worker LIBRARY PATH

It needs msal and the one msal_extensions under test.  It says on stdout which version that is, then
answers each {"do": "modify", ...}, a line of JSON on stdin, by a line of JSON: see modify().
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import sys
import time
from typing import Any

from benchmarks.cache.contents import REFRESH_SIZE, REFRESH_TOKEN, package, query, random_text
from benchmarks.serving import serve


def modify(cache: Any, name: str, start: int, stop: int, count: int) -> dict[str, Any]:
    """From ``start`` on store ``count`` refresh tokens, one by one, or until ``stop``."""
    taken: list[int] = []
    stored: list[str] = []
    errors: dict[str, int] = {}
    time.sleep(max(0, start - time.monotonic_ns()) / 1e9)
    for number in range(count):
        before = time.monotonic_ns()
        if before >= stop:
            break
        account = f"{name}.{number}"
        entry = {**query(0), "home_account_id": account, "credential_type": REFRESH_TOKEN}
        try:
            cache.modify(REFRESH_TOKEN, entry, {"secret": random_text(REFRESH_SIZE)})
            stored.append(account)
        except Exception as error:  # 1.3.1's time-outs, and JSON that it found torn
            kind = type(error).__name__
            errors[kind] = errors.get(kind, 0) + 1
        taken.append(time.monotonic_ns() - before)
    return {"taken": taken, "stored": stored, "errors": errors}


def main(_library: str, path: str) -> None:
    logging.disable()  # 1.3.1 warns whenever it goes in without a lock
    version = importlib.metadata.version("msal-extensions")
    serve(version, {"modify": functools.partial(modify, package(path))})


if __name__ == "__main__":
    main(*sys.argv[1:])
