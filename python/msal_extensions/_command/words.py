"""Words for people: text of others made harmless, errors as sentences, command lines to copy.

Text from files, caches, lock files, keyrings and environment variables may come from an attacker.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import unicodedata

from .._references import NO_CRYPTOGRAPHY, REFERENCES, UNEXPECTED, Reference
from ..errors import LockError, PersistenceError

#: Categories of Unicode that a terminal obeys or cannot show: controls (escape sequences), formats
#: (they turn the direction of text, or are invisible), lone surrogates, private use, separators of
#: lines and paragraphs.  https://www.unicode.org/reports/tr44/#General_Category_Values
_HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def clean(text: object, limit: int = 200) -> str:
    """Text without what a terminal would obey, in one line of no more than so many characters."""
    found = str(text)
    kept = found if len(found) <= limit else found[: max(limit - 3, 0)] + "..."
    if kept.isascii() and kept.isprintable():
        return kept
    return "".join(map(_harmless, kept))


def _harmless(character: str) -> str:
    if character in "\t\n\r":
        return " "
    return "?" if unicodedata.category(character) in _HARMFUL else character


def of(error: BaseException) -> tuple[Reference, str, str]:
    """An error as its reference, what happened, and what to do.

    The text of one of ours ends with what to do.  The text of another exception is left out,
    because it may hold content: a json.JSONDecodeError has the document, a UnicodeError the bytes.
    """
    if isinstance(error, PersistenceError | LockError):
        reference = REFERENCES.get(error.reference, UNEXPECTED)
        said = error.strerror if isinstance(error, OSError) else None
        text = str(said or error).removesuffix(f" [{error.reference}]")
        remedy = error.remedy or reference.remedy
        happened = text.removesuffix(error.advice or remedy)
        return reference, _sentence(" ".join(happened.split())), remedy
    if isinstance(error, ImportError) and (error.name or "").startswith("cryptography"):
        return NO_CRYPTOGRAPHY, "It cannot be imported.", NO_CRYPTOGRAPHY.remedy
    if isinstance(error, OSError) and error.strerror:
        return UNEXPECTED, _sentence(error.strerror), UNEXPECTED.remedy
    return UNEXPECTED, f"Something unexpected happened: {type(error).__name__}.", UNEXPECTED.remedy


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text.rstrip(";: ") + "."


def may_show(path: str) -> bool:
    """Whether a message may show this path.

    A person that puts a key into MSAL_EXTENSIONS_KEY_FILE by mistake makes a "path" of a secret.
    """
    return os.path.isabs(path) and os.path.lexists(path)


def command_line(*arguments: str) -> str:
    """These arguments as a line that a person can copy into a shell."""
    if sys.platform == "win32":
        return subprocess.list2cmdline(arguments)
    return shlex.join(arguments)


def of_ours(*arguments: str) -> str:
    """The same for this command."""
    return command_line("python", "-m", "msal_extensions", *arguments)


def number(count: int, noun: str) -> str:
    """Such as "1 account" or "2 accounts"; of "entry" the plural is "entries"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"
