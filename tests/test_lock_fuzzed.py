"""A fuzzer that is guided by coverage finds no bytes in a lock file that do harm.

Anybody who may write into the directory of a lock file chooses its bytes.  The programs are built
with clang's libFuzzer and sanitizers; tests/native/linux/fuzz_*.c say what must hold.
MSALEX_FUZZ_S is the time in seconds for which each tries; see `python3 dev.py prove`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from msal_extensions import CrossPlatLock
from tests.support import native, tally
from tests.support.capability import needs, requires

pytestmark = [pytest.mark.slow, requires("fcntl")]

SECONDS = int(os.environ.get("MSALEX_FUZZ_S", "10"))
SEED = os.environ.get("MSALEX_SEED", "17")
#: What a program may need to begin and to end, on a busy machine.
GRACE_S = 120
SANITIZERS = ("-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
PROGRAMS = ("fuzz_lock_record.c", "fuzz_lock_file.c")
#: The first bytes of other libraries' lock files, with and without a pid that may live.
PEERS = ("", "1", "1 init", "999999999 az", "{1} {pwsh}", "\ufeff1 pwsh", "1\r\npwsh", "x" * 300)


def build(directory: Path, program: str, library: list[Path]) -> Path:
    clang = shutil.which("clang")
    needs(None if clang else "clang is not installed")
    files = [native.LINUX / program, *library]
    return native.build(directory / "fuzzer", files, *SANITIZERS, by=str(clang))


def corpus(directory: Path, program: str) -> Path:
    """Lock files as we and others write them."""
    own = directory / "own.lockfile"
    with CrossPlatLock(str(own)):
        ours = own.read_bytes()
    made = directory / "corpus"
    made.mkdir()
    for number, text in enumerate([ours, *(peer.encode() for peer in PEERS)]):
        ages = [b"\0", b"\1", b"\2"] if program == "fuzz_lock_file.c" else [b""]
        for age in ages:
            (made / f"{number}{age.hex()}").write_bytes(age + text)
    return made


def fuzz(directory: Path, fuzzer: Path, program: str, seconds: int) -> tuple[int, str]:
    """Exit status and output."""
    place = directory / "place"
    place.mkdir()
    done = subprocess.run(
        [
            *(fuzzer, corpus(directory, program), f"-seed={int(SEED) + 1}", "-max_len=600"),
            *(f"-max_total_time={seconds}", "-print_final_stats=1", "-timeout=60"),
            f"-artifact_prefix={directory}/",
        ],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds + GRACE_S,
    )
    return done.returncode, done.stdout


@pytest.mark.timeout(SECONDS + 2 * GRACE_S)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_fuzzer_finds_no_bytes_in_a_lock_file_that_do_harm(program: str, tmp_path: Path) -> None:
    fuzzer = build(tmp_path, program, native.library())
    status, said = fuzz(tmp_path, fuzzer, program, SECONDS)
    assert status == 0, said[-3000:]
    [number] = re.findall(r"stat::number_of_executed_units: (\d+)", said)
    print(f"{program}: {number} executions, {re.findall(r'cov: [0-9]+', said)[-1]}")
    tally.tried(int(number))
    assert int(number) > 100  # some seeds are tried by then, and more


#: A program, text of csrc/lock_record.c, and what a mistake would make of it.
SPOILED = {
    "a pid is read beyond the end": (
        *("fuzz_lock_record.c", "size < sizeof text - 1 ? size : sizeof text - 1"),
        "sizeof text - 1",
    ),
    "what people see is not cleaned": ("fuzz_lock_file.c", "bytes[at] = '?';", ";"),
    "a record is read from a file that is too short": (
        *("fuzz_lock_record.c", "size < MSALEX__RECORD_SIZE || "),
        "",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
def test_the_fuzzer_of_lock_files_finds_a_fault(what: str, tmp_path: Path) -> None:
    program, text, mistake = SPOILED[what]
    source = (native.CSRC / "lock_record.c").read_text()
    assert source.count(text) == 1
    spoiled = tmp_path / "lock_record.c"
    spoiled.write_text(source.replace(text, mistake))
    library = [file for file in native.library() if file.name != spoiled.name]
    status, said = fuzz(tmp_path, build(tmp_path, program, [*library, spoiled]), program, 60)
    assert status != 0, said[-3000:]
    assert "ERROR: AddressSanitizer" in said or "ERROR: libFuzzer: deadly signal" in said
