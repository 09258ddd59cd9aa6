"""Key files, as docs/headless.md makes them with openssl."""

from __future__ import annotations

import base64
import os
from pathlib import Path


def new_key(path: Path) -> Path:
    """A file of this name with a new key, which only its owner can read."""
    path.touch(mode=0o600)
    path.write_bytes(base64.b64encode(os.urandom(32)) + b"\n")
    return path
