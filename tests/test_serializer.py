"""Encoding only what changed gives the same text as encoding everything."""

from __future__ import annotations

import json
import random
from enum import Enum
from typing import Any

import pytest

from msal_extensions._serializer import Serializer
from tests.support.tokens import token


def plainly(cache: Any) -> bytes:
    return json.dumps(cache, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "cache",
    [
        {},
        [],
        None,
        0,
        {"AccessToken": {}},
        {"AccessToken": []},
        {"AccessToken": None, "Account": {"a": {"b": "c"}}},
        {"AccessToken": {"a": {}}},
        {"AccessToken": {"a": "b", "c": 1, "d": [None, True, 1.5], "e": {"f": {"g": []}}}},
        {"Account": {"k": {"x": None, "y": 'é\u2028"\\\x00\ud800😀'}}, "é": {"é": {"é": "é"}}},
        {1: {"a": {}}, None: {}},
        {"AccessToken": {1: {"a": "b"}, "x": {2: "c"}}},
        {"AccessToken": {"a": {"b": "c"}}, "IdToken": {}, "Account": {"d": {"e": "f"}}},
    ],
)
def test_it_is_what_json_dumps_returns(cache: Any) -> None:
    serializer = Serializer()
    assert serializer.encode(cache) == plainly(cache)
    assert serializer.encode(cache) == plainly(cache)


def test_no_change_in_place_is_missed() -> None:
    """Whatever a program changes in the dictionaries without a call."""

    class Text(str, Enum):
        VALUE = "text"

    values = ["a", "b", "", None, 1, True, 1.0, 0, False, {"x": 1}, Text.VALUE, "text"]
    dice = random.Random(4)
    cache: dict[str, Any] = {
        kind: {f"key{number}": dict(token(number)) for number in range(5)}
        for kind in ("AccessToken", "Account")
    }
    serializer = Serializer()
    for _ in range(3000):
        entries = cache.setdefault(dice.choice(["AccessToken", "Account", "IdToken"]), {})
        key, name = f"key{dice.randrange(6)}", f"field{dice.randrange(3)}"
        entry = entries.setdefault(key, {})
        match dice.randrange(6):
            case 0:
                entries.pop(key)
            case 1:
                entry.pop(name, None)
            case 2 if isinstance(entry.get(name), list):
                entry[name].append("x")  # inside a value
            case _:
                entry[name] = dice.choice([*values, [1], [True]])
        assert json.loads(serializer.encode(cache)) == json.loads(plainly(cache))
        assert json.dumps(json.loads(serializer.encode(cache)), sort_keys=True) == json.dumps(
            cache, sort_keys=True
        )


def test_what_was_removed_is_not_remembered() -> None:
    serializer = Serializer()
    serializer.encode({"AccessToken": {"a": {"secret": "x"}, "b": {"secret": "y"}}, "Account": {}})
    serializer.encode({"AccessToken": {"c": {"secret": "z"}}})
    assert "'z'" in str(serializer._kinds)
    assert "'x'" not in str(serializer._kinds)
    assert "'y'" not in str(serializer._kinds)


def test_an_unchanged_entry_is_not_encoded_again() -> None:
    serializer = Serializer()
    cache = {"AccessToken": {"a": {"secret": "x"}, "b": {"secret": "y"}}}
    serializer.encode(cache)
    first = serializer._kinds["AccessToken"]["a"][1]
    cache["AccessToken"]["b"] = {"secret": "other"}
    serializer.encode(cache)
    assert serializer._kinds["AccessToken"]["a"][1] is first
