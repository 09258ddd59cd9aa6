"""Packages for Windows' Python, pinned by hash: requirements-<list>.txt beside this file."""

from __future__ import annotations

import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent


def requirements(*lists: str) -> str:
    return "".join((HERE / f"requirements-{name}.txt").read_text() for name in lists)


def spread_pywin32(directory: Path) -> None:
    """Copies its modules to where Python finds them, in a directory for PYTHONPATH.

    pywin32 counts on a .pth file, and Python reads those in its own directories only.
    """
    for part in ("win32/*.pyd", "win32/lib/*.py", "pywin32_system32/*.dll"):
        for file in directory.glob(part):
            shutil.copy(file, directory)
