"""The states of a lock file change only as the chart in csrc/lock_registry_posix.h shows it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from csrc.ffi_build import sources
from dev import C_WARNINGS
from tests.support.capability import needs

ROOT = Path(__file__).resolve().parents[1]
CHART = re.compile(r"^ \*     (\w+) +--([^>]+)--> +(\w+)(.*)$", re.MULTILINE)
SANITIZERS = {"none": (), "address": ("-fsanitize=address,undefined",)}


def chart() -> set[tuple[str, str]]:
    """The edges of the chart that Linux has."""
    header = (ROOT / "csrc" / "lock_registry_posix.h").read_text(encoding="utf-8")
    return {(start, end) for start, _, end, note in CHART.findall(header) if "(macOS)" not in note}


def build(directory: Path, sanitizer: str) -> Path:
    """The program, with the library as a shared library, so that the program can replace some of
    its functions."""
    compiler = shutil.which("gcc")
    needs(None if compiler else "gcc is not installed")
    flags = ["-g", "-O1", *C_WARNINGS, *SANITIZERS[sanitizer], "-I", str(ROOT / "csrc")]
    library, program = directory / "libmsalex.so", directory / "lock_states"
    files = [str(ROOT / source) for source in sources("linux")]
    for command in (
        [*flags, "-shared", "-fPIC", "-o", str(library), *files],
        [
            *(*flags, "-o", str(program)),
            *(str(ROOT / "tests" / "c" / name) for name in ("lock_states.c", "check.c")),
            *(str(library), f"-Wl,-rpath,{directory}"),
        ],
    ):
        subprocess.run([str(compiler), *command, "-lpthread", "-ldl"], check=True, timeout=300)
    return program


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_each_edge_of_the_chart_is_walked_and_no_other(sanitizer: str, tmp_path: Path) -> None:
    """Among others finding 9 of a review of the lock: a child that inherits a wait starts over."""
    done = subprocess.run(
        [build(tmp_path, sanitizer)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    walked = {(start, end) for start, end in re.findall(r"^edge: (\w+) (\w+)$", done.stdout, re.M)}
    print("\n" + "\n".join(sorted(f"{start} -> {end}" for start, end in walked)))
    forked = {start for start, end in walked if end == "INHERITED"}
    assert forked >= {"WAITING", "HOLDING", "ABANDONED"}
    drawn = chart()
    assert ("any", "INHERITED") in drawn
    assert len(drawn) > 10
    assert {edge for edge in walked if edge[1] != "INHERITED"} == drawn - {("any", "INHERITED")}
