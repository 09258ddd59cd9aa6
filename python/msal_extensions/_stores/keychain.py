"""The macOS keychain: an item, its store, and the class of 1.3.1.

macOS may ask a person for every call, and the answer may take minutes.  So the store never loads
inside the lock what it can load before: prepare() loads, and a transaction begins with that if
nobody has saved since.  Only if somebody saves each time between the two, it loads inside, and
macOS may then ask nobody.
"""

from __future__ import annotations

import contextlib
import time
from typing import NamedTuple

from .._native import keychain
from .._references import ARGUMENT, NOT_STORED
from .._store import ABSENT, Content, Lease, Stamp
from .._text import decode, encode
from .._timeouts import seconds_of
from ..errors import KeychainError, KeychainTimeout, PersistenceNotFound, referring
from .signalled import SignalFile, SignalledStore, check_signal

#: Seconds that one call may take.  A person may have to type a password.
DEFAULT_TIMEOUT = 300.0

#: The same while the lock is held: the others wait for it for 5 seconds.  prepare() has asked the
#: person before.
TIMEOUT_INSIDE = 5.0

#: Seconds to wait before an item is asked for again that should be there.
_ASK_AGAIN_AFTER = (0.05, 0.1, 0.2)


class KeychainItem:
    """A generic password of the user's default keychain: see ``Item``.

    :param timeout: Seconds that one call may take; None: 300.  A negative number: for ever.
    :param interactive: Whether macOS may ask a person.
    """

    def __init__(
        self, service: str, account: str, timeout: float | None = None, interactive: bool = True
    ) -> None:
        self._item = keychain.Item(service, account)
        self._timeout = DEFAULT_TIMEOUT if timeout is None else seconds_of(timeout)
        self._interactive = bool(interactive)

    def prepare(self) -> None:
        """Asks for the password of the keychain, if that is locked."""
        keychain.unlock(self._item, self._timeout, self._interactive)

    def version(self, *, inside: bool = False) -> bytes | None:
        """Changes when anybody saves; None: there is no item.  This asks nobody.

        It is the time of the last change, in whole seconds, so two saves may have the same.
        """
        try:
            return keychain.look(self._item, self._limit(inside))
        except PersistenceNotFound:
            return None

    def load(self, *, inside: bool = False) -> bytes:
        """The secret.

        :param inside: The lock is held, so macOS may ask nobody.
        :raises PersistenceNotFound: when there is no such item.
        """
        return keychain.load(self._item, self._limit(inside), self._interactive and not inside)

    def save(self, secret: bytes, *, inside: bool = False) -> bool:
        """Changes the item, or makes it."""
        keychain.save(self._item, secret, self._limit(inside), self._interactive)
        return True

    def add(self, secret: bytes, *, inside: bool = False) -> None:
        """Makes the item.

        :raises StoreChanged: when there is one.
        """
        keychain.add(self._item, secret, self._limit(inside), self._interactive)

    def delete(self) -> None:
        with contextlib.suppress(PersistenceNotFound):
            keychain.delete(self._item, self._timeout, self._interactive)

    def copy_aside(self, suffix: str) -> str:
        return self.keep(suffix, self.load())

    def keep(self, suffix: str, secret: bytes) -> str:
        """Keeps the secret in an item of its own, and returns the item's name."""
        copy = keychain.Item(self._item.service, self._item.account + suffix)
        keychain.save(copy, secret, self._limit(True), self._interactive)
        return copy.location

    def _limit(self, inside: bool) -> float:
        if not inside:
            return self._timeout
        return min(self._timeout, TIMEOUT_INSIDE) if self._timeout >= 0 else TIMEOUT_INSIDE


class _Known(NamedTuple):
    """What the item held at the time of a stamp of the signal file."""

    stamp: Stamp | None
    secret: bytes | None  # None: there was no item
    #: Of the item, at the same time or before.  None: that does not matter, we have just saved.
    version: bytes | None = None


class KeychainStore(SignalledStore):
    """See ``Store``."""

    _item: KeychainItem

    def __init__(self, signal: SignalFile, item: KeychainItem, lock_location: str) -> None:
        super().__init__(signal, item, lock_location)
        self._known: _Known | None = None
        self._lacks_item: Stamp | None = None  # the stamp of a signal file that has no item
        self._has_fine_times = False

    @property
    def settles_after(self) -> tuple[float, ...]:  # type: ignore[override]
        """APFS counts nanoseconds, and no save ends so soon after another one.  HFS+ counts
        seconds."""
        return () if self._has_fine_times else super().settles_after

    def time(self) -> float:
        seconds = super().time()
        if not self._has_fine_times:
            thousandths = seconds * 1000
            self._has_fine_times = abs(thousandths - round(thousandths)) > 0.001
        return seconds

    def prepare(self) -> None:
        stamp, version = self.stamp(), self._item.version()  # both before the content
        if version is None:
            self._item.prepare()  # for the save: one cannot add to a locked keychain
        self._know(stamp, version or b"")

    def is_prepared(self) -> bool:
        """Two programs that share the item may have a signal file each.  Then only the item's
        version shows what the other one did."""
        known = self._known
        if known is not None and (
            known.stamp != self.stamp()
            or (known.version is not None and known.version != self._version_inside())
        ):
            known = self._known = None
        return known is not None

    def read(self) -> Content:
        if not (self.commit_lock.is_mine() or self.flight_lock.is_mine()):
            return super().read()
        stamp, known = self.stamp(), self._known
        if known is None or known.stamp != stamp:
            known = self._know(stamp, None)
        if known.secret is None:
            return Content(b"", ABSENT)
        return Content(known.secret, None if stamp is ABSENT else stamp)

    def load(self) -> bytes:
        """The content of the item.

        macOS says "not found" also when its search has failed.  While the signal file shows that
        something was saved, we ask again before we believe it.
        """
        inside, stamp = self.commit_lock.is_mine(), self.stamp()
        is_believed = stamp is ABSENT or stamp == self._lacks_item
        pauses = [] if is_believed else list(_ASK_AGAIN_AFTER)
        while True:
            try:
                return self._item.load(inside=inside)
            except PersistenceNotFound:
                if not pauses:
                    self._lacks_item = stamp
                    raise
            time.sleep(pauses.pop(0))

    def save(self, secret: bytes, expected: Stamp | None) -> None:
        inside = self.commit_lock.is_mine()
        check_signal(self._signal)
        self._known = None
        if expected is ABSENT:
            self._item.add(secret, inside=inside)
        else:
            self._item.save(secret, inside=inside)
        self._signal.touch()

    def replace(self, data: bytes, *, lease: Lease | None, expected: Stamp | None) -> Content:
        secret, data = data, b""
        content = super().replace(secret, lease=lease, expected=expected)
        self._known = _Known(content.stamp, content.data)
        return content

    def delete(self, *, lease: Lease | None) -> None:
        self._known = None
        super().delete(lease=lease)

    def copy_aside(self, suffix: str) -> str:
        return self._item.keep(suffix, self.read().data)

    def _version_inside(self) -> bytes | None:
        try:
            return self._item.version(inside=True) or b""
        except KeychainTimeout:  # another thread of this program waits for a person
            return None

    def _know(self, stamp: Stamp | None, version: bytes | None) -> _Known:
        try:
            known = _Known(stamp, self.load(), version)
        except PersistenceNotFound:
            known = _Known(stamp, None, version)
        self._known = known
        return known


class Keychain:
    """The default keychain, as a context manager.

    :raises PersistenceUnavailable: where there is no keychain.
    """

    def __init__(self, filename: str | None = None) -> None:
        if filename:
            words = "Only the default keychain is supported: leave filename out"
            raise ValueError(ARGUMENT.after(words))
        keychain.require()

    def __enter__(self) -> Keychain:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get_generic_password(self, service: str, account_name: str) -> str:
        """The password of that service and account.

        :raises KeychainError: with ``exit_status`` ITEM_NOT_FOUND when there is none.
        """
        item = keychain.Item(service, account_name)
        try:
            return decode(keychain.load(item, DEFAULT_TIMEOUT), item.location)
        except PersistenceNotFound as error:
            code = KeychainError.ITEM_NOT_FOUND
            failure = KeychainError(code, error.strerror, item.location)
            raise referring(failure, NOT_STORED) from None

    def set_generic_password(self, service: str, account_name: str, value: str) -> None:
        """Stores a password for that service and account."""
        secret, value = value, ""
        keychain.save(keychain.Item(service, account_name), encode(secret), DEFAULT_TIMEOUT)

    def get_internet_password(self, service: str, username: str) -> str:
        """Not implemented, as in 1.3.1."""
        raise NotImplementedError

    def set_internet_password(self, service: str, username: str, value: str) -> None:
        """Not implemented, as in 1.3.1."""
        raise NotImplementedError
