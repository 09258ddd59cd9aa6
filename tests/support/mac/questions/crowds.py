"""Questions about many programs, and many threads, that use one item at once."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.mac.machine import Desk, finished, run, started
from tests.support.mac.probing import SERVICE, Step, steps_in
from tests.support.plan import Answer, part

ASKED, question = part()
SAVES = 500
LOADERS = (1, 5, 15, 30)
THREADS = 8
LONGEST_S = 600
SUCCESS = "ok"

#: Loads until the file `stop` is there, or saves so often and then makes it: what came how often.
WORK = """
import collections, json, os, sys, threading, time
from msal_extensions import KeychainPersistence
directory, service, account, saves, threads, longest = sys.argv[1:]
persistence = KeychainPersistence(os.path.join(directory, "signal"), service, account)
stop, deadline = os.path.join(directory, "stop"), time.monotonic() + float(longest)
came, slowest, guard = collections.Counter(), [0.0], threading.Lock()
def attempt(call, *arguments):
    begun = time.perf_counter()
    try:
        call(*arguments)
        said = "ok"
    except Exception as error:
        said = f"{type(error).__name__} {getattr(error, 'exit_status', '')}".strip()
    with guard:
        came[said] += 1
        slowest[0] = max(slowest[0], time.perf_counter() - begun)
def load():
    while not os.path.exists(stop) and time.monotonic() < deadline:
        attempt(persistence.load)
def save():
    for number in range(int(saves)):
        attempt(persistence.save, f"{os.getpid()} {number} " + "x" * 2000)
    open(stop, "w").close()
works = [load] * int(threads) + [save] * (int(saves) > 0)
running = [threading.Thread(target=work) for work in works]
[one.start() for one in running]
[one.join() for one in running]
print(json.dumps({"came": came, "slowest_s": round(slowest[0], 3)}))
"""
#: Makes the item, so that no load is too early.
FIRST = (
    "from msal_extensions import KeychainPersistence as K; import sys; K(*sys.argv[1:]).save('')"
)


def crowd(
    desk: Desk,
    account: str,
    loaders: int,
    saves: int = SAVES,
    longest_s: float = LONGEST_S,
    variables: Mapping[str, str] = {},
) -> dict[str, Any]:
    """So many processes load while another one saves: what they were told."""
    directory = desk.directory()
    first = [sys.executable, "-c", FIRST, directory / "signal", SERVICE, account]
    status, said = run(*first, variables=variables)
    if status != 0:
        raise AssertionError(f"the first save: status {status}\n{said}")
    told = [sys.executable, "-c", WORK, directory, SERVICE, account]
    processes = [
        started(*told, number, threads, longest_s, variables=variables)
        for number, threads in [(0, 1)] * loaders + [(saves, 0)]
    ]
    return summed(finished(processes, longest_s + 30))


def summed(ends: list[tuple[int, str]]) -> dict[str, Any]:
    """What all of them were told; the last one saved."""
    came, slowest, broken = [Counter[str](), Counter[str]()], 0.0, []
    for number, (status, said) in enumerate(ends):
        last = said.splitlines()[-1] if said else ""
        if status != 0 or not last.startswith("{"):
            broken.append(f"status {status}: {said[-500:]}")
            continue
        told = json.loads(last)
        came[number == len(ends) - 1].update(told["came"])
        slowest = max(slowest, told["slowest_s"])
    return {"loads": came[0], "saves": came[1], "slowest_s": slowest, "broken": broken}


def is_all_well(told: Mapping[str, Any]) -> bool:
    loads, saves = set(told["loads"]), set(told["saves"])
    return loads == {SUCCESS} == saves and not told["broken"]


@question(f"{LOADERS} processes load while one saves {SAVES} times: no call fails")
def _ours(desk: Desk) -> Answer:
    _ = desk.keychain
    told = {str(loaders): crowd(desk, f"crowd {loaders}", loaders) for loaders in LOADERS}
    return all(map(is_all_well, told.values())), told


@question(f"The same with 1.3.1, which takes no turns: {LOADERS}", must=False)
def _theirs(desk: Desk) -> Answer:
    _ = desk.keychain
    variables = desk.reference()
    told = {
        str(loaders): crowd(desk, f"crowd 1.3.1 {loaders}", loaders, variables=variables)
        for loaders in LOADERS
    }
    return all(map(is_all_well, told.values())), told


def direct(desk: Desk, loaders: int) -> dict[str, Any]:
    """The same by Security itself, in C: each OSStatus."""
    program, account = desk.probe(), f"crowd direct {loaders}"
    status, said = run(program, SERVICE, account, "default", "add")
    if status != 0:
        raise AssertionError(f"the first save: status {status}\n{said}")
    told = [program, SERVICE, account, "default"]
    processes = [started(*told, f"{SAVES}*load") for _ in range(loaders)]
    processes += [started(*told, f"{SAVES}*update") for _ in range(2)]
    ends = finished(processes, LONGEST_S)
    steps = [step for _, said in ends for step in steps_in(said) if step.name != "default"]
    return {
        "loads": histogram([step for step in steps if "load" in step.name]),
        "updates_by_two": histogram([step for step in steps if "update" in step.name]),
        "ended": sum(status != 0 for status, _ in ends),
    }


def histogram(steps: list[Step]) -> dict[str, int]:
    came = Counter[str]()
    for step in steps:
        came.update({str(status): times for status, times in step.came.items()})
    return dict(came.most_common())


@question(f"What Security itself says then, without turns and tries: {LOADERS}", must=False)
def _direct(desk: Desk) -> Answer:
    _ = desk.keychain
    return True, {str(loaders): direct(desk, loaders) for loaders in LOADERS}


@question(f"{THREADS} threads load while one of the same program saves: no call fails")
def _threads(desk: Desk) -> Answer:
    _ = desk.keychain
    directory = desk.directory()
    signal = str(Path(directory, "signal"))
    status, said = run(sys.executable, "-c", FIRST, signal, SERVICE, "threads")
    if status == 0:
        told = [sys.executable, "-c", WORK, directory, SERVICE, "threads", SAVES, THREADS]
        status, said = run(*told, LONGEST_S, seconds=LONGEST_S + 30)
    if status != 0:
        raise AssertionError(f"status {status}\n{said}")
    came = json.loads(said.splitlines()[-1])
    return set(came["came"]) == {SUCCESS}, came


@question(f"What Security itself says to {THREADS} threads", must=False)
def _direct_threads(desk: Desk) -> Answer:
    _ = desk.keychain
    told = [desk.probe(), SERVICE, "threads direct", "default", "add"]
    status, said = run(*told, f"{THREADS}x200*load", f"{THREADS}x50*update", seconds=LONGEST_S)
    return status == 0, {"status": status, "steps": [one._asdict() for one in steps_in(said)]}
