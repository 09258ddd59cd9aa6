"""Removes the tokens of places, and proves that they are gone.

What is damaged, or has lost its key, has to go, too.  So nothing here opens an encrypted file.  But
a file that belongs to something else must stay: a path may have a slip of the pen.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

from .. import _references as references
from .._base import BasePersistence
from .._damage import parse_leniently
from .._native import files
from .._store_of import store_of
from .._stores import envelope
from ..errors import (
    EncryptedFileDamaged,
    EncryptedFileUnknown,
    PersistenceError,
    PersistenceNotFound,
    PersistenceUnavailable,
)
from . import changing, look
from .changing import Confirm, Refusal, described
from .contents import are_principals
from .paths import is_there, lock_of
from .places import Kind, Place, kind_of
from .report import Report

#: A file that MSAL has written has one of these, also when it is damaged.
_MARK = re.compile(rb'"(AccessToken|RefreshToken|IdToken|Account|AppMetadata)"\s*:\s*\{')


def clear(report: Report, places: Sequence[Place], confirm: Confirm) -> None:
    """Removes the tokens of these places, and the copies of them that lie beside."""
    found = []
    for place in places:
        with changing.telling(report, place.name):
            if not (changing.is_there(place) or changing.copies_of(place)):
                raise changing.nothing_in(place)
            _refuse_what_is_no_cache(place)
            found.append(place)
    if not found:
        return
    with changing.telling(report, ""):
        changing.ask(confirm, f"Remove the tokens of {', '.join(map(described, found))}?")
        for place in found:
            with changing.telling(report, place.name):
                _clear(report, place)
    with changing.telling(report, ""):
        for place in found:
            look.examine(report, place)


def _clear(report: Report, place: Place) -> None:
    """Removes what it can, and reports what that was.

    :raises PersistenceError: when something had to stay.
    """
    item, failure = _keyring_of(place)
    locks = map(lock_of, changing.files_of(place))
    with changing.locked(locks, place.options.timeout):
        _refuse_what_is_no_cache(place)  # it may have changed while a person was asked
        paths = [*changing.copies_of(place), *changing.files_of(place)]
        if failure is not None:  # the signal file shows that there may be an item
            paths.remove(place.location)
        removed = []
        if item is not None and _has_item(item):
            item.delete()
            removed.append("its item in the keyring")
        removed += [path for path in paths if _remove(path)]
        words = f"Removed of {described(place)}: {', '.join(removed)}."
        if failure is not None:
            report.done += [words] * bool(removed)
            raise failure
        _prove(place, item)
        if not removed:
            raise changing.nothing_in(place)
        report.done.append(f"{words} Nothing is left of it.")


def _keyring_of(place: Place) -> tuple[BasePersistence | None, PersistenceError | None]:
    """The keyring of a place, which has asked what it may have to ask a person; or why it cannot be
    reached.  Where nobody has ever used a keyring, none need be there."""
    if place.kind is not Kind.KEYRING:
        return None, None
    try:
        item = place.open_keyring()
        store_of(item, lock_of(place.location)).prepare()
    except PersistenceUnavailable as error:
        was_used = is_there(place.location) or not is_there(place.sealed())
        return None, error if was_used else None
    except PersistenceError as error:
        return None, error
    return item, None


def _has_item(item: BasePersistence) -> bool:
    try:
        item.load()
    except PersistenceNotFound:
        return False
    except PersistenceError:  # such as a damaged text
        pass
    return True


def _remove(path: str) -> bool:
    with contextlib.suppress(PersistenceNotFound):
        files.delete(path)
        return True
    return False


def _prove(place: Place, item: BasePersistence | None) -> None:
    """:raises Refusal: when there is still something that a program could load."""
    left = [
        path for path in [*changing.copies_of(place), *changing.files_of(place)] if is_there(path)
    ]
    if item is not None and _has_item(place.open_keyring()):
        left.append("an item in the keyring")
    if left:
        words = f"Still there: {', '.join(left)}. Another program may have saved meanwhile."
        raise Refusal(references.STORE_CHANGED, words, "End that program; then do it again.")


# ---- what must stay ----------------------------------------------------------------------


def _refuse_what_is_no_cache(place: Place) -> None:
    """:raises PersistenceError: (or Refusal) when a file of the place belongs to something else."""
    kinds = [place.kind, Kind.ENCRYPTED]  # an encrypted file may be in the place of a keyring
    for path, kind in zip(changing.files_of(place), kinds, strict=False):
        secret = b""
        with contextlib.suppress(PersistenceNotFound):
            secret, _ = files.read(path)
        if secret and not _is_of_kind(secret, kind, place, path):
            words = f"The file {path} is no {_WORDS[kind]}, so it was not removed."
            raise Refusal(references.NO_CACHE, words)


_WORDS = {
    Kind.PLAIN: "token cache in plain text",
    Kind.ENCRYPTED: "encrypted file",
    Kind.KEYRING: "empty file, as beside a keyring",
    Kind.DPAPI: "file that Windows has encrypted",
}


def _is_of_kind(secret: bytes, kind: Kind, place: Place, path: str) -> bool:
    """:raises NotEncrypted: when something else is in the place of an encrypted file."""
    if kind is Kind.KEYRING:
        return False  # a signal file is empty
    if kind is Kind.ENCRYPTED:
        with contextlib.suppress(EncryptedFileDamaged, EncryptedFileUnknown):
            envelope.parse(secret, path)
        return True
    if place.program():  # nobody has given a path, so there can be no slip of the pen
        return True
    if kind is Kind.DPAPI:
        return kind_of(path) is kind
    return _MARK.search(secret) is not None or _has_known_shape(secret)


def _has_known_shape(secret: bytes) -> bool:
    """Whether it is an empty cache, or Azure CLI's list of service principals."""
    try:
        parsed = parse_leniently(secret.decode())
    except (ValueError, RecursionError):
        return False
    return bool(parsed == {}) or are_principals(parsed)
