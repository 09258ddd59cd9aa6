"""Builds the extension ``msal_extensions._msalex`` from the C files of this directory.

The build table below chooses each platform's files, so that no C file needs an ``#ifdef``.
setuptools calls this through ``cffi_modules`` in setup.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from cffi import FFI

HERE = Path(__file__).resolve().parent


class Platform(NamedTuple):
    """What one operating system adds to the portable files."""

    sources: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    compile_args: tuple[str, ...] = ()
    link_args: tuple[str, ...] = ()


PORTABLE = ("error.c", "buffer.c", "clock.c", "nonce.c", "lock_record.c", "lock_gap.c")

POSIX = (
    "lock_posix.c",
    "lock_hold_posix.c",
    "lock_file_posix.c",
    "lock_registry_posix.c",
    "lock_peer_posix.c",
    "file_posix.c",
    "content_posix.c",
    "temp_posix.c",
    "place_posix.c",
    "clock_posix.c",
)

PLATFORMS = {
    "linux": Platform(
        sources=(
            *POSIX,
            "lock_wait_linux.c",
            "watch_linux.c",
            "os_linux.c",
            "libsecret_linux.c",
            "libsecret_bus_linux.c",
            "libsecret_prompt_linux.c",
            "libsecret_requests_linux.c",
            "libsecret_service_linux.c",
            "dpapi_none.c",
            "keychain_none.c",
        ),
        libraries=("pthread", "dl"),
        # The extension exports PyInit__msalex only.  All its symbols are bound when it is loaded.
        compile_args=("-std=c11", "-fvisibility=hidden"),
        link_args=("-Wl,-z,now,-z,relro",),
    ),
    "darwin": Platform(
        sources=(
            *POSIX,
            "lock_wait_macos.c",
            "watch_macos.c",
            "os_macos.c",
            "libsecret_none.c",
            "dpapi_none.c",
            "keychain_macos.c",
        ),
        compile_args=(
            "-std=c11",
            "-fvisibility=hidden",
            # The interpreter may be built for an older macOS, but keychain_macos.c needs 10.15.
            "-mmacosx-version-min=11.0",
        ),
        link_args=(
            "-mmacosx-version-min=11.0",
            *("-framework", "CoreFoundation", "-framework", "Security"),
        ),
    ),
    "win32": Platform(
        sources=(
            "lock_windows.c",
            "lock_file_windows.c",
            "lock_byte_windows.c",
            "lock_registry_windows.c",
            "lock_wait_windows.c",
            "lock_peer_windows.c",
            "watch_windows.c",
            "file_windows.c",
            "save_windows.c",
            "temp_windows.c",
            "place_windows.c",
            "access_windows.c",
            "nt_windows.c",
            "clock_windows.c",
            "path_windows.c",
            "os_windows.c",
            "dpapi_windows.c",
            "keychain_none.c",
            "libsecret_none.c",
        ),
        libraries=("crypt32", "advapi32"),
        # For MSVC.  It exports only what is marked for export, as PyInit__msalex is.
        compile_args=("/std:c11", "/D_CRT_SECURE_NO_WARNINGS"),
    ),
}


def cdef() -> str:
    """The header without its preprocessor lines, because cffi does not read them."""
    lines = (HERE / "msalex.h").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def sources(platform: str = sys.platform) -> list[str]:
    """The C files of one platform, relative to the project, as setuptools demands."""
    return [f"csrc/{name}" for name in PORTABLE + PLATFORMS[platform].sources]


def builder(platform: str = sys.platform) -> FFI:
    """The extension as cffi builds it here, or for another platform."""
    if platform not in PLATFORMS:
        raise RuntimeError(f"msal-extensions has no native part for {platform} yet")
    here = PLATFORMS[platform]
    ffi = FFI()
    ffi.cdef(cdef())
    ffi.set_source(
        "msal_extensions._msalex",
        '#include "msalex.h"',
        sources=sources(platform),
        depends=[f"csrc/{header.name}" for header in HERE.glob("*.h")],
        include_dirs=["csrc"],
        libraries=list(here.libraries),
        extra_compile_args=list(here.compile_args),
        extra_link_args=list(here.link_args),
        py_limited_api=True,
    )
    return ffi
