"""Runs a command that prints a secret: bounded in time and in size, without a shell."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from ..errors import KeyUnavailable

#: Seconds that a program which has closed its output gets to end.
_GRACE = 1.0

#: Seconds.  On Windows Ctrl-C has to wait for the end of a join().
_SLICE = 0.05


def output_of(argv: Sequence[str], timeout: float, size_max: int) -> bytes:
    """What a program prints.

    It reads nothing, and what it says on its error output is not ours to show: it may be secret.
    When the time is over, the program is ended, with all that it has started.

    :param timeout: In seconds; negative: for ever.
    :param size_max: In bytes.
    :raises KeyUnavailable: when it cannot be run, fails, prints more, or takes longer.
    """
    by_hand = f"Run it by hand to see why: {os.path.basename(argv[0])}"
    try:
        process = subprocess.Popen(  # noqa: S603 - the program has named this command
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        words = f"{error.strerror}. Give the full path of a program that can be run."
        raise KeyUnavailable(error.errno, words, argv[0]) from None
    output: list[bytes] = []
    reader = threading.Thread(target=_read, args=(process, size_max, output), daemon=True)
    try:
        reader.start()
        deadline = math.inf if timeout < 0 else time.monotonic() + timeout
        while reader.is_alive() and time.monotonic() < deadline:
            reader.join(_SLICE)
        if reader.is_alive():
            words = f"The command did not end within {timeout:g} seconds. {by_hand}"
            raise KeyUnavailable(None, words, argv[0])
        secret = b"".join(output)
        if len(secret) > size_max:
            raise KeyUnavailable(None, f"It prints more than a key. {by_hand}", argv[0])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
        if process.returncode != 0:
            status = (
                "did not end" if process.returncode is None else f"failed: {process.returncode}"
            )
            raise KeyUnavailable(None, f"The command {status}. {by_hand}", argv[0])
        return secret
    finally:
        _end(process)


def _read(process: subprocess.Popen[bytes], size_max: int, output: list[bytes]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(OSError, ValueError), process.stdout as pipe:
        while sum(map(len, output)) <= size_max and (part := os.read(pipe.fileno(), size_max + 1)):
            output.append(part)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)  # its own session; gone is no error
    process.wait()
