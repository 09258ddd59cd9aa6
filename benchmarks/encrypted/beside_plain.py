"""A cache in an encrypted file beside the same cache in a plain file, in one run.

    python -m benchmarks.encrypted.beside_plain [ROUNDS [TOKENS ...]]

The two take turns, so that a noisy machine disturbs both.  It prints medians, and the ratios of the
pairs: median (quartiles).
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cache import contents
from benchmarks.figures import MS, median, spread
from msal_extensions import EncryptedFilePersistence, FilePersistence, PersistedTokenCache
from msal_extensions.persistence import BasePersistence

#: Rounds before the first one that counts.
_WARM_UP = 5
_ADD, _RELOAD = "add() of a sign-in", "reload by another cache"
Times = dict[str, tuple[list[float], list[float]]]


def measure(directory: Path, rounds: int, tokens: int) -> Times:
    """Seconds of each operation, plain and encrypted."""
    users = max(1, tokens // contents.TOKENS_OF_A_USER)
    persistences: list[BasePersistence] = [
        FilePersistence(directory / f"plain-{tokens}"),
        EncryptedFilePersistence(directory / f"encrypted-{tokens}", os.urandom(32)),
    ]
    for persistence in persistences:
        persistence.save(contents.content(users))
    pairs = [(PersistedTokenCache(it), PersistedTokenCache(it)) for it in persistences]
    times: Times = {_ADD: ([], []), _RELOAD: ([], [])}
    again, query = itertools.cycle(range(users)), contents.query(0)
    for number in range(rounds + _WARM_UP):
        for kind in (0, 1) if number % 2 else (1, 0):
            writer, reader = pairs[kind]
            sign_in = contents.sign_in(next(again))
            begin = time.perf_counter()
            writer.add(sign_in)
            added = time.perf_counter()
            next(reader.search(contents.REFRESH_TOKEN, query=query))
            over = time.perf_counter()
            if number >= _WARM_UP:
                times[_ADD][kind].append(added - begin)
                times[_RELOAD][kind].append(over - added)
    return times


def main(rounds: int, sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as directory:
        for tokens in sizes:
            for what, (plain, sealed) in measure(Path(directory), rounds, tokens).items():
                ratios = [one / other for other, one in zip(plain, sealed, strict=True)]
                print(
                    f"{what}, {tokens:,} tokens: plain {median(plain) * MS:.3f} ms, encrypted"
                    f" {median(sealed) * MS:.3f} ms, ratio {spread(ratios, 1)}"
                )


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["400"])[0]), [int(it) for it in sys.argv[2:]] or [10, 100, 1_000])
