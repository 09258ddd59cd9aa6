"""Builds the site."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: The address of the site itself, whose pages are below docs/ as in the checkout.
_BEGIN = """\
<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url=docs/index.html">
<title>msal-extensions, native</title>
<a href="docs/index.html">msal-extensions, native</a>
"""


def build(site: Path, seconds: float = 300) -> str:
    """Builds all pages anew; returns Sphinx's warnings and errors, which should be none.

    :raises RuntimeError: when Sphinx failed and did not say why.
    """
    if site.exists() and any(site.iterdir()) and not (site / "objects.inv").exists():
        raise FileExistsError(f"{site} is there and no site: it stays as it is")
    shutil.rmtree(site, ignore_errors=True)
    options = ["--quiet", "--fail-on-warning", "--keep-going", "--nitpicky", "--fresh-env"]
    places = ["--conf-dir", str(ROOT / "docs"), "--doctree-dir", str(site / ".doctrees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, *places, str(ROOT), str(site)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    shutil.rmtree(site / ".doctrees", ignore_errors=True)
    if done.returncode != 0 and not done.stderr:
        raise RuntimeError(f"Sphinx ended with status {done.returncode}: {done.stdout[-2000:]}")
    if done.returncode == 0:
        (site / "index.html").write_text(_BEGIN, encoding="utf-8")
    return done.stderr
