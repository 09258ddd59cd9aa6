"""What memory has of a store, and when an equal stamp proves that the store still has it.

Stamps are compared for difference (device, inode, size and time of a file; only the time for a
keyring or a persistence of the program's own).  Different stamps are different contents.  Equal
ones are equal contents only once the stamp is *settled*: clocks tick (every 1 to 10 ms in a
kernel, 2 s on FAT) and file systems use inode numbers again, so what is written within the same
tick can look the same.  git calls it "racily clean".  Such a write comes at most one tick after
the stamp was first seen.  So content that is read more than one tick after that, with the stamp
unchanged, belongs to that stamp.

It is not enough that the stamp is old when we use it: a write in the same clock tick as our save
has the same stamp for ever.  And no clock but this machine's monotonic one takes part, so it
does not matter whose clock set the file's time, nor whether the lock file is on the same disk.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from ._store import ABSENT, Stamp


class Seen(NamedTuple):
    """What CacheChanges asks, to tell others' writes from one's own."""

    #: Of what was loaded or saved last.
    stamp: Stamp | None
    #: Of what was loaded last, and was not saved here.
    loaded: Stamp | None
    #: How often that was another content, or had another stamp, than what was known before.
    loads: int
    #: The store may have what ``stamp`` does not tell yet.
    saving: bool
    #: Counts loads and saves.
    generation: int


class Freshness:
    """Of one cache object.

    The methods that note something are called under the cache's ``_lock``; reading needs no
    lock.  ``stamp`` and ``content`` belong together, and to what is in memory.

    :param clock: Seconds that only grow; default: ``time.monotonic``.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.clock = clock or time.monotonic
        self.stamp: Stamp | None = None
        self.content: bytes | None = None  # None: nothing was loaded or saved, or it was deleted
        self.saving = False
        self.generation = 0
        self._loaded: Stamp | None = None
        self._loads = 0
        self._first_seen = 0.0  # when the stamp was
        self._read_again_at = 0.0  # infinite when the stamp is settled

    @property
    def is_settled(self) -> bool:
        """Whether an equal stamp proves an equal content from now on."""
        return self._read_again_at == math.inf

    @property
    def is_due(self) -> bool:
        """Whether an equal stamp proves nothing until the content was read again."""
        return self.stamp is not None and self.clock() >= self._read_again_at

    def is_current(self, stamp: Stamp | None) -> bool:
        """Whether a look may trust that the store, which has this stamp, has what memory has."""
        if stamp is None or stamp != self.stamp:
            return False
        return self._read_again_at == math.inf or self.clock() < self._read_again_at

    def note_load(
        self, content: bytes, stamp: Stamp | None, read_at: float, settles_after: tuple[float, ...]
    ) -> None:
        """Memory now is what was read.

        :param read_at: When reading began, by the clock.
        :param settles_after: See ``Store.settles_after``.
        """
        self._read_again_at = 0  # until all is set: others look without the lock
        if stamp != self.stamp or (self.content is not None and content != self.content):
            self._loaded = stamp
            self._loads += 1
        if stamp != self.stamp:
            self._first_seen = self.clock()  # not earlier than the stamp was looked at
        self._note(content, stamp, read_at - self._first_seen, settles_after)

    def note_save(
        self, content: bytes, stamp: Stamp | None, settles_after: tuple[float, ...]
    ) -> None:
        """The store now has what is in memory."""
        self._read_again_at = 0
        self._first_seen = self.clock()
        self._note(content, stamp, -1, settles_after)

    def note_absence(self) -> None:
        """Nothing is stored; memory keeps what it has, as in 1.3.1."""
        if self.stamp is ABSENT and self.is_settled:
            return
        self._read_again_at = 0
        if self.stamp is not None and self.stamp is not ABSENT:
            self._loaded = ABSENT  # it was deleted, and not by this object, which only saves
            self._loads += 1
        self.stamp = ABSENT
        self.content = None
        self._read_again_at = math.inf
        self.generation += 1

    def forget_content(self) -> None:
        """In the child of a fork: memory may be half of what its parent was changing."""
        self._read_again_at = 0
        self.saving = False
        self.content = None
        self.generation += 1

    def seen(self) -> Seen:
        """What is known now; ``saving`` and ``generation`` are read last."""
        return Seen(self.stamp, self._loaded, self._loads, self.saving, self.generation)

    def _note(
        self, content: bytes, stamp: Stamp | None, age: float, settles_after: tuple[float, ...]
    ) -> None:
        self.stamp, self.content = stamp, content
        again = (self._first_seen + tick for tick in settles_after if age < tick)
        self._read_again_at = next(again, math.inf)
        self.generation += 1
