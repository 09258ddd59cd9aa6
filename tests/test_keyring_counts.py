"""Keyring calls over and over in one process leave no descriptor, thread or memory behind.

    MSALEX_KEYRING_TURNS=3000 python3 dev.py test -s tests/test_keyring_counts.py

makes that many loads and saves, and a tenth as many calls that fail.  GLib ends a program that can
open no more descriptors, so even a leak of one in twenty turns would end a daemon.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import keyring, tally
from tests.support import situations as s
from tests.support.capability import needs
from tests.support.processes import eventually

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
TURNS = int(os.environ.get("MSALEX_KEYRING_TURNS", "300"))
#: Turns that fail by their deadline, by Ctrl-C, or at once.
FEW = max(TURNS // 10, 1)
#: Bytes that malloc may have given out more of: some for good, whatever the turns, and some a turn.
ALLOCATED, ALLOCATED_A_TURN = 80_000, 200
#: Pages stay with the process when memory is freed, so this finds only what is large.
RESIDENT = 16_000_000
LARGE = 20_000
PRELUDE = """
import json, os, random, signal, sys, time
from msal_extensions.errors import KeyringTimeout, PersistenceError, PersistenceUnavailable
from msal_extensions.libsecret import LibSecretAgent
from tests.support.leftovers import left_behind

turns = int(sys.argv[1])
chance = random.Random(int(os.environ.get("MSALEX_SEED", "1")))

def agent(timeout):
    return LibSecretAgent("org.example.counts", {}, timeout=timeout)

def fails(kind, function, *arguments):
    try:
        function(*arguments)
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")

class Interrupted(BaseException):
    pass

def interrupt(signum, frame):
    raise Interrupted
"""


def leftovers(code: str, environment: dict[str, str], turns: int) -> dict[str, int]:
    """What the turns left behind; the snippet prints it in its last line."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code, str(turns)],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120 + 2 * turns,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr
    told: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    tally.tried(turns)
    return told


def assert_nothing(told: dict[str, int], turns: int) -> None:
    assert told["descriptors"] <= 0, told
    assert told["threads"] <= 0, told
    assert told["allocated"] <= ALLOCATED + turns * ALLOCATED_A_TURN, told
    assert told["resident"] <= RESIDENT, told


def test_loads_and_saves_leave_nothing_behind(tmp_path: Path) -> None:
    needs(keyring.missing())
    code = f"""
here, count = agent(60), [0]
def turn():
    count[0] += 1
    text = f"{{count[0]:{LARGE}}}"
    here.save(text)
    assert here.load() == text
told = left_behind(turn, turns)
here.clear()
print(json.dumps(told))
"""
    with keyring.running(tmp_path) as service:
        assert_nothing(leftovers(code, service.environment, TURNS), TURNS)


@pytest.mark.parametrize("operation", ["load", "save, 'x'"])
@pytest.mark.parametrize("result", ["o", "ao", "s"])
def test_prompts_that_time_out_are_dismissed_and_leave_nothing_behind(
    operation: str, result: str, tmp_path: Path
) -> None:
    needs(keyring.missing())
    code = f"""
here = agent(0.05)
agent(60).connect()
print(json.dumps(left_behind(lambda: fails(KeyringTimeout, here.{operation}), turns)))
"""
    closed = s.fake(desktop=True, locked=True, stocked=True, prompt="never", result=result)
    with closed(tmp_path) as situation:
        service = situation.service
        assert service is not None
        assert_nothing(leftovers(code, situation.environment, FEW), FEW)
        calls = service.calls
        print(f"{calls().count('Prompt')} prompts, {calls().count('Dismiss')} dismissed")
        assert "Prompt" in calls()
        # On a busy machine a deadline can come before the Prompt is sent: then only Dismiss is.
        assert eventually(lambda: calls().count("Dismiss") >= calls().count("Prompt"))


@pytest.mark.parametrize("kind", ["new item", "new collection"])
def test_saves_whose_prompts_time_out_are_dismissed_and_leave_nothing_behind(
    kind: str, tmp_path: Path
) -> None:
    needs(keyring.missing())
    code = """
here = agent(0.05)
agent(60).connect()
print(json.dumps(left_behind(lambda: fails(KeyringTimeout, here.save, "x"), turns)))
"""
    trouble: dict[str, Any] = {"asks": ["CreateItem"]} if kind == "new item" else {"empty": True}
    with s.fake(desktop=True, prompt="never", **trouble)(tmp_path) as situation:
        service = situation.service
        assert service is not None
        assert_nothing(leftovers(code, situation.environment, FEW), FEW)
        calls = service.calls
        assert "Prompt" in calls()
        # On a busy machine a deadline can come before the Prompt is sent: then only Dismiss is.
        assert eventually(lambda: calls().count("Dismiss") >= calls().count("Prompt"))


def test_refused_connections_leave_nothing_behind(tmp_path: Path) -> None:
    needs(keyring.missing())
    code = """
print(json.dumps(left_behind(lambda: fails(PersistenceUnavailable, agent(60).load), turns)))
"""
    with s.dead_socket(tmp_path) as situation:
        assert_nothing(leftovers(code, situation.environment, FEW), FEW)


@pytest.mark.parametrize("operation", ["load", "save, 'x'"])
@pytest.mark.parametrize("where", ["connecting", "connected"])
def test_calls_that_ctrl_c_ends_leave_nothing_behind(
    operation: str, where: str, tmp_path: Path
) -> None:
    needs(keyring.missing())
    # A signal in the first microseconds would meet no call, so it comes a little later.
    code = f"""
signal.signal(signal.SIGALRM, interrupt)
def turn():
    signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.02, 0.05))
    fails(Interrupted, agent(60).{operation})
if {where == "connected"}:
    agent(60).connect()
print(json.dumps(left_behind(turn, turns)))
"""
    mute = ["OpenSession"] if where == "connecting" else ["SearchItems", "CreateItem", "SetSecret"]
    with s.fake(ignores=mute)(tmp_path) as situation:
        assert_nothing(leftovers(code, situation.environment, FEW), FEW)


@pytest.mark.parametrize("operation", ["load", "save, 'x'", "connect"])
def test_a_call_that_ctrl_c_ends_at_any_byte_code_leaves_nothing_behind(
    operation: str, tmp_path: Path
) -> None:
    """Python delivers a signal after a call that returned, before the result has a name."""
    needs(keyring.missing())
    code = f"""
import gc
FILES = ("_native/libsecret.py", "_stores/libsecret.py")
def ends_at(number, function, *arguments):
    left = number
    def trace(frame, event, _):
        nonlocal left
        if not frame.f_code.co_filename.endswith(FILES):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            left -= 1
            if left == 0:
                raise Interrupted
        return trace
    sys.settrace(trace)
    try:
        function(*arguments)
    except Interrupted:
        return True
    finally:
        sys.settrace(None)
    return False
here, number = agent(60), [0]
here.connect()
def turn():
    number[0] += 1
    if not ends_at(number[0], here.{operation}):
        number[0] = 0
tried = 1
while ends_at(tried, here.{operation}):
    tried += 1
told = left_behind(turn, 2 * tried)
gc.collect()
print(tried, "byte codes")
print(json.dumps(told))
"""
    with s.fake(stocked=True)(tmp_path) as situation:
        assert_nothing(leftovers(code, situation.environment, 300), 300)


@pytest.mark.parametrize("where", ["connecting", "connected"])
def test_calls_that_their_deadline_ends_leave_nothing_behind(where: str, tmp_path: Path) -> None:
    needs(keyring.missing())
    code = f"""
if {where == "connected"}:
    agent(60).connect()
here = agent(0.02)
def turn():
    fails(KeyringTimeout, here.load)
    fails(KeyringTimeout, here.save, "x")
print(json.dumps(left_behind(turn, turns)))
"""
    mute = ["OpenSession"] if where == "connecting" else ["SearchItems", "CreateItem", "SetSecret"]
    with s.fake(ignores=mute)(tmp_path) as situation:
        assert_nothing(leftovers(code, situation.environment, FEW), FEW)


def test_deadlines_at_the_moment_of_the_answer_leave_nothing_behind_and_no_wrong_answer(
    tmp_path: Path,
) -> None:
    needs(keyring.missing())
    # The last deadlines that were too short and the last that were not close in on the answer.
    code = """
from collections import Counter
agent(60).connect()
agent(60).save("x")
ended, time_of = Counter(), {"load": [0.0, 0.5], "save": [0.0, 0.5]}
def once(name):
    short, enough = time_of[name]
    timeout = max((short + enough) / 2 + chance.uniform(-0.001, 0.001), 0.001)
    here = agent(timeout)
    try:
        result = here.load() if name == "load" else here.save("x")
        assert result == ("x" if name == "load" else True), result
        ended[f"{name} ok"] += 1
        time_of[name] = [min(short, timeout - 0.003), timeout]
    except KeyringTimeout:
        ended[f"{name} timed out"] += 1
        time_of[name] = [timeout, max(enough, timeout + 0.003)]
def turn():
    once("load")
    once("save")
told = left_behind(turn, turns)
print(dict(ended), time_of)
print(json.dumps(told))
"""
    with s.fake(late=0.02)(tmp_path) as situation:
        assert_nothing(leftovers(code, situation.environment, TURNS), TURNS)


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param({"prompt": "dismissed", "locked": True, "result": "s"}, id="dismissed"),
        pytest.param({"prompt": "dismissed", "locked": True, "result": "ao"}, id="dismissed (ao)"),
        pytest.param({"wrong": ["SearchItems", "CreateItem", "SetSecret"]}, id="wrong types"),
        pytest.param(
            {
                "errors": {
                    name: ["org.freedesktop.Secret.Error.NoSession", -1]
                    for name in ("GetSecret", "SetSecret", "CreateItem")
                }
            },
            id="no session",
        ),
    ],
)
def test_calls_that_the_service_refuses_leave_nothing_behind(
    trouble: dict[str, Any], tmp_path: Path
) -> None:
    needs(keyring.missing())
    code = """
here = agent(60)
def turn():
    for function, arguments in ((here.load, ()), (here.save, ("x",))):
        try:
            function(*arguments)
        except PersistenceError:
            pass
print(json.dumps(left_behind(turn, turns)))
"""
    with s.fake(desktop=True, stocked=True, **trouble)(tmp_path) as situation:
        assert_nothing(leftovers(code, situation.environment, FEW), FEW)


def test_a_leak_of_one_descriptor_in_twenty_turns_is_found(tmp_path: Path) -> None:
    code = """
count, kept = [0], []
def turn():
    count[0] += 1
    if count[0] % 20 == 0:
        kept.append(open(os.devnull))
print(json.dumps(left_behind(turn, turns)))
"""
    needs(keyring.missing())
    told = leftovers(code, {**os.environ}, FEW)
    assert told["descriptors"] >= 1
    with pytest.raises(AssertionError):
        assert_nothing(told, FEW)
