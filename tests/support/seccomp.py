"""A process whose every system call waits for the test's answer: go on, fail, or die there.

    def answer(number: int, name: str) -> int:
        return errno.EIO if name == "fdatasync" else GO_ON

    run = supervised(lambda: persistence.save("new"), answer)

Linux asks (seccomp's user notification), so no call escapes: not one that the C library makes by
itself, and none that has no function in the C library.  That costs some 50 us for each call, and
a fork instead of a start of Python, so a test can afford each error at each call.

What a call that failed here would have done is not done.  A real close() that fails has closed
all the same; so a failed close() leaves one descriptor open that no real kernel would.
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
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.support.capability import needs
from tests.support.processes import descriptors

GO_ON, KILL = 0, -1

#: Milliseconds that a process may compute between two system calls.
PATIENCE_MS = 60_000

#: Calls that are the interpreter's own business (memory, threads, signals), or that cannot fail.
UNASKED = (
    *("brk", "mmap", "munmap", "mremap", "madvise", "mprotect", "futex", "sched_yield"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "clock_gettime", "getrandom"),
    *("getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "umask"),
    *("sendmsg", "exit", "exit_group"),
)
#: The call that opens and closes the part under test.
MARK = "getppid"

# linux/seccomp.h, linux/filter.h, linux/prctl.h
PR_SET_NO_NEW_PRIVS, SECCOMP_SET_MODE_FILTER, NEW_LISTENER = 38, 1, 8
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000
RECEIVE, SEND, SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104
CONTINUE, SWITCH_AT_ONCE = 1, 1


class Run(NamedTuple):
    """How it went."""

    calls: list[str]  #: the system calls of the work, in order
    result: Any  #: what the work returned; None when it was killed
    leaked: int  #: descriptors that are open after the work and were not before
    afterwards: Any  #: what the second function returned


@functools.cache
def numbers() -> dict[str, int]:
    """The system calls of this machine, by name."""
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
    """The system calls of this machine, by number."""
    return {number: name for name, number in numbers().items()}


def _filter() -> bytes:
    """The program that lets the kernel ask: unasked calls go on, of all others it notifies."""
    unasked = [numbers()[name] for name in UNASKED if name in numbers()]
    code = [(LOAD_NUMBER, 0, 0, 0)]
    for at, number in enumerate(unasked):
        code.append((JUMP_IF_EQUAL, len(unasked) - at, 0, number))
    code += [(RETURN, 0, 0, NOTIFY), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _listen() -> int:
    """From here on this process waits at each call for whoever has the descriptor."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = _filter()
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = libc.syscall(
        numbers()["seccomp"], SECCOMP_SET_MODE_FILTER, NEW_LISTENER, ctypes.c_char_p(header)
    )
    return int(listener) if listener >= 0 else -ctypes.get_errno()


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
    """Runs the work in a child of a fork, and then ``afterwards``, whose calls all go on.

    ``answer`` is called in this process at each system call, before it happens, with its place
    in the order and its name; it returns GO_ON, KILL or the errno to fail with.  What the two
    functions return must be something that pickle can take, and must be short.
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
        needs(None if said == b"." else "seccomp's user notification is not to be had")
        with os.fdopen(received[0], "rb", buffering=0) as listener:
            _supervise(listener.fileno(), pid, answer, calls)
        with os.fdopen(os.dup(results), "rb") as stream:
            said = stream.read()
        return Run(calls, *(pickle.loads(said) if said else (None, 0, None)))
    finally:
        os.close(results)
        here.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # if the answer failed
        os.waitpid(pid, 0)


def _supervise(
    listener: int, pid: int, answer: Callable[[int, str], int], calls: list[str]
) -> None:
    """Answers each call until the process ends."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    inside = False
    with contextlib.suppress(OSError):  # since Linux 6.6; it is faster so
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
            if error.errno in (errno.ENOENT, errno.EINTR):  # it died meanwhile
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
