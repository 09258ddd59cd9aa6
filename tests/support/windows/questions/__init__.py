"""The questions of tests/windows/on_windows.py; asking.py says how they are written."""

from tests.support.windows.questions import files, lists, locks, protection, suite
from tests.support.windows.questions.asking import Question

#: In the order in which they are asked.
ALL: list[Question] = [
    question for part in (suite, locks, files, lists, protection) for question in part.ASKED
]
