"""Builds the extension ``msal_extensions._msalex`` from the C files of this directory.

The build table below chooses each platform's files, so that no C file needs an ``#ifdef``.
setuptools calls this through ``cffi_modules`` in setup.py.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from cffi import FFI

HERE = Path(__file__).resolve().parent


class Platform(NamedTuple):
    """What one operating system adds to the portable files."""

    sources: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    compile_args: tuple[str, ...] = ()
    link_args: tuple[str, ...] = ()
    #: What the compiler and the linker get besides, by the target as target() names it.
    compile_args_of: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    link_args_of: Mapping[str, tuple[str, ...]] = MappingProxyType({})


PORTABLE = ("error.c", "buffer.c", "clock.c", "nonce.c", "lock_record.c", "lock_gap.c", "watch.c")

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
    "keep_posix.c",
    "thread_posix.c",
)

#: For processors of 32 bits: some locks of a file lie beyond 2^62 (os_linux.c).
OFFSETS_OF_64_BITS = ("-D_FILE_OFFSET_BITS=64",)

PLATFORMS = {
    "linux": Platform(
        sources=(
            *POSIX,
            "lock_wait_linux.c",
            "watch_linux.c",
            "os_linux.c",
            "attributes_linux.c",
            "process_linux.c",
            "clock_linux.c",
            "libsecret_linux.c",
            "libsecret_bus_linux.c",
            "libsecret_prompt_linux.c",
            "libsecret_requests_linux.c",
            "libsecret_service_linux.c",
            "kernelkey_linux.c",
            "dpapi_none.c",
            "keychain_none.c",
        ),
        libraries=("pthread", "dl"),
        # The extension exports PyInit__msalex only.
        compile_args=(
            *("-std=c11", "-fvisibility=hidden", "-g0"),
            *("-fstack-protector-strong", "-fstack-clash-protection"),
            # An older compiler or C library takes 3 for 2.
            *("-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3"),
        ),
        compile_args_of={
            "linux-x86_64": ("-fcf-protection",),
            "linux-i686": ("-fcf-protection", *OFFSETS_OF_64_BITS),
            "linux-armv7l": OFFSETS_OF_64_BITS,
            "linux-armv6l": OFFSETS_OF_64_BITS,
            "linux-aarch64": ("-mbranch-protection=standard",),
        },
        # All symbols are bound when it is loaded, and their table is read-only from then on.
        link_args=("-Wl,-z,now,-z,relro,-z,noexecstack", "-Wl,--strip-all"),
    ),
    "darwin": Platform(
        sources=(
            *POSIX,
            "lock_wait_macos.c",
            "watch_macos.c",
            "os_macos.c",
            "attributes_macos.c",
            "process_macos.c",
            "clock_macos.c",
            "libsecret_none.c",
            "kernelkey_none.c",
            "dpapi_none.c",
            "keychain_macos.c",
            "keychain_tries_macos.c",
            "keychain_items_macos.c",
            "keychain_status_macos.c",
            "keychain_turn_macos.c",
            "keychain_call_macos.c",
        ),
        compile_args=(
            "-std=c11",
            *("-fvisibility=hidden", "-g0"),
            *("-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"),
            # The interpreter may be built for an older macOS, but the keychain files need 10.15.
            "-mmacosx-version-min=11.0",
            # Apple deprecates SecKeychain*.  SecItem has nothing in its place that names the
            # default keychain, unlocks a keychain file, or forbids dialogs.
            "-Wno-deprecated-declarations",
        ),
        link_args=(
            "-mmacosx-version-min=11.0",
            "-Wl,-S,-x",  # no debug information, and the names of exported symbols only
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
            "kernelkey_none.c",
        ),
        libraries=("crypt32", "advapi32"),
        # For MSVC.  It exports only what is marked for export, as PyInit__msalex is.  /guard:cf
        # lets an indirect call reach functions only, and /Brepro makes equal builds equal.
        compile_args=(
            *("/std:c11", "/W4", "/sdl", "/guard:cf", "/Brepro"),
            # /sdl makes errors of uses of deprecated functions.  The C library deprecates much of
            # itself, and a new Python may deprecate what cffi uses.
            *("/D_CRT_SECURE_NO_WARNINGS", "/wd4996"),
        ),
        link_args=("/guard:cf", "/Brepro"),
        # Return addresses are checked, where the processor can.  For ARM64 the linker refuses the
        # option (LNK1246).
        link_args_of={"win32": ("/CETCOMPAT",), "win-amd64": ("/CETCOMPAT",)},
    ),
}
#: Options without which the extension works as well.  A compiler may lack some of them.
HARDENING = {
    *("-fstack-protector-strong", "-fstack-clash-protection"),
    *("-fcf-protection", "-mbranch-protection=standard"),
}
#: Options that leave debug information out.
DEBUG_OPTIONS = ("-g0", "-Wl,--strip-all", "-Wl,-S,-x")
#: The processors for which MSVC can be set up -> the platforms as sysconfig names them.
MSVC_TARGETS = {"x86": "win32", "x64": "win-amd64", "arm64": "win-arm64"}
#: What a Python of 32 bits says of a kernel of 64 -> what it builds for.
TARGETS_OF_32_BITS = {"linux-x86_64": "linux-i686", "linux-aarch64": "linux-armv7l"}


def target() -> str:
    """What the extension is built for, as sysconfig names platforms.

    Where MSVC is set up for another processor, this variable says so, and setuptools builds for
    that one.  cibuildwheel sets it when it builds for ARM64 by a Python for x64.
    """
    here = sysconfig.get_platform()
    if sys.maxsize < 2**32:
        here = TARGETS_OF_32_BITS.get(here, here)
    return MSVC_TARGETS.get(os.environ.get("VSCMD_ARG_TGT_ARCH", ""), here)


def stable_abi() -> str | None:
    """The oldest Python that loads what this one builds, as wheels are tagged; None: this one only.

    A free-threaded Python has a limited API since 3.15 (PEP 803, abi3t).  Its wheel has the tag
    abi3.abi3t, so an ordinary Python prefers it to that of cp310 from 3.15 on, and it works there:
    it uses nothing that only one of the two has.
    """
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "cp310"
    return "cp315" if sys.version_info >= (3, 15) else None


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
        extra_compile_args=[*here.compile_args, *here.compile_args_of.get(target(), ())],
        extra_link_args=[*here.link_args, *here.link_args_of.get(target(), ())],
        py_limited_api=stable_abi() is not None,
    )
    return ffi
