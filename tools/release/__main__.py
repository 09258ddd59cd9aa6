"""Makes of a directory of wheels what is published beside them.

    python -m tools.release DIST OUT --url URL [--tag TAG] [--earlier DIRECTORY]

DIST and the directories in it hold all wheels of one version and its source distribution. Nothing
is made unless they are complete and agree (checks.py). Then OUT, which is made, holds them and

    simple/           a package index of plain files; URL is where OUT will be published
    constraints.txt   pins the wheel of each platform by its hash
    msal_extensions-VERSION.cdx.json   what the release holds, as CycloneDX (sbom.py)
    SHA256SUMS        the hash of each file but the pages in simple/, for `sha256sum --check`

TAG is the one in git, and has to be the version after a `v`. Files of earlier versions, as they
were published, stay in the index if DIRECTORY has them. A file that was published before with
other bytes is refused: an installer may have pinned its hash.

The same files make the same OUT, byte by byte, with the same SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.release import checks, index, sbom

ROOT = Path(__file__).resolve().parents[2]
BUILD_PINS = Path(__file__).with_name("requirements") / "build.txt"


class AlreadyPublished(checks.Refused):
    """A file of that name was published before, and had other bytes."""


def version_here() -> str:
    """The version in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    found = re.search(r'^version = "(.+)"$', text, re.MULTILINE)
    assert found is not None
    return found[1]


def now() -> datetime.datetime:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    utc = datetime.timezone.utc
    when = datetime.datetime.fromtimestamp(int(epoch), utc) if epoch else datetime.datetime.now(utc)
    return when.replace(microsecond=0)


def sums(directory: Path) -> str:
    """The lines that `sha256sum --check` reads in that directory. The pages are not in them: a
    version that is taken back changes these, and nothing else."""
    files = {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file() and path.relative_to(directory).parts[0] != "simple"
    }
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))


def not_again(files: Sequence[Path], earlier: Sequence[Path]) -> list[Path]:
    """The earlier files but those that are published again, as after a run that broke off."""
    new = {path.name: path.read_bytes() for path in files}
    again = [path for path in earlier if path.name in new]
    changed = [path.name for path in again if path.read_bytes() != new[path.name]]
    if changed:
        raise AlreadyPublished([f"{name} was published with other bytes" for name in changed])
    return [path for path in earlier if path.name not in new]


def make(
    files: Sequence[Path], out: Path, url: str, version: str, earlier: Sequence[Path] = ()
) -> None:
    """Writes all that is published; the files have been checked."""
    [source] = [path for path in files if path.suffix != ".whl"]
    metadata = checks.content_of(source).metadata
    out.mkdir(parents=True)
    index.write(files, out, url)
    if earlier:
        index.write_simple([*earlier, *files], out)
    text = sbom.document(files, metadata, sbom.pins(BUILD_PINS), now())
    (out / f"{checks.NAME}-{version}.cdx.json").write_text(text, encoding="utf-8", newline="\n")
    (out / "SHA256SUMS").write_text(sums(out), encoding="utf-8", newline="\n")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.release", description="Makes a release of wheels."
    )
    parser.add_argument("dist", type=Path, metavar="DIST", help="has the wheels and the sdist")
    parser.add_argument("out", type=Path, metavar="OUT", help="is made, and has what to publish")
    parser.add_argument("--url", required=True, help="where OUT will be published")
    parser.add_argument("--tag", help="the tag in git, such as v1.3.1+native1")
    parser.add_argument("--earlier", type=Path, help="has the files of earlier versions")
    options = parser.parse_args(arguments)
    if options.out.exists():
        parser.error(f"{options.out} is there already")
    version = version_here()
    files = checks.files_below(options.dist)
    earlier = checks.files_below(options.earlier) if options.earlier else []
    try:
        checks.check(files, version, options.tag)
        earlier = not_again(files, earlier)
        make(files, options.out, options.url, version, earlier)
    except (checks.Refused, index.CannotPin) as error:
        for line in str(error).splitlines():
            print(f"NOT TO BE PUBLISHED: {line}")
        return 1
    print(f"{len(files)} files of {version}, and {len(earlier)} earlier ones: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
