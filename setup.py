"""The native extension and its abi3 tag; everything else is in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=["csrc/ffi_build.py:builder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
