"""What a call leaves behind in its process when it is made over and over.

    print(json.dumps(left_behind(agent.load, turns=300)))

Threads and descriptors are numbers after the turns, less those before.  A leak of one in twenty
turns is found, because these numbers may not grow at all.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

from tests.support.processes import at_rest, descriptors, eventually, no_more_than, threads

WARM_UP = 20


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def allocated() -> int:
    """Bytes that malloc has given out, in all its arenas; 0 where the C library cannot say so."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return 0
    mallinfo2.restype = _Mallinfo2
    told = mallinfo2()
    return int(told.uordblks + told.hblkhd)


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def left_behind(turn: Callable[[], object], turns: int) -> dict[str, int]:
    """Makes the turns, waits until this process is at rest, and counts what there is more of."""
    for _ in range(WARM_UP):
        turn()
    before = at_rest()
    bytes_before, resident_before = allocated(), resident()
    for _ in range(turns):
        turn()
    eventually(lambda: no_more_than(before))  # the threads of GLib and of calls that were given up
    return {
        "threads": threads() - before[0],
        "descriptors": descriptors() - before[1],
        "allocated": allocated() - bytes_before,
        "resident": resident() - resident_before,
    }
