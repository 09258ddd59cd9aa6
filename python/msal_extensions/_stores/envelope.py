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

The primitives are those of the package cryptography.  It takes 25 ms to import, so it is imported
at the first use.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from ..errors import (
    EncryptedFileDamaged,
    EncryptedFileUnknown,
    KeyWrong,
    NotEncrypted,
    PersistenceError,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
FILE_ID_BYTES = 16
SALT_BYTES = 32
#: The first line with its newline is no longer than this, also in formats to come.  In this one it
#: cannot become a quarter as long.
LINE_BYTES = 4096
#: What is encrypted has a multiple of this size, so that the size of the file tells less.
BLOCK_BYTES = 1024
TAG_BYTES = 16
#: It may be constant, because each save has a new salt, and so a key of its own.
NONCE = bytes(12)
INFO = b"msalex-enc/1 A256GCM"
ID_INFO = b"msalex-enc/1 key id"
MAGIC = b"msalex-enc/"
#: What stands before the text: file id, generation, length of the text.
HEAD = struct.Struct(">16sQQ")

#: A key id.
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
    from cryptography.exceptions import InvalidTag

    secret, key = key, b""
    header = envelope.header
    cipher, commit = _cipher(secret, header.salt, name)
    if not hmac.compare_digest(commit, header.commit):
        raise KeyWrong(
            None,
            "The file was encrypted with another key, or under another name (it says that its key"
            f" is {header.key_id}). Give the right key and name, or restore a backup,"
            " or delete() the file and sign in again",
            location,
            header.key_id,
        )
    try:
        secret = cipher.decrypt(NONCE, envelope.sealed, envelope.line)
    except InvalidTag:
        raise _damaged("it is not what was saved", location) from None
    end = HEAD.size + HEAD.unpack_from(secret)[2]
    if len(secret) != _padded_size(end) or secret[end:].strip(b"\0"):
        raise _damaged("the program that saved it padded it wrongly", location)
    file_id, generation, _ = HEAD.unpack_from(secret)
    return Text(secret[HEAD.size : end], file_id, generation)


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
    secret, text, key = (text, key), b"", b""
    if len(file_id) != FILE_ID_BYTES or not 0 <= generation < 1 << 64:
        raise ValueError("a file id is 16 bytes, and a generation is 0 to 2^64 - 1")
    salt = os.urandom(SALT_BYTES)
    cipher, commit = _cipher(secret[1], salt, name)
    line = _line(Header(key_id, source, dict(hints), salt, commit))
    return line + _encrypt(cipher, secret[0], (file_id, generation), line)


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
        raise ValueError(
            "a key id has 1 to 64 letters, digits, '-' or '_'; only the source 'kernel' has hints"
        )
    return line


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _hkdf(secret: bytes, salt: bytes | None, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-512."""
    from cryptography.hazmat.primitives.hashes import SHA512
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    if not isinstance(secret, bytes) or len(secret) != KEY_BYTES:
        raise ValueError("a key is 32 bytes")
    return HKDF(SHA512(), length, salt, info).derive(secret)


def _cipher(secret: bytes, salt: bytes, name: str) -> tuple[AESGCM, bytes]:
    """The cipher for this salt and name, and the commitment to its key."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256, Hash

    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a name is text; this one has a lone surrogate: give a name=") from None
    digest = Hash(SHA256())
    digest.update(encoded)
    secret = _hkdf(secret, salt, INFO + digest.finalize(), 64)
    return AESGCM(secret[:32]), secret[32:]


def _padded_size(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _encrypt(
    cipher: AESGCM, secret: bytes | bytearray, identity: tuple[bytes, int], line: bytes
) -> bytes:
    """The ciphertext of a text.  The padded copy of the text, which can be wiped, is wiped."""
    end = HEAD.size + len(secret)
    text, secret = memoryview(secret), bytearray(_padded_size(end))
    HEAD.pack_into(secret, 0, *identity, len(text))
    secret[HEAD.size : end] = text
    try:
        return cipher.encrypt(NONCE, secret, line)
    finally:
        secret[:] = bytes(len(secret))


def _what_else(head: bytes, location: str) -> PersistenceError:
    """The error for the beginning of a content that has no header of ours."""
    secret, head = head, b""
    if _NEWER.match(secret):
        return EncryptedFileUnknown(
            None,
            "A newer version of msal-extensions encrypted the file. Update the package",
            location,
        )
    if secret.startswith(MAGIC) or MAGIC.startswith(secret):
        return _damaged("its first line is cut off or changed", location)
    plain = secret.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(b"{")
    return NotEncrypted(
        None,
        "An encrypted file belongs here, but there is "
        + ("plain text, such as a token cache without encryption" if plain else "an unknown file")
        + ". It was kept. Move it away, or give another location",
        location,
    )


def _damaged(what: str, location: str) -> EncryptedFileDamaged:
    return EncryptedFileDamaged(
        None,
        f"The encrypted file is damaged, or somebody has changed it: {what}."
        " Restore a backup, or delete() it and sign in again",
        location,
    )
