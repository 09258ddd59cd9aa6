"""The sources of the key of an encrypted file, for a test and for the processes that it starts.

    def test_...(tmp_path: Path, own_keys: None) -> None:
        persistence = EncryptedFilePersistence(location, make_source("command", tmp_path / "keys"))

All processes that name the same directory get the same key.  Ask for the fixture `own_keys`: it
takes back what make_source() changes in this process, and removes the keys from the kernel.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from msal_extensions import CommandKey, CredentialKey, KernelKey, KeyFile, PersistenceUnavailable
from msal_extensions._native import kernelkey
from msal_extensions.encrypted import Key
from tests.support.capability import cannot_exist_here, needs

SOURCES = ("given", "callable", "command", "file", "credential", "kernel")
#: Seconds.  A Python that prints a key needs some of them under Wine, on a busy machine.
COMMAND_S = 100.0
NUMBERS = range(1, KernelKey.NUMBERS + 1)

#: The directories for which this process has asked for a kernel key.
_used: set[Path] = set()


def key_of(directory: Path) -> bytes:
    """The key of a directory, but for the kernel's, which the package makes."""
    return hashlib.sha256(b"the key of a test:" + os.fsencode(directory.absolute())).digest()


def text_of(key: bytes) -> str:
    """A key as a key file has it."""
    return base64.b64encode(key).decode()


def write_key(path: Path, *keys: bytes) -> Path:
    """Makes a key file that only its owner may read, in one step.  The first key encrypts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.touch(0o600)
    new.write_text("".join(text_of(key) + "\n" for key in keys))
    new.replace(path)
    return path


def new_key(path: Path) -> Path:
    """Makes a key file with a new key."""
    return write_key(path, os.urandom(32))


def make_source(kind: str, directory: Path) -> Key:
    """What a program passes as ``key=``, with the key of this directory.

    It changes this process for "credential" (a variable) and for "kernel" (other numbers than those
    of real programs).

    :param kind: One of SOURCES.
    """
    key = key_of(directory)
    if kind == "given":
        return key
    if kind == "callable":
        return lambda: key
    if kind == "command":
        return CommandKey([sys.executable, "-c", f"print({text_of(key)!r})"], timeout=COMMAND_S)
    if kind == "file":
        return KeyFile(write_key(directory / "key", key))
    if kind == "credential":
        write_key(directory / "msal-extensions-key", key)
        os.environ["CREDENTIALS_DIRECTORY"] = str(directory)
        return CredentialKey()
    assert kind == "kernel"
    _number_apart(directory)
    return KernelKey()


def _number_apart(directory: Path) -> None:
    need_kernel_keys()
    tag = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:16].encode()
    kernelkey._description = lambda number: b"msal-extensions-test-%s:%d" % (tag, number)
    _used.add(directory)


def kernel_keys(directory: Path) -> list[bytes]:
    """The kernel keys that the programs of this directory have made."""
    _number_apart(directory)
    found = [kernelkey.find(number) for number in NUMBERS]
    return [key for key in found if isinstance(key, bytes)]


def remove_kernel_keys(directory: Path) -> None:
    _number_apart(directory)
    for number in NUMBERS:
        kernelkey.remove(number)


def need_kernel_keys() -> None:
    """Skips where there is no kernel keyring."""
    try:
        kernelkey.find(NUMBERS[0])
    except PersistenceUnavailable as error:
        if not os.path.exists("/proc/sys/kernel"):
            cannot_exist_here("a kernel keyring: only Linux has one")
        needs(f"there is no kernel keyring: {error.strerror}")


@pytest.fixture
def own_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is as before at the end, and the kernel, too."""
    monkeypatch.setattr(kernelkey, "_description", kernelkey._description)
    for variable in ("CREDENTIALS_DIRECTORY", "MSAL_EXTENSIONS_KEY_FILE"):
        monkeypatch.setenv(variable, "")  # so that it is noted even where there is none
        monkeypatch.delenv(variable)
    yield
    for directory in sorted(_used):
        remove_kernel_keys(directory)
    _used.clear()
