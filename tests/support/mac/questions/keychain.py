"""Questions about one calm program and the keychain: what docs/keychain.md says of them."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.mac.machine import (
    Desk,
    Keychain,
    other_default,
    other_search_list,
    run,
    searched,
    signed_program,
)
from tests.support.mac.probing import (
    DUPLICATE,
    NO_DEFAULT,
    NO_FILE,
    NO_SCREEN,
    NOT_FOUND,
    SUCCESS,
    probe,
    results,
    shortened,
    use,
)
from tests.support.plan import Answer, CannotAsk, part

ASKED, question = part()
#: A call that asks nobody is done by then, on a busy machine, too.
AT_ONCE_S = 10


@question("An empty text and 20 kB are saved, loaded and deleted")
def _texts(desk: Desk) -> Answer:
    _ = desk.keychain
    large = "é🔑" * 5000
    used = use(desk, "texts", "load", "save:", "load", f"save:{large}", "load", "delete", "load")
    holds = results(used)[2] == "" and results(used)[4] == large
    missing = [used[at].get("error", [""])[0] for at in (0, 6)]
    return holds and missing == ["PersistenceNotFound"] * 2, {"used": shortened(used)}


def timed(desk: Desk, account: str, variables: Mapping[str, str] = {}) -> Answer:
    """Fifty loads and fifty saves of 20 kB."""
    text = "save:" + "x" * 20_000
    told = (desk, account, text, "again:50:load", f"again:50:{text}")
    used = use(*told, seconds=120, variables=variables)
    return not any("error" in one for one in used), {"used": shortened(used)}


@question("How long loads and saves take")
def _times(desk: Desk) -> Answer:
    _ = desk.keychain
    return timed(desk, "times")


@question("How long they take without our turns, by Security itself", must=False)
def _direct_times(desk: Desk) -> Answer:
    _ = desk.keychain
    steps = ("add", "50*load", "50*look", "50*update")
    return True, probe(desk.probe(), "times raw", *steps, seconds=120).fact()


@question("How long they take with 1.3.1", must=False)
def _times_of_theirs(desk: Desk) -> Answer:
    _ = desk.keychain
    return timed(desk, "times 1.3.1", desk.reference())


@question("Attributes are read without a question, even from a locked keychain")
def _attributes(desk: Desk) -> Answer:
    keychain = desk.keychain
    probe(desk.probe(), "attributes", "add")
    with keychain.locked():
        probed = probe(desk.probe(), "attributes", "status", "look", "find")
    facts = probed.fact()
    if probed.asked or len(probed.steps) != 4:
        return False, facts
    _, status, look, find = probed.steps
    return (status.detail, look.status, find.status) == ("locked", SUCCESS, SUCCESS), facts


@question("Each save sets the date of the item, in whole seconds")
def _dates(desk: Desk) -> Answer:
    _ = desk.keychain
    taken = ("add", "look", "pause", "update", "look", "update", "look")
    probed = probe(desk.probe(), "dates", *taken)
    dates = [float(step.detail) for step in probed.steps if step.name == "look" and step.detail]
    holds = len(dates) == 3 and dates[1] > dates[0] and all(date % 1 == 0 for date in dates)
    return holds, {**probed.fact(), "two_saves_at_once_have_one_date": dates[1:2] == dates[2:]}


@question("An unlocked keychain is asked for its status, and unlocked again, without a question")
def _unlocked(desk: Desk) -> Answer:
    _ = desk.keychain
    probed = probe(desk.probe(), "unlocked", "status", "unlock", "status")
    came = [(step.status, step.detail) for step in probed.steps[1:]]
    wanted = [(SUCCESS, "unlocked"), (SUCCESS, ""), (SUCCESS, "unlocked")]
    return came == wanted, probed.fact()


@question("A second item with the same names is refused with -25299, and changes nothing")
def _twice(desk: Desk) -> Answer:
    _ = desk.keychain
    probed = probe(desk.probe(), "twice", "add", "look", "add", "look")
    came = [step.status for step in probed.steps[1:]]
    return came == [SUCCESS, SUCCESS, DUPLICATE, SUCCESS], probed.fact()


@question("With interactive=False a locked keychain is refused at once, and asks nobody")
def _quiet(desk: Desk) -> Answer:
    keychain = desk.keychain
    use(desk, "quiet", "save:text")
    with keychain.locked():
        used = use(desk, "quiet", "load", "save:other", options={"interactive": False})
    codes = [one.get("code") for one in used]
    quick = all(one.get("seconds", 99) < AT_ONCE_S for one in used)
    return codes == [NO_SCREEN] * 2 and quick, {"used": used}


@question("The default keychain counts, wherever the search list leads")
def _not_searched(desk: Desk) -> Answer:
    keychain = desk.keychain
    others = [one for one in searched() if Path(one) != keychain.path]
    with other_search_list(*others):
        used = use(desk, "not searched", "save:one", "load", "save:two", "load", "delete", "load")
    facts = {"used": used, "search_list": others}
    return results(used)[1::2][:2] == ["one", "two"] and "error" in used[5], facts


@question("Without a default keychain -25307 comes at once, and no dialog")
def _none(desk: Desk) -> Answer:
    _ = desk.keychain
    with other_default():
        used = use(desk, "none", "load", "save:text", "delete")
        raw = probe(desk.probe(), "none", "look")
    codes = [one.get("code") for one in used]
    quick = all(one.get("seconds", 99) < AT_ONCE_S for one in used)
    return codes == [NO_DEFAULT] * 3 and quick, {"used": used, "security": raw.fact()}


@question("A default keychain whose file is missing is -25294 at once, and no dialog")
def _missing(desk: Desk) -> Answer:
    _ = desk.keychain
    lost = Keychain(desk.directory() / "lost.keychain-db")
    with lost.made(), other_default(lost.path):
        os.rename(lost.path, aside := lost.path.with_suffix(".aside"))
        try:
            used = use(desk, "missing", "load", "save:text", "load")
            raw = probe(desk.probe(), "missing", "status", "look")
        finally:
            os.rename(aside, lost.path)
    codes = [one.get("code") for one in used]
    quick = all(one.get("seconds", 99) < AT_ONCE_S for one in used)
    believed = [step.status for step in raw.steps] == [SUCCESS, NO_FILE, NOT_FOUND]
    facts = {"used": used, "security": raw.fact(), "security_as_its_source_says": believed}
    return codes == [NO_FILE] * 3 and quick, facts


@question("The file of our turns is empty, private, and in the user's cache directory")
def _turns(desk: Desk) -> Answer:
    _ = desk.keychain
    use(desk, "turns", "save:text")
    _, directory = run("getconf", "DARWIN_USER_CACHE_DIR")
    file = Path(directory, "msal-extensions.keychain.lock")
    seen = file.lstat()
    facts = {"file": str(file), "mode": oct(seen.st_mode), "size": seen.st_size}
    private = stat.S_ISREG(seen.st_mode) and stat.S_IMODE(seen.st_mode) == 0o600
    return private and seen.st_size == 0, facts


AFTER_FORK = """
import os, sys
from msal_extensions import KeychainPersistence
persistence = KeychainPersistence(sys.argv[1], "msal-extensions on a Mac", "fork")
persistence.save("parent")
child = os.fork()
if child == 0:
    try:
        print("a forked child loads:", persistence.load(), flush=True)
    except Exception as error:
        print("a forked child fails:", error, flush=True)
    os._exit(0)
print("it ended with status", os.waitpid(child, 0)[1])
print("its parent loads:", persistence.load())
persistence.delete()
"""


@question("What a child made by fork can do", must=False)
def _fork(desk: Desk) -> Answer:
    _ = desk.keychain
    status, said = run(sys.executable, "-c", AFTER_FORK, desk.directory() / "signal")
    return status == 0, {"status": status, "said": said}


@question("The signed program of this Python is the one in the item's access list", must=False)
def _lists(desk: Desk) -> Answer:
    keychain = desk.keychain
    use(desk, "lists", "save:text")
    status, said = run("security", "dump-keychain", "-a", keychain.path)
    if status != 0:
        raise CannotAsk(f"security dump-keychain: status {status} {said}")
    item = said[said.find('"acct"<blob>="lists"') :].split("\nkeychain:")[0]
    # Of a bundle the list shows the directory.
    program = signed_program().split("/Contents/MacOS/")[0]
    return program in item, {"program": program, "lists": item[:4000]}
