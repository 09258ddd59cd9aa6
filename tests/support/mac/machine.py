"""This Mac, for tests/macos/on_a_mac.py: its versions, its tools, and a keychain to throw away."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.plan import CannotAsk

ROOT = Path(__file__).resolve().parents[3]
#: A call that asks no person takes less; one that asks a person is ended after it.
PATIENCE_S = 20
THROW_AWAY = "MSALEX_THROW_AWAY_MACHINE"
#: What run() returns for a program that was ended, and for one that is not there.
TOO_LONG, NO_PROGRAM = -1, -2


def run(
    *command: object, seconds: float = PATIENCE_S, variables: Mapping[str, str] = {}
) -> tuple[int, str]:
    """The exit status and the output.  After that time the program and its children are ended."""
    try:
        process = started(*command, variables=variables)
    except OSError as error:
        return NO_PROGRAM, str(error)
    with process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            said, _ = end(process)
            return TOO_LONG, f"{said}no answer within {seconds:.0f} s: it asks somebody, or hangs"
        except BaseException:
            end(process)
            raise
    return process.returncode, said.strip()


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End a program and its children: what they said."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()


def started(*command: object, variables: Mapping[str, str] = {}) -> subprocess.Popen[str]:
    """A program that runs beside others; end() or communicate() is the caller's."""
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **variables},
        start_new_session=True,
    )


def finished(processes: Sequence[subprocess.Popen[str]], seconds: float) -> list[tuple[int, str]]:
    """What each of them came to; those that take longer are ended."""
    deadline, came = _Deadline(seconds), []
    for process in processes:
        try:
            said, _ = process.communicate(timeout=deadline.left())
            came.append((process.returncode, said.strip()))
        except subprocess.TimeoutExpired:
            said, _ = end(process)
            came.append((TOO_LONG, said.strip()))
        except BaseException:
            for one in processes:
                end(one)
            raise
    return came


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def left(self) -> float:
        return max(0.1, self._at - time.monotonic())


# ---- keychains -------------------------------------------------------------------------------


class SecurityFailed(Exception):
    """What the command `security` said."""


def security(*arguments: str | Path) -> str:
    """What the command says; it asks nobody for what we use it for."""
    status, said = run("security", *arguments)
    if status != 0:
        raise SecurityFailed(f"security {arguments[0]}: status {status}: {said}")
    return said


def quoted(lines: str) -> list[str]:
    """The paths in a list that `security` prints."""
    return [line.strip().strip('"') for line in lines.splitlines() if line.strip()]


def searched() -> list[str]:
    """The search list."""
    return quoted(security("list-keychains", "-d", "user"))


@contextlib.contextmanager
def other_default(*keychain: str | Path) -> Iterator[None]:
    """That keychain as the default one, or none; afterwards the former one is it again."""
    status, said = run("security", "default-keychain", "-d", "user")
    before = quoted(said) if status == 0 else []  # there may be no default
    try:
        security("default-keychain", "-d", "user", "-s", *keychain)
        yield
    finally:
        run("security", "default-keychain", "-d", "user", "-s", *before)


@contextlib.contextmanager
def other_search_list(*keychains: str | Path) -> Iterator[None]:
    """These keychains are searched; afterwards the former ones are."""
    before = searched()
    try:
        security("list-keychains", "-d", "user", "-s", *keychains)
        yield
    finally:
        run("security", "list-keychains", "-d", "user", "-s", *before)


class Keychain:
    """A keychain file whose password only this program knows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._password = secrets.token_hex(16)

    @contextlib.contextmanager
    def made(self) -> Iterator[Keychain]:
        """The file, unlocked; at the end it is deleted."""
        security("create-keychain", "-p", self._password, self.path)
        try:
            security("set-keychain-settings", self.path)  # it never locks by itself
            self.unlock()
            yield self
        finally:
            run("security", "delete-keychain", self.path)

    def unlock(self) -> None:
        security("unlock-keychain", "-p", self._password, self.path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        security("lock-keychain", self.path)
        try:
            yield
        finally:
            self.unlock()


@contextlib.contextmanager
def throw_away_keychain(directory: Path) -> Iterator[Keychain]:
    """A new default keychain, which is deleted at the end, whatever happens."""
    keychain = Keychain(directory / "throw-away.keychain-db")
    with (
        keychain.made(),
        other_search_list(keychain.path, *searched()),
        other_default(keychain.path),
    ):
        yield keychain


# ---- facts -----------------------------------------------------------------------------------


def signed_program() -> str:
    """The file whose signature macOS looks at: of a framework Python, the one in Python.app."""
    inside = Path(sys.base_prefix, "Resources/Python.app/Contents/MacOS/Python")
    if sysconfig.get_config_var("PYTHONFRAMEWORK") and inside.exists():
        return os.path.realpath(inside)
    return os.path.realpath(sys.executable)


def _answer(*command: object) -> str:
    status, said = run(*command)
    return said if status == 0 else f"status {status}: {said}"


def facts() -> dict[str, Any]:
    """Versions, and what changes whom macOS asks."""
    return {
        "macos": platform.mac_ver()[0],
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processor": _answer("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"),
        "is_translated": _answer("/usr/sbin/sysctl", "-n", "sysctl.proc_translated"),
        "security_session": _answer("security", "show-keychain-info"),
        "has_screen": "SSH_CONNECTION" not in os.environ and _answer("launchctl", "managername"),
        "python": sys.version,
        "python_executable": sys.executable,
        "python_signed_program": signed_program(),
        "python_signature": _answer("codesign", "-dvv", signed_program()),
        "file_system": _answer("stat", "-f", "%T", "."),
        "mounts": _answer("mount"),
        "packages": {
            name: importlib.metadata.version(name) for name in ("msal-extensions", "msal", "cffi")
        },
    }


class Desk(contextlib.ExitStack):
    """What the questions need: directories, programs, 1.3.1, and a keychain.

    At the end of the `with` block the former default keychain and the former search list are back,
    whatever happened.
    """

    def __init__(self, directory: Path, wheel: Path | None = None) -> None:
        super().__init__()
        self._directory = directory
        self._made = 0
        self._keychain: Keychain | None = None
        #: The wheel that was installed, if that is known.
        self.wheel = wheel

    def directory(self) -> Path:
        """A new empty one."""
        self._made += 1
        made = self._directory / f"question{self._made}"
        made.mkdir()
        return made

    @property
    def keychain(self) -> Keychain:
        """The default keychain from now on, made when it is first asked for."""
        if self._keychain is None:
            self._keychain = self.enter_context(throw_away_keychain(self._directory))
        return self._keychain

    def may_leave_a_question_on_the_screen(self) -> None:
        """:raises CannotAsk: unless this Mac is thrown away afterwards."""
        if os.environ.get(THROW_AWAY) != "1":
            raise CannotAsk(f"macOS asks somebody: set {THROW_AWAY}=1 where that may be")

    def reference(self) -> dict[str, str]:
        """The environment in which this Python has msal-extensions 1.3.1."""
        import pytest

        from tests.support.reference import reference_site_packages

        try:
            return {"PYTHONPATH": str(reference_site_packages(portalocker=False))}
        except pytest.skip.Exception as reason:
            raise CannotAsk(str(reason)) from None

    def built(self, name: str, *files: str) -> Path:
        """A program of these C files and of the library, compiled with the SDK's own headers.

        MSALEX_BUILT names a directory of prepared ones.
        """
        if built := os.environ.get("MSALEX_BUILT"):
            return Path(built, name)
        from csrc.ffi_build import PLATFORMS, sources
        from dev import C_WARNINGS

        program = self._directory / name
        if not program.exists():
            darwin = PLATFORMS["darwin"]
            command: list[object] = ["cc", *C_WARNINGS, *darwin.compile_args]
            # Apple's headers say of SecKeychain that it is deprecated; nothing replaces it.
            command += ["-Wno-deprecated-declarations", "-I", "csrc", "-I", "tests/native/check"]
            command += ["-o", program, *files, *sources("darwin"), *darwin.link_args]
            status, said = run(*command, seconds=300)
            if status != 0:
                raise AssertionError(f"cc: status {status}\n{said}")
        return program

    def stranger(self) -> Path:
        """A program that macOS takes for another one than `keychain_on_a_mac`."""
        return self._signed_anew(self.probe(), "stranger")

    def other_python(self) -> tuple[Path, dict[str, str]]:
        """A Python that macOS takes for another one than this, and its environment."""
        packages = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
        environment = {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": packages}
        return self._signed_anew(Path(signed_program()), "other-python"), environment

    def _signed_anew(self, program: Path, name: str) -> Path:
        """A copy with that name, and with a signature of its own."""
        copy = self._directory / name
        if not copy.exists():
            shutil.copy(program, copy)
            status, said = run("codesign", "--force", "--sign", "-", "--identifier", name, copy)
            if status != 0:
                copy.unlink()
                raise CannotAsk(f"codesign: status {status} {said}")
        return copy

    def probe(self) -> Path:
        """keychain_on_a_mac.c, which calls Security directly, without this library's turns."""
        return self.built("keychain_on_a_mac", "tests/native/macos/keychain_on_a_mac.c")
