"""Questions about two programs that use one item, and about questions on the screen.

The stranger is a copy of keychain_on_a_mac, or of this Python, with a signature of its own, so
macOS takes it for another program. What it may not do ends with an OSStatus where no screen is, and
with a question where one is. A program that waits for a person is ended.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from tests.support.mac.machine import PATIENCE_S, Desk, end, security, started
from tests.support.mac.probing import (
    DENIED,
    NO_SCREEN,
    SERVICE,
    SUCCESS,
    USE,
    Probed,
    Used,
    probe,
    results,
    use,
)
from tests.support.plan import Answer, part

ASKED, question = part()
REFUSED = (DENIED, NO_SCREEN)


def was_refused(probed: Probed, step: int = -1) -> bool:
    """Whether macOS asked somebody about the program, or refused it without asking."""
    return probed.asked or probed.steps[step].status in REFUSED


def was_asked(used: Used) -> bool:
    last = used[-1]
    return "asked_or_hung" in last or last.get("code") in REFUSED


@question("A stranger about whom macOS may ask nobody is refused: -25293, or -25308")
def _quiet(desk: Desk) -> Answer:
    _ = desk.keychain
    use(desk, "quiet stranger", "save:text")
    probed = probe(desk.stranger(), "quiet stranger", "quiet", "load")
    return not probed.asked and was_refused(probed), probed.fact()


@question("A stranger deletes only by reference: SecItemDelete is -25244")
def _delete(desk: Desk) -> Answer:
    _ = desk.keychain
    use(desk, "delete", "save:text")
    probed = probe(desk.stranger(), "delete", "quiet", "delete", "remove")
    came = [step.status for step in probed.steps[2:]]
    return came == [-25244, SUCCESS], probed.fact()


@question("We delete what a stranger made, and nobody is asked")
def _ours(desk: Desk) -> Answer:
    _ = desk.keychain
    made = probe(desk.stranger(), "ours", "add")
    used = use(desk, "ours", "delete")
    after = probe(desk.probe(), "ours", "look")
    facts = {"made": made.fact(), "used": used, "after": after.fact()}
    return "result" in used[0] and after.steps[-1].status == -25300, facts


@question("A stranger saves what we made, and nobody is asked")
def _saves(desk: Desk) -> Answer:
    _ = desk.keychain
    use(desk, "saves", "save:text")
    probed = probe(desk.stranger(), "saves", "quiet", "update")
    return not probed.asked and probed.steps[-1].status == SUCCESS, probed.fact()


@question("A copy of this Python that is signed anew may not load, but save and delete")
def _other_python(desk: Desk) -> Answer:
    _ = desk.keychain
    python, variables = desk.other_python()
    silent = {"interactive": False}
    use(desk, "other python", "save:mine")
    told = ("load", "save:theirs", "delete")
    used = use(desk, "other python", *told, options=silent, variables=variables, python=python)
    mine = use(desk, "other python", "load")
    holds = was_asked(used[:1]) and "error" not in used[1] and "error" not in used[2]
    return holds and "PersistenceNotFound" in mine[0].get("error", []), {"used": used}


@question("After a stranger's save we are asked about, and after our own save we are not")
def _after(desk: Desk) -> Answer:
    desk.may_leave_a_question_on_the_screen()
    _ = desk.keychain
    use(desk, "after", "save:text")
    probe(desk.stranger(), "after", "quiet", "update")
    refused = use(desk, "after", "load", options={"interactive": False})
    saved = use(desk, "after", "save:mine", "load")
    facts = {"refused": refused, "saved": saved}
    return was_asked(refused) and results(saved)[-1] == "mine", facts


@question("A question that nobody answers ends with the timeout of the caller")
def _timeout(desk: Desk) -> Answer:
    desk.may_leave_a_question_on_the_screen()
    _ = desk.keychain
    probe(desk.stranger(), "timeout", "add")
    used = use(desk, "timeout", "load", options={"timeout": 3})
    code = used[0].get("code")
    timed_out = "KeychainTimeout" in used[0].get("error", []) and used[0]["seconds"] < PATIENCE_S
    return timed_out or code in REFUSED, {"used": used, "had_a_screen": code not in REFUSED}


@question("A question of one program holds up the others for three seconds at most")
def _turn(desk: Desk) -> Answer:
    desk.may_leave_a_question_on_the_screen()
    _ = desk.keychain
    probe(desk.stranger(), "turn", "add")
    use(desk, "turn, another item", "save:text")
    told = [sys.executable, "-c", USE, desk.directory() / "signal", SERVICE, "turn"]
    asking = started(*told, json.dumps({"timeout": 60}), "load")
    try:
        time.sleep(2)  # a start; nothing can be waited for, because the question shows nowhere
        used = use(desk, "turn, another item", "load")
    finally:
        said, _ = end(asking)
    return results(used) == ["text"], {"used": used, "the_other_program": said}


@question("With interaction off, a keychain that was opened before still asks", must=False)
def _opened_before(desk: Desk) -> Answer:
    """docs/keychain.md believes so, and the library looks at the status first."""
    desk.may_leave_a_question_on_the_screen()
    keychain = desk.keychain
    program = desk.probe()
    probe(program, "opened", "add")
    with keychain.locked():
        fresh = probe(program, "opened", "quiet", "load")
    opened = probe_locked_between(desk)
    return opened.asked, {"fresh": fresh.fact(), "opened_before": opened.fact()}


def probe_locked_between(desk: Desk) -> Probed:
    """A load, then the keychain is locked, then a load with interaction off, in one process."""
    keychain = desk.keychain
    locking = threading.Timer(1.5, security, ["lock-keychain", keychain.path])
    locking.start()
    try:
        return probe(desk.probe(), "opened", "load", "pause", "pause", "status", "quiet", "load")
    finally:
        locking.join()
        keychain.unlock()
