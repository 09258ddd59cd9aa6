"""Builds and tries the wheels of a Mac, and hands over no wheel that did not run.

    python3 tests/macos/wheels_on_a_mac.py arm64 DIRECTORY      (or x86_64)

Run by wheels.yml on each kind of Mac, with a Python from 3.11 on and nothing else. What it installs
is pinned by hash in tools/release/requirements. It builds only
for the processor of this machine, so cibuildwheel tries each wheel. Then tests/macos/on_a_mac.py
tries the one of most users in a keychain of its own, and writes its record into DIRECTORY, beside
the wheels.

It exits 0 when every wheel in DIRECTORY is for that processor, was tried by it, and is still the
file that was tried. It refuses a machine with another processor, and Rosetta, which would run one
processor's programs on the other.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "tools" / "release" / "requirements"
BUILD_S, INSTALL_S, TRY_S = 5400, 600, 5400
ASK_MINUTES = 60  # the last question may take half an hour more
#: The wheel of most users: every CPython from 3.10 on.
OF_MOST = "cp310-abi3"
#: What tests/support/smoke.py prints for each wheel that it tries.
TRIED = re.compile(r"^\S+ works on (?P<python>\S+) darwin (?P<machine>\S+)$", re.MULTILINE)
IDENTIFIER = re.compile(r"^\S+-macosx_\S+$", re.MULTILINE)
#: What cibuildwheel 4 says of a wheel that it does not try, or does not build.
LEFT_OUT = re.compile(r"^.*(?:cannot be\s+tested|can't be built|skipped automatically).*$", re.M)
MACH_O_64 = 0xFEEDFACF
PROCESSORS = {"x86_64": 0x01000007, "arm64": 0x0100000C}


def processor() -> str:
    """What this machine has, whatever Rosetta says."""
    asked = ["/usr/sbin/sysctl", "-n", "hw.optional.arm64"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    return "arm64" if done.stdout.strip() == "1" else platform.machine()


def faults_of_machine(architecture: str, has: str, pretends: str) -> list[str]:
    """Why this machine cannot try wheels for that architecture."""
    faults = []
    if has != architecture:
        faults.append(f"this machine has {has}, and was to build and try {architecture}")
    if pretends != has:
        faults.append(f"Rosetta runs this Python as {pretends} on {has}")
    return faults


def processors_of(wheel: Path) -> list[str]:
    """For which processor each library in the wheel is."""
    names = {number: name for name, number in PROCESSORS.items()}
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith((".so", ".dylib")):
                with archive.open(name) as library:
                    magic, number = struct.unpack("<2I", library.read(8))
                thin = names.get(number, hex(number)) if magic == MACH_O_64 else "several, or none"
                found.append(thin)
    return found


def faults_of_wheels(
    architecture: str, identifiers: Sequence[str], wheels: Sequence[Path], said: str
) -> list[str]:
    """What is wrong with these wheels, of which cibuildwheel said that."""
    faults = [f"cibuildwheel: {line.strip()}" for line in LEFT_OUT.findall(said)]
    if not identifiers:
        faults.append("the configuration selects no wheel")
    if len(wheels) != len(identifiers):
        built = [wheel.name for wheel in wheels]
        faults.append(f"{len(identifiers)} wheels were selected ({identifiers}), built: {built}")
    tried = [match["machine"] for match in TRIED.finditer(said)]
    if tried != [architecture] * len(wheels):
        faults.append(f"{len(wheels)} wheels were built, tried on: {tried or 'nothing'}")
    for wheel in wheels:
        if not wheel.stem.endswith(f"_{architecture}"):
            faults.append(f"{wheel.name} is not tagged for {architecture} alone")
        if processors_of(wheel) != [architecture]:
            faults.append(f"{wheel.name} holds libraries for {processors_of(wheel)}")
    return faults


def digests(directory: Path) -> dict[str, str]:
    """The SHA-256 of each wheel."""
    return {
        wheel.name: hashlib.sha256(wheel.read_bytes()).hexdigest()
        for wheel in sorted(directory.glob("*.whl"))
    }


def settings_of_build() -> dict[str, str]:
    """What makes two builds of one commit give the same bytes; the caller's own settings win."""
    pinned = {"PIP_BUILD_CONSTRAINT": str(REQUIREMENTS / "build.txt"), **os.environ}
    committed = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    done = subprocess.run(committed, capture_output=True, text=True, timeout=60)
    epoch = {"SOURCE_DATE_EPOCH": done.stdout.strip()} if done.returncode == 0 else {}
    return {**epoch, **pinned}


def run(
    command: Sequence[str | Path], seconds: float, env: Mapping[str, str] = os.environ
) -> tuple[int, str]:
    """The exit status and the output, which is shown, too.  After that time all of it is ended."""
    lines = []
    told = [str(part) for part in command]
    print("+", *told, flush=True)
    with subprocess.Popen(
        told,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**env, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    ) as process:
        # Its children, too: one that is left would keep the pipe open.
        watchdog = threading.Timer(seconds, os.killpg, [process.pid, signal.SIGKILL])
        watchdog.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line)
            status = process.wait()
        finally:
            watchdog.cancel()
    return status, "".join(lines)


def installed(directory: Path, requirements: str, *wheels: Path) -> Path:
    """The Python of a new virtual environment that has these requirements, each checked by its
    hash, and these wheels; an error when that fails."""
    python = directory / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "install", "--no-deps"]
    commands: list[list[str | Path]] = [
        [sys.executable, "-m", "venv", directory],
        [*pip, "--require-hashes", "-r", REQUIREMENTS / f"{requirements}.txt"],
        *([*pip, wheel] for wheel in wheels),
        [python, "-m", "pip", "check"],
    ]
    for command in commands:
        status, _ = run(command, INSTALL_S)
        if status != 0:
            raise SystemExit(f"NOT TO BE PUBLISHED: status {status} of {command}")
    return python


def build(architecture: str, directory: Path, python: str | Path) -> list[str]:
    """Build and try the wheels: what is wrong with them."""
    command = [python, "-m", "cibuildwheel", "--platform", "macos", "--archs", architecture]
    _, identifiers = run([*command, "--print-build-identifiers"], INSTALL_S)
    status, said = run([*command, "--output-dir", directory], BUILD_S, settings_of_build())
    wheels = sorted(directory.glob("*.whl"))
    faults = faults_of_wheels(architecture, IDENTIFIER.findall(identifiers), wheels, said)
    return faults + ([f"cibuildwheel: status {status}"] if status else [])


def try_out(wheel: Path, record: Path, python: str | Path) -> list[str]:
    """Ask this Mac all questions with the wheel, which that Python has: what does not hold."""
    on_a_mac = ROOT / "tests" / "macos" / "on_a_mac.py"
    told = [python, on_a_mac, "--wheel", wheel, "--record", record, "--minutes", str(ASK_MINUTES)]
    status, _ = run(told, TRY_S)
    return [f"on_a_mac.py: status {status}"] if status else []


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Builds and tries the wheels of a Mac.")
    parser.add_argument("architecture", choices=PROCESSORS)
    parser.add_argument("directory", type=Path, help="for the wheels and the record; is empty")
    options = parser.parse_args(arguments)
    directory = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    faults = faults_of_machine(options.architecture, processor(), platform.machine())
    if not faults:
        with tempfile.TemporaryDirectory() as environment:
            cibuildwheel = installed(Path(environment), "wheels")
            faults = build(options.architecture, directory, cibuildwheel)
    before = digests(directory)
    of_most = [directory / name for name in before if OF_MOST in name]
    if not faults and len(of_most) != 1:
        faults.append(f"there is not one wheel {OF_MOST}: {sorted(before)}")
    if not faults:
        record = directory / f"on_a_mac-{options.architecture}.json"
        with tempfile.TemporaryDirectory() as environment:
            python = installed(Path(environment), "mac", of_most[0])
            faults = try_out(of_most[0], record, python)
    if digests(directory) != before:
        faults.append("the wheels are no longer those that were tried")
    for name, digest in before.items():
        print(f"{digest}  {name}")
    for fault in faults:
        print(f"NOT TO BE PUBLISHED: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
