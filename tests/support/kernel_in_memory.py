"""A kernel keyring in a dictionary, for what no test can wait for: a reboot, three days, an hour.

tests/test_kernel_key.py has the real keyring.  The rules here are those of csrc/msalex.h: a number
never changes its key, and an expired key is replaced.
"""

from __future__ import annotations

import pytest

from msal_extensions._native import kernelkey
from msal_extensions._native.kernelkey import Missing


class Kernel:
    """Stands for the kernel: its keys by number, the boot and the user namespace."""

    def __init__(self) -> None:
        self.keys: dict[int, bytes | Missing] = {}
        self.boot, self.userns, self.looks = "boot-1", "1", 0

    def find(self, number: int) -> bytes | Missing:
        self.looks += 1
        return self.keys.get(number, Missing.NONE)

    def add(self, number: int, key: bytes) -> bool:
        if isinstance(self.keys.get(number), bytes):
            return False
        self.keys[number] = key
        return True


@pytest.fixture(name="kernel")
def kernel_fixture(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(kernelkey, "find", made.find)
    monkeypatch.setattr(kernelkey, "add", made.add)
    monkeypatch.setattr(kernelkey, "boot_id", lambda: made.boot)
    monkeypatch.setattr(kernelkey, "user_namespace", lambda: made.userns)
    monkeypatch.setattr(kernelkey, "expires_after", lambda: 1000)
    for variable in ("MSAL_EXTENSIONS_KEY_FILE", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)
    return made
