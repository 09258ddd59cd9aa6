"""The whole suite, and the rules of this system."""

from __future__ import annotations

import sys

from tests.support.windows.machine import Desk, run
from tests.support.windows.questions.asking import Answer, part

ASKED, question = part()


@question("The tests of this project pass, on Windows itself")
def _suite(desk: Desk) -> Answer:
    variables = {
        "MSALEX_PEER_LOCK": str(desk.built("peer_lock")),
        "MSALEX_REFERENCE_BARE": str(desk.reference(portalocker=False)),
        "MSALEX_REFERENCE_PORTALOCKER": str(desk.reference(portalocker=True)),
    }
    told = [sys.executable, "-m", "pytest", "-q", "--tb=short", "tests"]
    status, said = run(*told, seconds=3600, variables=variables)
    summary = said[said.rfind("short test summary info") :]
    return status == 0, {"status": status, "pytest": summary[-6000:]}


@question("Each rule of Windows that a fake of ours models is shown by this system", must=False)
def _rules(desk: Desk) -> Answer:
    status, said = run(desk.built("rules"), desk.directory())
    return status == 0 and "not shown" not in said, {"rules": said}
