"""on_a_mac.py as far as it runs without a Mac: how it asks, what it records, what it puts back.

Its questions about the lock are asked here, too; test_on_a_mac_over_fakes.py asks some about the
keychain.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import plan
from tests.support.capability import requires
from tests.support.mac import fake_security, machine, probing, questions
from tests.support.mac.fake_security import put_back
from tests.support.mac.questions import crowds, locks, suite
from tests.support.native import ROOT
from tests.support.plan import CannotAsk, Question

pytestmark = requires("os.killpg")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the command `security` was told; it does nothing."""
    for name, value in fake_security.install(tmp_path).items():
        monkeypatch.setenv(name, value)
    return tmp_path / "log"


def ask_until(end: BaseException, directory: Path, log: Path) -> None:
    with machine.Desk(directory) as desk:
        made = desk.keychain.path
        assert f"default-keychain -d user -s {made}" in log.read_text()
        raise end


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(), ValueError()])
def test_the_former_keychain_is_put_back_whatever_happens(
    end: BaseException, tmp_path: Path, log: Path
) -> None:
    with pytest.raises(type(end)):
        ask_until(end, tmp_path, log)
    assert log.read_text().splitlines()[-3:] == put_back(tmp_path)


def test_where_there_was_no_default_keychain_there_is_none_again(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_DEFAULT", "yes")
    with pytest.raises(SystemExit):
        ask_until(SystemExit(), tmp_path, log)
    assert log.read_text().splitlines()[-3:] == put_back(tmp_path, default="")


def test_a_keychain_that_cannot_be_unlocked_is_deleted_and_nothing_else_is_touched(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCKED", "yes")
    with pytest.raises(machine.SecurityFailed, match="unlock-keychain"):
        ask_until(ValueError(), tmp_path, log)
    said = log.read_text().splitlines()
    assert said[-1] == put_back(tmp_path)[-1]
    assert not [line for line in said if " -s " in line]


TERMINATED = """
import signal, sys, time
from pathlib import Path
from tests.macos import on_a_mac
from tests.support.mac import machine
signal.signal(signal.SIGTERM, on_a_mac.end_in_order)
with machine.Desk(Path(sys.argv[1])) as desk:
    desk.keychain
    print("made", flush=True)
    time.sleep(600)
"""


def test_the_former_keychain_is_put_back_after_sigterm(tmp_path: Path, log: Path) -> None:
    told = [sys.executable, "-c", TERMINATED, str(tmp_path)]
    with subprocess.Popen(told, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert log.read_text().splitlines()[-3:] == put_back(tmp_path)


# ---- the plan --------------------------------------------------------------------------------


def unasked(_: Any) -> plan.Answer:
    raise CannotAsk("no time machine")


def broken(_: Any) -> plan.Answer:
    raise ValueError("a surprise")


PLAN = [
    Question("It holds", True, lambda desk: (True, {"desk": desk})),
    Question("It cannot be asked", True, unasked),
    Question("It does not matter", False, lambda _: (False, {})),
]


def options(tmp_path: Path, *told: str) -> argparse.Namespace:
    parser = plan.arguments("Tried.", str(tmp_path / "record.json"))
    return parser.parse_args(told)


def went(tmp_path: Path, asked: Sequence[Question], *told: str) -> tuple[int, list[dict[str, Any]]]:
    chosen = options(tmp_path, *told)
    parts = plan.go_through(plan.chosen(asked, chosen), "a desk", {"machine": "this"}, chosen)
    record = json.loads(chosen.record.read_text(encoding="utf-8"))
    assert record == {"machine": {"machine": "this"}, "questions": parts}
    return plan.verdict(parts, chosen.record), parts


def test_the_record_has_each_answer_or_why_there_is_none(tmp_path: Path) -> None:
    status, parts = went(tmp_path, PLAN)
    assert status == 0
    assert [part["holds"] for part in parts] == [True, None, False]
    assert parts[0]["facts"] == {"desk": "a desk"}
    assert parts[1]["not_asked"] == "no time machine"


@pytest.mark.parametrize("ask", [broken, lambda _: (False, {})])
def test_what_must_hold_and_does_not_decides_the_exit_status(ask: Any, tmp_path: Path) -> None:
    status, parts = went(tmp_path, [Question("It must", True, ask), *PLAN])
    assert status == 1
    assert parts[0]["holds"] is False
    assert len(parts) == 4  # the others are asked all the same


def test_when_the_time_is_over_no_further_question_is_asked(tmp_path: Path) -> None:
    def late(_: Any) -> plan.Answer:
        time.sleep(1)
        return False, {}

    _, parts = went(tmp_path, [Question("It is late", True, late), *PLAN], "--minutes", "0.01")
    assert [part["holds"] for part in parts] == [False, None, None, None]
    assert parts[1]["not_asked"] == "0.01 minutes were over"


def test_words_choose_questions(tmp_path: Path) -> None:
    _, parts = went(tmp_path, PLAN, "--only", "IT", "--leave-out", "matter", "asked")
    assert [part["question"] for part in parts] == ["It holds"]


def test_each_question_of_the_plan_is_a_different_sentence() -> None:
    sentences = [question.sentence for question in questions.ALL]
    assert len(set(sentences)) == len(sentences) >= 35


def test_without_the_command_of_a_mac_nothing_is_asked(tmp_path: Path) -> None:
    script = ROOT / "tests" / "macos" / "on_a_mac.py"
    told = [sys.executable, str(script), "--record", str(tmp_path / "record.json")]
    nothing = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(told, env=nothing, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "this is for a Mac" in done.stderr
    assert not (tmp_path / "record.json").exists()


# ---- its parts -------------------------------------------------------------------------------


def test_a_program_that_asks_somebody_is_ended_with_its_children() -> None:
    status, said = machine.run("sh", "-c", "echo begun; sleep 600 & wait", seconds=5)
    assert (status, said.splitlines()[0]) == (machine.TOO_LONG, "begun")
    assert machine.run("no such program")[0] == machine.NO_PROGRAM


def test_what_is_not_the_wheel_is_found(tmp_path: Path) -> None:
    package = tmp_path / "site" / "msal_extensions"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "_msalex.abi3.so").write_bytes(b"tried")
    with zipfile.ZipFile(tmp_path / "wheel.whl", "w") as archive:
        archive.writestr("msal_extensions/__init__.py", "")
        archive.writestr("msal_extensions/_msalex.abi3.so", b"published")
        archive.writestr("other/file", "")
    assert suite.unlike(tmp_path / "wheel.whl", package) == ["msal_extensions/_msalex.abi3.so"]


def test_a_crowd_counts_what_its_programs_were_told() -> None:
    def end(**came: int) -> tuple[int, str]:
        return 0, "a warning\n" + json.dumps({"came": came, "slowest_s": sum(came.values())})

    told = crowds.summed([end(ok=3), end(ok=2, E=1), end(ok=5)])
    assert (told["loads"], told["saves"], told["slowest_s"]) == ({"ok": 5, "E": 1}, {"ok": 5}, 5)
    assert not crowds.is_all_well(told)
    assert crowds.is_all_well(crowds.summed([end(ok=3), end(ok=5)]))
    assert not crowds.is_all_well(crowds.summed([(-9, ""), end(ok=5)]))


def test_the_lines_of_the_c_program_are_read() -> None:
    said = "default\t0 x 1\t0.1\t0.1\t\nload\t0 x 497, -25300 x 3\t1.2\t9\t17 bytes\nno answer\n"
    _, load = probing.steps_in(said)
    assert load == probing.Step("load", {0: 497, -25300: 3}, 1.2, 9.0, "17 bytes")


def answer(part: list[Question], word: str, desk: machine.Desk) -> plan.Answer:
    """To the question that has this word."""
    (question,) = (one for one in part if word in one.sentence)
    return question.ask(desk)


@pytest.mark.slow
@pytest.mark.parametrize("word", ["given back", "killed"])
def test_the_questions_about_handing_the_lock_over_are_asked_here_too(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "TIMES", 2)
    monkeypatch.setattr(locks, "SOON_S", 60.0)  # a busy machine is no finding
    with machine.Desk(tmp_path) as desk:
        holds, facts = answer(locks.ASKED, word, desk)
    print(facts)
    assert holds
