"""Looks at one place: what is stored there, how it is protected, and which program holds its lock.

It opens a place as its programs do, but makes nothing: no directory, no file, no key, no item.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

from .. import _references as references
from .._native import files
from .._paths import expand
from ..errors import (
    KeyFileNotTrusted,
    KeyUnavailable,
    NotEncrypted,
    PersistenceDamaged,
    PersistenceError,
    PersistenceNotFound,
    PersistenceTimeout,
    PersistenceUnavailable,
)
from . import beside, contents, words
from .contents import Contents
from .encrypting import judge_plain_text
from .findings import within
from .paths import is_there
from .places import Kind, Place, identity_keyring, kind_of
from .report import Cache, Report, Severity

#: Seconds; see ``LibSecretAgent``.
_REACHING_A_KEYRING = 5.0
_PROTECTION = {
    Kind.DPAPI: "Encrypted by Windows for this user.",
    Kind.KEYRING: "In the keychain of macOS."
    if sys.platform == "darwin"
    else "In the keyring of this user.",
}


def examine(report: Report, place: Place) -> Cache:
    """Adds the cache of a place, and what is wrong with it.  It raises and changes nothing.

    Tokens of one cache may be in several stores: in the keyring, in the encrypted file that took
    its place, and as plain text in what is its signal file now.  Each that holds some is added.

    A file system that hangs holds it no longer than a keyring may.

    :returns: The cache that its programs use.
    """
    # Of its own: if the time is over, the thread goes on, and may still add to it.
    own = Report(report.command, report.installation)
    seconds = 2 * place.options.timeout + _REACHING_A_KEYRING
    try:
        cache = within(seconds, lambda: _examine(own, place), place.location)
    except PersistenceTimeout as error:
        own = Report(report.command, report.installation)
        cache = Cache(place.name, place.location, place.kind.value, "unreadable")
        own.caches.append(cache)
        _add(own, cache, error)
    report.caches += own.caches
    told = {
        finding.words for finding in report.findings if finding.reference is references.COPIES_LEFT
    }
    report.findings += [finding for finding in own.findings if finding.words not in told]
    return cache


def _examine(report: Report, place: Place) -> Cache:
    is_sealed = place.kind is Kind.KEYRING and is_there(place.sealed())
    main = replace(place, kind=Kind.ENCRYPTED, location=place.sealed()) if is_sealed else place
    cache = _look(report, main)
    try:
        if is_sealed:
            cache.notes.append("Programs use this file, and not the keyring.")
            _look_in_keyring(report, place, cache)
        elif place.kind is Kind.PLAIN and place.program() == "identity":
            _look_in_keyring(report, identity_keyring(place), cache)
        if place.kind is Kind.KEYRING and kind_of(place.location) is Kind.PLAIN:
            _look(report, replace(place, kind=Kind.PLAIN))
    except Exception as error:
        _add(report, cache, error)
    return cache


def _look(report: Report, place: Place) -> Cache:
    cache = Cache(place.name, place.location, place.kind.value)
    report.caches.append(cache)
    steps = (beside.look_at_file, _read, beside.judge_rights, beside.look_at_lock)
    for step in (*steps, beside.look_around):
        try:
            step(report, place, cache)
        except Exception as error:
            _add(report, cache, error)
    return cache


def _look_in_keyring(report: Report, place: Place, main: Cache) -> None:
    """Adds the item of a cache that its programs have in a file.  They need no keyring."""
    cache = Cache(place.name, place.location, place.kind.value)
    try:
        found = contents.parse(_load(place, cache), time.time())
    except (PersistenceNotFound, PersistenceUnavailable):
        return
    except PersistenceDamaged:
        found = Contents("damaged")
    except PersistenceError as error:
        reference, happened, _ = words.of(error)
        main.notes.append(f"The keyring may have tokens as well: {happened} [{reference}]")
        return
    report.caches.append(cache)
    _fill(cache, found)


def _add(report: Report, cache: Cache, error: BaseException) -> None:
    reference, happened, remedy = words.of(error)
    location = getattr(error, "location", None) or ""
    if isinstance(error, KeyUnavailable | KeyFileNotTrusted) and location != cache.location:
        happened = f"{location if words.may_show(location) else 'Its key'}: {happened}"
    if not happened.startswith(reference.title):  # the system's own words are for experts
        happened = f"{reference.title}. {happened}"
    if cache.state == "damaged":
        remedy = words.of_ours("clear", cache.name)
    report.add(Severity.PROBLEM, reference, happened, remedy, cache.name)


# ---- what is stored ----


def _read(report: Report, place: Place, cache: Cache) -> None:
    try:
        found = contents.parse(_load(place, cache), time.time())
    except PersistenceNotFound:
        return
    except Exception as error:
        cache.state = "unreadable"
        if isinstance(error, PersistenceDamaged):
            cache.state = "damaged" if _should_be_a_cache(place) else "other"
            if cache.state == "other":
                return
        elif isinstance(error, NotEncrypted):
            cache.state, cache.is_encrypted, cache.protection = "other", False, ""
        _add(report, cache, error)
        return
    if found.state == "other" and not found.is_principals and _should_be_a_cache(place):
        found.state = "damaged"
    _fill(cache, found)
    if cache.state == "damaged":
        happened = "What is stored is no token cache."
        remedy = words.of_ours("clear", place.name)
        report.add(Severity.PROBLEM, references.CACHE_DAMAGED, happened, remedy, place.name)
    elif place.kind is Kind.PLAIN:
        judge_plain_text(report, place, cache)
    elif cache.is_encrypted is False:
        severity, reference = Severity.WARNING, references.KEY_BESIDE
        report.add(severity, reference, reference.cause, about=place.name)


def _should_be_a_cache(place: Place) -> bool:
    """Whether a content that is no token cache is damaged.

    A path alone may be that of any file, and nobody should be told to remove that.
    """
    if place.name.startswith("az:principals"):
        return False
    return place.kind is not Kind.PLAIN or place.program() != "" or place.name.startswith("plain:")


def _fill(cache: Cache, found: Contents) -> None:
    cache.state, cache.accounts = found.state, found.accounts
    cache.tokens, cache.entries = found.tokens, found.entries


def _load(place: Place, cache: Cache) -> str:
    """The stored text.  Says in the cache how it is protected.

    :raises PersistenceNotFound: when nothing is stored.
    :raises PersistenceError: when it cannot be read.
    """
    cache.is_encrypted = place.kind is not Kind.PLAIN
    cache.protection = _PROTECTION.get(place.kind, "")
    location = expand(place.location)
    if place.kind is Kind.KEYRING:
        return _of_keyring(place)
    files.stat(location)  # because to open a place makes its directory
    if place.kind is not Kind.ENCRYPTED:
        return place.open().load()
    cache.is_encrypted = kind_of(location) is Kind.ENCRYPTED
    return _of_encrypted_file(place, cache)


def _of_encrypted_file(place: Place, cache: Cache) -> str:
    from .._text import decode
    from ..encrypted import EncryptedFilePersistence

    opened = place.open()
    assert isinstance(opened, EncryptedFilePersistence)
    cache.is_encrypted, cache.protection = opened.is_encrypted, opened.protection.value
    store = opened.store("")
    secret, _ = store.read()
    cache.generation = store.generation
    return decode(secret, place.location)


def _of_keyring(place: Place) -> str:
    """The text of an item.  A persistence would make the directory of the signal file."""
    options = place.options
    if sys.platform == "darwin":
        from .._stores.keychain import KeychainItem
        from .._text import decode

        item = KeychainItem(options.service, options.account, options.timeout)
        return decode(item.load(), place.location)
    if not sys.platform.startswith("linux"):
        place.open()  # raises
    from ..libsecret import LibSecretAgent

    agent = LibSecretAgent(
        options.schema, options.attributes, options.label, timeout=options.timeout
    )
    agent.item.location = place.location
    agent.connect()
    secret = agent.load()
    if secret is None:
        raise PersistenceNotFound(None, "There is no such item in the keyring", place.location)
    return secret
