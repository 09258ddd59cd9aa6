"""The package itself, and the tests of this project that are about a Mac."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path
from typing import Any

from tests.support.mac.machine import Desk, run
from tests.support.plan import Answer, CannotAsk, part

ASKED, question = part()


def unlike(wheel: Path, package: Path) -> list[str]:
    """Which files of the package are not those of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("msal_extensions/")]
        return [
            name
            for name in names
            if not (package.parent / name).exists()
            or (package.parent / name).read_bytes() != archive.read(name)
        ]


@question("The package that is asked about is the wheel that is to be published")
def _wheel(desk: Desk) -> Answer:
    if desk.wheel is None:
        raise CannotAsk("no --wheel was given")
    import msal_extensions

    package = Path(msal_extensions.__file__).parent
    others = unlike(desk.wheel, package)
    digest = hashlib.sha256(desk.wheel.read_bytes()).hexdigest()
    told = {"wheel": desk.wheel.name, "sha256": digest, "package": str(package)}
    return not others, {**told, "other_files": others}


def pytest_(*arguments: str, seconds: float = 900) -> tuple[bool, dict[str, Any]]:
    """Whether these tests pass."""
    told = [sys.executable, "-m", "pytest", "-q", "--tb=short", *arguments]
    status, said = run(*told, seconds=seconds)
    return status == 0 and " passed" in said, {"status": status, "pytest": said[-6000:]}


@question("The contract of all persistences holds, in the keychain and in files")
def _contract(desk: Desk) -> Answer:
    _ = desk.keychain
    return pytest_("tests/test_contract.py", "-k", "file or keychain")


@question("1.3.1 and this package read and change each other's items")
def _interop(desk: Desk) -> Answer:
    _ = desk.keychain
    return pytest_("tests/macos/interop_on_a_mac.py")


@question("The tests of the lock pass, those about Linux included", must=False)
def _lock_tests(desk: Desk) -> Answer:
    return pytest_("tests/test_lock.py")
