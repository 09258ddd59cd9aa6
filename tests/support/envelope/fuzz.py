"""Fuzzes the reader of encrypted files with atheris, guided by what the bytes reach in the code.

    python3 -m tests.support.envelope.fuzz CORPUS [-max_total_time=300] [other options of libFuzzer]

CORPUS is a directory.  It is filled with files of every kind first.  What must hold for any bytes:

- parse() accepts what a reader accepts that knows JSON, and nothing else.  Otherwise it raises one
  of its errors.
- open_() raises one of its errors.  When the key is right and the plaintext is the fuzzer's, it
  accepts just those plaintexts that seal() pads so.
- No error shows a byte that does not belong on a terminal.

An error that is not expected ends the program with a traceback, the input and another exit status.
"""

from __future__ import annotations

import base64
import json
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import atheris
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

with atheris.instrument_imports(include=["msal_extensions._stores", "json"]):
    from msal_extensions._stores import envelope
from msal_extensions.errors import (
    EncryptedFileDamaged,
    EncryptedFileUnknown,
    KeyWrong,
    NotEncrypted,
    PersistenceError,
)
from tests.support.envelope import make_vectors

Function = TypeVar("Function", bound=Callable[..., object])
ALPHABET = set(string.ascii_letters + string.digits + "-_")
PARSE_ERRORS = (EncryptedFileDamaged, EncryptedFileUnknown, NotEncrypted)
KEY, NAME, PLACE = make_vectors.KEY, make_vectors.NAME, "place"
SALT = bytes(32)
SAVED_BY, COMMIT = envelope._keys(KEY, SALT, NAME)
CIPHER = AESGCM(SAVED_BY)
LINE = envelope._line(envelope.Header("k-1", "given", {}, SALT, COMMIT))
#: The steps of these functions show the fuzzer what an input has reached.
reached: Callable[[Function], Function] = atheris.instrument_func
#: The first byte of an input says what the others are.
WHOLE, HEADER, SEALED, PLAINTEXT = range(4)


@reached
def is_header(line: bytes) -> bool:
    """Whether a reader with a parser of JSON would accept this first line."""
    start = b"msalex-enc/1 "
    if len(line) > envelope.LINE_BYTES or not line.startswith(start):
        return False
    try:
        fields = json.loads(line[len(start) :])
        if type(fields) is not dict or list(fields) != [
            *("suite", "key", "source", "hints", "salt", "commit")
        ]:
            return False
        hints = ["boot", "userns"] if fields["source"] == "kernel" else []
        sources = ("given", "command", "file", "credential", "kernel")
        if fields["source"] not in sources or list(fields["hints"]) != hints:
            return False
        for field in ("salt", "commit"):
            if len(base64.urlsafe_b64decode(fields[field] + "=")) != 32:
                return False
            fields[field] = envelope._base64(base64.urlsafe_b64decode(fields[field] + "="))
        for word in (fields["key"], *fields["hints"].values()):
            if len(word) > 64 or not set(word) <= ALPHABET:
                return False
        if fields["key"] == "":
            return False
        written = json.dumps({**fields, "suite": 1}, separators=(",", ":")).encode()
        return start + written + b"\n" == line
    except (ValueError, TypeError, RecursionError):
        return False


def fits(content: bytes, line: bytes) -> bool:
    """Whether the size of the sealed part can be."""
    size = len(content) - len(line) - 16
    return size >= 1024 and size % 1024 == 0


def refused(error: PersistenceError) -> None:
    said = str(error)
    assert said.isprintable(), said
    assert said.isascii(), said
    assert said.endswith(f": {PLACE} [{error.reference}]"), said


@reached
def read(content: bytes) -> envelope.Text | None:
    line = content[: content.find(b"\n") + 1]
    expected = is_header(line) and fits(content, line)
    try:
        parsed = envelope.parse(content, PLACE)
    except PARSE_ERRORS as error:
        refused(error)
        assert not expected
        return None
    assert expected
    assert envelope._line(parsed.header) == parsed.line == line
    try:
        return envelope.open_(parsed, KEY, NAME, PLACE)
    except (KeyWrong, EncryptedFileDamaged) as error:
        refused(error)
        return None


def expected_of(plaintext: bytes) -> tuple[bytes, bytes, int] | None:
    """What open_() returns for this plaintext, or None if the padding is wrong."""
    length = int.from_bytes(plaintext[24:32], "big")
    text = plaintext[32 : 32 + length]
    padded = plaintext[:32] + text
    if len(text) != length or padded + bytes(-len(padded) % 1024) != plaintext:
        return None
    return text, plaintext[:16], int.from_bytes(plaintext[16:24], "big")


@reached
def test_one_input(data: bytes) -> None:
    kind, rest = (data[0] % 4, data[1:]) if data else (WHOLE, b"")
    if kind == WHOLE:
        read(rest)
    elif kind == HEADER:
        read(rest + b"\n" + bytes(1040))
    elif kind == SEALED:
        # Nobody can make a good tag without the key.
        assert read(LINE + rest) is None
    else:
        plaintext = rest + bytes(-len(rest) % 1024)
        if plaintext:
            text = read(LINE + CIPHER.encrypt(bytes(12), plaintext, LINE))
            assert text == expected_of(plaintext)


def fill(corpus: Path) -> None:
    """Files of each kind, to begin with."""
    vectors: dict[str, list[dict[str, Any]]] = make_vectors.make()
    whole = [base64.b64decode(vector["content"]) for vector in vectors["bad"]]
    whole += [
        vector["line"].encode() + b"\n" + base64.b64decode(vector["sealed"])
        for vector in vectors["good"]
    ]
    head = bytes(16) + (1).to_bytes(8, "big")
    plain = [head + size.to_bytes(8, "big") + b"x" * size for size in (0, 1, 992, 993)]
    inputs = [bytes([WHOLE]) + content for content in whole]
    inputs += [bytes([HEADER]) + content.partition(b"\n")[0] for content in whole]
    inputs += [bytes([PLAINTEXT]) + content for content in plain]
    inputs.append(bytes([SEALED]) + bytes(1040))
    for number, content in enumerate(inputs):
        (corpus / f"seed-{number}").write_bytes(content)


def main() -> None:
    corpus = Path(sys.argv[1])
    corpus.mkdir(exist_ok=True)
    fill(corpus)
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
