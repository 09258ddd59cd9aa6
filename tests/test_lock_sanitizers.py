"""Threads, waits and forks of the lock under the compiler's sanitizers: no report."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from csrc.ffi_build import sources
from dev import C_WARNINGS
from tests.support.capability import needs

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "tests" / "c" / "lock_waits.c"
SANITIZERS = {
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "thread": ("-fsanitize=thread",),
}
OPTIONS = {
    # Otherwise ThreadSanitizer refuses to go on in the children of a program with threads.
    "TSAN_OPTIONS": "die_after_fork=0 halt_on_error=0 exitcode=66",
    "ASAN_OPTIONS": "detect_leaks=1",
}
ROUNDS = 300


def build(directory: Path, sanitizer: str) -> Path:
    compiler = shutil.which("gcc")
    needs(None if compiler else "gcc is not installed")
    program = directory / "lock_waits"
    flags = ["-g", "-O1", *C_WARNINGS, *SANITIZERS[sanitizer], "-I", str(ROOT / "csrc")]
    library = [str(ROOT / source) for source in sources("linux")]
    flags += ["-Wl,--wrap=pthread_create"]
    command = [str(compiler), *flags, "-o", str(program), str(PROGRAM), *library]
    subprocess.run([*command, "-lpthread", "-ldl"], check=True, timeout=300)
    return program


@pytest.mark.parametrize(
    ("sanitizer", "helpers"), [("address", True), ("thread", True), ("thread", False)]
)
def test_waits_that_end_are_adopted_or_forked_give_no_sanitizer_cause_to_object(
    sanitizer: str, helpers: bool, tmp_path: Path
) -> None:
    """Finding 14 of a review of the lock: timeouts of any size, and threads that could not be
    started."""
    directory = tmp_path / "directory"
    directory.mkdir()
    command = [str(build(tmp_path, sanitizer)), str(directory), str(ROUNDS)]
    if not helpers:
        command.append("threadless")
    if sanitizer == "thread" and shutil.which("setarch"):
        # Older ThreadSanitizers cannot start where addresses are randomized by many bits.
        command = ["setarch", "--addr-no-randomize", *command]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **OPTIONS},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    print(f"{sanitizer}: {done.stdout.strip()}")
    numbers = re.fullmatch(
        r"(\d+) entries, (\d+) waits left, (\d+) children, 0 failures\n", done.stdout
    )
    assert numbers is not None, done.stdout
    # Each kind of round took place.
    assert all(int(number) >= 10 for number in numbers.groups())
    assert os.listdir(directory) == []
