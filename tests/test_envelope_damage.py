"""Thousands of damaged, mixed and planted files: each is refused, with a typed error, in time.

MSALEX_DAMAGED_FILES is their number, and MSALEX_SEED chooses others; see `python3 dev.py prove`.
"""

from __future__ import annotations

import os
import re
import statistics
import time
import traceback
from collections.abc import Iterator
from random import Random
from typing import NamedTuple
from unittest import mock

import pytest
from hypothesis import configuration, given, settings
from hypothesis import strategies as st

from msal_extensions._stores import envelope
from msal_extensions.errors import (
    EncryptedFileDamaged,
    EncryptedFileUnknown,
    KeyWrong,
    NotEncrypted,
    PersistenceError,
)
from tests.support import tally

DAMAGED = int(os.environ.get("MSALEX_DAMAGED_FILES", "2000"))
SEED = int(os.environ.get("MSALEX_SEED", "17"))
REFUSALS = (EncryptedFileDamaged, EncryptedFileUnknown, KeyWrong, NotEncrypted)
#: A file must be refused in this time.  A machine may be busy once, so the median of some counts.
LIMIT_S = 0.1
REPETITIONS = 5
CANARY = b"canary-5b1e0f"
#: The same in a text that should reach no terminal.
PLANTED = "\x1b]0;canary-5b1e0f\x07"
KEY = bytes(range(32))
NAMES = ("first.bin", "second.bin")
SIZES = (0, 900, 960, 20_000)


@pytest.fixture(autouse=True, scope="module")
def _home_of_hypothesis(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hypothesis keeps its files there, and not in the working directory."""
    configuration.set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))


class File(NamedTuple):
    """A good file, in its two parts."""

    name: str
    line: bytes
    sealed: bytes

    @property
    def content(self) -> bytes:
        return self.line + self.sealed


def file_of(random: Random, name: str, size: int, generation: int) -> File:
    text = CANARY + random.randbytes(size)
    source = random.choice(["given", "command", "file", "credential", "kernel"])
    hints = {"boot": "0b1c-9", "userns": "4026531837"} if source == "kernel" else {}
    with mock.patch.object(os, "urandom", random.randbytes):
        content = envelope.seal(
            text,
            file_id=NAMES.index(name).to_bytes(16, "big"),
            generation=generation,
            key=KEY,
            key_id="k-1",
            source=source,
            hints=hints,
            name=name,
        )
    line, end, sealed = content.partition(b"\n")
    return File(name, line + end, sealed)


def files_of(random: Random) -> list[File]:
    """Two saves of each size under each name."""
    return [
        file_of(random, name, size, generation)
        for name in NAMES
        for size in SIZES
        for generation in (1, 2)
    ]


# ---- ways to damage ----------------------------------------------------------------------


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flip(random: Random, files: list[File]) -> bytes:
    content = files[0].content
    for _ in range(random.choice([1, 1, 2, 30])):
        content = flipped(content, random.randrange(8 * len(content)))
    return content


def cut(random: Random, files: list[File]) -> bytes:
    content = files[0].content
    blocks = len(files[0].line) + 1024 * random.randrange(4) + random.choice([0, 16])
    return content[: min(random.choice([random.randrange(len(content)), blocks]), len(content) - 1)]


def append(random: Random, files: list[File]) -> bytes:
    more = random.choice([1, 16, 1008, 1024, 4096])
    return files[0].content + random.choice([bytes(more), random.randbytes(more), files[1].content])


def splice(random: Random, files: list[File]) -> bytes:
    """The beginning of a file and the end of another one, of the same key."""
    first, second = (file.content for file in files[:2])
    where = [len(files[0].line), random.randrange(len(first))]
    at = random.choice(where)
    return first[:at] + second[random.choice([at, len(files[1].line)]) :]


def remove(random: Random, files: list[File]) -> bytes:
    """A block is missing, or is there twice."""
    content, at = files[0].content, random.randrange(len(files[0].line), len(files[0].content))
    size = random.choice([1, 16, 1024])
    return content[:at] + random.choice([b"", 2 * content[at : at + size]]) + content[at + size :]


def swap(_: Random, files: list[File]) -> bytes:
    """A file of the same key that belongs to the other name."""
    return next(file.content for file in files if file.name != files[0].name)


def exchange(random: Random, files: list[File]) -> bytes:
    """A salt or a commitment of another save of the same key and name."""
    field = random.choice([b'"salt":"[^"]*"', b'"commit":"[^"]*"'])
    [other] = re.findall(field, files[1].line)
    return re.sub(field, other, files[0].line) + files[0].sealed


def plant(random: Random, files: list[File]) -> bytes:
    """A header that the reader does not expect, before a good rest."""
    line = files[0].line
    huge = random.choice([b"9" * 20, b"9" * 3500, b"1e999", b"-1", b"0", b"1.0", b"true", b"NaN"])
    deep = random.choice([b"[" * 3000, b'{"a":' * 600, b"[" * 1500 + b"]" * 1500])
    fields = re.findall(rb'"[a-z]+":(?:"[^"]*"|\d+|\{.*?\})', line)
    twice = random.choice(fields)
    other, raw = PLANTED.encode(), random.randbytes(random.randrange(1, 60))
    new = {
        b'"suite":1': [b'"suite":' + it for it in (huge, deep, b"2", b'"1"', b"[1]")],
        b'"k-1"': [b'"k-2"', b'"' + other + b'"', b'"' + raw + b'"', deep, rb'"\ud800"', b"null"],
        b'"hints":': [b'"hints":' + it for it in (deep, b'{"boot":1},"more":', b"[],", other)],
        b'"source":': [b'"source":"kernel","source":', b'"source":' + huge + b',"source":'],
        b"msalex-enc/1 ": [b"msalex-enc/" + it + b" " for it in (huge, b"2", other, b"01")],
        twice: [twice + b"," + twice, b"", b" " + twice, twice + b" ", twice.upper()],
        b"}\n": [
            b"}\r\n",
            b"} \n",
            b"\n",
            b"}",
            b"}" + b" " * 5000 + b"\n",
            b'},"' + other + b'"\n',
        ],
    }
    old = random.choice(list(new))
    return line.replace(old, random.choice(new[old]), 1) + files[0].sealed


def forge(random: Random, files: list[File]) -> bytes:
    """A whole file in the right form, from a person without the key."""
    key = random.choice([b'"k-1"', b'"k-2"', b'"' + CANARY + b'"'])
    source = random.choice([b'"file","hints":{}', b'"kernel","hints":{"boot":"","userns":"1"}'])
    salt, commit = (envelope._base64(random.randbytes(32)).encode() for _ in range(2))
    line = (
        b'msalex-enc/1 {"suite":1,"key":%s,"source":%s,"salt":"%s","commit":"%s"}\n'
        % (key, source, salt, commit)
    )  # fmt: skip
    assert envelope._LINE.fullmatch(line)
    return line + random.randbytes(1024 * random.randrange(1, 9) + 16)


def replace(random: Random, files: list[File]) -> bytes:
    """No file of ours at all."""
    plain = b'{"RefreshToken": {"secret": "' + CANARY + b'"}}'
    words = [b"\xef\xbb\xbf", b" ", b"msalex-enc/1 ", b"msalex-enc/", CANARY, b"\n", b""]
    rubbish = random.choice(words) + random.randbytes(random.randrange(5000))
    return random.choice([plain, random.choice(words) + plain, rubbish])


WAYS = (flip, cut, append, splice, remove, swap, exchange, plant, forge, replace)


def damaged_files(random: Random, count: int) -> Iterator[tuple[str, bytes, str]]:
    """How each was made, its content, and the name under which it is read."""
    files = files_of(random)
    for file in files[:4]:
        for at in range(len(file.line)):
            yield (
                "flip in the header",
                flipped(file.content, 8 * at + random.randrange(8)),
                file.name,
            )
            count -= 1
    good = {file.content for file in files}
    while count > 0:
        chosen = random.choice(files)
        others = [file for file in files if file is not chosen]
        others.sort(key=lambda file: file.name != chosen.name)
        nearest = random.choice([file for file in others if file.name == chosen.name])
        way = random.choice(WAYS)
        content = way(random, [chosen, nearest, *others])
        if way is swap or content not in good:
            yield way.__name__, content, chosen.name
            count -= 1


# ---- what must come of it ----------------------------------------------------------------


def refusal_of(content: bytes, name: str) -> tuple[PersistenceError | None, float]:
    """The error, and the seconds that it took."""
    begun = time.perf_counter()
    try:
        envelope.open_(envelope.parse(content, name), KEY, name, "place")
    except PersistenceError as error:
        return error, time.perf_counter() - begun
    return None, time.perf_counter() - begun


def seconds_to_refuse(content: bytes, name: str) -> float:
    """The time of one try, or the median of some if the first one was slow."""
    seconds = refusal_of(content, name)[1]
    if seconds < LIMIT_S:
        return seconds
    return statistics.median(refusal_of(content, name)[1] for _ in range(REPETITIONS))


def test_thousands_of_damaged_files_are_refused_with_a_typed_error_and_in_time() -> None:
    worst, told = (0.0, "nothing"), dict[str, set[str]]()
    count = 0
    for way, content, name in damaged_files(Random(SEED), DAMAGED):
        count += 1
        tally.tried()
        tally.lost()  # until all is well
        error, _ = refusal_of(content, name)
        assert type(error) in REFUSALS, (way, content[:400])
        said = "".join(traceback.format_exception(error))
        # The key id of a header in the right form is told, whatever it says.
        if way != "forge":
            assert CANARY.decode() not in said, way
        assert str(error).isprintable()
        told.setdefault(way, set()).add(type(error).__name__)
        seconds = seconds_to_refuse(content, name)
        assert seconds < LIMIT_S, way
        worst = max(worst, (seconds, way))
        tally.lost(-1)
    for way, errors in sorted(told.items()):
        print(f"{way}: {', '.join(sorted(errors))}")
    print(f"{count} files; the slowest was refused in {worst[0] * 1000:.2f} ms ({worst[1]})")
    assert count >= DAMAGED
    assert told.keys() == {"flip in the header", *(way.__name__ for way in WAYS)}
    assert told["swap"] == told["exchange"] == told["forge"] == {"KeyWrong"}
    assert told["append"] == told["cut"] == told["remove"] == {"EncryptedFileDamaged"}


def test_the_files_that_are_damaged_were_good() -> None:
    for file in files_of(Random(SEED)):
        text = envelope.open_(envelope.parse(file.content, "place"), KEY, file.name, "place").text
        assert text.startswith(CANARY)


@pytest.mark.parametrize("what", ["rubbish", "a header and rubbish", "plain", "a planted header"])
def test_64_mebibytes_are_refused_in_time(what: str) -> None:
    file = file_of(Random(SEED), NAMES[0], 0, 1)
    big = bytes(64 << 20)
    content = {
        "rubbish": lambda: big,
        # The costliest: the right key must look at all of it before it can tell.
        "a header and rubbish": lambda: file.line + big[: (64 << 20) - 2048] + bytes(16),
        "plain": lambda: b"{" + big,
        "a planted header": lambda: b'msalex-enc/1 {"suite":1,"key":"' + b"k" * (64 << 20),
    }[what]()
    error, _ = refusal_of(content, file.name)
    assert type(error) in REFUSALS
    times = []
    for _ in range(REPETITIONS):
        begun = time.thread_time()  # not that of other programs, for this is tens of milliseconds
        refusal_of(content, file.name)
        times.append(time.thread_time() - begun)
    print(f"{what}: the fastest of {REPETITIONS}: {min(times) * 1000:.2f} ms")
    assert min(times) < LIMIT_S


HEADERS = st.from_regex(re.compile(envelope._LINE.pattern), fullmatch=True)
BEGINNINGS = st.sampled_from(
    [b"", b"{", b"msalex-enc/", b"msalex-enc/1 {", b'msalex-enc/1 {"suite":']
)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.one_of(st.binary(), st.tuples(BEGINNINGS, st.binary()).map(b"".join)))
def test_any_bytes_are_refused_by_our_errors_only(content: bytes) -> None:
    with pytest.raises(REFUSALS):
        envelope.parse(content, "place")


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(HEADERS, st.integers(1, 3), st.binary(max_size=64))
def test_a_header_of_the_right_form_is_understood_and_can_be_written_again(
    line: bytes, blocks: int, rest: bytes
) -> None:
    parsed = envelope.parse(line + rest.ljust(1024 * blocks + 16, b"."), "place")
    assert parsed.line == line
    assert envelope._line(parsed.header) == line
    with pytest.raises(KeyWrong):
        envelope.open_(parsed, KEY, "name", "place")
