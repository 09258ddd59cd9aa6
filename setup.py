"""The native extension and its tag; everything else is in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).resolve().parent))  # pip does not put it there
from csrc.ffi_build import stable_abi

setup(
    cffi_modules=["csrc/ffi_build.py:builder"],
    options={"bdist_wheel": {"py_limited_api": stable_abi() or False}},
)
