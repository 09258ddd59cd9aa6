"""Which files of this directory run here.

Three are for a Linux machine: they build for Windows, and run the result and the suite by Wine.
All others are for Windows itself, which is where ctypes has a WinDLL; elsewhere they are no tests.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

HERE = Path(__file__).parent
FOR_LINUX = {HERE / f"test_{name}.py" for name in ("built_for_windows", "under_wine", "wines")}
FOR_WINDOWS = set(HERE.glob("test_*.py")) - FOR_LINUX

collect_ignore = [] if hasattr(ctypes, "WinDLL") else sorted(FOR_WINDOWS)
