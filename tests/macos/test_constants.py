"""What our stand-ins for Apple's headers declare is what Apple declares.

PyObjC's wheels for macOS carry metadata that its authors made with a real SDK: the values of
constants, the names of variables and the types of functions. They are downloaded, read as text and
kept in the cache. For the C library zig brings Apple's own headers.
"""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import pytest

from dev import cache_directory
from tests.support import macos
from tests.support.capability import needs
from tests.support.native import MACOS

pytestmark = pytest.mark.slow

PINNED = {
    "pyobjc-framework-Security": "12.2.2 --hash=sha256:"
    "266f41995f2fc80660c8451bdb199a7e259a6cad02fbc1e0e2f69dd5576e2203",
    "pyobjc-framework-Cocoa": "13.0 --hash=sha256:"
    "e1618d315939c9fae57cb858d4db496ec61f82495ce6a877398131ee494fc19d",
}
#: The wheels of one Python for one system: the metadata is the same in all.
WHICH = (
    *("--platform", "macosx_11_0_universal2", "--implementation", "cp"),
    *("--python-version", "3.12", "--abi", "cp312"),
)
PIP_S = 600
#: PyObjC has no metadata about these: its own C code stands for them.
UNKNOWN = {"kCFTypeArrayCallBacks", "kCFTypeDictionaryValueCallBacks"}
#: How Objective-C encodes types, as far as a caller notices: the size, and pointer or number.
CODES = {"v": "void", "d": "double"}
CODES |= dict.fromkeys("cCBZ", "1 byte") | dict.fromkeys("iI", "4 bytes")
CODES |= dict.fromkeys("qQlL", "8 bytes")
#: The same of the names in our headers; all others there are pointers.
KINDS = {
    **{"void": "void", "Boolean": "1 byte", "OSStatus": "4 bytes", "UInt32": "4 bytes"},
    **{"CFStringEncoding": "4 bytes", "SecKeychainStatus": "4 bytes", "CFIndex": "8 bytes"},
    **{"CFTypeID": "8 bytes", "CFAbsoluteTime": "double"},
}
#: From the C library, for which zig has Apple's headers; the headers, then what must be equal.
OF_THE_C_LIBRARY = (
    ("unistd.h", "mach/mig_errors.h", "pthread.h", "time.h"),
    {"_CS_DARWIN_USER_CACHE_DIR": 65538, "MIG_SERVER_DIED": -308},
)


@cache
def metadata() -> str:
    """That of Security and Core Foundation, as text."""
    target = cache_directory() / "pyobjc"
    target.mkdir(exist_ok=True)
    with (target / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wheels = [wheel(target, name) for name in PINNED]
    texts = []
    for path, member in zip(wheels, ("Security", "CoreFoundation"), strict=True):
        with zipfile.ZipFile(path) as archive:
            texts.append(archive.read(f"{member}/_metadata.py").decode())
    return "\n".join(texts)


def wheel(target: Path, name: str) -> Path:
    """The wheel in the cache; pip compares its hash when it is downloaded."""
    version = PINNED[name].split()[0]
    pattern = f"{name.replace('-', '_').lower()}-{version}-*.whl"
    if not list(target.glob(pattern)):
        with tempfile.TemporaryDirectory(dir=target) as temporary:
            pinned = Path(temporary, "pinned.txt")
            pinned.write_text(f"{name}=={PINNED[name]}\n")
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *WHICH]
            pip += ["--only-binary", ":all:", "--require-hashes", "-r", str(pinned)]
            done = subprocess.run(
                [*pip, "-d", temporary], capture_output=True, text=True, timeout=PIP_S
            )
            if done.returncode != 0:
                needs(f"{name} could not be downloaded: {done.stderr[-500:]}")
            (downloaded,) = Path(temporary).glob(pattern)
            downloaded.rename(target / downloaded.name)
    (found,) = target.glob(pattern)
    return found


def ours() -> str:
    """Our headers, without comments."""
    headers = [
        *(MACOS / "include").glob("CoreFoundation/*.h"),
        *(MACOS / "include").glob("Security/*.h"),
    ]
    texts = [path.read_text() for path in sorted(headers)]
    return re.sub(r"/\*.*?\*/", "", "\n".join(texts), flags=re.DOTALL)


def test_the_numbers_in_our_headers_are_those_of_the_sdk() -> None:
    theirs = {name: int(value) for name, value in re.findall(r"\$(\w+)@(-?\d+)", metadata())}
    mine = {
        name: int(value, 0)
        for name, value in re.findall(r"\b(\w+) = (-?(?:0x)?[0-9a-fA-F]+)", ours())
    }
    print(f"\n{len(mine)} numbers compared with {len(theirs)}")
    assert len(mine) >= 25
    assert mine == {name: theirs.get(name) for name in mine}


def test_the_variables_in_our_headers_are_in_the_sdk() -> None:
    mine = set(re.findall(r"extern const \w+ (\w+);", ours()))
    theirs = set(re.findall(r"\$(\w+)(?=[$@\"])", metadata()))
    theirs |= set(re.findall(r'"(k\w+)": ', metadata()))
    print(f"\n{len(mine)} variables, {len(UNKNOWN)} of them unknown to PyObjC")
    assert len(mine) >= 20
    assert mine - theirs == UNKNOWN


def kinds_of_encoding(encoding: str) -> list[str]:
    """What the result and each parameter are, by Apple's type encodings."""
    structure = r"\{[^{}]*\}"
    types = re.findall(rf"[nNoOrRV]*(\^+(?:{structure}|.)|{structure}|.)", encoding)
    return [CODES.get(one, "pointer") for one in types]


def kinds_of_declaration(result: str, parameters: str) -> list[str]:
    """The same by a declaration of ours."""
    declared = [result.strip(), *(re.sub(r"\w+$", "", one) for one in parameters.split(","))]
    if parameters == "void":
        declared.pop()
    words = [re.sub(r"\bconst\b", "", one).strip() for one in declared]
    return [KINDS.get(one, "pointer") for one in words]


def test_the_functions_in_our_headers_have_the_types_of_the_sdk() -> None:
    theirs = dict(re.findall(r'"(\w+)": \(\s*b"([^"]*)"', metadata()))
    mine = {
        name: kinds_of_declaration(result, " ".join(parameters.split()))
        for result, name, parameters in re.findall(
            r"^((?:const )?\w+ \*?)(\w+)\(([^()]*)\);", ours(), re.MULTILINE
        )
    }
    print(f"\n{len(mine)} functions compared")
    assert len(mine) >= 25
    assert mine == {name: kinds_of_encoding(theirs.get(name, "")) for name in mine}


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_what_the_c_library_of_macos_declares_is_what_we_use(
    architecture: str, tmp_path: Path
) -> None:
    headers, numbers = OF_THE_C_LIBRARY
    source = tmp_path / "declared.c"
    source.write_text(
        "".join(f"#include <{name}>\n" for name in headers)
        + "".join(f'_Static_assert({name} == {value}, "");\n' for name, value in numbers.items())
        + "int (*const wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *) =\n"
        "    pthread_cond_timedwait_relative_np;\n"
        "size_t (*const directory)(int, char *, size_t) = confstr;\n"
    )
    macos.zig(["-std=c11", "-D_DARWIN_C_SOURCE", "-Werror", "-c", source], architecture, tmp_path)
