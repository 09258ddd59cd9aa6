"""Makes vectors.json anew: files of the format msalex-enc/1 with fixed salts, good and bad.

    python3 -m tests.support.envelope.make_vectors

Keys, salts and file ids are hexadecimal, contents are base64, texts and names are themselves.
A change of vectors.json is a change of the format.  So it must not change, except that it grows.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from msal_extensions._stores import envelope

VECTORS = Path(__file__).with_name("vectors.json")
KEY = bytes(range(32))
OTHER_KEY = hashlib.sha256(b"another key").digest()
FILE_ID = bytes(range(0xF0, 0x100))
NAME = "cache.bin"
TEXT = '{"RefreshToken":{}}'
KERNEL = {"boot": "5f0c1b52-58c6-4d5c-9a10-3c3c8a7ed5b1", "userns": "4026531837"}
#: What is different from the first good file.
GOOD: dict[str, dict[str, Any]] = {
    "the example of the document": {},
    "no text": {"text": ""},
    "a text of 1 byte": {"text": "x"},
    "a text that leaves one byte": {"text": "x" * 991},
    "a text that fills a block": {"text": "x" * 992},
    "a text that begins a block": {"text": "x" * 993},
    "a text of two blocks": {"text": "ab" * 1008},
    "a text that is not ASCII": {"text": '{"name":"Zoë 🗝 ключ"}'},
    "an empty name": {"name": ""},
    "a name that is not ASCII": {"name": "кэш-🗝.bin"},
    "a composed letter in the name": {"name": "\u00e9"},
    "a decomposed letter in the name": {"name": "e\u0301"},
    "a name of spaces": {"name": " / "},
    "another key": {"key": OTHER_KEY},
    "a key with a name": {"key_id": "2026-11_primary"},
    "a key with the longest name": {"key_id": "k" * 64},
    "a command": {"source": "command"},
    "a key file": {"source": "file"},
    "a credential": {"source": "credential"},
    "the kernel": {"source": "kernel", "key_id": "1", "hints": KERNEL},
    "the kernel without hints": {"source": "kernel", "hints": {"boot": "", "userns": ""}},
    "generation 0": {"generation": 0},
    "the last generation": {"generation": (1 << 64) - 1},
    "a file id of zeros": {"file_id": bytes(16)},
}
#: What replaces what in the first line of the first good file, and the error.
BAD_LINES = {
    "version 2": ("enc/1", "enc/2", "EncryptedFileUnknown"),
    "version 999999999": ("enc/1", "enc/999999999", "EncryptedFileUnknown"),
    "a version of ten digits": ("enc/1", "enc/1000000000", "EncryptedFileDamaged"),
    "version 0": ("enc/1", "enc/0", "EncryptedFileDamaged"),
    "suite 2": ('"suite":1', '"suite":2', "EncryptedFileUnknown"),
    "suite 999999999": ('"suite":1', '"suite":999999999', "EncryptedFileUnknown"),
    "a suite of ten digits": ('"suite":1', '"suite":1000000000', "EncryptedFileDamaged"),
    "suite 0": ('"suite":1', '"suite":0', "EncryptedFileDamaged"),
    "a suite that is a float": ('"suite":1', '"suite":1.0', "EncryptedFileDamaged"),
    "a suite that is a boolean": ('"suite":1', '"suite":true', "EncryptedFileDamaged"),
    "a suite that is no number": ('"suite":1', '"suite":NaN', "EncryptedFileDamaged"),
    "a suite twice": ('"suite":1', '"suite":1,"suite":1', "EncryptedFileDamaged"),
    "a suite later": ('{"suite":1,', '{"key":"a","suite":1,', "EncryptedFileDamaged"),
    "white space": ('"suite":1', '"suite": 1', "EncryptedFileDamaged"),
    "a carriage return": ('"}', '"}\r', "EncryptedFileDamaged"),
    "a key more": ('"hints"', '"more":1,"hints"', "EncryptedFileDamaged"),
    "a key less": ('"hints":{},', "", "EncryptedFileDamaged"),
    "an escape": ('"given"', r'"\u0067iven"', "EncryptedFileDamaged"),
    "an unknown source": ('"given"', '"tpm"', "EncryptedFileDamaged"),
    "a planted source": ('"given"', '"file"', "EncryptedFileDamaged"),
    "the kernel's source without hints": ('"given"', '"kernel"', "EncryptedFileDamaged"),
    "hints of another source": ('"hints":{}', '"hints":{"boot":""}', "EncryptedFileDamaged"),
    "an empty key id": (f'"{envelope.id_of(KEY)}"', '""', "EncryptedFileDamaged"),
    "a key id that is too long": (envelope.id_of(KEY), "k" * 65, "EncryptedFileDamaged"),
    "a planted key id": (envelope.id_of(KEY), "other", "EncryptedFileDamaged"),
    "padding in base64": ('","commit"', '=","commit"', "EncryptedFileDamaged"),
}
#: How plaintexts are changed that then get a good tag.
BAD_PADDING = {
    "padding that is not zero": lambda plain: plain[:-1] + b"\1",
    "a block too many": lambda plain: plain + bytes(1024),
    "a length that is too large": lambda plain: plain[:24] + (993).to_bytes(8, "big") + plain[32:],
    "a length that is too small": lambda plain: plain[:31] + b"\1" + plain[32:],
    "the largest length": lambda plain: plain[:24] + b"\xff" * 8 + plain[32:],
}


def _arguments(what: str) -> dict[str, Any]:
    changed = GOOD[what]
    key = changed.get("key", KEY)
    return {
        "text": TEXT,
        "file_id": FILE_ID,
        "generation": 1,
        "key": key,
        "key_id": envelope.id_of(key),
        "source": "given",
        "hints": {},
        "name": NAME,
    } | changed


def _salt(what: str) -> bytes:
    return hashlib.sha256(f"the salt of {what}".encode()).digest()


def _seal(what: str) -> bytes:
    arguments = _arguments(what)
    with mock.patch.object(os, "urandom", return_value=_salt(what)):
        return envelope.seal(arguments.pop("text").encode(), **arguments)


def _good(what: str) -> dict[str, Any]:
    line, _, sealed = _seal(what).partition(b"\n")
    shown = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in _arguments(what).items()
    }
    # A JavaScript number has 53 bits.
    return {"what": what} | shown | {
        "generation": str(shown["generation"]),
        "salt": _salt(what).hex(),
        "line": line.decode("ascii"),
        "sealed": base64.b64encode(sealed).decode("ascii"),
    }  # fmt: skip


def _bad(
    what: str, content: bytes, error: str, key: bytes = KEY, name: str = NAME
) -> dict[str, Any]:
    content64 = base64.b64encode(content).decode("ascii")
    return {"what": what, "key": key.hex(), "name": name, "content": content64, "error": error}


def _with_plaintext(what: str) -> bytes:
    """A file with a good tag and a bad plaintext: only a program with the key can make it."""

    sealed = envelope.parse(_seal("the example of the document"), "")
    cipher = AESGCM(envelope._keys(KEY, sealed.header.salt, NAME)[0])
    plaintext = cipher.decrypt(bytes(12), bytes(sealed.sealed), sealed.line)
    return sealed.line + cipher.encrypt(bytes(12), BAD_PADDING[what](plaintext), sealed.line)


def make() -> dict[str, list[dict[str, Any]]]:
    first = _seal("the example of the document")
    other = _seal("no text")
    line, _, sealed = first.partition(b"\n")
    bad = [
        _bad("plain text", b'{"RefreshToken":{}}', "NotEncrypted"),
        _bad("a file of something else", b"SQLite format 3\0", "NotEncrypted"),
        _bad("a beginning of the first word", b"msal", "EncryptedFileDamaged"),
        _bad("no sealed part", line + b"\n", "EncryptedFileDamaged"),
        _bad("no end of the line", line, "EncryptedFileDamaged"),
        _bad("the last byte is missing", first[:-1], "EncryptedFileDamaged"),
        _bad("a byte more", first + b"\0", "EncryptedFileDamaged"),
        _bad("a block more", first + bytes(1024), "EncryptedFileDamaged"),
        _bad("a changed bit", first[:-1] + bytes([first[-1] ^ 1]), "EncryptedFileDamaged"),
        _bad(
            "the sealed part of another save",
            line + b"\n" + other.partition(b"\n")[2],
            "EncryptedFileDamaged",
        ),
        _bad("another key", first, "KeyWrong", key=OTHER_KEY),
        _bad("another name", first, "KeyWrong", name="other.bin"),
        _bad(
            "a name that only looks the same",
            _seal("a composed letter in the name"),
            "KeyWrong",
            name="e\u0301",
        ),
        _bad("another key and a changed tag", first[:-1] + b"\0", "KeyWrong", key=OTHER_KEY),
    ]
    for what, (old, new, error) in BAD_LINES.items():
        assert old in line.decode()
        bad.append(_bad(what, line.replace(old.encode(), new.encode()) + b"\n" + sealed, error))
    for field in ("salt", "commit"):
        at = line.index(field.encode()) + len(field) + 3
        changed = bytearray(first)
        changed[at] = ord("B") if changed[at] != ord("B") else ord("C")
        bad.append(_bad(f"another {field}", bytes(changed), "KeyWrong"))
        changed = bytearray(first)
        changed[at + 42] += 1  # sets a bit that base64 does not use
        bad.append(_bad(f"a {field} with idle bits", bytes(changed), "EncryptedFileDamaged"))
    for what in BAD_PADDING:
        bad.append(_bad(what, _with_plaintext(what), "EncryptedFileDamaged"))
    return {"good": [_good(what) for what in GOOD], "bad": bad}


def text() -> str:
    return json.dumps(make(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    VECTORS.write_text(text(), encoding="utf-8")
