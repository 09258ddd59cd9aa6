"""The macOS files compile and link, for both architectures, on a machine that is not a Mac."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from csrc.ffi_build import sources
from tests.support import macos
from tests.support.native import HARNESS, MACOS, ROOT

pytestmark = pytest.mark.slow

ARCHITECTURES = {"x86_64": 0x01000007, "aarch64": 0x0100000C}
LIBRARIES = {
    "/usr/lib/libSystem.B.dylib",
    "/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation",
    "/System/Library/Frameworks/Security.framework/Versions/A/Security",
}
#: Some functions that only macOS has, from each library.
IMPORTED = {
    *("_SecItemUpdate", "_CFDictionaryCreate", "_kevent", "_renameatx_np", "_dlsym"),
    *("_SecKeychainCopyDefault", "_confstr", "_pthread_cond_timedwait_relative_np"),
    *("_acl_init", "_acl_free", "_acl_get_fd_np", "_acl_set_fd_np"),
}
#: Functions that macOS 11 lacks: these must be looked up at run time.
FROM_LATER_SYSTEMS = {"_freadlink"}
#: The one that runs the tests, and Debian's own, which lays out its headers in another way.
PYTHONS = [sys.executable, "/usr/bin/python3"]
SOURCES = [ROOT / name for name in sources("darwin")]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_library_links_for_macos_without_a_warning(architecture: str, tmp_path: Path) -> None:
    library = macos.link(architecture, SOURCES, tmp_path, hidden=False)
    assert library.cpu == ARCHITECTURES[architecture]
    assert library.libraries == LIBRARIES
    assert library.minimum_os == "11.0"
    assert library.imported >= IMPORTED
    assert not (FROM_LATER_SYSTEMS & library.imported)
    assert "_msalex_keychain_start" in library.exported
    print(f"\n{architecture}: {len(SOURCES)} files, {len(library.imported)} symbols imported")


@pytest.mark.parametrize("questions", ["files_on_a_mac.c", "locks_on_a_mac.c"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_questions_for_a_mac_compile_for_it(
    architecture: str, questions: str, tmp_path: Path
) -> None:
    programs = [MACOS / questions, *HARNESS]
    macos.link(architecture, [*programs, *SOURCES], tmp_path, hidden=False)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_extension_module_links_for_macos(
    architecture: str, python: str, tmp_path: Path
) -> None:
    module = macos.write_module(tmp_path)
    # No warnings about cffi's C.  The interpreter brings Python's symbols.
    files = (module, *SOURCES)
    headers = str(macos.python_headers(python, tmp_path))
    options = ("-isystem", headers, "-undefined", "dynamic_lookup", "-w")
    library = macos.link(architecture, files, tmp_path, options)
    assert library.cpu == ARCHITECTURES[architecture]
    assert library.libraries == LIBRARIES
    assert library.minimum_os == "11.0"
    assert library.exported == {"_PyInit__msalex"}
    print(f"\n{architecture}: exports {set(library.exported)}")


def test_a_symbol_that_the_frameworks_lack_fails_the_link(tmp_path: Path) -> None:
    source = tmp_path / "missing.c"
    source.write_text(
        "#include <Security/Security.h>\n"
        "OSStatus SecItemInvented(CFDictionaryRef query);\n"
        "OSStatus invent(void);\n"
        "OSStatus invent(void) { return SecItemInvented(NULL); }\n"
    )
    with pytest.raises(AssertionError, match="SecItemInvented"):
        macos.link("x86_64", [source], tmp_path, hidden=False)


def test_a_warning_fails_the_compilation(tmp_path: Path) -> None:
    source = tmp_path / "warning.c"
    source.write_text("int narrow(long wide);\nint narrow(long wide) { return wide; }\n")
    with pytest.raises(AssertionError, match="Wshorten-64-to-32"):
        macos.link("aarch64", [source], tmp_path, hidden=False)
