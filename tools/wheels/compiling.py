"""zig as the C compiler for a target, and Python's headers for it.

All headers of Python but one are the same for every processor.  pyconfig.h holds sizes of types, as
they were when that Python was built, here with 64 bits.  Debian keeps it among the headers of its C
library, where a compiler for another one must not look.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from dev import cache_directory
from tests.support import macos, native
from tests.support.processes import finished
from tools.wheels.targets import Target

#: With 32 bits, on every C library.
SIZES = {"LONG": 4, "VOID_P": 4, "SIZE_T": 4, "UINTPTR_T": 4, "PTHREAD_T": 4}
#: The types behind the names in pyconfig.h.
TYPES = {
    "DOUBLE": "double",
    "FLOAT": "float",
    "INT": "int",
    "LONG": "long",
    "LONG_DOUBLE": "long double",
    "LONG_LONG": "long long",
    "OFF_T": "off_t",
    "PID_T": "pid_t",
    "PTHREAD_T": "pthread_t",
    "SHORT": "short",
    "SIZE_T": "size_t",
    "TIME_T": "time_t",
    "UINTPTR_T": "uintptr_t",
    "VOID_P": "void *",
    "WCHAR_T": "wchar_t",
    "_BOOL": "_Bool",
}


def zig() -> Path:
    """The program itself: python -m ziglang would start a Python for each file."""
    found = importlib.util.find_spec("ziglang")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).with_name("zig")


def caches(directory: Path) -> dict[str, str]:
    """Where zig keeps the C libraries that it compiled, and all else."""
    libraries, others = str(cache_directory() / "zig"), str(directory / "zig")
    return {"ZIG_GLOBAL_CACHE_DIR": libraries, "ZIG_LOCAL_CACHE_DIR": others}


def compiler(command: Sequence[str], target: Target, directory: Path) -> dict[str, str]:
    """What tells setuptools the compiler; LDSHARED without the run path that pyenv gives it."""
    words = [*command, "-target", target.zig]
    headers = [] if target.inside else ["-I", str(python_headers(target, directory))]
    return {"CC": " ".join([*words, *headers]), "LDSHARED": " ".join([*words, "-shared"])}


def sizes(target: Target) -> dict[str, int]:
    """What differs from 64 bits: the width of time is a matter of the C library, that of a long
    double one of the processor."""
    assert target.processor is not None
    long_double = {"i686": 12, "armv7l": 8}[target.processor.name]
    return {**SIZES, "TIME_T": 8 if target.musl else 4, "LONG_DOUBLE": long_double}


def python_headers(target: Target, directory: Path) -> Path:
    """A directory for -I: the headers of this Python, with a pyconfig.h that is right there."""
    made = macos.python_headers(sys.executable, directory)
    if target.processor is None or target.processor.bits != 32:
        return made
    text = (made / "pyconfig.h").read_text()
    for name, size in sizes(target).items():
        text, count = re.subn(rf"(#define SIZEOF_{name}) \d+", rf"\1 {size}", text)
        assert count == 1, f"pyconfig.h says nothing about SIZEOF_{name}"
    (made / "pyconfig.h").unlink()  # a link
    (made / "pyconfig.h").write_text(text)
    check = directory / "check.c"
    checks = "\n".join(
        f'_Static_assert(sizeof({kind}) == SIZEOF_{name}, "{name}");'
        for name, kind in TYPES.items()
    )
    check.write_text(
        '#include "pyconfig.h"\n#include <pthread.h>\n#include <stddef.h>\n#include <stdint.h>\n'
        f"#include <sys/types.h>\n#include <time.h>\n{checks}\n"
    )
    command = [zig(), "cc", "-target", target.zig, "-std=c11", "-I", made, "-c", check]
    output = ["-o", directory / "check.o"]
    finished([*command, *output], directory, native.environment(**caches(directory)))
    return made
