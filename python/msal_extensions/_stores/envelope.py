"""The format of an encrypted file, from bytes to bytes: no file, no lock, no source of keys.

    line = msalex-enc/1 {"suite":1,"key":...,"source":...,"hints":{...},"salt":...,"commit":...}\\n
    K[32] || commit[32] = HKDF-SHA512(key, salt, "msalex-enc/1 A256GCM" || SHA-256(name))
    file = line || AES-256-GCM(K, nonce 0, associated data = line,
                               file id[16] || generation[8] || length[8] || text || zeros)

docs/encrypted-file.md has it byte by byte, says what it protects from, and what it does not.

A reader calls parse(), finds the key that the header names, and calls open_().  Each header can be
written in one way only, and parse() refuses every other: so it needs no parser of JSON, and two
readers cannot understand one header differently.  Whatever a message repeats of a file is made of
letters, digits, "_" and "-", because somebody else may have written the file.
"""

from __future__ import annotations

import base64
import functools
import hmac
import json
import os
import re
import struct
from collections.abc import Mapping
from types import ModuleType
from typing import NamedTuple

from .._references import ARGUMENT, ENCRYPTED_DAMAGED, ENCRYPTED_UNKNOWN
from ..errors import (
    EncryptedFileDamaged,
    EncryptedFileUnknown,
    KeyWrong,
    NotEncrypted,
    PersistenceError,
    with_remedy,
)

KEY_BYTES = 32
FILE_ID_BYTES = 16
SALT_BYTES = 32
#: The first line, with its newline, is no longer than this in any format; here a quarter of it.
LINE_BYTES = 4096
#: What is encrypted has a multiple of this size, so that the size of the file tells less.
BLOCK_BYTES = 1024
TAG_BYTES = 16
INFO = b"msalex-enc/1 A256GCM"
ID_INFO = b"msalex-enc/1 key id"
MAGIC = b"msalex-enc/"
#: What stands before the text: file id, generation, length of the text.
HEAD = struct.Struct(">16sQQ")

KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: The last of the 43 characters carries four bits, so it is one of sixteen.
_32_BYTES = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"
_HINT = "[A-Za-z0-9_-]{0,64}"
_LINE = re.compile(
    (
        rf'msalex-enc/1 {{"suite":1,"key":"(?P<key>{KEY_ID.pattern})",'
        r'"source":"(?:(?P<source>given|command|file|credential)","hints":{}'
        rf'|kernel","hints":{{"boot":"(?P<boot>{_HINT})","userns":"(?P<userns>{_HINT})"}}),'
        rf'"salt":"(?P<salt>{_32_BYTES})","commit":"(?P<commit>{_32_BYTES})"}}\n'
    ).encode()
)
#: Another format, or another suite of this one.  Numbers only grow.
_HIGHER = "(?:[2-9]|[1-9][0-9]{1,8})"
_NEWER = re.compile(rf'msalex-enc/(?:{_HIGHER} |1 {{"suite":{_HIGHER},)'.encode())


class Header(NamedTuple):
    """What the first line says.  Nobody has proved it before open_() returns."""

    key_id: str
    #: From where the key came: "given", "command", "file", "credential" or "kernel".
    source: str
    #: "boot" and "userns" for "kernel", else nothing.
    hints: dict[str, str]
    salt: bytes  # 32 bytes, new at each save
    commit: bytes  # 32 bytes that tell whether key and name are the right ones


class Envelope(NamedTuple):
    """A file that was parsed and not opened."""

    header: Header
    line: bytes  # the first line as it was read, with its newline
    sealed: memoryview  # the ciphertext and its tag


class Text(NamedTuple):
    """What a file holds.  Its repr() does not show the text."""

    text: bytes
    file_id: bytes  # 16 bytes, random, the same for all saves of one file
    generation: int  # counts the saves of one file

    def __repr__(self) -> str:
        return f"Text({len(self.text)} bytes, generation={self.generation})"


def parse(content: bytes, location: str) -> Envelope:
    """Reads the header, in a time that does not grow with the content.

    An empty file is up to the caller: it may mean that nothing is stored.  Here it counts as cut
    off.

    :raises NotEncrypted: The content is plain text or a file of something else.
    :raises EncryptedFileUnknown: A newer version of this package wrote it.
    :raises EncryptedFileDamaged: The content is cut off, or its header or its size is wrong.
    """
    secret, content = content, b""  # a secret: the file may hold plain text
    found = _LINE.match(secret)
    if found is None:
        raise _what_else(secret[:LINE_BYTES], location)
    size = len(secret) - found.end() - TAG_BYTES
    if size < BLOCK_BYTES or size % BLOCK_BYTES:
        raise _damaged("its size is wrong, so bytes are missing, or were added", location)
    source = (found["source"] or b"kernel").decode()
    hints = {} if source != "kernel" else {it: found[it].decode() for it in ("boot", "userns")}
    salt, commit = (base64.urlsafe_b64decode(found[it] + b"=") for it in ("salt", "commit"))
    header = Header(found["key"].decode(), source, hints, salt, commit)
    return Envelope(header, found[0], memoryview(secret)[found.end() :])


def open_(envelope: Envelope, key: bytes, name: str, location: str) -> Text:
    """Decrypts what parse() returned.

    :param key: 32 bytes.
    :param name: The logical name under which the file was sealed.
    :raises KeyWrong: Another key sealed the file, or another name.
    :raises EncryptedFileDamaged: The key is the right one, and the file was changed.
    :raises ValueError: An argument is wrong.
    """
    secret, key = key, b""
    header, sealed = envelope.header, envelope.sealed
    secret, commit = _keys(secret, header.salt, name)
    if not hmac.compare_digest(commit, header.commit):
        words = "The file was encrypted with another key, or under another name (it says that its"
        words += f" key is {header.key_id})."
        advice = "Give the right key and name, or restore a backup, or delete() the file and sign"
        advice += " in again"
        raise with_remedy(KeyWrong, None, words, location, None, header.key_id, advice=advice)
    cipher = _primitives().aes_gcm(secret, bytes(sealed[-TAG_BYTES:])).decryptor()
    cipher.authenticate_additional_data(envelope.line)
    # In three parts, because a copy of a large text costs more than its decryption.  Nothing is
    # returned before finalize() has compared the tag, and until then the length is only a place
    # to cut at.
    head = cipher.update(sealed[: HEAD.size])
    file_id, generation, size = HEAD.unpack(head)
    end = min(HEAD.size + size, len(sealed) - TAG_BYTES)
    secret = cipher.update(sealed[HEAD.size : end])
    padding = cipher.update(sealed[end:-TAG_BYTES])
    try:
        cipher.finalize()
    except _primitives().InvalidTag:
        raise _damaged("it is not what was saved", location) from None
    if len(secret) != size or len(padding) != _padding(size) or padding.strip(b"\0"):
        raise _damaged("the program that saved it padded it wrongly", location)
    return Text(secret, file_id, generation)


def seal(
    text: bytes,
    *,
    file_id: bytes,
    generation: int,
    key: bytes,
    key_id: str,
    source: str,
    hints: Mapping[str, str],
    name: str,
) -> bytes:
    """The content of a file.  Each call chooses a new salt, so no two results are equal.

    :param file_id: 16 bytes, random, the same for all saves of one file.
    :param generation: One more than that of the save before, below 2^64.
    :param key: 32 bytes, random or as good as random: no passphrase.
    :raises ValueError: An argument is wrong.
    """
    secret: tuple[bytes, ...] = text, key
    text = key = b""
    if len(file_id) != FILE_ID_BYTES or not 0 <= generation < 1 << 64:
        words = "a file id is 16 bytes, and a generation is 0 to 2^64 - 1"
        raise ValueError(ARGUMENT.after(words))
    salt = os.urandom(SALT_BYTES)
    secret = secret[0], *_keys(secret[1], salt, name)
    line = _line(Header(key_id, source, dict(hints), salt, secret[2]))
    cipher = _primitives().aes_gcm(secret[1]).encryptor()
    cipher.authenticate_additional_data(line)
    parts = [  # in parts for the reason that open_() gives
        line,
        cipher.update(HEAD.pack(file_id, generation, len(secret[0]))),
        cipher.update(secret[0]),
        cipher.update(bytes(_padding(len(secret[0])))),
        cipher.finalize(),
    ]
    return b"".join((*parts, cipher.tag))


def id_of(key: bytes) -> str:
    """The id of a key that has no name of its own: 22 characters, which tell nothing of the key.

    :raises ValueError: The key is not 32 bytes.
    """
    secret, key = key, b""
    return _base64(_hkdf(secret, None, ID_INFO, 16))


def _line(header: Header) -> bytes:
    """The first line.  It is compared with what a reader accepts, so that we write nothing else."""
    fields = {
        "suite": 1,
        "key": header.key_id,
        "source": header.source,
        "hints": dict(sorted(header.hints.items())),
        "salt": _base64(header.salt),
        "commit": _base64(header.commit),
    }
    line = b"msalex-enc/1 " + json.dumps(fields, separators=(",", ":")).encode() + b"\n"
    if not _LINE.fullmatch(line):
        words = (
            "a key id has 1 to 64 letters, digits, '-' or '_'; only the source 'kernel' has hints"
        )
        raise ValueError(ARGUMENT.after(words))
    return line


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@functools.cache
def _primitives() -> ModuleType:
    from . import primitives

    return primitives


def _hkdf(secret: bytes, salt: bytes | None, info: bytes, length: int) -> bytes:
    if not isinstance(secret, bytes) or len(secret) != KEY_BYTES:
        raise ValueError(ARGUMENT.after("a key is 32 bytes"))
    derived: bytes = _primitives().hkdf(secret, salt, info, length)
    return derived


def _keys(secret: bytes, salt: bytes, name: str) -> tuple[bytes, bytes]:
    """The key of one save for this name, and the commitment to it."""
    secret = _hkdf(secret, salt, _info_of(name), 64)
    return secret[:32], secret[32:]


@functools.lru_cache(maxsize=16)
def _info_of(name: str) -> bytes:
    digest: bytes = _primitives().sha256(encoded(name))
    return INFO + digest


def encoded(name: str) -> bytes:
    """A name as it goes into the key.

    :raises ValueError: It is no text, such as the name of a file that is not in UTF-8.
    """
    try:
        return name.encode("utf-8")
    except UnicodeEncodeError:
        words = "a name is text; this one has a lone surrogate: give a name="
        raise ValueError(ARGUMENT.after(words)) from None


def _padding(size: int) -> int:
    """The number of zeros after a text of this size."""
    return -(HEAD.size + size) % BLOCK_BYTES


def _what_else(head: bytes, location: str) -> PersistenceError:
    """The error for the beginning of a content that has no header of ours."""
    secret, head = head, b""
    if _NEWER.match(secret):
        return with_remedy(EncryptedFileUnknown, None, f"{ENCRYPTED_UNKNOWN.title}.", location)
    if secret.startswith(MAGIC) or MAGIC.startswith(secret):
        return _damaged("its first line is cut off or changed", location)
    plain = secret.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(b"{")
    found = "plain text, such as a token cache without encryption" if plain else "an unknown file"
    words = f"An encrypted file belongs here, but there is {found}. It was kept."
    advice = "Move it away, or give another location"
    return with_remedy(NotEncrypted, None, words, location, advice=advice)


def _damaged(what: str, location: str) -> EncryptedFileDamaged:
    words = f"{ENCRYPTED_DAMAGED.title}: {what}."
    return with_remedy(EncryptedFileDamaged, None, words, location)
