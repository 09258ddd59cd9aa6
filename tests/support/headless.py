"""The examples in docs/headless.md and other documents."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "headless.md"


def blocks(language: str, document: Path = DOCUMENT) -> list[str]:
    """Those in one language: the word after the three backquotes."""
    pattern = rf"^```{language}\n(.*?)^```$"
    found = re.findall(pattern, document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return found


def block(language: str, word: str, document: Path = DOCUMENT) -> str:
    """The one that contains this word."""
    [found] = [each for each in blocks(language, document) if word in each]
    return found
