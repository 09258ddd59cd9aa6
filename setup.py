"""The native extension, its tag, and how both archives are made; the rest is in pyproject.toml."""

import os
import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).resolve().parent))  # pip does not put it there
from csrc.commands import COMMANDS
from csrc.ffi_build import stable_abi

# Without this variable, too, one source gives one archive.  Any time will do that zip can hold.
os.environ.setdefault("SOURCE_DATE_EPOCH", "1580601600")

setup(
    cffi_modules=["csrc/ffi_build.py:builder"],
    cmdclass=COMMANDS,
    options={"bdist_wheel": {"py_limited_api": stable_abi() or False}},
)
