"""Runs a command that prints a secret: bounded in time and in size, without a shell."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from .._references import KEY_UNAVAILABLE
from ..errors import KeyUnavailable, with_remedy

#: Seconds between two looks whether the program has ended, or the time is over.
_SLICE = 0.02


def output_of(argv: Sequence[str], timeout: float, size_max: int) -> bytes:
    """What a program prints.

    It reads nothing, and what it says on its error output is not ours to show: it may be secret.
    The output ends when the program ends.  What it has started, and left in its session, ends then
    too, but does not keep us waiting.

    :param timeout: In seconds; negative: for ever.
    :param size_max: In bytes.
    :raises KeyUnavailable: when it cannot be run, fails, prints more, or takes longer.
    """
    name = argv[0]
    by_hand = KEY_UNAVAILABLE.saying(f"Run it by hand to see why: {os.path.basename(name)}")
    try:
        process = subprocess.Popen(  # noqa: S603 - the program has named this command
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        cause = KEY_UNAVAILABLE.saying("Give the full path of a program that can be run.")
        raise with_remedy(KeyUnavailable, error.errno, f"{error.strerror}.", name, cause) from None
    try:
        deadline = math.inf if timeout < 0 else time.monotonic() + timeout
        secret = _read(process, deadline, size_max)
        if secret is None:
            words = f"The command did not end within {timeout:g} seconds."
            raise with_remedy(KeyUnavailable, None, words, name, by_hand)
        if len(secret) > size_max:
            words = "It prints more than a key."
            raise with_remedy(KeyUnavailable, None, words, name, by_hand)
        if process.returncode != 0:
            words = f"The command failed: {process.returncode}."
            raise with_remedy(KeyUnavailable, None, words, name, by_hand)
        return secret
    finally:
        _end(process)


def _read(process: subprocess.Popen[bytes], deadline: float, size_max: int) -> bytes | None:
    """The output of a program that has ended; longer than allowed: the program may run on.

    :returns: None: the time was over before.
    """
    assert process.stdout is not None
    secret, is_open = b"", True
    while len(secret) <= size_max:
        has_ended = process.poll() is not None  # before the look: so the pipe has all that it wrote
        if is_open and _has_output(process.stdout.fileno(), 0 if has_ended else _SLICE):
            part = os.read(process.stdout.fileno(), size_max + 1)
            secret, is_open = secret + part, bool(part)
        elif has_ended:
            break
        elif not is_open:
            time.sleep(_SLICE)
        if time.monotonic() > deadline:
            return None
    return secret


def _has_output(pipe: int, seconds: float) -> bool:
    """Whether a read would not wait: there is output, or no program has the pipe any more.

    :param seconds: to wait for that, at most.
    """
    if sys.platform != "win32":
        poll = select.poll()  # select() refuses large numbers of descriptors
        poll.register(pipe, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    import _winapi
    import msvcrt

    with contextlib.suppress(BrokenPipeError):
        if not _winapi.PeekNamedPipe(msvcrt.get_osfhandle(pipe), 0)[0]:
            time.sleep(seconds)  # a pipe is nothing that Windows can wait for
            return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)  # its own session; gone is no error
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
