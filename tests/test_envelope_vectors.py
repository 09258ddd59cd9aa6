"""The format does not change, and its document is enough to implement it.

vectors.json has files of every kind, good and bad.  A second implementation for Node was made from
docs/encrypted-file.md, and the document has a reader of its own.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag

from msal_extensions import errors
from msal_extensions._stores import envelope
from tests.support.capability import needs
from tests.support.envelope import make_vectors

ROOT = Path(__file__).resolve().parents[1]
SECOND = ROOT / "tests" / "support" / "envelope" / "second.mjs"
DOCUMENT = (ROOT / "docs" / "encrypted-file.md").read_text(encoding="utf-8")
VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    make_vectors.VECTORS.read_text(encoding="utf-8")
)
GOOD, BAD = VECTORS["good"], VECTORS["bad"]
NODE_S = 60


def content_of(vector: dict[str, Any]) -> bytes:
    if "content" in vector:
        return base64.b64decode(vector["content"])
    return str(vector["line"]).encode("ascii") + b"\n" + base64.b64decode(vector["sealed"])


def opened(vector: dict[str, Any]) -> tuple[envelope.Envelope, envelope.Text]:
    parsed = envelope.parse(content_of(vector), "place")
    key = bytes.fromhex(vector["key"])
    return parsed, envelope.open_(parsed, key, vector["name"], "place")


def node(orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the second implementation answers."""
    program = shutil.which("node")
    needs(None if program else "node is not installed")
    assert program is not None
    done = subprocess.run(
        [program, str(SECOND)],
        input=json.dumps(orders),
        capture_output=True,
        encoding="utf-8",
        timeout=NODE_S,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(answers) == len(orders)
    return answers


def order(vector: dict[str, Any]) -> dict[str, Any]:
    content = base64.b64encode(content_of(vector)).decode()
    return {"do": "open", "content": content, "key": vector["key"], "name": vector["name"]}


# ---- the vectors -------------------------------------------------------------------------


def test_the_same_arguments_and_salts_make_the_same_files_as_ever() -> None:
    assert make_vectors.make() == VECTORS


@pytest.mark.parametrize("vector", GOOD, ids=lambda vector: vector["what"])
def test_a_good_vector_opens(vector: dict[str, Any]) -> None:
    parsed, text = opened(vector)
    assert parsed.header[:3] == (vector["key_id"], vector["source"], vector["hints"])
    assert parsed.header.salt.hex() == vector["salt"]
    assert text.text.decode() == vector["text"]
    assert (text.file_id.hex(), str(text.generation)) == (vector["file_id"], vector["generation"])


@pytest.mark.parametrize("vector", BAD, ids=lambda vector: vector["what"])
def test_a_bad_vector_is_refused_with_its_error(vector: dict[str, Any]) -> None:
    with pytest.raises(errors.PersistenceError) as raised:
        opened(vector)
    assert type(raised.value).__name__ == vector["error"]


def test_each_source_and_each_error_has_a_vector() -> None:
    assert {vector["source"] for vector in GOOD} == {
        *("given", "command", "file", "credential", "kernel")
    }
    assert {vector["error"] for vector in BAD} == {
        *("NotEncrypted", "EncryptedFileUnknown", "EncryptedFileDamaged", "KeyWrong")
    }


# ---- the second implementation -----------------------------------------------------------


def test_node_reads_our_files_and_refuses_the_same_ones_for_the_same_reason() -> None:
    answers = node([order(vector) for vector in GOOD + BAD])
    for vector, answer in zip(GOOD, answers, strict=False):
        text = base64.b64decode(answer.pop("text")).decode()
        same = ("file_id", "generation", "key_id", "source", "hints")
        assert (text, answer) == (vector["text"], {name: vector[name] for name in same})
    refused = {vector["what"]: vector["error"] for vector in BAD}
    assert {
        vector["what"]: answer.get("error")
        for vector, answer in zip(BAD, answers[len(GOOD) :], strict=True)
    } == refused


def test_we_read_what_node_writes() -> None:
    arguments = ("key", "key_id", "source", "hints", "name", "file_id", "generation")
    orders = [
        {
            "do": "seal",
            "text": base64.b64encode(vector["text"].encode()).decode(),
            **{name: vector[name] for name in arguments},
        }
        for vector in GOOD
    ]
    for vector, answer in zip(GOOD, node(orders), strict=True):
        parsed, text = opened({**vector, "content": answer["content"]})
        assert parsed.header[:3] == (vector["key_id"], vector["source"], vector["hints"])
        assert parsed.header.salt.hex() != vector["salt"]
        assert text.text.decode() == vector["text"]
        assert text.file_id.hex() == vector["file_id"]
        assert str(text.generation) == vector["generation"]


def test_node_and_we_agree_about_each_changed_bit_of_a_first_line() -> None:
    vectors = []
    for good in (GOOD[0], next(vector for vector in GOOD if vector["source"] == "kernel")):
        content = content_of(good)
        for at in range(8 * (content.index(b"\n") + 1)):
            changed = bytearray(content)
            changed[at // 8] ^= 1 << at % 8
            vectors.append({**good, "content": base64.b64encode(changed)})
    ours = []
    for vector in vectors:
        with pytest.raises(errors.PersistenceError) as raised:
            opened(vector)
        ours.append(type(raised.value).__name__)
    orders = [{**order(vector), "content": vector["content"].decode()} for vector in vectors]
    assert [answer.get("error") for answer in node(orders)] == ours


# ---- the document ------------------------------------------------------------------------


def reader_of_the_document() -> Callable[[bytes, bytes, str], bytes]:
    """The function in docs/encrypted-file.md."""
    [code] = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "encrypted-file.md", "exec"), names)
    reader: Callable[[bytes, bytes, str], bytes] = names["read"]
    return reader


def test_the_reader_in_the_document_reads_what_is_not_of_the_kernel() -> None:
    read = reader_of_the_document()
    good = [vector for vector in GOOD if vector["source"] != "kernel"]
    assert len(good) > 10
    for vector in good:
        key = bytes.fromhex(vector["key"])
        assert read(content_of(vector), key, vector["name"]).decode() == vector["text"]


@pytest.mark.parametrize("vector", BAD, ids=lambda vector: vector["what"])
def test_the_reader_in_the_document_refuses_bad_files(vector: dict[str, Any]) -> None:
    read = reader_of_the_document()
    # AttributeError: a regular expression that does not match is None.
    with pytest.raises((ValueError, AttributeError, InvalidTag)):
        read(content_of(vector), bytes.fromhex(vector["key"]), vector["name"])


def test_the_example_in_the_document_is_the_first_vector() -> None:
    [example] = re.findall(r"### An example\n(.*?)\n## ", DOCUMENT, re.DOTALL)
    rows = dict(re.findall(r"^\| ([^|]+?) \| `?(.*?)`? \|$", example, re.MULTILINE))
    first, sealed = GOOD[0], base64.b64decode(GOOD[0]["sealed"])
    for row, name in (
        *(("key", "key"), ("key id", "key_id"), ("name", "name"), ("text", "text")),
        *(("file id", "file_id"), ("generation", "generation"), ("salt", "salt")),
    ):
        assert rows.pop(row) == first[name]
    assert envelope.id_of(bytes.fromhex(first["key"])) == first["key_id"]
    assert rows.pop("the first 32 bytes of `sealed`") == sealed[:32].hex()
    assert rows.pop("the tag, its last 16 bytes") == sealed[-16:].hex()
    header = envelope.parse(content_of(first), "place").header
    assert rows.pop("commit") == header.commit.hex()
    assert re.fullmatch("[0-9a-f]{64}", rows["K"])
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher = AESGCM(bytes.fromhex(rows.pop("K")))
    line = first["line"].encode() + b"\n"
    assert first["text"].encode() in cipher.decrypt(bytes(12), sealed, line)
    assert rows == {}
    assert f"```text\n{first['line']}\n```" in example


def test_a_random_text_goes_through_both_implementations() -> None:
    text, key = secrets.token_bytes(50_000), secrets.token_bytes(32)
    content = envelope.seal(
        text,
        file_id=bytes(16),
        generation=1,
        key=key,
        key_id="any",
        source="given",
        hints={},
        name="ключ",
    )
    vector = {"content": base64.b64encode(content), "key": key.hex(), "name": "ключ"}
    [answer] = node([order(vector)])
    assert base64.b64decode(answer["text"]) == text
