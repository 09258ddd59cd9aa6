"""The Node package that uses the same lock files, unpacked for its CrossPlatformLock.

    command, env = node_peer()
    subprocess.run([*command, ...], env=env)

It is kept in MSALEX_CACHE. The tests load the lock only, because the rest needs native modules.
"""

from __future__ import annotations

import base64
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.support.capability import needs

PACKAGE = "@azure/msal-node-extensions"
VERSION = "5.6.0"
INTEGRITY = (
    "sha512-fiudFtrBgHBOnS5uBxzYbUooBtB+5IKbVB5ZE3xvnC4P9zOWMuFhtV9RXr"
    "+huKfqXPuoniV6BUa/NExhydVGQA=="
)
LOCK = "dist/lock/CrossPlatformLock.mjs"
NPM_S = 300


def node_peer() -> tuple[list[str], dict[str, str]]:
    """The command and the environment of the peer program with Node's lock."""
    node = shutil.which("node")
    needs(None if node else "node is not installed")
    assert node is not None
    program = Path(__file__).parent / "peers" / "node.mjs"
    lock = node_package() / LOCK
    return [node, str(program)], {**os.environ, "NODE_LOCK": lock.as_uri()}


@functools.cache
def node_package() -> Path:
    """The directory of the package.  Nothing is installed, and no script of it runs."""
    cache = Path(os.environ.get("MSALEX_CACHE") or tempfile.gettempdir() + "/msalex-cache")
    target = cache.expanduser() / "node" / f"msal-node-extensions-{VERSION}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(target.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _unpack(target)
    assert (target / LOCK).is_file()
    return target


def _unpack(target: Path) -> None:
    """Unpack beside the target, so that the target appears complete or not at all."""
    npm = shutil.which("npm")
    needs(None if npm else "npm is not installed")
    assert npm is not None
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        pack = [npm, "pack", "--silent", "--ignore-scripts", f"{PACKAGE}@{VERSION}"]
        done = subprocess.run(pack, cwd=temporary, capture_output=True, text=True, timeout=NPM_S)
        if done.returncode != 0:
            needs(f"{PACKAGE} could not be downloaded: {done.stderr[-500:]}")
        (archive,) = Path(temporary).glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        assert f"sha512-{digest}" == INTEGRITY, "npm brought something else"
        unpacked = Path(temporary, "package")
        with tarfile.open(archive) as packed:
            for member in packed:
                content = packed.extractfile(member)
                if content is not None and member.name.endswith((".mjs", "package.json")):
                    file = Path(temporary, member.name).resolve()
                    assert file.is_relative_to(unpacked.resolve()), member.name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content.read())
        shutil.move(unpacked, target)
