"""What the command changes: clear, migrate, prune, rekey."""

from __future__ import annotations

from collections.abc import Sequence

from .. import _references as references
from ..encrypted import EncryptedFilePersistence, KeyFile
from ..token_cache import PersistedTokenCache
from . import changing, look
from .changing import Confirm as Confirm
from .changing import Refusal, described
from .clearing import clear as clear
from .migration import migrate as migrate
from .paths import is_there
from .places import Kind, Place
from .report import Report, Severity


def prune(report: Report, places: Sequence[Place], older_than: float, confirm: Confirm) -> None:
    """Removes entries that nobody has used for so many seconds."""
    if not older_than >= 0:  # nan is no number
        words = "The age is no number of days."
        report.add(Severity.PROBLEM, references.ARGUMENT, words, "Give a number: --older-than 90")
        return
    found = []
    for place in places:
        with changing.telling(report, place.name):
            if not changing.is_there(place):
                raise changing.nothing_in(place)
            found.append(place)
    if not found:
        return
    names = ", ".join(map(described, found))
    days = f"{older_than / 86400:g} days"
    with changing.telling(report, ""):
        changing.ask(confirm, f"Remove tokens that nobody has used for {days} from {names}?")
        for place in found:
            with changing.telling(report, place.name):
                removed = _prune(place, older_than)
                report.done.append(f"{removed} removed from {described(place)}.")
    for place in found:
        look.examine(report, place)


def _prune(place: Place, older_than: float) -> str:
    persistence = place.open()
    if not isinstance(changing.parsed(persistence.load(), place), dict):
        raise Refusal(references.NO_CACHE, f"{described(place)} has JSON, but no token cache.")
    removed = PersistedTokenCache(persistence).prune(older_than)
    return ", ".join(f"{len(all_)} {kind}" for kind, all_ in removed.items()) or "Nothing"


def rekey(report: Report, place: Place, new_key_file: str) -> None:
    """Encrypts an encrypted file with a new key."""
    with changing.telling(report, place.name):
        location = _encrypted_file_of(place)
        options = place.options
        old = KeyFile(options.key_file) if options.key_file else None
        new = KeyFile(new_key_file) if new_key_file else None
        EncryptedFilePersistence(location, old).rekey(new, timeout=options.timeout)
        key = f"the key in {new.path}" if new else "a new key of the same source"
        report.done.append(f"{location} is encrypted with {key} now.")
    look.examine(report, place)


def _encrypted_file_of(place: Place) -> str:
    if place.kind not in (Kind.ENCRYPTED, Kind.KEYRING):
        words = f"{described(place)} is no encrypted file with a key of its own."
        raise Refusal(references.OTHER_KIND, words)
    location = place.location if place.kind is Kind.ENCRYPTED else place.sealed()
    if is_there(location):
        return location
    if place.kind is Kind.KEYRING and place.exists():
        words = f"{described(place)} is in the keyring, and no encrypted file has its place."
        raise Refusal(references.OTHER_KIND, words)
    raise changing.nothing_in(place)
