"""Threads, waits and forks of the lock under the compiler's sanitizers: no report."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support import native
from tests.support.processes import finished

pytestmark = pytest.mark.slow

SANITIZERS = {"address": native.ADDRESS, "thread": native.THREAD}
OPTIONS = {
    # Otherwise ThreadSanitizer refuses to go on in the children of a program with threads.
    "TSAN_OPTIONS": "die_after_fork=0 halt_on_error=0 exitcode=66",
    "ASAN_OPTIONS": "detect_leaks=1",
}
ROUNDS = 300


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
    flags = SANITIZERS[sanitizer]
    files = [native.LINUX / "lock_waits.c", *native.library()]
    program = native.build(tmp_path / "lock_waits", files, *flags, "-Wl,--wrap=pthread_create")
    command = native.with_sanitizer(flags, program, directory, ROUNDS)
    if not helpers:
        command.append("threadless")
    said = finished(command, environment=native.environment(**OPTIONS), seconds=300)
    print(f"{sanitizer}: {said.strip()}")
    numbers = re.fullmatch(r"(\d+) entries, (\d+) waits left, (\d+) children, 0 failures\n", said)
    assert numbers is not None, said
    # Each kind of round took place.
    assert all(int(number) >= 10 for number in numbers.groups())
    assert os.listdir(directory) == []
