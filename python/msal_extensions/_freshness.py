"""The content in memory, and when an equal stamp proves that the store still has that content.

A stamp of a file is its device, inode, size and time; a keyring or a program's own persistence
has only a time.  Another stamp means that the content may have changed.  An equal stamp proves an
equal content only once the stamp is *settled*.  Clocks tick (every 1 to 10 ms in a kernel, 2 s on
FAT) and file systems use inode numbers again, so two writes within one tick can have the same
stamp.  git calls that "racily clean".  Such a second write comes at most one tick after the stamp
was first seen.  So content that is read more than one tick after the stamp was first seen, with
the stamp unchanged, belongs to that stamp.

It is not enough that the stamp is old when we use it: a write in the same clock tick as our save
has the same stamp for ever.  Only this machine's monotonic clock takes part.  So it does not
matter which machine's clock set the file's time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from ._store import ABSENT, Stamp


class Seen(NamedTuple):
    """What is known of the store.  With it CacheChanges tells the writes of others from those of
    its own cache."""

    #: The stamp of the last load or save.
    stamp: Stamp | None
    #: The stamp of the last load that brought something new.
    loaded: Stamp | None
    #: The number of loads that brought another content, or another stamp, than was known before.
    loads: int
    #: A save is under way: the store may already have a content that ``stamp`` does not show.
    saving: bool
    #: The number of loads and saves.
    generation: int


class Freshness:
    """What one cache object knows of its store.

    The ``note_`` methods are called under the cache's ``_lock``; reading needs no lock.
    ``stamp`` and ``content`` belong to each other and to the entries in memory.

    :param clock: Seconds that only grow; default: ``time.monotonic``.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.clock = clock or time.monotonic
        self.stamp: Stamp | None = None
        self.content: bytes | None = None  # None: nothing is loaded or saved yet, or is deleted
        self.saving = False
        self.generation = 0
        self._loaded: Stamp | None = None
        self._loads = 0
        self._first_seen = 0.0  # when the stamp was first seen, by the clock
        self._read_again_at = 0.0  # infinite when the stamp is settled

    @property
    def is_settled(self) -> bool:
        """Whether an equal stamp proves an equal content."""
        return self._read_again_at == math.inf

    @property
    def is_due(self) -> bool:
        """Whether it is time to read again: until then an equal stamp proves nothing."""
        return self.stamp is not None and self.clock() >= self._read_again_at

    def is_current(self, stamp: Stamp | None) -> bool:
        """Whether a search may trust that a store with this stamp has the content in memory."""
        if stamp is None or stamp != self.stamp:
            return False
        return self._read_again_at == math.inf or self.clock() < self._read_again_at

    def note_load(
        self, content: bytes, stamp: Stamp | None, read_at: float, settles_after: tuple[float, ...]
    ) -> None:
        """Notes that memory was made from this content.

        :param read_at: When reading began, by the clock.
        :param settles_after: See ``Store.settles_after``.
        """
        self._read_again_at = 0  # until everything is set, because others look without the lock
        if stamp != self.stamp or (self.content is not None and content != self.content):
            self._loaded = stamp
            self._loads += 1
        if stamp != self.stamp:
            self._first_seen = self.clock()  # not earlier than the look at the stamp
        self._note(content, stamp, read_at - self._first_seen, settles_after)

    def note_save(
        self, content: bytes, stamp: Stamp | None, settles_after: tuple[float, ...]
    ) -> None:
        """Notes that the store has this content now, which memory had before."""
        self._read_again_at = 0
        self._first_seen = self.clock()
        self._note(content, stamp, -1, settles_after)

    def note_absence(self) -> None:
        """Notes that nothing is stored.  As in 1.3.1 memory keeps its entries."""
        if self.stamp is ABSENT and self.is_settled:
            return
        self._read_again_at = 0
        if self.stamp is not None and self.stamp is not ABSENT:
            self._loaded = ABSENT  # somebody else deleted it: this object never deletes
            self._loads += 1
        self.stamp = ABSENT
        self.content = None
        self._read_again_at = math.inf
        self.generation += 1

    def forget_content(self) -> None:
        """Forgets the content, in the child of a fork: memory may be half changed."""
        self._read_again_at = 0
        self.saving = False
        self.content = None
        self.generation += 1

    def seen(self) -> Seen:
        """What is known now.  ``saving`` and ``generation`` are read last."""
        return Seen(self.stamp, self._loaded, self._loads, self.saving, self.generation)

    def _note(
        self, content: bytes, stamp: Stamp | None, age: float, settles_after: tuple[float, ...]
    ) -> None:
        self.stamp, self.content = stamp, content
        again = (self._first_seen + tick for tick in settles_after if age < tick)
        self._read_again_at = next(again, math.inf)
        self.generation += 1
