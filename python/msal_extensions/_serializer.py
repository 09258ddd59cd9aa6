"""Compact JSON of a token cache.  Only entries that have changed are encoded again.

MSAL's ``serialize()`` indents, and json.dumps() cannot use its C encoder for that.  Most of the
entries that a sign-in saves are those of the last save.  So each encoded entry is kept beside a
copy of the entry, and is used again only for an entry that is equal to the copy.  Programs change
entries behind MSAL's back, so nothing here relies on being told of a change.

A signal handler or a finalizer of the same thread may change the cache at any line.  So loops go
over copies, and each copy is made by one call, which no handler can interrupt.
"""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Iterator
from typing import Any

from ._references import ARGUMENT

_quote = json.encoder.encode_basestring_ascii  # raises a TypeError when it gets no string
_dumps = json.JSONEncoder(separators=(",", ":")).encode
_dumps_sorted = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode

#: Types of which equal values have equal JSON.
_NAMES, _VALUES = {str}, {str, type(None)}

#: The encoded entries of one kind.  By key: a copy of the entry, and ``"key":{...}``.
_Memory = dict[str, tuple[dict[str, Any], bytes]]


class Serializer:
    """Encodes one cache, again and again.  Only one thread at a time may use it."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Memory] = {}

    def encode(self, secret: Any) -> bytes:
        """What ``json.dumps(secret, separators=(",", ":"))`` returns, in ASCII, or raises."""
        try:
            return self._encode(secret)
        except Exception as error:
            failure = error
        # The frames below have tokens in their local variables, and so have those of the context.
        failure.__context__ = None
        raise failure.with_traceback(None)

    def retain(self, cache: Any) -> None:
        """Forgets all entries but those that the cache still has, with the same values."""
        for kind, memory in tuple(self._kinds.items()):
            entries = cache.get(kind) if isinstance(cache, dict) else None
            if not isinstance(entries, dict):
                entries = {}
            for key, known in tuple(memory.items()):
                if entries.get(key) != known[0]:
                    memory.pop(key, None)

    def _encode(self, cache: Any) -> bytes:
        known, self._kinds = self._kinds, {}  # so an error, too, leaves no removed entry here
        if not isinstance(cache, dict) or not _has_strings_for_keys(cache):
            return _dumps(cache).encode("ascii")
        kinds: dict[str, _Memory] = {}
        pieces: list[bytes] = []  # joined once: a large cache is copied once
        for kind, entries in tuple(cache.items()):
            name = _quote(kind).encode("ascii") + b":"
            if isinstance(entries, dict):
                entries = entries.copy()
            if not entries or not isinstance(entries, dict) or not _has_strings_for_keys(entries):
                pieces.append(name + _dumps(entries).encode("ascii"))
                continue
            memory = kinds[kind] = {}
            first = len(pieces)
            pieces += _encode_entries(entries, known.get(kind, {}), memory)
            pieces[first] = name + b"{" + pieces[first]
            pieces[-1] += b"}"
        self._kinds = kinds  # without the removed entries
        if not pieces:
            return b"{}"
        pieces[0] = b"{" + pieces[0]
        pieces[-1] += b"}"
        return b",".join(pieces)


def _has_strings_for_keys(entries: dict[Any, Any]) -> bool:
    return {*map(type, entries)} <= _NAMES


def _encode_entries(entries: dict[str, Any], known: _Memory, memory: _Memory) -> Iterator[bytes]:
    for key, entry in entries.items():
        remembered = known.get(key)
        if remembered is None or remembered[0] != entry:
            copied = entry.copy() if isinstance(entry, dict) else entry
            piece = (_quote(key) + ":" + _encode_entry(copied)).encode("ascii")
            if not _is_flat(copied):
                yield piece
                continue
            remembered = (copied, piece)
        memory[key] = remembered
        yield remembered[1]


def _is_flat(entry: Any) -> bool:
    """Whether equal entries have equal JSON, and copying the dictionary copies everything in it.

    1, True and 1.0 are equal with different JSON; a list would be shared with the copy.  MSAL's
    entries consist of strings and None.
    """
    return (
        isinstance(entry, dict)
        and {*map(type, entry)} <= _NAMES
        and {*map(type, entry.values())} <= _VALUES
    )


def _encode_entry(entry: Any) -> str:
    try:
        fields = [
            _quote(name) + ":" + ("null" if value is None else _quote(value))
            for name, value in entry.items()
        ]
    except (AttributeError, TypeError):  # not a dictionary of strings
        return _dumps(entry)
    return "{" + ",".join(fields) + "}"


def text_of(secret: Any) -> str | None:
    """An entry as JSON with sorted names; None when JSON cannot hold it."""
    try:
        return _dumps_sorted(secret)
    except (TypeError, ValueError, RecursionError):
        return None


def is_same(one: Any, other: Any) -> bool:
    """Whether two entries have the same JSON.  None stands for "no entry"."""
    if one is None or other is None:
        return one is other
    if _is_flat(one) and _is_flat(other):
        return bool(one == other)
    text = text_of(one)
    return text is not None and text == text_of(other)


def refuse_unless_json(kind: str, secret: Any) -> None:
    """:raises TypeError, ValueError, RecursionError: when no JSON can hold the entry."""
    if _is_flat(secret):
        return
    try:
        _dumps(secret)
        return
    except (TypeError, ValueError, RecursionError) as error:
        error_type, words = type(error), str(error)
    if error_type not in (TypeError, RecursionError):
        error_type = ValueError
    words = f"The cache is JSON, which cannot hold this entry of {kind}: {words}"
    raise error_type(ARGUMENT.after(words))
