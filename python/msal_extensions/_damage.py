"""Tells whether a stored text is a token cache.

MSAL accepts any JSON and fails later, where it uses a damaged entry.  With
``on_unreadable="raise"`` that stays so, as in 1.3.1: the same errors, and the undamaged part works.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msal

from ._references import CACHE_DAMAGED
from .errors import CacheDamaged, with_remedy

_KINDS = frozenset(msal.TokenCache().key_makers)

#: Strings, whose brackets do not count, and the brackets that give JSON its nesting.
_STRUCTURE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{}]', re.DOTALL)
_OBJECT = re.compile(r"\s*\{")
#: Levels of nesting.  MSAL's entries have three.
_DEEPEST = 10_000


def parse_leniently(secret: str) -> Any:
    """Parses any JSON.

    :raises CacheDamaged: (a json.JSONDecodeError) when the text is no JSON.
    :raises ValueError: when a number in it has too many digits for Python.
    :raises RecursionError: when it is nested too deeply for the rest of the stack.
    """
    if not secret:  # as everywhere in MSAL an empty text means "not saved yet"
        return {}
    failure: Exception
    try:
        return json.loads(secret)
    except json.JSONDecodeError as error:  # its ``doc`` has the tokens
        failure = _damaged(str(error), error)
    except (ValueError, RecursionError) as error:
        failure = error.with_traceback(None)  # the local variables of json's frames have tokens
    raise failure


def parse_strictly(secret: str) -> Any:
    """Parses JSON on which MSAL's search() and modify() work.

    Kinds of credentials that MSAL does not know are not checked: other libraries may add them.

    :raises CacheDamaged: when the text is no such JSON.
    :raises RecursionError: when it may be one, but the rest of the stack is too small to parse it.
    """
    try:
        parsed = parse_leniently(secret)
        problem = _problem(parsed)
        if not problem:
            return parsed
        del parsed  # or a traceback would show it
    except CacheDamaged:
        raise
    except ValueError as error:
        problem = str(error)
    except RecursionError:
        problem = _problem_of_nesting(secret)
        if not problem:
            raise
    raise _damaged(problem)


def _damaged(problem: str, cause: json.JSONDecodeError | None = None) -> CacheDamaged:
    words = f"{problem}. {CACHE_DAMAGED.title}."
    return with_remedy(CacheDamaged, None, words, None, CACHE_DAMAGED, cause)


def _problem_of_nesting(secret: str) -> str:
    """The proof, found without a stack, that a text is no token cache; "" when there is none.

    A RecursionError is no proof: the program may have used up the stack before.
    """
    if not _OBJECT.match(secret):
        return "It is no JSON object"
    closing: list[str] = []  # the brackets that must follow, the next one last
    for found in _STRUCTURE.finditer(secret):
        character = secret[found.start()]
        if character == '"':
            if found.end() - found.start() == 1:
                return "A string in it does not end"
        elif character in "[{":
            closing.append("]" if character == "[" else "}")
            if len(closing) > _DEEPEST:
                return f"It is nested more than {_DEEPEST} levels deep"
        elif not closing or closing.pop() != character:
            return "Its brackets do not match"
    return "Its brackets do not match" if closing else ""


def _problem(secret: Any) -> str:
    if not isinstance(secret, dict):
        return "It is no JSON object"
    for kind in _KINDS & secret.keys():
        entries = secret[kind]
        if not isinstance(entries, dict):
            return f"Its {kind} is no JSON object"
        if not all(isinstance(entry, dict) for entry in entries.values()):
            return f"An entry of its {kind} is no JSON object"
    try:
        for entry in secret.get(msal.TokenCache.CredentialType.ACCESS_TOKEN, {}).values():
            int(entry["expires_on"])  # as MSAL's search() does
    except (KeyError, TypeError, ValueError, OverflowError):  # the last: Infinity
        return "An access token does not tell when it expires"
    return ""
