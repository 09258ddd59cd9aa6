"""A process that asks the test before each system call: go on, fail, or die there.

    def answer(number: int, name: str) -> int:
        return errno.EIO if name == "fdatasync" else GO_ON

    run = supervised(lambda: persistence.save("new"), answer)

The kernel asks (seccomp's user notification), so no call is missed: neither a call that the C
library makes by itself, nor one without a function in the C library.  It costs some 50 us for each
call, and a fork in place of a new Python, so a test can afford to try each error at each call.

A call that fails here does nothing.  A real close() that fails has closed the descriptor all the
same; so after a failed close() one more descriptor is open here than under a real kernel.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import pickle
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.support import no_keyctl
from tests.support.capability import needs
from tests.support.processes import descriptors

GO_ON, KILL = 0, -1

#: Milliseconds that the process may compute between two system calls.
PATIENCE_MS = 60_000

#: Calls that are not asked about: the interpreter's own (memory, threads, signals), and calls that
#: cannot fail.
UNASKED = (
    *("brk", "mmap", "munmap", "mremap", "madvise", "mprotect", "futex", "sched_yield"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "clock_gettime", "getrandom"),
    *("getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "umask"),
    *("sendmsg", "exit", "exit_group"),
)
#: This call begins and ends the part under test.
MARK = "getppid"

# linux/seccomp.h, linux/filter.h, linux/prctl.h
PR_SET_NO_NEW_PRIVS, SECCOMP_SET_MODE_FILTER, NEW_LISTENER = 38, 1, 8
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000
RECEIVE, SEND, SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104
CONTINUE, SWITCH_AT_ONCE = 1, 1


class Run(NamedTuple):
    """The result of a supervised process."""

    calls: list[str]  #: the system calls of the work, in order
    result: Any  #: what the work returned; None when it was killed
    leaked: int  #: descriptors that the work opened and did not close
    afterwards: Any  #: what the second function returned


@functools.cache
def numbers() -> dict[str, int]:
    """The numbers of this machine's system calls, by name."""
    compiler = shutil.which("cc")
    needs(None if compiler else "cc is not installed")
    done = subprocess.run(
        [str(compiler), "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", os.devnull],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: dict[str, str] = dict(
        re.findall(r"^#define (__NR\w+) (\w+)$", done.stdout, re.MULTILINE)
    )
    meant = {name: found.get(text, text) for name, text in found.items()}  # arm64 has two names
    return {
        name.removeprefix("__NR_"): int(number)
        for name, number in meant.items()
        if name.startswith("__NR_") and number.isdecimal()
    }


@functools.cache
def names() -> dict[int, str]:
    """The names of this machine's system calls, by number."""
    return {number: name for name, number in numbers().items()}


def _filter() -> bytes:
    """The filter program: the kernel lets the unasked calls go on, and asks about all others."""
    unasked = [numbers()[name] for name in UNASKED if name in numbers()]
    code = [(LOAD_NUMBER, 0, 0, 0)]
    for at, number in enumerate(unasked):
        code.append((JUMP_IF_EQUAL, len(unasked) - at, 0, number))
    code += [(RETURN, 0, 0, NOTIFY), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _listen() -> int:
    """From here on each call of this process waits for the process that has the descriptor."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = _filter()
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = libc.syscall(
        numbers()["seccomp"], SECCOMP_SET_MODE_FILTER, NEW_LISTENER, ctypes.c_char_p(header)
    )
    return int(listener) if listener >= 0 else -ctypes.get_errno()


def forbid(calls: Sequence[str], code: int) -> None:
    """From here on these calls of this process fail with that errno, as in a container."""
    no_keyctl.refuse(code, [numbers()[name] for name in calls])


def _child(
    work: Callable[[], Any],
    afterwards: Callable[[], Any],
    results: int,
    to_parent: socket.socket,
) -> None:
    listener = _listen()
    if listener < 0:
        to_parent.sendall(b"!")
        return
    socket.send_fds(to_parent, [b"."], [listener])
    os.close(listener)
    before = descriptors()
    os.getppid()
    result = work()
    os.getppid()
    leaked = descriptors() - before
    os.write(results, pickle.dumps((result, leaked, afterwards())))


def supervised(
    work: Callable[[], Any],
    answer: Callable[[int, str], int] = lambda number, name: GO_ON,
    afterwards: Callable[[], Any] = lambda: None,
) -> Run:
    """Runs the work in a forked child, and then ``afterwards``, whose calls all go on.

    ``answer`` runs in this process before each system call, with the number of the call in order
    and its name.  It returns GO_ON, KILL or the errno to fail with.  The results of the two
    functions must be short, and pickle must be able to take them.
    """
    names()
    here, there = socket.socketpair()
    results, to_results = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - in the child
        try:
            _child(work, afterwards, to_results, there)
        finally:
            os._exit(0)
    there.close()
    os.close(to_results)
    calls: list[str] = []
    try:
        said, received, _, _ = socket.recv_fds(here, 1, 1)
        needs(None if said == b"." else "seccomp's user notification is not available")
        with os.fdopen(received[0], "rb", buffering=0) as listener:
            _supervise(listener.fileno(), pid, answer, calls)
        with os.fdopen(os.dup(results), "rb") as stream:
            said = stream.read()
        return Run(calls, *(pickle.loads(said) if said else (None, 0, None)))
    finally:
        os.close(results)
        here.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # if answer() raised
        os.waitpid(pid, 0)


def _supervise(
    listener: int, pid: int, answer: Callable[[int, str], int], calls: list[str]
) -> None:
    """Answers each call until the process ends."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    inside = False
    with contextlib.suppress(OSError):  # since Linux 6.6, and faster
        fcntl.ioctl(listener, SET_FLAGS, SWITCH_AT_ONCE)
    while True:
        events = poll.poll(PATIENCE_MS)
        assert events, f"it hangs after {calls}"
        if not events[0][1] & select.POLLIN:
            return
        notice = bytearray(80)
        try:
            fcntl.ioctl(listener, RECEIVE, notice, True)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # the process died meanwhile
                continue
            raise
        identity, number = struct.unpack_from("=QxxxxxxxxI", notice)
        name = names().get(number, str(number))
        code = GO_ON
        if name == MARK:
            inside = not inside
        elif inside:
            calls.append(name)
            code = answer(len(calls) - 1, name)
        if code == KILL:
            os.kill(pid, signal.SIGKILL)
            return
        reply = struct.pack("=QqiI", identity, 0, -code, 0 if code else CONTINUE)
        with contextlib.suppress(FileNotFoundError):
            fcntl.ioctl(listener, SEND, reply)
