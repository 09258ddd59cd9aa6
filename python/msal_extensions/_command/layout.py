"""Lines that fit into a terminal, and times as people say them."""

from __future__ import annotations

import datetime
import re
import textwrap
import time

from .words import clean

#: A remedy has a command line from one of these on, which must not be broken or shortened.
_COMMAND = re.compile(
    r"(?:^|(?<=[:;] ))(?:python3? -m|pip |chmod |chown |rm |del |export |az |docker |flatpak |sudo "
    r"|security |openssl |systemctl |loginctl |unset |[A-Z_]{5,}=)"
)
_NARROWEST = 30
_LONGEST = 4000
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Page:
    """Collects lines.

    :param width: Columns.
    """

    def __init__(self, width: int) -> None:
        self._width = max(width, _NARROWEST)
        self._lines: list[str] = []
        #: Remedies of several commands that were shown, and for which place.
        self._shown: dict[str, str] = {}

    def gap(self) -> None:
        """An empty line, but not at the beginning, and not two."""
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def line(self, text: str) -> None:
        """One line, however long it is, because scripts look at it."""
        self._lines.append(clean(text, _LONGEST))

    def add(self, text: str, indent: int = 0, hanging: int = 0) -> None:
        """A paragraph.

        :param hanging: Columns by which its other lines are further in than the first.
        """
        self._lines += textwrap.wrap(
            clean(text, _LONGEST),
            self._width,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + hanging),
            break_on_hyphens=False,
            break_long_words=False,
        )

    def remedy(self, text: str, indent: int, name: str = "") -> None:
        """What to do.  A command line in it stays whole, so that a person can copy it.

        :param name: For which place.  Several commands that are the same for two are shown once.
        """
        text = clean(text, _LONGEST)
        if text in self._shown:
            self.add(f"fix: the same as for {self._shown[text]}", indent)
            return
        if name and " && " in text:
            self._shown[text] = name
        line = " " * indent + f"fix: {text}"
        if len(line) <= self._width:
            self._lines.append(line)
            return
        found = _COMMAND.search(text)
        if found is None:
            self.add(f"fix: {text}", indent, 5)
            return
        before, command, after = text[: found.start()].strip(), text[found.start() :], ""
        if before:  # a sentence: its full stop is no part of the command
            command, _, after = command.removesuffix(".").partition("; ")
        self.add(f"fix: {before}".rstrip(), indent, 5)
        for each in command.split(" && "):
            self._lines.append(" " * (indent + 2) + each)
        if after:
            self.add(f"{after}.", indent + 5)

    def text(self) -> str:
        return "\n".join(self._lines)


def _amount(seconds: float) -> str:
    for size, noun in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if (count := int(seconds // size)) > (1 if size == _HOUR else 0):
            return f"{count} {noun}{'s' if count > 1 else ''}"
    return "a moment"


def _date(seconds: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return "a strange date"


def ago(seconds: float) -> str:
    """A time of the past: "3 days ago"."""
    age = time.time() - seconds
    if age < -_MINUTE:
        return f"in the future ({_date(seconds)})"
    return f"{_amount(age)} ago" if age < 60 * _DAY else f"on {_date(seconds)}"


def expires(seconds: float) -> str:
    """A time of a token: "expires in 50 minutes", "expired 3 days ago"."""
    rest = seconds - time.time()
    if rest <= 0:
        return f"expired {ago(seconds)}"
    return f"expires in {_amount(rest)}" if rest < 60 * _DAY else f"expires on {_date(seconds)}"
