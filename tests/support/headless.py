"""The examples in docs/headless.md."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "headless.md"


def blocks(language: str) -> list[str]:
    """Those in one language: the word after the three backquotes."""
    pattern = rf"^```{language}\n(.*?)^```$"
    found = re.findall(pattern, DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return found


def block(language: str, word: str) -> str:
    """The one that contains this word."""
    [found] = [each for each in blocks(language) if word in each]
    return found
