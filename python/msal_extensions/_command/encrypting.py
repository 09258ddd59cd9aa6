"""Warns of plain text, with the lines that move the tokens to where the same program finds them."""

from __future__ import annotations

import os
import sys

from .. import _references as references
from ..errors import PersistenceError, PersistenceUnavailable
from ..persistence import WITHOUT_KEYRING_VARIABLE
from . import words
from .places import AZ, Place
from .report import Cache, Report, Severity

_EXPORT = f"export {WITHOUT_KEYRING_VARIABLE}=encrypted_file"
#: The switch of az is for both files, so both have to move.
_AZ_SWITCH = "az config set core.encrypt_token_cache=true"
#: Bytes of an empty list, which az keeps when the last service principal has gone.
_EMPTY = 2


def judge_plain_text(report: Report, place: Place, cache: Cache) -> None:
    """Adds a warning if the file holds secrets."""
    tokens = cache.tokens
    if cache.state == "other":
        if place.name != "az:principals" or not tokens.other:
            return
        happened = "The secrets of service principals are in plain text."
    elif not (tokens.access or tokens.refresh or tokens.id or tokens.other):
        return
    else:
        happened = "Every program that can read this file can use these accounts."
    commands, more = _how(place)
    remedy = " && ".join(commands)
    report.add(Severity.WARNING, references.PLAIN_TEXT, happened + more, remedy, place.name)


def _how(place: Place) -> tuple[list[str], str]:
    """Command lines, and what to know about them."""
    commands: list[str] = []
    more = ""
    has_keyring = not sys.platform.startswith("linux") or _has_keyring(place.options.timeout)
    if not has_keyring:
        more = " There is no keyring here, so an encrypted file has to take its place."
        commands, needed = _variable()
        more += needed
    if place.program() == "az":
        return _how_for_az(place, commands, more, has_keyring)
    if place.program() == "identity":
        name = place.name.removesuffix(":encrypted")
        return [*commands, words.of_ours("migrate", name, name + ":encrypted")], more
    path = place.name.removeprefix("plain:").removeprefix("keyring:")
    kind = "dpapi" if sys.platform == "win32" else "keyring"
    more += " First let its program use build_encrypted_persistence()."
    return [*commands, words.of_ours("migrate", "plain:" + path, f"{kind}:{path}")], more


def _variable() -> tuple[list[str], str]:
    """How the programs learn that they shall use encrypted files."""
    if os.environ.get(WITHOUT_KEYRING_VARIABLE) == "encrypted_file":
        return [], ""
    return [_EXPORT], " The programs need this variable, too: put it into your profile."


def _how_for_az(
    place: Place, commands: list[str], more: str, has_keyring: bool
) -> tuple[list[str], str]:
    base = os.path.dirname(place.location)
    files = {name: os.path.join(base, file) for name, _, file in AZ}
    sizes = {name: _size(path + ".json") for name, path in files.items()}
    if has_keyring and sys.platform != "win32" and min(sizes.values()) > _EMPTY:
        # LibsecretPersistence and KeychainPersistence get the same names for both:
        # build_persistence() in azure/cli/core/auth/persistence.py.
        more = " az would keep both in one item of the keyring, where they overwrite each other."
        if sys.platform == "darwin":
            return ["az logout"], f"{more} So they cannot be encrypted together."
        commands, needed = _variable()
        more += f" So encrypted files take its place.{needed}"
        moves = [
            words.of_ours("migrate", name, f"encrypted:{path}.bin.enc")
            for name, path in files.items()
        ]
    else:
        moves = [
            words.of_ours("migrate", name, target) for name, target, _ in AZ if sizes[name] >= 0
        ]
    return [*commands, *moves, _AZ_SWITCH], more


def _size(path: str) -> int:
    """In bytes; -1: there is no such file."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _has_keyring(timeout: float) -> bool:
    """Whether there is one, also a locked one."""
    from ..libsecret import LibSecretAgent

    try:
        LibSecretAgent("", {}, timeout=timeout).connect()
    except PersistenceUnavailable:
        return False
    except PersistenceError:
        pass
    return True
