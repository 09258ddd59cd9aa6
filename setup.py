"""The native extension and its abi3 tag; everything else is in pyproject.toml."""

import sysconfig

from setuptools import setup

# A free-threaded Python gets a wheel of its own.  The one of 3.14 has no limited API.  For the one
# of 3.15 cffi 2.1 builds by the limited API of PEP 803 (abi3t), so its wheel could be tagged for
# all later ones, too.  But an ordinary Python 3.15 would prefer that wheel to the abi3 wheel, and
# nothing has tried it there.
ABI3 = {} if sysconfig.get_config_var("Py_GIL_DISABLED") else {"py_limited_api": "cp310"}

setup(cffi_modules=["csrc/ffi_build.py:builder"], options={"bdist_wheel": ABI3})
