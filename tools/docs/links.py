"""Checks the links of the pages offline: in the repository's view, and in the built site.

*In the repository* a relative link names a file of the checkout, and an anchor a heading of that
page, spelled as GitHub makes it.  *In the site* each link of each page leads to a file of the site,
and to an id in it.  Links to other hosts are well-formed and https; nobody asks these hosts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

#: The pages at the top of the checkout.
TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def pages_of(root: Path) -> list[Path]:
    """All pages of the site, as files of the checkout."""
    return [*(root / name for name in TOP), *sorted((root / "docs").rglob("*.md"))]


def tokens_of(path: Path) -> list[Any]:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table").parse(path.read_text("utf-8"))


# ---- in the repository -------------------------------------------------------------------


@cache
def anchors_of(path: Path) -> frozenset[str]:
    """What GitHub makes of the headings of a page."""
    tokens = tokens_of(path)
    times: Counter[str] = Counter()
    found = set()
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            parts = [each.content for each in token.children or [] if each.content]
            name = re.sub(r"[^\w\- ]", "", "".join(parts).strip().lower()).replace(" ", "-")
            found.add(f"{name}-{times[name]}" if times[name] else name)
            times[name] += 1
    return frozenset(found)


def links_of(path: Path) -> Iterator[str]:
    for token in tokens_of(path):
        for child in token.children or []:
            for name in ("href", "src"):
                if name in child.attrs:
                    yield str(child.attrs[name])


def fault_outside(link: str) -> str | None:
    """What is wrong with a link to another host."""
    parts = urlsplit(link)
    if parts.scheme != "https":
        return "is not https"
    is_host = re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", parts.netloc)
    return None if is_host and " " not in link else "is not well-formed"


def faults_in_repository(root: Path) -> list[str]:
    """A sentence for each link that leads nowhere."""
    faults = []
    for page in pages_of(root):
        for link in links_of(page):
            fault = fault_outside(link) if urlsplit(link).scheme else _fault_inside(page, link)
            if fault is not None:
                faults.append(f"{page.relative_to(root)}: {link} {fault}")
    return faults


def _fault_inside(page: Path, link: str) -> str | None:
    name, _, anchor = unquote(link).partition("#")
    target = (page.parent / name).resolve() if name else page
    if name.startswith("/") or not target.exists():
        return "is not in the checkout"
    if anchor and (target.suffix != ".md" or anchor not in anchors_of(target)):
        return "names no heading there"
    return None


# ---- in the site -------------------------------------------------------------------------


class _Html(HTMLParser):
    """The links and the ids of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            elif name in ("href", "src") and value and (tag, name) != ("link", "href"):
                self.links.append(value)


def faults_in_site(site: Path) -> list[str]:
    """A sentence for each link of a built page that leads nowhere."""
    html = {path: _Html(path) for path in sorted(site.rglob("*.html"))}
    faults = []
    for page, parsed in html.items():
        for link in sorted(set(parsed.links)):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                fault = None if parts.scheme == "data" else fault_outside(link)
            else:
                target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
                anchor, fault = unquote(parts.fragment), None
                if not target.is_file():
                    fault = "is not in the site"
                elif anchor and (target not in html or anchor not in html[target].ids):
                    fault = "names no place there"
            if fault is not None:
                faults.append(f"{page.relative_to(site)}: {link} {fault}")
    return faults
