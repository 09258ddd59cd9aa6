"""A real terminal (a pty) that a test can read and type on; pyte shows what a person would see.

with Terminal(80, ["python3", ...], environment) as terminal:
    terminal.wait_for("[y/N]")
    terminal.type("y\\n")
    assert terminal.end() == 0
    print(terminal.shown())
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence

import pyte

from tests.support.processes import GENEROUS

#: So many that nothing scrolls away.
LINES = 500


class Terminal:
    """A program on a terminal of its own."""

    def __init__(
        self, columns: int, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self.raw = b""  #: everything that the program has printed
        self._screen = pyte.Screen(columns, LINES)
        self._stream = pyte.ByteStream(self._screen)
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))

        def take_terminal() -> None:
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches the program

        self._process = subprocess.Popen(
            command,
            env={"TERM": "xterm", **environment, "COLUMNS": "0", "LINES": "0"},  # 0: ask it
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def _read(self, deadline: float) -> bool:
        """False: the program has closed the terminal."""
        left = max(deadline - time.monotonic(), 0)
        assert select.select([self._ours], [], [], left)[0], f"nothing came after {self.raw!r}"
        got = b""
        with contextlib.suppress(OSError):  # EIO: nobody else has it open
            got = os.read(self._ours, 65536)
        self.raw += got
        self._stream.feed(got)
        return bool(got)

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + GENEROUS
        while words.encode() not in self.raw:
            assert self._read(deadline), f"it ended after {self.raw!r}"

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> int:
        """The exit status."""
        deadline = time.monotonic() + GENEROUS
        while self._read(deadline):
            pass
        return self._process.wait(GENEROUS)

    def shown(self) -> list[str]:
        """The lines as a person sees them."""
        return [line.rstrip() for line in "\n".join(self._screen.display).rstrip().split("\n")]

    def printed(self) -> list[str]:
        """The lines as the program has printed them, before the terminal breaks any of them."""
        text = self.raw.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
        return [line.rstrip() for line in text.rstrip().split("\n")]
