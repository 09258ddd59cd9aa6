"""Installations of the package that are broken in some way, for programs in other processes.

    site = Site(tmp_path)
    site.remove("msal")
    command.run("doctor", environment=site.environment(home), python=site.python)

A site has a copy of the package under test, with what pip wrote down of it, and links to the other
packages of the tests.  Its Python sees no other packages.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import command
from tests.support.reference import reference_site_packages

OURS = importlib.metadata.distribution("msal-extensions")


class Site:
    """A directory of packages."""

    #: -S: without the packages of the tests' own environment.
    python = (sys.executable, "-S")

    def __init__(self, parent: Path) -> None:
        self.directory = parent / "site"
        self.directory.mkdir()
        source = Path(str(OURS.locate_file("")))
        for path in source.iterdir():
            name = path.name
            if name.startswith("msal_extensions"):
                ignored = shutil.ignore_patterns("__pycache__", "direct_url.json")
                shutil.copytree(path, self.directory / name, ignore=ignored)
            elif not name.startswith(("__", "pip", "distutils")) and path.suffix != ".pth":
                (self.directory / name).symlink_to(path)
        self.package = self.directory / "msal_extensions"
        (self.record,) = self.directory.glob("msal_extensions-*.dist-info/RECORD")
        (self.library,) = self.package.glob("_msalex*")

    def environment(self, home: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**command.session(home, variables), "PYTHONPATH": str(self.directory)}

    def remove(self, *names: str) -> None:
        """Removes packages of others, and what pip wrote down of them."""
        for name in names:
            found = [*self.directory.glob(name), *self.directory.glob(f"{name}-*.dist-info")]
            assert found
            for path in found:
                path.unlink()

    def put(self, name: str, text: str) -> Path:
        """Puts a file in the place of what was there, such as "msal/__init__.py"."""
        path = self.directory / name
        for parent in (path, *path.parents):
            if parent.is_symlink():
                parent.unlink()
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def put_msal_version(self, version: str) -> None:
        """Writes down another version of MSAL."""
        (old,) = self.directory.glob("msal-*.dist-info")
        old.unlink()
        metadata = f"Metadata-Version: 2.1\nName: msal\nVersion: {version}\n"
        self.put(f"msal-{version}.dist-info/METADATA", metadata)

    def install_other(self, name: str, version: str, files: Mapping[str, str]) -> None:
        """Installs a distribution as pip does, over whatever is there."""
        lines = []
        dist = f"{name.replace('-', '_')}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        for file, text in {**files, f"{dist}/METADATA": metadata}.items():
            self.put(file, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
            lines.append(f"{file},sha256={digest.rstrip('=')},{len(text.encode())}\n")
        self.put(f"{dist}/RECORD", "".join([*lines, f"{dist}/RECORD,,\n"]))

    def put_pure_over(self, with_record: bool = True) -> None:
        """Puts the real msal-extensions 1.3.1 over ours, as a tool does that knows of no other."""
        theirs = reference_site_packages(portalocker=False)
        names = ["msal_extensions", *(["msal_extensions-1.3.1.dist-info"] if with_record else [])]
        for name in names:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(
                theirs / name, self.directory / name, ignore=ignored, dirs_exist_ok=True
            )


def without_hashes(record: Path, keeps_sizes: bool = False) -> None:
    """Writes RECORD as tools do that write no hashes."""
    rows = [line.rsplit(",", 2) for line in record.read_text().splitlines()]
    lines = [f"{name},,{size if keeps_sizes else ''}\n" for name, _, size in rows]
    record.write_text("".join(lines))


def mend(site: Site) -> None:
    """Installs ours again, as the remedy says, but from here and without a network."""
    shutil.rmtree(site.package)
    source = Path(str(OURS.locate_file("msal_extensions")))
    shutil.copytree(source, site.package, ignore=shutil.ignore_patterns("__pycache__"))
