"""A display of one's own, and a person in front of it.

with person.screen() as screen, KeePassXC(directory, display=screen.display) as service:
    with screen.person("Access Request", "Return"):
        ...                                 # each dialog of this title is answered with Return
    assert screen.windows() == [...]
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import NamedTuple

from tests.support.keyring import end

#: Seconds between two looks at the screen.
LOOK_S = 0.1


def missing() -> str | None:
    """A sentence that says what this machine lacks, or None."""
    for program, package in (("Xvfb", "xvfb"), ("xdotool", "xdotool")):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian package {package})."
    return None


class Screen(NamedTuple):
    """A display, such as ":3"."""

    display: str

    def windows(self) -> dict[str, str]:
        """The visible windows that have a title: {number: title}."""
        found: dict[str, str] = {}
        for number in self._do("search", "--onlyvisible", "--name", "."):
            for title in self._do("getwindowname", number):  # none: it has gone meanwhile
                found[number] = title
        return found

    def press(self, window: str, *keys: str) -> None:
        """Presses keys in one window."""
        self._do("windowfocus", window, "key", "--window", window, *keys)

    @contextlib.contextmanager
    def person(self, title: str, *keys: str) -> Iterator[list[str]]:
        """Answers each window with such a title, in a thread.  The list has the titles that were
        answered."""
        answered: list[str] = []
        going = threading.Event()

        def look() -> None:
            while not going.wait(LOOK_S):
                for window, name in self.windows().items():
                    if title in name:
                        answered.append(name)
                        self.press(window, *keys)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield answered
        finally:
            going.set()
            thread.join()

    def _do(self, *command: str) -> list[str]:
        """The lines that xdotool prints; it fails when a window is not there."""
        done = subprocess.run(
            ["xdotool", *command],
            env={**os.environ, "DISPLAY": self.display},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout.splitlines()


@contextlib.contextmanager
def screen() -> Iterator[Screen]:
    """A display whose number the X server chooses, so that no two have the same."""
    reader, writer = os.pipe()
    with open(reader) as told:
        command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "800x600x24"]
        process = subprocess.Popen(
            [*command, "-nolisten", "tcp"],
            pass_fds=[writer],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(writer)
        try:
            number = told.readline().strip()
            assert number, "Xvfb did not start"
            yield Screen(f":{number}")
        finally:
            end(process)
