"""Changes of a file."""

from __future__ import annotations

from .._msalex import ffi, lib
from .check import check_file, new_handle, path


class Watch:
    """Tells when a file is changed, made or removed.  Neither it nor its directory need exist."""

    def __init__(self, location: str) -> None:
        self._error = ffi.new("msalex_error *")
        self._watch = new_handle("msalex_watch **", lib.msalex_watch_free)
        self._location = location
        status = lib.msalex_watch_new(path(location), self._watch, self._error)
        check_file(status, self._error, location)

    def wait(self, timeout_ms: int) -> bool:
        """True: the file may have changed since the last call.  False: nothing was seen."""
        status = lib.msalex_watch_wait(self._watch[0], timeout_ms, self._error)
        if status in (lib.MSALEX_TIMEOUT, lib.MSALEX_INTERRUPTED):
            return False
        check_file(status, self._error, self._location)
        return True

    def close(self) -> None:
        """Stops watching.  A second call does nothing."""
        ffi.release(self._watch)
