"""The questions of tests/macos/on_a_mac.py; tests/support/plan.py says what a question is."""

from tests.support.mac.questions import crowds, files, keychain, locks, strangers, suite
from tests.support.plan import Question

#: In the order in which they are asked.  Those that may leave something on the screen come last.
ALL: list[Question] = [
    question
    for part in (suite, locks, files, keychain, crowds, strangers)
    for question in part.ASKED
]
