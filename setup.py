"""The native extension and its abi3 tag; everything else is in pyproject.toml."""

import sysconfig

from setuptools import setup

# Free-threaded Pythons have no limited API yet, so they get a wheel of their own.
ABI3 = {} if sysconfig.get_config_var("Py_GIL_DISABLED") else {"py_limited_api": "cp310"}

setup(cffi_modules=["csrc/ffi_build.py:builder"], options={"bdist_wheel": ABI3})
