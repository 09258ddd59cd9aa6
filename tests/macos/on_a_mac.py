"""Tests that only a Mac can run, in a keychain that is deleted afterwards.

    python tests/macos/on_a_mac.py

Run by wheels.yml with the Python that has the wheel installed, and pytest. It makes a keychain,
makes it the default one, runs the contract of all persistences, the interop with 1.3.1, the
lock's stress and questions about links and access lists, and prints the answers that Linux cannot
give. Whatever happens, the former default keychain is the default one again at the end. Exits 0
when every promise holds.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: A call that asks no person takes less; one that asks a person is ended after it.
PATIENCE_S = 20
HARNESS = ("tests/native/check/check.c", "tests/native/check/check_posix.c")
STRESS = "1600 of 1600 increments, 0 failures"


def run(*command: str | Path, seconds: float = PATIENCE_S) -> tuple[int, str]:
    """The exit status (-1: it took too long) and the output."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return -1, f"no answer within {seconds:.0f} s: it asks somebody"
    return done.returncode, done.stdout.strip()


def security(*arguments: str | Path) -> str:
    status, said = run("security", *arguments)
    if status != 0:
        raise SystemExit(f"security {arguments[0]}: status {status}: {said}")
    return said


def quoted(lines: str) -> list[str]:
    """The paths in a list that `security` prints."""
    return [line.strip().strip('"') for line in lines.splitlines() if line.strip()]


@contextlib.contextmanager
def throw_away_keychain(directory: Path) -> Iterator[Path]:
    """A new default keychain, which is deleted at the end."""
    keychain, password = directory / "throw-away.keychain-db", secrets.token_hex(16)
    searched = quoted(security("list-keychains", "-d", "user"))
    status, said = run("security", "default-keychain", "-d", "user")
    before = quoted(said) if status == 0 else []  # there may be no default
    security("create-keychain", "-p", password, keychain)
    try:
        security("set-keychain-settings", keychain)  # it never locks by itself
        security("unlock-keychain", "-p", password, keychain)
        security("list-keychains", "-d", "user", "-s", keychain, *searched)
        security("default-keychain", "-d", "user", "-s", keychain)
        yield keychain
    finally:
        for former in before:
            run("security", "default-keychain", "-d", "user", "-s", former)
        run("security", "list-keychains", "-d", "user", "-s", *searched)
        run("security", "delete-keychain", keychain)


def must(what: str, command: Sequence[str | Path], wanted: str = "", seconds: float = 600) -> bool:
    """Print whether it holds."""
    status, said = run(*command, seconds=seconds)
    held = status == 0 and wanted in said
    print(f"\n==== {what}: {'holds' if held else f'DOES NOT HOLD (status {status})'}\n{said}")
    return held


def show(what: str, *command: str | Path, seconds: float = PATIENCE_S) -> None:
    """Print a fact about this Mac; no answer is wrong."""
    status, said = run(*command, seconds=seconds)
    print(f"\n---- {what} (status {status})\n{said}")


USE = """
import sys, time
from msal_extensions import KeychainPersistence
persistence = KeychainPersistence(sys.argv[1], "msal-extensions shown", "account")
for action in sys.argv[2:]:
    start = time.perf_counter()
    try:
        result = repr(getattr(persistence, action)(*[""] * (action == "save")))
    except Exception as error:
        result = f"{[kind.__name__ for kind in type(error).__mro__[:4]]}: {error}"
    print(f"{action}: {1000 * (time.perf_counter() - start):.1f} ms: {result}")
"""
AFTER_FORK = """
import os, sys
from msal_extensions import KeychainPersistence
persistence = KeychainPersistence(sys.argv[1], "msal-extensions shown", "account")
persistence.save("parent")
child = os.fork()
if child == 0:
    try:
        print("a forked child loads:", persistence.load(), flush=True)
    except Exception as error:
        print("a forked child fails:", error, flush=True)
    os._exit(0)
print("it ended with status", os.waitpid(child, 0)[1])
persistence.delete()
"""


def show_the_keychain(keychain: Path, directory: Path) -> None:
    python, signal = sys.executable, directory / "signal"
    show("the signature of this Python", "codesign", "-dvv", os.path.realpath(python))
    show("an empty secret", python, "-c", USE, signal, "save", "load", "load")
    show("who may use the item", "security", "dump-keychain", "-a", keychain)
    show("another program reads it", "security", "find-generic-password", "-w", "-s",
         "msal-extensions shown")  # fmt: skip
    show("after a fork without exec", python, "-c", AFTER_FORK, directory / "forked")
    security("lock-keychain", keychain)
    show("a locked keychain", python, "-c", USE, signal, "load", "save", "delete")


def build(program: Path, *files: str) -> bool:
    """Compile C files and the library with the SDK's own headers."""
    from csrc.ffi_build import PLATFORMS, sources
    from dev import C_WARNINGS

    darwin = PLATFORMS["darwin"]
    command: list[str | Path] = ["cc", *C_WARNINGS, *darwin.compile_args]
    command += ["-I", "csrc", "-I", "tests/native/check", "-o", program, *files]
    command += [*sources("darwin"), *darwin.link_args]
    return must(f"{program.name} compiles with the SDK, without a warning", command)


def show_the_files(directory: Path) -> bool:
    """Do links, rights and access lists behave as os_macos.c believes?"""
    program = directory / "files_on_a_mac"
    held = build(program, "tests/native/macos/files_on_a_mac.c", *HARNESS)
    held = held and must("links, writing, locks and processes", [program])
    shared = directory / "shared"
    shared.mkdir()
    entry = "everyone allow read,write,file_inherit"
    held &= must("a directory hands a list down", ["chmod", "+a", entry, shared])
    save = ["sh", "-c", f'cd "{shared}" && "{program}" inherits']
    held &= must("a save in it", save, "a new file inherits a list")
    status, listed = run("ls", "-le", shared / "cache.bin")
    print(f"{listed}\n")
    if status != 0 or "everyone" in listed:
        print("==== the saved file has the list: DOES NOT HOLD")
        return False
    return held


def show_the_lock(directory: Path) -> bool:
    """The lock between processes and threads."""
    program = directory / "lock_stress"
    built = build(program, "tests/native/linux/lock_stress.c")
    counter = directory / "stress"
    counter.mkdir()
    start = time.monotonic()
    held = built and must("no update is lost", [program, counter, "100"], STRESS)
    print(f"{1600 / (time.monotonic() - start):.0f} entries a second by 4 processes of 4 threads")
    return held


def main() -> int:
    if shutil.which("security") is None:
        raise SystemExit("there is no `security` here: this is for a Mac")
    sys.path.insert(0, str(ROOT))
    pytest_ = [sys.executable, "-m", "pytest", "-q", "--tb=short"]
    print(f"macOS {platform.mac_ver()[0]} {platform.machine()}, Python {sys.version}")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        held = show_the_lock(directory)
        held &= show_the_files(directory)
        lock_tests = [*pytest_, "tests/test_lock.py"]
        show("the tests of the lock, those about Linux included", *lock_tests, seconds=900)
        with throw_away_keychain(directory) as keychain:
            contract = [*pytest_, "tests/test_contract.py", "-k", "file or keychain"]
            held &= must("the contract of all persistences", contract, " passed")
            interop = [*pytest_, "tests/macos/interop_on_a_mac.py"]
            held &= must("items of 1.3.1", interop, " passed")
            show_the_keychain(keychain, directory)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
