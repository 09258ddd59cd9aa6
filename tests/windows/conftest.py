"""Which files of this directory run here.

test_under_wine.py is for a Linux machine: it builds for Windows and runs the whole suite by Wine.
All others are for Windows itself, which is where ctypes has a WinDLL; elsewhere they are no tests.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

HERE = Path(__file__).parent
FOR_LINUX = {HERE / "test_under_wine.py"}
FOR_WINDOWS = set(HERE.glob("test_*.py")) - FOR_LINUX

collect_ignore = [] if hasattr(ctypes, "WinDLL") else sorted(FOR_WINDOWS)
