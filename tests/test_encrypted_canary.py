"""A secret that is nowhere but encrypted: not in a file, a log, an output or a write call.

A secret is looked for after each way that a program can take, and after a death at each system call
of a save and of a rekey.
"""

from __future__ import annotations

import base64
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from msal_extensions import (
    EncryptedFilePersistence,
    KeyFile,
    PersistedTokenCache,
)
from msal_extensions._native import kernelkey
from tests.support.capability import needs, requires
from tests.support.key_sources import make_source, remove_kernel_keys, text_of, write_key
from tests.support.key_sources import own_keys as own_keys
from tests.support.processes import PATIENCE
from tests.support.seccomp import GO_ON, KILL, supervised

pytestmark = [pytest.mark.usefixtures("own_keys"), requires("os.fork")]

ROOT = Path(__file__).resolve().parents[1]
KEY, OTHER = bytes(range(100, 132)), bytes(range(1, 33))
CANARY = "canary-of-a-token-" + 20 * "7f3a"
ENTRY = {"home_account_id": "h", "environment": "e", "client_id": "c"}


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "caches" / "cache.bin"


def traces(said: bytes, *keys: bytes) -> list[str]:
    """What is in there of the canary and of keys."""
    secrets = {
        "canary": CANARY[:24].encode(),
        "canary as Base64": base64.b64encode(b"canary-of-a-"),
    }
    for number, key in enumerate(keys):
        secrets |= {
            f"key {number}": key[:16],
            f"key {number} as Base64": text_of(key)[:20].encode(),
            f"key {number} in hex": key.hex()[:30].encode(),
            f"key {number} in a repr": repr(key)[2:30].encode(),
        }
    return [name for name, secret in secrets.items() if secret in said]


def traces_in(directory: Path, *keys: bytes) -> dict[str, list[str]]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {path.name: found for path in files if (found := traces(path.read_bytes(), *keys))}


def add_canary(cache: PersistedTokenCache, name: str = "h") -> None:
    cache.modify("RefreshToken", {**ENTRY, "home_account_id": name}, {"secret": CANARY})


def names(directory: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in directory.iterdir())


@pytest.fixture
def silent(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[list[bytes]]:
    """Checks at the end that no secret was logged or printed; the keys are told to it."""
    caplog.set_level(logging.DEBUG)
    keys: list[bytes] = []
    yield keys
    output = capfd.readouterr()
    logged = [record.getMessage() for record in caplog.get_records("call")]
    assert traces("".join([*logged, output.out, output.err]).encode(), *keys) == []


def test_the_search_for_a_canary_finds_it(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text(f'{{"secret": "{CANARY}"}}')
    (tmp_path / "key").write_bytes(b"x" + KEY)
    (tmp_path / "text").write_text(text_of(KEY))
    found = traces_in(tmp_path, OTHER, KEY)
    assert found == {"plain": ["canary"], "key": ["key 1"], "text": ["key 1 as Base64"]}


def test_after_saves_and_a_new_key(location: Path, silent: list[bytes]) -> None:
    silent += [KEY, OTHER]
    persistence = EncryptedFilePersistence(location, KEY)
    persistence.save(CANARY)
    assert traces_in(location.parent, KEY) == {}
    persistence.save(CANARY + CANARY)
    persistence.rekey(OTHER)
    assert EncryptedFilePersistence(location, OTHER).load() == CANARY + CANARY
    assert traces_in(location.parent, KEY, OTHER) == {}
    assert names(location.parent) == ["cache.bin"]
    persistence.delete()
    assert names(location.parent) == []


@pytest.mark.parametrize("part", [30, -1], ids=["line", "ciphertext"])
def test_after_a_damaged_file_was_put_aside(location: Path, silent: list[bytes], part: int) -> None:
    silent += [KEY]
    persistence = EncryptedFilePersistence(location, KEY)
    add_canary(PersistedTokenCache(persistence))
    content = bytearray(location.read_bytes())
    content[part] ^= 1
    location.write_bytes(content)
    cache = PersistedTokenCache(EncryptedFilePersistence(location, KEY), on_unreadable="quarantine")
    add_canary(cache, "new")
    assert names(location.parent) == ["cache.bin", "cache.bin.damaged"]
    assert traces_in(location.parent, KEY) == {}


def test_after_a_reboot_took_the_key(
    location: Path, tmp_path: Path, silent: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cache() -> PersistedTokenCache:
        source = make_source("kernel", tmp_path)
        return PersistedTokenCache(
            EncryptedFilePersistence(location, source, on_lost_key="quarantine")
        )

    add_canary(cache())
    first = kernelkey.find(1)
    assert isinstance(first, bytes)
    remove_kernel_keys(tmp_path)
    monkeypatch.setattr(kernelkey, "boot_id", lambda: "another-boot")
    assert list(cache().search("RefreshToken")) == []
    add_canary(cache(), "new")
    second = kernelkey.find(1)
    assert isinstance(second, bytes)
    silent += [first, second]
    assert names(location.parent) == ["cache.bin", "cache.bin.lost"]
    assert traces_in(location.parent, first, second) == {}
    EncryptedFilePersistence(location, make_source("kernel", tmp_path)).delete()
    assert names(location.parent) == []


# ---- a death at each system call ----------------------------------------------------------


def deaths(work: Callable[[], object], after: Callable[[], None]) -> int:
    """Lets the work die before each of its system calls, and calls ``after`` each time.

    :returns: The number of calls.
    """
    calls = 0
    while True:
        at = calls

        def answer(number: int, name: str, at: int = at) -> int:
            return KILL if number == at else GO_ON

        run = supervised(work, answer)
        after()
        if len(run.calls) <= at:
            return calls
        calls += 1


@pytest.mark.slow
@pytest.mark.parametrize("what", ["save", "rekey"])
def test_after_a_death_at_each_system_call(location: Path, tmp_path: Path, what: str) -> None:
    path = tmp_path / "keys" / "key"
    persistence = EncryptedFilePersistence(location, KeyFile(write_key(path, KEY)))
    persistence.save(CANARY)

    def work() -> None:
        again = EncryptedFilePersistence(location, KeyFile(path))
        if what == "save":
            again.save(CANARY)
        else:
            again.rekey()

    write_key(path, OTHER, KEY)

    def after() -> None:
        assert traces_in(location.parent, KEY, OTHER) == {}
        assert EncryptedFilePersistence(location, KeyFile(path)).load() == CANARY
        if what == "rekey":  # back to the old key, if the rekey has come so far
            write_key(path, KEY, OTHER)
            EncryptedFilePersistence(location, KeyFile(path)).save(CANARY)
            write_key(path, OTHER, KEY)

    calls = deaths(work, after)
    print(f"{calls} deaths in a {what}")
    assert calls > 20
    long_ago = 1_000_000_000
    for left in location.parent.iterdir():
        os.utime(left, (long_ago, long_ago))  # young ones could be those of a living writer
    EncryptedFilePersistence(location, KeyFile(path)).delete()
    assert names(location.parent) == []


# ---- what a program prints and writes -----------------------------------------------------

PROGRAM = """
    import logging, sys
    logging.basicConfig(level=logging.DEBUG)
    from msal_extensions import EncryptedFilePersistence, KeyFile, PersistedTokenCache
    location, key_file, canary = sys.argv[1], sys.argv[2], sys.stdin.read()
    persistence = EncryptedFilePersistence(location, KeyFile(key_file))
    cache = PersistedTokenCache(persistence, on_unreadable="quarantine")
    entry = {"home_account_id": "h", "environment": "e", "client_id": "c"}
    cache.modify("RefreshToken", entry, {"secret": canary})
    persistence.save(persistence.load())
    persistence.verify()
    with open(location, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    cache = PersistedTokenCache(persistence, on_unreadable="quarantine")
    cache.modify("RefreshToken", entry, {"secret": canary})
    print(repr(persistence), repr(cache), vars(persistence))
"""


def test_no_write_of_a_program_holds_the_secret(location: Path, tmp_path: Path) -> None:
    needs(None if shutil.which("strace") else "strace is not installed")
    key_file = write_key(tmp_path / "keys" / "key", KEY)
    log = tmp_path / "strace"
    calls = "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg"
    strace = ["strace", "-f", "-qq", "-s", "1000000", "-e", calls, "-o", str(log)]
    done = subprocess.run(
        [*strace, sys.executable, "-c", textwrap.dedent(PROGRAM), str(location), str(key_file)],
        input=CANARY.encode(),
        capture_output=True,
        timeout=PATIENCE,
    )
    needs("strace is not allowed to trace" if b"ptrace" in done.stderr else None)
    assert done.returncode == 0, done.stderr.decode()
    assert b"was damaged and is empty now" in done.stderr  # so the log was written
    written = log.read_bytes()
    assert written.count(b"msalex-enc/1") >= 4
    assert traces(written + done.stdout + done.stderr, KEY) == []
    assert traces_in(location.parent, KEY) == {}
