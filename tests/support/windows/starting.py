"""Programs under Wine, which now and then fails to start one.

Seen once in some thousand starts, on a busy machine: ERROR_INTERNAL_ERROR, which Wine gives when
its server could not set up the new process.  That says nothing of this project, so such a start is
made again.  On Windows itself nothing is changed.
"""

from __future__ import annotations

from typing import Any

INTERNAL_ERROR, STARTS = 1359, 3


def start_again_under_wine() -> None:
    """From now on subprocess does so, in this process."""
    import _winapi

    from tests.support.windows import machine

    api: Any = _winapi
    if machine.wine() is None:
        return
    create = api.CreateProcess

    def again(*arguments: Any) -> Any:
        for left in reversed(range(STARTS)):
            try:
                return create(*arguments)
            except OSError as error:
                if getattr(error, "winerror", None) != INTERNAL_ERROR or left == 0:
                    raise
        raise AssertionError

    api.CreateProcess = again
