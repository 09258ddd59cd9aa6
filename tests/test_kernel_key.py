"""Keys in the Linux kernel: one for all processes of a user, and for nobody else.

What other programs and the kernel do to keys, and what stays in memory, is shown in C:
tests/native/linux/kernel_key.c.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from msal_extensions import PersistenceDamaged, PersistenceError, PersistenceUnavailable
from msal_extensions._native import kernelkey
from msal_extensions._native.kernelkey import Missing
from tests.support import native, tally
from tests.support.capability import needs
from tests.support.kernel_keys import (
    JOIN_SESSION,
    PROCESS,
    REVOKE,
    SESSION,
    SET_TIMEOUT,
    a_number,
    add_key,
    keyctl,
    keys_of,
    persistent_keyring,
    serial,
)
from tests.support.kernel_keys import number as number
from tests.support.leftovers import left_behind
from tests.support.native import ADDRESS, LINUX, PLAIN, ROOT
from tests.support.native import THREAD as THREADS
from tests.support.processes import eventually, finished, python
from tests.support.seccomp import forbid
from tests.support.users import THEM, US, as_user, enter_user_namespace

T = TypeVar("T")
KEY, OTHER = bytes(range(32)), bytes(32)
#: Users of their own, because these tests use up what a user may have.
MANY, BUSY, FULL = 12061, 12062, 12063
ROUNDS = int(os.environ.get("MSALEX_KERNEL_KEYS", "20"))
CROWD = 16


def as_us(work: Callable[[], T], user: int = US) -> T:
    needs(None if os.geteuid() == 0 else "only root can become others")
    return as_user(user, work)


def raised(call: Callable[[], object]) -> PersistenceError:
    """The exception of a call that must have one."""
    with pytest.raises(PersistenceError) as caught:
        call()
    return caught.value


# ---- one key ----------------------------------------------------------------------------------


def test_a_key_is_found_as_it_was_added_until_it_is_removed(number: int) -> None:
    assert kernelkey.find(number) is Missing.NONE
    assert kernelkey.add(number, KEY)
    assert kernelkey.find(number) == KEY
    kernelkey.remove(number)
    assert kernelkey.find(number) is Missing.NONE
    kernelkey.remove(number)


def test_a_key_that_is_there_is_not_changed(number: int) -> None:
    assert kernelkey.add(number, KEY)
    assert not kernelkey.add(number, OTHER)
    assert kernelkey.find(number) == KEY


def test_a_key_may_have_1_to_256_bytes(number: int) -> None:
    for size in (1, kernelkey.LONGEST_KEY):
        assert kernelkey.add(number, b"k" * size)
        assert kernelkey.find(number) == b"k" * size
        kernelkey.remove(number)
    for size in (0, kernelkey.LONGEST_KEY + 1):
        with pytest.raises(PersistenceError):
            kernelkey.add(number, b"k" * size)
    assert kernelkey.find(number) is Missing.NONE


def test_something_else_in_its_place_is_damaged_and_can_be_removed(number: int) -> None:
    def plant() -> int:
        return add_key(f"msal-extensions:{number}", b"x" * 300, persistent_keyring())

    assert as_us(plant, 0) > 0
    error = raised(lambda: kernelkey.find(number))
    assert isinstance(error, PersistenceDamaged)
    assert f"msal-extensions:{number}" in str(error)
    kernelkey.remove(number)
    assert kernelkey.find(number) is Missing.NONE


def test_a_key_whose_own_time_is_over_has_expired_and_is_made_anew(number: int) -> None:
    kernelkey.add(number, KEY)
    as_us(lambda: keyctl(SET_TIMEOUT, serial(number), 1), 0)
    eventually(lambda: kernelkey.find(number) is Missing.EXPIRED)
    assert kernelkey.add(number, OTHER)
    assert kernelkey.find(number) == OTHER


def test_a_revoked_key_is_made_anew(number: int) -> None:
    kernelkey.add(number, KEY)
    as_us(lambda: keyctl(REVOKE, serial(number)), 0)
    assert kernelkey.find(number) is Missing.NONE
    assert kernelkey.add(number, OTHER)
    assert kernelkey.find(number) == OTHER


def test_the_machine_and_the_namespace_have_names() -> None:
    assert kernelkey.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert kernelkey.user_namespace() in os.readlink("/proc/self/ns/user")
    assert kernelkey.user_namespace().isdecimal()
    assert kernelkey.expires_after() > 0


# ---- others -----------------------------------------------------------------------------------


def test_another_process_finds_the_key(number: int) -> None:
    kernelkey.add(number, KEY)
    code = "import sys; from msal_extensions._native import kernelkey as k"
    said = python(f"{code}; print(k.find(int(sys.argv[1])).hex())", str(number)).stdout
    assert said.strip() == KEY.hex()


def test_a_key_is_found_from_each_session_of_its_user(number: int) -> None:
    """Root's session, as after `su`; a new and empty one; one that was revoked, as at a logout."""

    def sessions() -> list[object]:
        kernelkey.add(number, KEY)
        try:
            found = [kernelkey.find(number)]
            keyctl(JOIN_SESSION, None)
            found += [kernelkey.find(number)]
            keyctl(JOIN_SESSION, b"msalex-test")
            found += [kernelkey.find(number)]
            keyctl(REVOKE, SESSION)
            return [*found, kernelkey.find(number)]
        finally:
            kernelkey.remove(number)

    assert as_us(sessions) == [KEY] * 4


def test_another_user_does_not_find_the_key(number: int) -> None:
    as_us(lambda: kernelkey.add(number, KEY))
    try:
        assert as_us(lambda: kernelkey.find(number)) == KEY
        assert as_us(lambda: kernelkey.find(number), THEM) is Missing.NONE
        assert kernelkey.find(number) is Missing.NONE
    finally:
        as_us(lambda: kernelkey.remove(number))


def test_each_user_namespace_has_keys_of_its_own(number: int) -> None:
    def inside() -> tuple[object, ...]:
        try:
            enter_user_namespace()
        except OSError as error:
            return (str(error),)
        before = kernelkey.find(number)
        added = kernelkey.add(number, OTHER)
        return before, added, kernelkey.find(number), kernelkey.user_namespace()

    as_us(lambda: kernelkey.add(number, KEY))
    try:
        one, two = as_us(inside), as_us(inside)
        needs(None if len(one) > 1 else f"no user namespaces: {one}")
        assert one[:3] == two[:3] == (Missing.NONE, True, OTHER)
        assert kernelkey.user_namespace() not in (one[3], two[3])
        assert as_us(lambda: kernelkey.find(number)) == KEY
    finally:
        as_us(lambda: kernelkey.remove(number))


# ---- many at once -----------------------------------------------------------------------------

#: Processes that meet before each round and after it.  argv: processes, rounds, first number.
RACE = """
import json, multiprocessing, os, sys
from msal_extensions._native import kernelkey

processes, rounds, first = map(int, sys.argv[1:])
barrier = multiprocessing.Barrier(processes)

def work(number):
    said, pipe = [], pipes[number][1]
    for readable, writable in pipes:
        readable.close()
        if writable is not pipe:
            writable.close()
    for number in range(first, first + rounds):
        key = os.urandom(32)
        barrier.wait(100)
        won = kernelkey.add(number, key)
        found = kernelkey.find(number)
        barrier.wait(100)
        said.append((won, found == key, found.hex(), kernelkey.find(number) == found))
    pipe.send(said)

context = multiprocessing.get_context("fork")
pipes = [context.Pipe() for _ in range(processes)]
for number in range(processes):
    context.Process(target=work, args=(number,), daemon=True).start()
for _, writable in pipes:
    writable.close()
try:  # EOFError: a process died
    print(json.dumps([readable.recv() for readable, _ in pipes]))
finally:
    for number in range(first, first + rounds):
        kernelkey.remove(number)
"""


@pytest.mark.slow
def test_of_many_processes_that_add_a_key_at_once_one_does_and_all_find_its_bytes(
    number: int,
) -> None:
    said = python(RACE, str(CROWD), str(ROUNDS), str(number * 1000), patience=1000).stdout
    for processes in zip(*json.loads(said), strict=True):
        won, is_own, found, is_still_there = zip(*processes, strict=True)
        tally.tried()
        tally.lost(won != is_own or len(set(found)) > 1)
        assert sum(won) == 1
        assert won == is_own
        assert len(set(found)) == 1
        assert all(is_still_there)


@pytest.mark.slow
def test_more_processes_than_a_user_may_have_keys_have_found_one_and_live_on(number: int) -> None:
    """A process that had a keyring of its own would keep it until it ends."""

    def crowd() -> tuple[int, bool]:
        found = 0
        kernelkey.add(number, KEY)
        stop, end = os.pipe()
        answers, answer = os.pipe()
        for _ in range(250):
            if os.fork() == 0:
                with contextlib.suppress(PersistenceError):
                    os.write(answer, b"y" if kernelkey.find(number) == KEY else b"n")
                os.close(answer)
                os.close(end)
                os.read(stop, 1)
                os._exit(0)
        os.close(answer)
        with os.fdopen(answers, "rb") as stream:
            found = stream.read().count(b"y")
        added = kernelkey.add(number + 1, OTHER)
        for each in (number, number + 1):
            kernelkey.remove(each)
        os.close(end)
        return found, added

    assert as_us(crowd, MANY) == (250, True)
    eventually(lambda: keys_of(MANY) < 10)


@pytest.mark.slow
def test_many_calls_at_once_do_not_use_up_the_quota() -> None:
    """The kernel counts the keyrings of threads that have ended for a moment more."""

    def work(answer: int) -> None:
        mine = a_number() + os.getpid()
        try:
            for _ in range(200):
                assert kernelkey.add(mine, KEY)
                kernelkey.remove(mine)
        except BaseException as error:
            os.write(answer, f"{error!r}\n".encode())
        finally:
            os._exit(0)

    def crowd() -> str:
        answers, answer = os.pipe()
        for _ in range(8):
            if os.fork() == 0:
                work(answer)
        os.close(answer)
        with os.fdopen(answers) as stream:
            return stream.read()

    assert as_us(crowd, BUSY) == ""


def test_threads_add_and_find_keys_at_once() -> None:
    wrong: list[object] = []

    def work() -> None:
        mine = a_number()
        for _ in range(50):
            before = kernelkey.find(mine)
            steps = before, kernelkey.add(mine, KEY), kernelkey.add(mine, OTHER)
            after = kernelkey.find(mine)
            kernelkey.remove(mine)
            if (*steps, after) != (Missing.NONE, True, False, KEY):
                wrong.append((*steps, after))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert wrong == []


def test_a_key_that_is_removed_meanwhile_is_found_or_is_not_there(number: int) -> None:
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            kernelkey.add(number, KEY)
            kernelkey.remove(number)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        found = {kernelkey.find(number) for _ in range(3000)}
    finally:
        done.set()
        thread.join(100)
    assert found <= {KEY, Missing.NONE}


@pytest.mark.slow
def test_nothing_is_left_behind(number: int) -> None:
    def turn() -> None:
        kernelkey.add(number, KEY)
        kernelkey.add(number, OTHER)
        kernelkey.find(number)
        kernelkey.remove(number)
        kernelkey.find(number)

    left = left_behind(turn, turns=300)
    assert left["threads"] == 0
    assert left["descriptors"] == 0
    assert left["allocated"] < 100_000


# ---- where there is none ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"), [(errno.EPERM, "container"), (errno.ENOSYS, "5.3"), (errno.EACCES, "rule")]
)
def test_where_keys_are_forbidden_the_keyring_is_unavailable_and_says_why(
    number: int, code: int, words: str
) -> None:
    def forbidden() -> list[PersistenceError]:
        forbid(["keyctl", "add_key"], code)
        calls = (
            lambda: kernelkey.find(number),
            lambda: kernelkey.add(number, KEY),
            lambda: kernelkey.remove(number),
        )
        return [raised(call) for call in calls]

    for error in as_us(forbidden):
        assert isinstance(error, PersistenceUnavailable)
        assert error.errno == code
        assert words in str(error)


def test_a_user_that_may_have_no_more_keys_is_told_and_still_finds_one(number: int) -> None:
    def fill() -> tuple[PersistenceError, object]:
        kernelkey.add(number, KEY)
        try:
            with contextlib.suppress(OSError):
                for each in range(1000):
                    add_key(f"msalex-test:{each}", b"x", PROCESS)
            return raised(lambda: kernelkey.add(number + 1, KEY)), kernelkey.find(number)
        finally:
            kernelkey.remove(number)

    error, found = as_us(fill, FULL)
    assert error.errno == errno.EDQUOT
    assert "kernel.keys.maxkeys" in str(error)
    assert found == KEY


def test_a_key_is_in_no_message(number: int) -> None:
    kernelkey.add(number, KEY)
    for call in (lambda: kernelkey.add(number, b"canary" * 50), lambda: kernelkey.add(-1, b"")):
        error = raised(call)
        assert "canary" not in f"{error!r} {error} {error.args}"


# ---- the C library without Python -------------------------------------------------------------


def program(directory: Path, flags: tuple[str, ...], files: list[Path]) -> Path:
    # All symbols are bound at the start, as in the extension: a late binding puts registers, which
    # may hold a part of a key, on the stack.
    options = (*flags, "-Wl,-z,now")
    return native.build(
        directory / "program", [LINUX / "kernel_key.c", *native.HARNESS, *files], *options
    )


def run(command: list[object], directory: Path) -> None:
    said = finished(command, environment=native.environment(TMPDIR=str(directory)))
    print(said)
    assert ", 0 checks failed" in said


@pytest.mark.slow
@pytest.mark.parametrize("flags", [ADDRESS, THREADS], ids=["address", "thread"])
@pytest.mark.usefixtures("number")
def test_sanitizers_object_to_nothing(flags: tuple[str, ...], tmp_path: Path) -> None:
    run(native.with_sanitizer(flags, program(tmp_path, flags, native.library())), tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("number")
def test_valgrind_finds_no_leak(tmp_path: Path) -> None:
    valgrind = native.valgrind(LINUX / "valgrind.supp")
    run([*valgrind, program(tmp_path, PLAIN, native.library())], tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("number")
def test_no_copy_of_a_key_stays_in_memory(tmp_path: Path) -> None:
    run([program(tmp_path, PLAIN, native.library()), "memory"], tmp_path)


@pytest.mark.slow
def test_a_system_without_such_keys_says_so(tmp_path: Path) -> None:
    none = [ROOT / "csrc" / name for name in ("kernelkey_none.c", "error.c", "buffer.c")]
    run([program(tmp_path, PLAIN, none), "none"], tmp_path)
