"""Moves a cache to another place: FROM goes when TO has been read back.

At every moment FROM or TO, or both, have everything.  The steps, under the locks of both places:

1. FROM is read.  What is damaged is not moved.
2. TO must be empty, or have the same content: then an earlier move was ended before step 5.
3. The content is saved in TO.
4. A new persistence reads TO, as another program would.  It must be the same JSON.
5. FROM is read again, and the locks are checked.  Only then FROM is deleted.

If a lock was lost, or a program without a lock has changed FROM, all steps are repeated.

azure-identity has one file for both ends: FROM is plain text in the file that signals changes of
the keyring, which is TO.  There the file is emptied and not deleted: its programs look at its time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from .. import _references as references
from .._base import BasePersistence
from .._damage import parse_leniently
from .._native import files
from .._store import Lease, Store, require_held
from .._store_of import store_of
from .._text import encode
from ..encrypted import EncryptedFilePersistence
from ..errors import (
    LockLost,
    PersistenceDamaged,
    PersistenceNotFound,
    PersistenceUnavailable,
    StoreChanged,
)
from ..lock import native_lock_of
from . import changing, look
from .changing import Confirm, Refusal, Telling, described
from .paths import lock_of
from .places import Kind, Place
from .report import Report, Severity

#: How often the steps are repeated while others remove the lock file or save without a lock.
_TRIES = 5

_DO_IT_AGAIN = (
    "The tokens are in the other place, and perhaps still here. Mend the cause, then do the same"
    " again."
)


@dataclass
class _End:
    """FROM or TO."""

    place: Place
    persistence: BasePersistence
    store: Store

    @property
    def lock(self) -> str:
        return lock_of(self.persistence.get_location())


def migrate(report: Report, source: Place, target: Place, confirm: Confirm) -> None:
    """Moves the content of a place to another one."""
    with changing.telling(report, source.name) as it:
        _refuse_one_place(source, target)
        start = _start(source, target)
        secret = _load(start.persistence)
        if secret is None:
            raise _nothing(source, target)
        amount = changing.count(changing.parsed(secret, start.place))
        del secret
        changing.ask(confirm, f"Move {amount} from {described(source)} to {described(target)}?")
        it.about = target.name
        end = _open(target)
        amount = _Move(it, start, end).run()
        report.done.append(f"{amount} moved from {described(source)} to {described(target)}.")
        it.about, it.remedy = source.name, ""
        _tell_what_stays(report, start, end)
    with changing.telling(report, ""):
        for place in (source, target):
            look.examine(report, place)


def _start(source: Place, target: Place) -> _End:
    if not changing.is_there(source):
        raise _nothing(source, target)
    return _open(source)


def _nothing(source: Place, target: Place) -> Refusal:
    more = " The other place has something: perhaps it was moved already." * target.exists()
    return changing.nothing_in(source, more)


def _open(place: Place) -> _End:
    """Opens a place, and asks all that a person may have to answer, before any lock is held."""
    persistence = place.open()
    store = store_of(persistence, lock_of(persistence.get_location()))
    store.prepare()
    return _End(place, persistence, store)


def _load(persistence: BasePersistence) -> str | None:
    """What is stored; None: nothing."""
    try:
        return persistence.load() or None
    except PersistenceNotFound:
        return None


def _is_same(secret: str, other: str | None) -> bool:
    """Whether both are the same JSON."""
    if other is None or secret == other:
        return other is not None
    try:
        return bool(parse_leniently(secret) == parse_leniently(other))
    except (ValueError, RecursionError):
        return False


def _has_nothing(secret: str | None) -> bool:
    """Whether nothing is lost when this is overwritten, such as a cache after the last sign-out."""
    if secret is None:
        return True
    try:
        parsed = parse_leniently(secret)
    except (ValueError, RecursionError):
        return False
    return not parsed or (isinstance(parsed, dict) and not any(parsed.values()))


class _Move:
    """The steps; see the top of this file."""

    def __init__(self, it: Telling, start: _End, end: _End) -> None:
        self._it, self._start, self._end = it, start, end
        #: What this move has saved in TO.
        self._saved: str | None = None

    def run(self) -> str:
        """Moves, and returns in words how much."""
        start, end = self._start, self._end
        for tries in range(1, _TRIES + 1):
            try:
                timeout = start.place.options.timeout
                with changing.locked((start.lock, end.lock), timeout) as leases:
                    return self._steps(leases)
            except (LockLost, StoreChanged):
                if tries == _TRIES:
                    name = end.place.name
                    self._it.remedy = f"End the programs that use it, clear {name}, and try again."
                    raise
            start.store.prepare()
            end.store.prepare()
        raise AssertionError

    def _steps(self, leases: Mapping[str, Lease]) -> str:
        it, start, end = self._it, self._start, self._end
        it.about, it.remedy = start.place.name, ""
        secret = _load(start.persistence)
        if secret is None:
            raise _nothing(start.place, end.place)
        amount = changing.count(changing.parsed(secret, start.place))
        it.about = end.place.name
        self._save(secret, leases)
        it.about, it.remedy = start.place.name, _DO_IT_AGAIN
        if _load(start.persistence) != secret:
            raise StoreChanged(None, "A program without a lock has saved", start.place.location)
        _require(leases)
        self._remove(leases[start.lock])
        it.about, it.remedy = end.place.name, ""
        if _load(end.persistence) is None:
            end.persistence.save(secret)
            words = "It went with the first place, so both are one place. It was saved again."
            raise Refusal(references.SAME_PLACE, words)
        return amount

    def _remove(self, lease: Lease) -> None:
        """Removes FROM."""
        place, persistence = self._start.place, self._start.persistence
        instead = getattr(persistence, "instead", None)
        if _is_signal_file(place, self._end.place) and not _has_instead(self._end.persistence):
            files.replace(place.location, b"", native_lock_of(lease))
        elif isinstance(instead, EncryptedFilePersistence):
            # Its own delete() also removes what the keyring has.  That was not moved.
            EncryptedFilePersistence.delete(instead)
        else:
            persistence.delete()

    def _save(self, secret: str, leases: Mapping[str, Lease]) -> None:
        """Saves in TO, and reads that back."""
        end = self._end
        there = _load(end.persistence)
        if not _is_same(secret, there):
            if not _has_nothing(there) and there != self._saved:
                words = f"{described(end.place)} has other tokens already. Nothing was changed."
                raise Refusal(references.TARGET_IN_USE, words)
            _require(leases)
            self._saved = secret
            end.store.replace(encode(secret), lease=leases[end.lock], expected=None)
        if not _is_same(secret, _load(end.place.open())):
            words = "Something else was read than was saved. So nothing was removed"
            raise PersistenceDamaged(None, words, end.place.location)


def _require(leases: Mapping[str, Lease]) -> None:
    """:raises LockLost: when a lock was lost."""
    for lease in leases.values():
        require_held(lease)


def _has_instead(persistence: BasePersistence) -> bool:
    """Whether an encrypted file has the place of a keyring."""
    return getattr(persistence, "instead", None) is not None


def _tell_what_stays(report: Report, start: _End, end: _End) -> None:
    """Warns of tokens that are still at FROM.  examine() sees copies beside it."""
    place = start.place
    if not _has_instead(start.persistence):
        return
    with contextlib.suppress(PersistenceUnavailable):  # as a rule there is none: hence the file
        if (secret := _load(place.open_keyring())) is None:
            return
        del secret
        words = "The encrypted file was moved. The keyring has tokens for the same place."
        remedy = f"Remove them: python -m msal_extensions clear {place.name}"
        report.add(Severity.WARNING, references.COPIES_LEFT, words, remedy, place.name)


# ---- two names of one place --------------------------------------------------------------


def _refuse_one_place(source: Place, target: Place) -> None:
    """:raises Refusal: when the deletion of FROM would remove what is in TO."""
    if _is_signal_file(source, target):
        return
    for mine in _files_and_locks(source):
        for other in _files_and_locks(target):
            if _is_one_file(mine, other):
                words = f"{described(source)} and {described(target)} share the file {mine}."
                raise Refusal(references.SAME_PLACE, words)
    if source.kind is target.kind is Kind.KEYRING and _is_one_item(source, target):
        words = f"{described(source)} and {described(target)} share an item of the keyring."
        raise Refusal(references.SAME_PLACE, words)


def _is_signal_file(source: Place, target: Place) -> bool:
    """Whether the plain file FROM is the signal file of TO."""
    kinds = source.kind, target.kind
    return kinds == (Kind.PLAIN, Kind.KEYRING) and source.location == target.location


def _files_and_locks(place: Place) -> list[str]:
    found = changing.files_of(place)
    return found + [lock_of(each) for each in found]


def _is_one_file(one: str, other: str) -> bool:
    paths = [os.path.normcase(os.path.realpath(each)) for each in (one, other)]
    if paths[0] == paths[1]:
        return True
    with contextlib.suppress(OSError):  # through another mount, or as another hard link
        return os.path.samefile(one, other)
    return False


def _is_one_item(one: Place, other: Place) -> bool:
    """Whether two keyring places may mean one item.  Where its names are left out, they depend on
    the location, which is another one."""
    mine, others = one.options, other.options
    in_keychain = (mine.service, mine.account) == (others.service, others.account) != ("", "")
    # An item that has more attributes than are asked for is found, too.
    pairs = [set(options.attributes.items()) for options in (mine, others)]
    fits = pairs[0] <= pairs[1] or pairs[1] <= pairs[0]
    in_service = mine.schema == others.schema != "" and fits
    return in_service or (in_keychain and mine.account != "")
