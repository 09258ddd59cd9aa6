"""Photographs of the site: chromium, as on a desk and as on a telephone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

#: The widths in pixels.
DESK, TELEPHONE = 1280, 390
#: Pages that are photographed in the dark as well: prose and code, signatures, a chart.
IN_THE_DARK = ("docs/index.html", "docs/api.html", "docs/cache-benchmarks.html")
WITHOUT_CONTENT = ("index.html", "genindex.html", "search.html")
#: No photograph is higher; the smallest window of chromium is 500 pixels wide.
_HIGHEST, _NARROWEST, _SECONDS = 16000, 500, 120

#: Shows a page in a frame, and says in the title how large the page wants to be.
_FRAME = """\
<!doctype html>
<title></title>
<body style="margin:0; background:#888">
<iframe style="border:0; width:{width}px; height:{height}px" src="{page}"></iframe>
<script>
  const frame = document.querySelector("iframe");
  frame.onload = () => {{
    const page = frame.contentDocument.documentElement;
    document.title = `${{page.scrollWidth}} ${{page.scrollHeight}}`;
  }};
</script>
"""


def photograph(site: Path, parts: Sequence[str] = ()) -> int:
    """Photographs all pages, or those with one of these parts in their names, into <site>/../look;
    an exit status.

    It is 1 when a page is wider than the window, so that a reader would have to scroll sideways.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("docs: there is no chromium here (Debian: apt-get install chromium)", file=sys.stderr)
        return 1
    folder = site.parent / "look"
    folder.mkdir(exist_ok=True)
    wanted = [
        (page, width, dark)
        for page in sorted(site.rglob("*.html"))
        if page.relative_to(site).as_posix() not in WITHOUT_CONTENT
        and any(part in page.relative_to(site).as_posix() for part in parts or [""])
        for width in (DESK, TELEPHONE)
        for dark in (False, True)
        if not dark or page.relative_to(site).as_posix() in IN_THE_DARK
    ]
    too_wide = []
    for number, (page, width, dark) in enumerate(wanted, 1):
        name = "-".join(page.relative_to(site).with_suffix("").parts)
        name = f"{name}-{width}{'-dark' if dark else ''}"
        if sys.stderr.isatty():
            print(f"\r{number} of {len(wanted)}", end="", file=sys.stderr, flush=True)
        wide, high = _size(chromium, page, width)
        if wide > width:
            too_wide.append(f"{name} is {wide} pixels wide")
        _run(chromium, page, width, min(high, _HIGHEST), dark, f"--screenshot={folder / name}.png")
    if sys.stderr.isatty():
        print(file=sys.stderr)
    for sentence in too_wide:
        print(f"docs: {sentence}", file=sys.stderr)
    print(f"{len(wanted)} photographs are in {folder}")
    return 1 if too_wide else 0


def _size(chromium: str, page: Path, width: int) -> tuple[int, int]:
    """The width and height that a page wants, in a window of that width."""
    dom = _run(chromium, page, width, 1000, False, "--dump-dom")
    found = re.search(r"<title>(\d+) (\d+)</title>", dom)
    if found is None:
        raise RuntimeError(f"chromium did not show {page}: {dom[:500]}")
    return int(found[1]), int(found[2])


def _run(chromium: str, page: Path, width: int, height: int, dark: bool, action: str) -> str:
    with tempfile.TemporaryDirectory(prefix="msalex-look-") as place:
        frame = Path(place, "frame.html")
        frame.write_text(_FRAME.format(width=width, height=height, page=page.as_uri()), "utf-8")
        options = [
            *("--headless", "--disable-gpu", "--hide-scrollbars", "--disable-web-security"),
            *("--allow-file-access-from-files", "--virtual-time-budget=3000"),
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
            f"--user-data-dir={place}/profile",
            f"--window-size={max(width, _NARROWEST)},{height}",
        ]
        done = subprocess.run(
            [chromium, *options, action, frame.as_uri()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
        return done.stdout.decode(errors="replace")
