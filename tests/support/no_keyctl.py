"""Runs a program to which the kernel refuses keys, as the default filters of containers do.

    subprocess.Popen(command(errno.EPERM, ["python3", "program.py"]))

Docker's and containerd's profiles of allowed system calls leave out add_key, request_key and
keyctl, and answer EPERM (moby's profiles/seccomp/default.json); other sandboxes say ENOSYS.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Sequence

CALLS = ("add_key", "request_key", "keyctl")
# linux/prctl.h, linux/seccomp.h, linux/filter.h
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def command(
    error: int, program: Sequence[str], python: str = sys.executable, file: str = __file__
) -> list[str]:
    """The command that runs a program this way.

    :param error: The errno of the refused calls.
    :param file: Where this file is, if the program runs in another root directory.
    """
    from tests.support.seccomp import numbers

    listed = ",".join(str(numbers()[name]) for name in CALLS)
    return [python, file, str(error), listed, *program]


def refuse(error: int, numbers: Sequence[int]) -> None:
    """From here on these calls of this process fail with that errno."""
    code = [(LOAD_NUMBER, 0, 0, 0)]
    for at, number in enumerate(numbers):
        code.append((JUMP_IF_EQUAL, len(numbers) - at, 0, number))
    code += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | error)]
    text = b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
    buffer = ctypes.create_string_buffer(text, len(text))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) or libc.prctl(
        PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), header, zero, zero
    ):
        code_of_prctl = ctypes.get_errno()
        raise OSError(code_of_prctl, f"prctl: {os.strerror(code_of_prctl)}")


if __name__ == "__main__":
    refuse(int(sys.argv[1]), [int(number) for number in sys.argv[2].split(",")])
    os.execvp(sys.argv[3], sys.argv[3:])
