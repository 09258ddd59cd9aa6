"""Builds the pages of docs/ with Sphinx, without a warning, and checks their links offline.

    python3 dev.py docs             build the site into .venv/site, and say where it begins
    python3 dev.py docs --look      photograph it, too: each page at 1280 and at 390 pixels, some
                                    also in the dark; needs Debian's chromium
    python3 dev.py docs --look api  photograph the pages with this in their names
    python3 dev.py docs --to DIR    another place for the site

Exit status: 0 when there is no warning, no link leads nowhere, and no photographed page is wider
than its window; 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.docs.links import faults_in_repository, faults_in_site
from tools.docs.look import photograph
from tools.docs.site import ROOT, build


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="dev.py docs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words = "take photographs with chromium, of all pages or of those with PART in their names"
    parser.add_argument("--look", nargs="*", metavar="PART", help=words)
    parser.add_argument("--to", type=Path, default=ROOT / ".venv" / "site", metavar="DIR")
    options = parser.parse_args()
    site = options.to.resolve()
    said = build(site)
    print(said, end="", file=sys.stderr)
    faults = [*faults_in_repository(ROOT), *faults_in_site(site)]
    for fault in faults:
        print(f"docs: {fault}", file=sys.stderr)
    if said or faults:
        return 1
    count = len(list(site.rglob("*.html")))
    print(f"{count} pages, no warning, no broken link. They begin at {site / 'index.html'}")
    return 0 if options.look is None else photograph(site, options.look)


if __name__ == "__main__":
    sys.exit(main())
