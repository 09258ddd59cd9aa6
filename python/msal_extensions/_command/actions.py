"""What the command changes: clear, migrate, prune, rekey."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .places import Place
from .report import Report

#: Asks a person a question, and returns whether the answer was yes.
Confirm = Callable[[str], bool]


def clear(report: Report, places: Sequence[Place], confirm: Confirm) -> None:
    """Removes the tokens of these places, and the copies of them that lie beside."""


def migrate(report: Report, source: Place, target: Place, confirm: Confirm) -> None:
    """Moves the content of a place to another one."""


def prune(report: Report, places: Sequence[Place], older_than: float, confirm: Confirm) -> None:
    """Removes entries that nobody has used for so many seconds."""


def rekey(report: Report, place: Place, new_key_file: str) -> None:
    """Encrypts an encrypted file with a new key."""
