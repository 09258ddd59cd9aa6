"""What keychain_on_a_mac.c says, and what a Python program sees that uses KeychainPersistence."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.mac.machine import PATIENCE_S, TOO_LONG, Desk, run

SERVICE = "msal-extensions on a Mac"
SUCCESS, NOT_FOUND, DUPLICATE = 0, -25300, -25299
DENIED, NO_SCREEN, NO_DEFAULT, NO_FILE = -25293, -25308, -25307, -25294


class Step(NamedTuple):
    """One line of keychain_on_a_mac."""

    name: str
    came: dict[int, int]  # how often each OSStatus
    median_ms: float
    most_ms: float
    detail: str

    @property
    def status(self) -> int:
        """The OSStatus of a step that was taken once."""
        (status,) = self.came
        return status


def steps_in(said: str) -> list[Step]:
    found = []
    for line in said.splitlines():
        parts = line.split("\t")
        if len(parts) in (4, 5):  # the detail may be empty, and run() strips
            name, came, median, most, detail = [*parts, ""][:5]
            each = (one.split(" x ") for one in came.split(", "))
            counted = {int(status): int(times) for status, times in each}
            found.append(Step(name, counted, float(median), float(most), detail))
    return found


class Probed(NamedTuple):
    """What a run of keychain_on_a_mac came to."""

    steps: list[Step]
    asked: bool  # it was ended, because it had no answer in time
    said: str

    def fact(self) -> dict[str, Any]:
        return {"steps": [step._asdict() for step in self.steps], "asked_or_hung": self.asked}


def probe(program: Path, account: str, *steps: str, seconds: float = PATIENCE_S) -> Probed:
    """Take these steps after `default`: the item is in the default keychain."""
    status, said = run(program, SERVICE, account, "default", *steps, seconds=seconds)
    if status not in (0, TOO_LONG):
        raise AssertionError(f"{program.name}: status {status}\n{said}")
    return Probed(steps_in(said), status == TOO_LONG, said)


#: Prints a line of JSON for each action: "save:text", "load", "delete", "again:20:load".
USE = """
import json, sys, time
from msal_extensions import KeychainPersistence
signal, service, account, options, *actions = sys.argv[1:]
persistence = KeychainPersistence(signal, service, account, **json.loads(options))
def take(action):
    name, _, text = action.partition(":")
    return getattr(persistence, name)(*[text] * (name == "save"))
for action in actions:
    times, told = 1, {"action": action}
    if action.startswith("again:"):
        _, times, action = action.split(":", 2)
    start, took = time.perf_counter(), []
    try:
        for _ in range(int(times)):
            begun = time.perf_counter()
            result = take(action)
            took.append(time.perf_counter() - begun)
        told["result"] = result
    except Exception as error:
        told["error"] = [kind.__name__ for kind in type(error).__mro__[:4]]
        told["code"] = getattr(error, "exit_status", None)
        told["said"] = str(error)
    told["seconds"] = round(time.perf_counter() - start, 4)
    if len(took) > 1:
        told["median_ms"] = round(1000 * sorted(took)[len(took) // 2], 3)
        told["most_ms"] = round(1000 * max(took), 3)
    print(json.dumps(told), flush=True)
"""
Used = list[dict[str, Any]]


def use(
    desk: Desk,
    account: str,
    *actions: str,
    options: Mapping[str, Any] = {},
    seconds: float = PATIENCE_S,
    variables: Mapping[str, str] = {},
    python: str | Path = sys.executable,
) -> Used:
    """What a new process sees that uses KeychainPersistence in this way.

    The last entry is {"asked_or_hung": True} if it had to be ended.
    """
    signal = desk.directory() / "signal"
    told = [python, "-c", USE, signal, SERVICE, account, json.dumps(options), *actions]
    status, said = run(*told, seconds=seconds, variables=variables)
    lines = [json.loads(line) for line in said.splitlines() if line.startswith('{"')]
    if status == TOO_LONG:
        lines.append({"asked_or_hung": True})
    elif status != 0 or len(lines) != len(actions):
        raise AssertionError(f"status {status}\n{said}")
    return lines


def shortened(used: Used) -> Used:
    """For the record: of a long text its length."""

    def short(value: Any) -> Any:
        is_long = isinstance(value, str) and len(value) > 500
        return f"{value[:20]}... ({len(value)} characters)" if is_long else value

    return [{key: short(value) for key, value in one.items()} for one in used]


def results(used: Used) -> Sequence[Any]:
    """The result of each action, or the code of its error."""
    return [one.get("result", one.get("code", one)) for one in used]
