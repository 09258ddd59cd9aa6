"""A fuzzer that is guided by coverage finds nothing in the reader of encrypted files.

MSALEX_FUZZ_S is the time in seconds for which it tries; see `python3 dev.py prove`.
tests/support/envelope/fuzz.py says what must hold for any bytes.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from msal_extensions._stores import envelope
from tests.support import tally
from tests.support.capability import needs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SECONDS = int(os.environ.get("MSALEX_FUZZ_S", "10"))
SEED = os.environ.get("MSALEX_SEED", "17")
#: What the program may need to begin and to end, on a busy machine.
GRACE_S = 120


def fuzz(directory: Path, *options: str, before: str = "") -> tuple[int, str]:
    """Exit status and output of the fuzzer; ``before`` is Python that spoils something first."""
    needs(None if importlib.util.find_spec("atheris") else "there is no atheris for this Python")
    (directory / "corpus").mkdir()
    # The fuzzer imports the module again, with the calls that tell what was reached.
    code = f"import sys\n{before}\nfrom tests.support.envelope import fuzz\nfuzz.main()"
    command = [sys.executable, "-c", code, str(directory / "corpus"), f"-seed={int(SEED) + 1}"]
    command += ["-print_final_stats=1", f"-artifact_prefix={directory}/", *options]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SECONDS + GRACE_S,
    )
    return done.returncode, done.stdout


def executions(said: str) -> int:
    [number] = re.findall(r"stat::number_of_executed_units: (\d+)", said)
    return int(number)


@pytest.mark.timeout(SECONDS + 2 * GRACE_S)
def test_a_fuzzer_finds_no_bytes_that_the_reader_treats_wrongly(tmp_path: Path) -> None:
    status, said = fuzz(tmp_path, f"-max_total_time={SECONDS}")
    assert status == 0, said[-3000:]
    print(f"{executions(said)} executions, {re.findall(r'cov: [0-9]+', said)[-1]}")
    tally.tried(executions(said))
    assert executions(said) > 1000


SPOILED = {
    "padding where none is needed": ("_padding", "lambda size: -(32 + size) % 1024 or 1024"),
    "a pattern that lets white space pass": (
        "_LINE",
        "re.compile(fuzz.envelope._LINE.pattern.replace(b':1,', b': ?1,'))",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
def test_the_fuzzer_finds_a_fault(what: str, tmp_path: Path) -> None:
    name, spoiled = SPOILED[what]
    assert hasattr(envelope, name)
    before = f"import re\nfrom tests.support.envelope import fuzz\nfuzz.envelope.{name} = {spoiled}"
    status, said = fuzz(tmp_path, "-max_total_time=60", before=before)
    assert status != 0, said[-3000:]
    assert "AssertionError" in said
