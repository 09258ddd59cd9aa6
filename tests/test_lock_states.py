"""The states of a lock file change only as the chart in csrc/lock_registry_posix.h shows it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import native
from tests.support.processes import finished

pytestmark = pytest.mark.slow
CHART = re.compile(r"^ \*     (\w+) +--([^>]+)--> +(\w+)(.*)$", re.MULTILINE)
SANITIZERS = {"none": native.PLAIN, "address": native.ADDRESS}


def chart() -> set[tuple[str, str]]:
    """The edges of the chart that Linux has."""
    header = (native.CSRC / "lock_registry_posix.h").read_text(encoding="utf-8")
    return {(start, end) for start, _, end, note in CHART.findall(header) if "(macOS)" not in note}


def build(directory: Path, sanitizer: str) -> Path:
    """The program, with the library as a shared library, so that the program can replace some of
    its functions."""
    flags, library = SANITIZERS[sanitizer], directory / "libmsalex.so"
    native.build(library, native.library(), *flags, "-shared", "-fPIC")
    files = [native.LINUX / "lock_states.c", *native.HARNESS, library]
    return native.build(directory / "lock_states", files, *flags, f"-Wl,-rpath,{directory}")


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_each_edge_of_the_chart_is_walked_and_no_other(sanitizer: str, tmp_path: Path) -> None:
    """Among others finding 9 of a review of the lock: a child that inherits a wait starts over."""
    said = finished([build(tmp_path, sanitizer)], tmp_path, seconds=120)
    walked = {(start, end) for start, end in re.findall(r"^edge: (\w+) (\w+)$", said, re.M)}
    print("\n" + "\n".join(sorted(f"{start} -> {end}" for start, end in walked)))
    forked = {start for start, end in walked if end == "INHERITED"}
    assert forked >= {"WAITING", "HOLDING", "ABANDONED"}
    drawn = chart()
    assert ("any", "INHERITED") in drawn
    assert len(drawn) > 10
    assert {edge for edge in walked if edge[1] != "INHERITED"} == drawn - {("any", "INHERITED")}
