"""The pure-Python msal-extensions 1.3.1, which ours replaces, in a directory of its own.

    command, env = reference_python(portalocker=True)
    subprocess.run([*command, "-c", snippet], env=env, ...)

It is kept in MSALEX_CACHE, one directory for each combination of versions. Two test runs may ask
for the same one at once. Where pip cannot run, as under Wine, MSALEX_REFERENCE_PORTALOCKER and
MSALEX_REFERENCE_BARE name directories that were prepared before.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.capability import needs

VERSION = "1.3.1"
PINNED = {
    "msal-extensions": f"{VERSION} --hash=sha256:"
    "96d3de4d034504e969ac5e85bae8106c8373b5c6568e4c8fa7af2eca9dbe6bca",
    "portalocker": "3.2.0 --hash=sha256:"
    "3cdc5f565312224bc570c49337bd21428bba0ef363bbcf58b9ef4a9f11779968",
}
PIP_S = 600
# Prints which msal_extensions this is, where it comes from, and whether it finds portalocker.
PROBE = (
    "import importlib.util, msal_extensions as m\n"
    "print(m.__version__, bool(importlib.util.find_spec('portalocker')), m.__file__)"
)


def reference_site_packages(portalocker: bool, python: str = sys.executable) -> Path:
    """A directory for PYTHONPATH with msal-extensions 1.3.1 and msal for `python`.

    With portalocker 1.3.1 uses its "cache_lock" engine, without it its "filelock" engine.
    """
    return _site_packages(portalocker, python, importlib.metadata.version("msal"))


def reference_python(
    portalocker: bool, python: str = sys.executable
) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of a Python whose msal_extensions is 1.3.1."""
    directory = reference_site_packages(portalocker, python)
    return [python], {**os.environ, "PYTHONPATH": str(directory)}


@functools.cache
def python_with_gi() -> str:
    """A Python with PyGObject and libsecret's bindings, which 1.3.1 needs for the keyring."""
    snippet = "import gi; gi.require_version('Secret', '1'); from gi.repository import Secret"
    for directory in (Path(sys.executable).parent, *map(Path, os.defpath.split(":"))):
        python = str(directory / "python3")
        if Path(python).exists() and _run([python, "-c", snippet]).returncode == 0:
            return python
    needs("no Python here has PyGObject and libsecret (Debian: python3-gi, gir1.2-secret-1)")
    raise AssertionError


def _run(command: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=PIP_S)


@functools.cache
def _site_packages(portalocker: bool, python: str, msal: str) -> Path:
    # The facts that decide which files pip chooses.
    facts = "import sys, sysconfig; print(sys.version, sysconfig.get_platform())"
    interpreter = _run([python, "-c", facts]).stdout
    key = hashlib.sha256(f"{PINNED} {msal} {interpreter}".encode()).hexdigest()[:12]
    engine = "portalocker" if portalocker else "bare"
    prepared = os.environ.get(f"MSALEX_REFERENCE_{engine.upper()}")
    if prepared:
        _verify(Path(prepared), portalocker, python)
        return Path(prepared)
    import fcntl

    cache = Path(os.environ.get("MSALEX_CACHE") or tempfile.gettempdir() + "/msalex-cache")
    target = cache.expanduser() / "reference" / f"{VERSION}-{engine}-{key}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(target.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _install(target, portalocker, python, msal)
    _verify(target, portalocker, python)
    return target


def _install(target: Path, portalocker: bool, python: str, msal: str) -> None:
    """Install into a directory beside the target, so that the target appears complete or not at
    all."""
    names = ["msal-extensions", *(["portalocker"] if portalocker else [])]
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        pinned, site = Path(temporary, "pinned.txt"), Path(temporary, "site")
        pinned.write_text("".join(f"{name}=={PINNED[name]}\n" for name in names))
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
        into = ["--target", str(site), "--only-binary", ":all:"]
        hashed = ["--no-deps", "--require-hashes", "-r", str(pinned)]
        for requirements in ([f"msal=={msal}"], hashed):
            done = _run([*pip, *into, *requirements])
            if done.returncode != 0:
                needs(f"msal-extensions {VERSION} could not be installed: {done.stderr[-500:]}")
        shutil.move(site, target)


def _verify(target: Path, portalocker: bool, python: str) -> None:
    """Check that it is 1.3.1, and not the package under test."""
    found = _run([python, "-c", PROBE], {**os.environ, "PYTHONPATH": str(target)})
    assert found.returncode == 0, found.stderr
    version, has_portalocker, file = found.stdout.split(maxsplit=2)
    assert version == VERSION
    assert Path(file.strip()).is_relative_to(target)
    assert has_portalocker == str(portalocker), "portalocker comes from somewhere else"
