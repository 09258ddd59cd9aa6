"""How long it takes to seal and to open an encrypted file, without the file.

    python3 dev.py test benchmarks/encrypted     pytest-benchmark's table

"bare" is AES-256-GCM alone with a key that is ready: what no format can be faster than.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from msal_extensions._stores import envelope

#: Bytes: one account, a token cache with ten, and one with a hundred.
SIZES = (1_000, 20_000, 200_000)
ROUNDS = {"full": 2000, "quick": 500, "smoke": 3}
KEY, NAME = bytes(range(32)), "cache.bin"


def sealing(text: bytes) -> Callable[[], bytes]:
    return lambda: envelope.seal(
        text,
        file_id=bytes(16),
        generation=1,
        key=KEY,
        key_id="benchmark",
        source="given",
        hints={},
        name=NAME,
    )


def opening(text: bytes) -> Callable[[], envelope.Text]:
    content = sealing(text)()
    return lambda: envelope.open_(envelope.parse(content, "place"), KEY, NAME, "place")


def bare(text: bytes) -> Callable[[], bytes]:
    cipher = AESGCM(KEY)
    return lambda: cipher.encrypt(bytes(12), text, b"")


@pytest.mark.parametrize("what", [sealing, opening, bare])
@pytest.mark.parametrize(
    "size",
    [pytest.param(it, marks=pytest.mark.benchmark(group=f"{it:,} bytes")) for it in SIZES],
)
def test_one_text(
    benchmark: Any, scale: str, size: int, what: Callable[[bytes], Callable[[], object]]
) -> None:
    benchmark.pedantic(what(os.urandom(size)), rounds=ROUNDS[scale], warmup_rounds=3)
