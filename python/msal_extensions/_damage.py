"""What a stored text must be to serve as a token cache.

MSAL takes any JSON, and stumbles later.  With ``on_unreadable="raise"`` that stays so: the
errors, and what still works beside the damaged part, are those of 1.3.1.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msal

from .errors import CacheDamaged

_REMEDY = (
    "The token cache is damaged. Remove it and sign in again; or let"
    ' PersistedTokenCache(..., on_unreadable="quarantine") put it aside.'
)
_KINDS = frozenset(msal.TokenCache().key_makers)

#: Strings, so that the brackets in them do not count, and what gives JSON its nesting.
_STRUCTURE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{}]', re.DOTALL)
_OBJECT = re.compile(r"\s*\{")
#: Levels; MSAL's entries have three.
_DEEPEST = 10_000


def parse_leniently(secret: str) -> Any:
    """Any JSON.

    :raises CacheDamaged: (a json.JSONDecodeError) when it is none.
    :raises ValueError: when a number in it has too many digits for Python.
    :raises RecursionError: when it is nested too deeply for what is left of the stack.
    """
    if not secret:  # "not saved yet", as everywhere in MSAL
        return {}
    failure: Exception
    try:
        return json.loads(secret)
    except json.JSONDecodeError as error:  # its ``doc`` is the tokens
        failure = CacheDamaged(None, f"{error}. {_REMEDY}", cause=error)
    except (ValueError, RecursionError) as error:
        failure = error.with_traceback(None)  # the locals of json's frames are the tokens
    raise failure


def parse_strictly(secret: str) -> Any:
    """JSON on which MSAL's search() and modify() work.

    What kinds of credentials other libraries add is none of our business.

    :raises CacheDamaged: when it is none.
    :raises RecursionError: when it may be, but cannot be parsed with what is left of the stack.
    """
    try:
        parsed = parse_leniently(secret)
        problem = _problem(parsed)
        if not problem:
            return parsed
        del parsed  # a traceback would show it
    except CacheDamaged:
        raise
    except ValueError as error:
        problem = str(error)
    except RecursionError:
        problem = _problem_of_nesting(secret)
        if not problem:
            raise
    raise CacheDamaged(None, f"{problem}. {_REMEDY}")


def _problem_of_nesting(secret: str) -> str:
    """What proves, without a stack, that a text is no token cache; "" when nothing does.

    A RecursionError proves nothing: the program may have used up the stack before.
    """
    if not _OBJECT.match(secret):
        return "It is no JSON object"
    closing: list[str] = []  # brackets that must come
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
            int(entry["expires_on"])  # search() does
    except (KeyError, TypeError, ValueError, OverflowError):  # the last: Infinity
        return "An access token does not tell when it expires"
    return ""
