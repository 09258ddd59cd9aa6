"""The C library with some functions that answer what a test wants.

with library_that_answers(lib.MSALEX_DENIED, errno.EROFS, "msalex_file_touch") as answers:
    ...
assert answers.calls == 1
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

from msal_extensions import _msalex
from msal_extensions._native import check, dpapi, files, keychain, libsecret, lock, watch

#: The real one.
lib: Any = _msalex.lib

BINDING = (check, dpapi, files, keychain, libsecret, lock, watch)

WORDS = "the words of the system"


class Answers:
    """In the place of ``lib``.

    :param statuses: Of one call after the other; the last is that of all later ones.
    """

    def __init__(self, statuses: Sequence[int], code: int, names: Sequence[str]) -> None:
        self._statuses, self._code, self._names = statuses, code, names
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return self.answer if name in self._names else getattr(lib, name)

    def answer(self, *arguments: Any) -> int:
        """What each of the functions does."""
        status = self._statuses[min(self.calls, len(self._statuses) - 1)]
        self.calls += 1
        arguments[-1].code = self._code if status else 0
        arguments[-1].message = WORDS.encode() if status else b""
        return status


@contextlib.contextmanager
def library_that_answers(status: int | Sequence[int], code: int, *names: str) -> Iterator[Answers]:
    """Of the functions that have these names, as the binding calls them in the block."""
    statuses = [status] if isinstance(status, int) else status
    answers = Answers(statuses, code, names)
    with contextlib.ExitStack() as patches:
        for module in BINDING:
            patches.enter_context(mock.patch.object(module, "lib", answers))
        yield answers
