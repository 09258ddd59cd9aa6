"""The C program and the plan for a Mac, over the fake keychain; see test_on_a_mac.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support import macos
from tests.support.mac import fake_security, machine, probing
from tests.support.native import MACOS, PLAIN, ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_the_c_program_compiles_for_a_mac(architecture: str, tmp_path: Path) -> None:
    macos.link(architecture, [MACOS / "keychain_on_a_mac.c"], tmp_path, hidden=False)


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """keychain_on_a_mac over the fake keychain."""
    directory = tmp_path_factory.mktemp("probe")
    macos.compile_over_fakes(directory / "objects", PLAIN, [MACOS / "keychain_on_a_mac.c"])
    return macos.link_over_fakes("keychain_on_a_mac", [], directory, PLAIN)


def test_the_c_program_takes_each_of_its_steps(probe: Path) -> None:
    taken = ("status", "load", "add", "look", "20*load", "find", "add", "update", "look")
    rest = ("delete", "add", "remove", "quiet", "loud", "unlock")
    told = probing.probe(probe, "steps", *taken, *rest)
    came = {step.name: step.came for step in told.steps}
    assert not told.asked
    assert [step.name for step in told.steps] == ["default", *taken, *rest]
    assert came["20*load"] == {probing.SUCCESS: 20}
    assert [one.status for one in told.steps if one.name == "add"] == [0, probing.DUPLICATE, 0]
    first, second = (float(one.detail) for one in told.steps if one.name == "look")
    assert second >= first
    with pytest.raises(AssertionError, match="no such step: dance"):
        probing.probe(probe, "steps", "dance")


#: Words in questions that the fake keychain answers.
OVER_FAKES = (
    *("20 kb", "how long loads", "by security itself", "refused with -25299", "unlocked again"),
    *("a child made by fork", "file of our turns"),
)


def test_the_plan_is_gone_through_over_the_fakes(probe: Path, tmp_path: Path) -> None:
    site = macos.make_site(tmp_path / "site")
    (tmp_path / "getconf").write_text('#!/bin/sh\necho "$FAKE_CACHES"\n')
    (tmp_path / "getconf").chmod(0o700)
    (tmp_path / "items").mkdir()
    environment = {
        **fake_security.install(tmp_path),
        "PYTHONPATH": str(site),
        "FAKE_KEYCHAIN": "",
        "FAKE_KEYCHAIN_DIRECTORY": str(tmp_path / "items"),
        "FAKE_CACHES": str(tmp_path),
        "MSALEX_BUILT": str(probe.parent),
    }
    script, record = ROOT / "tests" / "macos" / "on_a_mac.py", tmp_path / "record.json"
    told = [sys.executable, str(script), "--record", str(record), "--only", *OVER_FAKES]
    status, said = machine.run(*told, seconds=500, variables=environment)
    print(said)
    answers = json.loads(record.read_text(encoding="utf-8"))["questions"]
    assert len(answers) == len(OVER_FAKES)
    assert [one["question"] for one in answers if one["holds"] is not True] == []
    assert status == 0
    directory = Path((tmp_path / "log").read_text().split()[-1]).parent
    assert (tmp_path / "log").read_text().splitlines()[-3:] == fake_security.put_back(directory)
