"""This Windows machine, for tests/windows/on_windows.py: its versions, and its tools.

Imported on Windows only.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import locale
import os
import platform
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.plan import CannotAsk
from tests.support.windows import pinned

ROOT = Path(__file__).resolve().parents[3]
THROW_AWAY = "MSALEX_THROW_AWAY_MACHINE"
on_windows: Any = ctypes  # mypy checks this module elsewhere, where ctypes has no WinDLL
kernel32: Any = on_windows.WinDLL("kernel32", use_last_error=True)
CURRENT_VERSION = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
FILE_SYSTEM = r"SYSTEM\CurrentControlSet\Control\FileSystem"


def run(
    *command: str | Path, seconds: float = 120, variables: Mapping[str, str] = {}
) -> tuple[int, str]:
    """The exit status (-1: it took too long, -2: there is no such program) and the output."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            env={**os.environ, **variables},
        )
    except subprocess.TimeoutExpired:
        return -1, f"no answer within {seconds:.0f} s"
    except OSError as error:
        return -2, str(error)
    try:
        said = done.stdout.decode("utf-8")
    except UnicodeDecodeError:
        said = done.stdout.decode("oem", "replace")
    return done.returncode, said.replace("\r\n", "\n").strip()


def powershell(script: str, seconds: float = 60) -> tuple[int, str]:
    return run("powershell", "-NoProfile", "-NonInteractive", "-Command", script, seconds=seconds)


def is_administrator() -> bool:
    return bool(on_windows.windll.shell32.IsUserAnAdmin())


def registry(path: str, name: str) -> Any:
    """A value of HKEY_LOCAL_MACHINE, or None."""
    import winreg

    windows: Any = winreg
    try:
        with windows.OpenKey(windows.HKEY_LOCAL_MACHINE, path) as key:
            return windows.QueryValueEx(key, name)[0]
    except OSError:
        return None


def file_system(directory: Path) -> str:
    name = ctypes.create_unicode_buffer(64)
    root = Path(os.path.abspath(directory)).anchor
    if not kernel32.GetVolumeInformationW(root, None, 0, None, None, None, name, 64):
        return f"error {on_windows.get_last_error()}"
    return name.value


def wine() -> str | None:
    """The version of Wine; None on Windows itself."""
    version = getattr(on_windows.WinDLL("ntdll"), "wine_get_version", None)
    if version is None:
        return None
    version.restype = ctypes.c_char_p
    return str(version().decode())


def facts() -> dict[str, Any]:
    """Versions, and what changes how files behave."""
    names = ("ProductName", "DisplayVersion", "CurrentBuild", "UBR", "EditionID")
    defender = "Get-MpComputerStatus | Select-Object -Property AMServiceEnabled,"
    defender += "RealTimeProtectionEnabled,AMProductVersion | ConvertTo-Json -Compress"
    status, scanner = powershell(defender)
    return {
        "windows": {name: registry(CURRENT_VERSION, name) for name in names},
        "wine": wine(),
        "version": platform.version(),
        "machine": platform.machine(),
        "long_paths_enabled": registry(FILE_SYSTEM, "LongPathsEnabled"),
        "file_system": file_system(Path(os.environ.get("TEMP", "."))),
        "defender": scanner if status == 0 else f"status {status}",
        "administrator": is_administrator(),
        "display_language": hex(kernel32.GetUserDefaultUILanguage()),
        "code_page": kernel32.GetACP(),
        "encoding": locale.getpreferredencoding(False),
        "python": sys.version,
        "python_is_of_the_store": "WindowsApps" in sys.executable,
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "packages": {
            name: importlib.metadata.version(name) for name in ("msal-extensions", "msal", "cffi")
        },
    }


class Desk:
    """What the questions need: directories, programs, and the permission to change things."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made = 0

    def directory(self) -> Path:
        """A new empty one."""
        self._made += 1
        made = self._directory / f"question{self._made}"
        made.mkdir()
        return made

    def may_change_the_machine(self) -> None:
        """:raises CannotAsk: unless this is an administrator of a machine that is thrown away."""
        if os.environ.get(THROW_AWAY) != "1":
            raise CannotAsk(f"it changes the machine: set {THROW_AWAY}=1 where that may be")
        if not is_administrator():
            raise CannotAsk("only an administrator can ask that")

    def built(self, name: str) -> Path:
        """A program of tests/native/windows/<name>*.c.  MSALEX_BUILT names a directory of them."""
        if built := os.environ.get("MSALEX_BUILT"):
            return Path(built) / f"{name}.exe"
        if shutil.which("cl") is None:
            raise CannotAsk("there is no `cl` here: run it in a Visual Studio command prompt")
        made = self._directory / f"{name}.exe"
        if not made.exists():
            sources = sorted((ROOT / "tests" / "native" / "windows").glob(f"{name}*.c"))
            where = [f"/Fe{made}", f"/Fo{self._directory}\\"]
            flags = ["/nologo", "/std:c11", "/W4", "/D_CRT_SECURE_NO_WARNINGS"]
            libraries = ["/link", "crypt32.lib", "advapi32.lib"]
            status, said = run("cl", *flags, *sources, *where, *libraries)
            if status != 0:
                raise AssertionError(f"cl: status {status}\n{said}")
        return made

    def reference(self, portalocker: bool) -> Path:
        """A directory for PYTHONPATH with 1.3.1.  MSALEX_REFERENCE_* name prepared ones."""
        engine = "portalocker" if portalocker else "bare"
        if prepared := os.environ.get(f"MSALEX_REFERENCE_{engine.upper()}"):
            return Path(prepared)
        made = self._directory / engine
        if not made.exists():
            lists = ["run", "reference", *(["portalocker"] if portalocker else [])]
            names = self._directory / "requirements.txt"
            names.write_text(pinned.requirements(*lists))
            pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes"]
            status, said = run(*pip, "--target", made, "-r", names, seconds=600)
            if status != 0:
                shutil.rmtree(made, ignore_errors=True)
                raise CannotAsk(f"1.3.1 could not be installed: {said[-500:]}")
            pinned.spread_pywin32(made)
        return made

    @contextlib.contextmanager
    def share(self, directory: Path) -> Iterator[Path]:
        """The same directory, as a file server on this machine shows it."""
        drive, rest = os.path.splitdrive(os.path.abspath(directory))
        shown = Path(f"\\\\localhost\\{drive[0]}${rest}")
        if not os.path.isdir(shown):
            raise CannotAsk(f"{shown} cannot be opened: the administrative share is off, or denied")
        yield shown

    @contextlib.contextmanager
    def substituted(self, directory: Path) -> Iterator[Path]:
        """The same directory, as a drive."""
        used = kernel32.GetLogicalDrives()
        letter = next(c for c in "XWVUTSRQ" if not used >> (ord(c) - ord("A")) & 1)
        status, said = run("subst", f"{letter}:", directory)
        if status != 0 or not os.path.isdir(f"{letter}:\\"):
            raise CannotAsk(f"subst: status {status} {said}")
        try:
            yield Path(f"{letter}:\\")
        finally:
            run("subst", f"{letter}:", "/d")

    @contextlib.contextmanager
    def volume(self, kind: str, megabytes: int) -> Iterator[Path]:
        """A virtual disk with that file system (FAT32, exFAT, ReFS)."""
        self.may_change_the_machine()
        used = kernel32.GetLogicalDrives()
        letter = next(c for c in "PONMLKJI" if not used >> (ord(c) - ord("A")) & 1)
        disk = self._directory / f"{kind}.vhdx"
        script = self._directory / "diskpart.txt"

        def diskpart(*lines: str) -> tuple[int, str]:
            script.write_text("\n".join(lines))
            return run("diskpart", "/s", script, seconds=300)

        status, said = diskpart(
            f'create vdisk file="{disk}" maximum={megabytes} type=expandable',
            f'select vdisk file="{disk}"',
            "attach vdisk",
            "create partition primary",
            f"format fs={kind} quick",
            f"assign letter={letter}",
        )
        try:
            if status != 0 or not os.path.isdir(f"{letter}:\\"):
                raise CannotAsk(f"diskpart made no {kind}: status {status}: {said[-300:]}")
            yield Path(f"{letter}:\\")
        finally:
            diskpart(f'select vdisk file="{disk}"', "detach vdisk")

    def python(self, code: str, *arguments: str | Path, **variables: str) -> str:
        """Runs a snippet to a successful end: what it printed."""
        told = [sys.executable, "-c", textwrap.dedent(code), *arguments]
        status, said = run(*told, seconds=300, variables=variables)
        if status != 0:
            raise AssertionError(f"status {status}\n{said}")
        return said
