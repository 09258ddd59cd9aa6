"""The format of an encrypted file: what it keeps, what it refuses, and in which words."""

from __future__ import annotations

import re
import secrets
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from msal_extensions._stores import envelope
from msal_extensions.errors import (
    EncryptedFileDamaged,
    EncryptedFileUnknown,
    KeyWrong,
    NotEncrypted,
    PersistenceError,
)
from tests.support.processes import python

KEY = bytes(range(32))
FILE_ID = bytes(range(16))
NAME = "cache.bin"
PLACE = "/somewhere/cache.bin"
CANARY = "canary-0d6e5a"
TEXT = f'{{"RefreshToken": "{CANARY}"}}'.encode()
KERNEL = {"boot": "0b1c-9", "userns": "4026531837"}


def sealed(text: bytes = TEXT, **changed: Any) -> bytes:
    arguments: dict[str, Any] = {
        "file_id": FILE_ID,
        "generation": 7,
        "key": KEY,
        "key_id": envelope.id_of(KEY),
        "source": "given",
        "hints": {},
        "name": NAME,
    }
    return envelope.seal(text, **arguments | changed)


def opened(content: bytes, key: bytes = KEY, name: str = NAME) -> envelope.Text:
    return envelope.open_(envelope.parse(content, PLACE), key, name, PLACE)


def refused(
    content: bytes, error: type[PersistenceError], key: bytes = KEY, name: str = NAME
) -> str:
    """The message of the error, which has no secret in it and names the place."""
    with pytest.raises(PersistenceError) as raised:
        opened(content, key, name)
    assert type(raised.value) is error
    assert raised.value.location == PLACE
    said = str(raised.value)
    assert CANARY not in said
    assert not re.search(r"[\w-]{43}", said)  # neither salt nor commitment
    assert said.endswith(f": {PLACE} [{raised.value.reference}]")
    return said


def with_header(content: bytes, old: str, new: str) -> bytes:
    """The file with another text in the first line."""
    line, rest = content.split(b"\n", 1)
    assert old.encode() in line
    return line.replace(old.encode(), new.encode()) + b"\n" + rest


# ---- what it keeps -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 991, 992, 993, 2016, 2017, 200_000])
def test_a_text_of_any_size_comes_back_with_its_file_id_and_generation(size: int) -> None:
    text = secrets.token_bytes(size)
    assert opened(sealed(text)) == (text, FILE_ID, 7)


@pytest.mark.parametrize("generation", [0, 1, 1 << 63, (1 << 64) - 1])
def test_a_generation_has_64_bits(generation: int) -> None:
    assert opened(sealed(generation=generation)).generation == generation


@pytest.mark.parametrize("name", ["", "a b", "/x/y", "кэш.bin", "🗝", "e\u0301", "n" * 10_000])
def test_a_name_is_any_text(name: str) -> None:
    assert opened(sealed(name=name), name=name).text == TEXT


def test_the_first_line_says_in_letters_which_key_is_needed_and_from_where() -> None:
    content = sealed(key_id="an-id", source="kernel", hints=dict(reversed(KERNEL.items())))
    line = content.split(b"\n")[0].decode("ascii")
    assert re.fullmatch(
        r'msalex-enc/1 \{"suite":1,"key":"an-id","source":"kernel",'
        r'"hints":\{"boot":"0b1c-9","userns":"4026531837"\},'
        r'"salt":"[\w-]{43}","commit":"[\w-]{43}"\}',
        line,
    )
    header = envelope.parse(content, PLACE).header
    assert header[:3] == ("an-id", "kernel", KERNEL)
    assert (len(header.salt), len(header.commit)) == (32, 32)


@pytest.mark.parametrize("source", ["given", "command", "file", "credential"])
def test_a_source_other_than_the_kernel_has_no_hints(source: str) -> None:
    content = sealed(source=source)
    assert envelope.parse(content, PLACE).header[:3] == (envelope.id_of(KEY), source, {})
    with pytest.raises(ValueError, match="hints"):
        sealed(source=source, hints=KERNEL)


def test_hints_that_the_machine_does_not_tell_are_empty() -> None:
    unknown = {"boot": "", "userns": ""}
    content = sealed(source="kernel", hints=unknown)
    assert envelope.parse(content, PLACE).header.hints == unknown


def test_no_two_saves_of_one_text_have_a_salt_or_a_block_in_common() -> None:
    first, second = (envelope.parse(sealed(), PLACE) for _ in range(2))
    assert first.header.salt != second.header.salt
    assert first.header.commit != second.header.commit
    blocks = [
        {bytes(each.sealed[at : at + 16]) for at in range(0, len(each.sealed), 16)}
        for each in (first, second)
    ]
    assert not blocks[0] & blocks[1]


def test_the_size_tells_the_size_of_the_text_only_to_a_kibibyte() -> None:
    sizes = [len(envelope.parse(sealed(bytes(size)), PLACE).sealed) for size in (0, 992, 993, 2016)]
    assert sizes == [1040, 1040, 2064, 2064]


# ---- what it refuses ---------------------------------------------------------------------


def test_another_key_and_another_name_are_told_from_damage() -> None:
    content = sealed(key_id="an-id")
    for said in (
        refused(content, KeyWrong, key=bytes(32)),
        refused(content, KeyWrong, name="other.bin"),
    ):
        assert "an-id" in said
        assert "Give the right key and name" in said
    with pytest.raises(KeyWrong) as raised:
        opened(content, bytes(32))
    assert raised.value.key_id == "an-id"


def test_names_that_only_look_alike_are_different() -> None:
    refused(sealed(name="\u00e9"), KeyWrong, name="e\u0301")


@pytest.mark.parametrize("content", [b"{}", TEXT, b" \r\n\t{", b"\xef\xbb\xbf{}"])
def test_plain_text_is_called_plain_text(content: bytes) -> None:
    assert "plain text" in refused(content, NotEncrypted)


@pytest.mark.parametrize(
    "content", [b"\0" * 5000, b"[]", b"MSALEX-ENC/1 {", b" msalex-enc/1 {", b"\xef\xbb\xbfmsalex"]
)
def test_a_file_of_something_else_is_called_unknown(content: bytes) -> None:
    assert "an unknown file" in refused(content, NotEncrypted)


@pytest.mark.parametrize(
    "start",
    [
        'msalex-enc/2 {"suite":1,',
        "msalex-enc/10 ",
        'msalex-enc/1 {"suite":2,',
        'msalex-enc/1 {"suite":12,',
    ],
)
def test_a_file_of_a_newer_version_asks_for_an_update(start: str) -> None:
    content = with_header(sealed(), 'msalex-enc/1 {"suite":1,', start)
    assert "Install the newer version" in refused(content, EncryptedFileUnknown)


def test_a_file_that_is_cut_off_anywhere_is_damaged() -> None:
    content = sealed()
    for size in range(len(content)):
        said = refused(content[:size], EncryptedFileDamaged)
        assert "Restore a backup; or remove the file" in said


def test_bytes_that_were_added_are_damage() -> None:
    for more in (b"\0", b"\n", bytes(1024), sealed()):
        refused(sealed() + more, EncryptedFileDamaged)
        refused(more + sealed(), NotEncrypted if more[:1] in b"\0\n" else EncryptedFileDamaged)


def test_a_wrong_size_is_seen_without_the_key() -> None:
    content = sealed()
    for size in (-1, -16, -1024):
        refused(content[:size], EncryptedFileDamaged, key=bytes(32))
    for more in (1, 16, 1025):
        refused(content + bytes(more), EncryptedFileDamaged, key=bytes(32))


def test_the_longest_first_line_is_far_shorter_than_any_first_line_may_be() -> None:
    hints = dict.fromkeys(KERNEL, "h" * 64)
    longest = envelope.parse(sealed(key_id="k" * 64, source="kernel", hints=hints), PLACE).line
    assert 4 * len(longest) < envelope.LINE_BYTES == 4096


def test_a_changed_bit_after_the_header_is_damage() -> None:
    content = sealed()
    for at in range(content.index(b"\n") + 1, len(content), 7):
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        refused(bytes(changed), EncryptedFileDamaged)


OTHER_HEADERS: Mapping[str, tuple[str, str]] = {
    "a space": ('"suite":1', '"suite": 1'),
    "a space at the end": ('"}', '"} '),
    "a carriage return": ('"}', '"}\r'),
    "another order": ('"suite":1,"key":"an-id"', '"key":"an-id","suite":1'),
    "a key twice": ('"key":"an-id"', '"key":"an-id","key":"an-id"'),
    "a key more": ('"key":"an-id"', '"key":"an-id","more":1'),
    "a key less": ('"key":"an-id",', ""),
    "a float": ('"suite":1', '"suite":1.0'),
    "an exponent": ('"suite":1', '"suite":1e0'),
    "a boolean": ('"suite":1', '"suite":true'),
    "NaN": ('"suite":1', '"suite":NaN'),
    "suite zero": ('"suite":1', '"suite":0'),
    "a negative suite": ('"suite":1', '"suite":-2'),
    "a huge suite": ('"suite":1', '"suite":' + "9" * 3000),
    "a suite of text": ('"suite":1', '"suite":"1"'),
    "version zero": ("enc/1", "enc/0"),
    "a version with a zero before": ("enc/1", "enc/02"),
    "a version of text": ("enc/1", "enc/x"),
    "an empty key id": ('"an-id"', '""'),
    "a long key id": ('"an-id"', '"' + "k" * 65 + '"'),
    "a key id that is a number": ('"an-id"', "1"),
    "a key id with an escape": ('"an-id"', r'"an\u002did"'),
    "a key id with a surrogate": ('"an-id"', r'"\ud800"'),
    "a key id for a terminal": ('"an-id"', '"\x1b[2J"'),
    "a key id with a letter of no alphabet": ('"an-id"', '"ключ"'),
    "another source": ('"given"', '"tpm"'),
    "the kernel without hints": ('"given"', '"kernel"'),
    "given with hints": ('"hints":{}', '"hints":{"boot":"1","userns":"2"}'),
    "no hints": ('"hints":{}', '"hints":null'),
    "a list of hints": ('"hints":{}', '"hints":[]'),
    "hints that are deep": ('"hints":{}', '"hints":' + '{"a":' * 600 + "{}" + "}" * 600),
    "padding in base64": ('","commit"', '=","commit"'),
    "a short salt": ('"salt":"A', '"salt":"'),
}


@pytest.mark.parametrize("what", OTHER_HEADERS)
def test_a_header_that_is_written_in_another_way_is_refused(what: str) -> None:
    content = sealed(key_id="an-id")
    if what == "a short salt":
        while b'"salt":"A' not in content:
            content = sealed(key_id="an-id")
    said = refused(with_header(content, *OTHER_HEADERS[what]), EncryptedFileDamaged)
    assert "its first line" in said
    assert said.isascii()
    assert said.isprintable()


def test_bits_that_base64_would_ignore_may_not_be_set() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    content = sealed()
    salt = re.search(rb'"salt":"([\w-]+)"', content)
    assert salt is not None
    last = salt[1].decode()[-1]
    for other in alphabet[alphabet.index(last) + 1 : alphabet.index(last) + 4]:
        changed = content.replace(salt[1], salt[1][:-1] + other.encode())
        refused(changed, EncryptedFileDamaged)


@pytest.mark.parametrize("size", [4095, 4096, 4097, 1 << 20])
def test_a_first_line_without_an_end_is_refused(size: int) -> None:
    refused(envelope.MAGIC.ljust(size, b" ") + b"\n", EncryptedFileDamaged)


def test_another_key_id_or_source_that_was_planted_is_damage() -> None:
    content = sealed(key_id="an-id")
    refused(with_header(content, '"an-id"', '"other"'), EncryptedFileDamaged)
    refused(with_header(content, '"given"', '"file"'), EncryptedFileDamaged)


def test_a_salt_or_commitment_of_another_save_is_not_of_this_key() -> None:
    first, second = (envelope.parse(sealed(), PLACE) for _ in range(2))
    lines = [each.line.decode().split('"') for each in (first, second)]
    for field in ("salt", "commit"):
        at = lines[0].index(field) + 2
        mixed = [*lines[0][:at], lines[1][at], *lines[0][at + 1 :]]
        refused('"'.join(mixed).encode() + bytes(first.sealed), KeyWrong)


# ---- arguments, secrets ------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": b""},
        {"key": bytes(31)},
        {"key": bytes(33)},
        {"key": "k" * 32},
        {"file_id": bytes(15)},
        {"generation": -1},
        {"generation": 1 << 64},
        {"key_id": ""},
        {"key_id": "k" * 65},
        {"key_id": "a b"},
        {"key_id": 'a"'},
        {"key_id": "a\n"},
        {"key_id": "é"},
        {"source": "tpm"},
        {"source": "kernel"},
        {"source": "kernel", "hints": {**KERNEL, "more": "1"}},
        {"source": "kernel", "hints": {**KERNEL, "boot": "a b"}},
        {"name": "\udc80"},
    ],
)
def test_seal_refuses_what_no_reader_could_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"32 bytes|16 bytes|key id|lone surrogate") as raised:
        sealed(**wrong)
    assert CANARY not in str(raised.value)


def test_a_key_that_is_not_32_bytes_is_an_error_of_the_program() -> None:
    parsed = envelope.parse(sealed(), PLACE)
    for key in (b"", bytes(31), bytes(64)):
        with pytest.raises(ValueError, match="a key is 32 bytes"):
            envelope.open_(parsed, key, NAME, PLACE)
        with pytest.raises(ValueError, match="a key is 32 bytes"):
            envelope.id_of(key)


def test_the_id_of_a_key_is_the_same_everywhere_and_fits_a_header() -> None:
    assert envelope.id_of(KEY) == envelope.id_of(bytes(KEY))
    assert envelope.id_of(KEY) != envelope.id_of(bytes(32))
    assert re.fullmatch(r"[\w-]{22}", envelope.id_of(KEY))


def test_a_repr_does_not_show_the_text() -> None:
    content = sealed()
    assert CANARY not in repr((opened(content), envelope.parse(content, PLACE)))


def variables_of(error: BaseException) -> Iterator[tuple[str, object]]:
    """The local variables of the module's functions through which an error passed."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == envelope.__file__:
            yield from frame.f_locals.items()


@pytest.mark.parametrize("what", ["seal", "open_", "parse", "damage", "id_of"])
def test_tools_that_report_local_variables_see_secrets_only_under_that_name(what: str) -> None:
    key = CANARY.encode().ljust(32, b".")
    content = sealed(TEXT, key=key)
    parsed = envelope.parse(content, PLACE)
    spoiled = envelope.parse(content[:-1] + bytes([content[-1] ^ 1]), PLACE)
    calls: dict[str, Callable[[], object]] = {
        "seal": lambda: sealed(TEXT, key=key, key_id="a b"),
        "open_": lambda: envelope.open_(parsed, key, "other", PLACE),
        "damage": lambda: envelope.open_(spoiled, key, NAME, PLACE),
        "parse": lambda: envelope.parse(TEXT, PLACE),
        "id_of": lambda: envelope.id_of(key + b"."),
    }
    with pytest.raises((ValueError, PersistenceError)) as raised:
        calls[what]()
    variables = list(variables_of(raised.value))
    # Else this test would see nothing.  Where the key is wrong, open_() has let go of it.
    assert what == "open_" or any(CANARY in repr(it) for _, it in variables)
    assert [name for name, it in variables if CANARY in repr(it) and name != "secret"] == []


def test_cryptography_is_imported_at_the_first_use() -> None:
    python(
        """
        import sys
        from msal_extensions._stores import envelope
        assert not any(name.startswith("cryptography") for name in sys.modules)
        """
    )
