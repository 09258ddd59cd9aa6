"""Forks: a child inherits no lock and no unsaved change, and neither process loses one.

P6 and P7 number findings of a review of the cache; each test says what was found.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.support.capability import requires
from tests.support.processes import python

pytestmark = requires("os.fork")

COMMON = """
import json, multiprocessing, os, signal, sys, threading
from msal_extensions import CrossPlatLock, FilePersistence, LockError, PersistedTokenCache

LOCATION, PARENT = sys.argv[1], os.getpid()
signal.alarm(100)    # a child does not inherit it

def entry(user):
    return {"home_account_id": user, "environment": "e", "client_id": "c"}

def put(user, secret="secret"):
    cache.modify("RefreshToken", entry(user), {"secret": secret})

def remove(user):
    cache.modify("RefreshToken", entry(user))

def seen(cache):
    return {found["home_account_id"]: found["secret"] for found in cache.search("RefreshToken")}

def stored():
    return seen(PersistedTokenCache(FilePersistence(LOCATION)))

def is_free(path):
    free = []
    def try_it():
        try:
            with CrossPlatLock(path, timeout=0):
                free.append(True)
        except LockError:
            free.append(False)
    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    return free[0]

def fork():
    '''None in the child.'''
    child = os.fork()
    if child == 0:
        signal.alarm(100)
        return None
    return child

def status(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def told(**facts):
    print(json.dumps({"pid": PARENT, **facts}), flush=True)

def refusal(change):
    '''What a change was refused with.'''
    try:
        change()
    except LockError as error:
        return str(error)
    return "not refused"
"""
PLAIN = COMMON + "cache = PersistedTokenCache(FilePersistence(LOCATION))\n"


def run(code: str, directory: Path, *arguments: str, common: str = PLAIN) -> dict[str, Any]:
    code = common + textwrap.dedent(code)
    done = python(code, str(directory / "cache.bin"), *arguments, check=False)
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


# ---- beside another thread that saves ------------------------------------------------------

SLOW = (
    COMMON
    + """
saving, go_on = threading.Event(), threading.Event()
class Slow(FilePersistence):
    '''The other thread's save, in the parent, lasts until it may go on.'''
    def save(self, content):
        if os.getpid() == PARENT and threading.current_thread() is not threading.main_thread():
            saving.set()
            go_on.wait(60)
        super().save(content)
cache = PersistedTokenCache(Slow(LOCATION))
"""
)


@pytest.mark.parametrize(
    ("in_the_thread", "afterwards", "expected"),
    [
        ("remove('token')", "put('token', 'new')", {"token": "new"}),
        ("put('token', 'rotated')", "remove('token')", {}),
        ("put('token', 'rotated')", "put('token', 'again')", {"token": "again"}),
    ],
)
def test_a_child_does_not_make_again_what_another_thread_of_its_parent_was_saving(
    tmp_path: Path, in_the_thread: str, afterwards: str, expected: dict[str, str]
) -> None:
    """P6: the child saved a change of its parent once more, after the parent had finished it and
    changed the entry again."""
    facts = run(
        f"""
        put("token", "old")
        worker = threading.Thread(target=lambda: {in_the_thread})
        worker.start()
        assert saving.wait(60)
        ready, tell = os.pipe()
        child = fork()
        if child is None:
            os.read(ready, 1)
            put("unrelated")
            os._exit(0 if seen(cache) == stored() else 3)
        go_on.set()
        worker.join()
        {afterwards}
        os.write(tell, b"!")
        told(status=status(child), stored=stored(), seen=seen(cache))
        """,
        tmp_path,
        common=SLOW,
    )
    assert facts["status"] == 0
    assert facts["stored"] == facts["seen"] == {**expected, "unrelated": "secret"}


def test_what_a_parent_could_not_save_is_the_parents(tmp_path: Path) -> None:
    facts = run(
        """
        from msal_extensions import PersistenceError
        class Full(FilePersistence):
            full = False
            def save(self, content):
                if self.full and os.getpid() == PARENT:
                    raise PersistenceError(28, "full")
                super().save(content)
        cache = PersistedTokenCache(Full(LOCATION))
        put("before")
        Full.full = True
        try:
            put("waits")
        except PersistenceError:
            pass
        child = fork()
        if child is None:
            ok = seen(cache) == {"before": "secret"}
            put("of the child")
            os._exit(0 if ok else 3)
        in_between = status(child), stored()
        Full.full = False
        put("next")
        told(status=in_between[0], between=in_between[1], stored=stored())
        """,
        tmp_path,
    )
    assert facts["status"] == 0
    assert facts["between"] == {"before": "secret", "of the child": "secret"}
    assert set(facts["stored"]) == {"before", "of the child", "waits", "next"}


# ---- inside a transaction ------------------------------------------------------------------


def test_a_process_started_inside_a_transaction_stores_its_change(tmp_path: Path) -> None:
    """P7: the child ended well, but its change was not stored."""
    facts = run(
        """
        def work():
            cache.add({
                "client_id": "c", "environment": "e", "scope": ["s"],
                "token_endpoint": "https://e/tenant/token",
                "response": {"access_token": "at", "refresh_token": "of the child"},
            })
        child = multiprocessing.get_context("fork").Process(target=work)
        with cache.transaction():
            put("parent")
            child.start()
        child.join()
        secrets = [sorted(found.values()) for found in (stored(), seen(cache))]
        told(status=child.exitcode, stored=secrets[0], seen=secrets[1])
        """,
        tmp_path,
    )
    assert facts["status"] == 0
    assert facts["stored"] == ["of the child", "secret"]
    assert facts["seen"] == facts["stored"]


@pytest.mark.parametrize("leave", ["pass", "raise KeyError('of the child')"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("before", ["pass", "put('before')"])
def test_a_child_inside_a_transaction_waits_for_its_parent_and_the_error_names_it(
    tmp_path: Path, leave: str, nested: bool, before: str
) -> None:
    """P7.  The child's end of the inherited ``with`` does nothing, and its parent does not notice
    it.

    The child neither sees nor saves the changes that its parent made and has not saved yet.
    """
    block = (
        "with cache.transaction(), cache.transaction():" if nested else "with cache.transaction():"
    )
    facts = run(
        f"""
        {before}
        child_said = {{}}
        ready, tell = os.pipe()
        try:
            {block}
                put("parent")
                child = fork()
                if child is None:
                    def wait_a_little():
                        with cache.transaction(timeout=0.2):
                            put("child")
                    child_said["refusal"] = refusal(wait_a_little)
                    child_said["seen"] = seen(cache)
                    {leave}
                else:
                    os.close(tell)
                    said = os.read(ready, 10000).decode()
                    exit_status = status(child)
                    during = stored()
                    free = is_free(LOCATION + ".lockfile")
                    put("parent again")
        except KeyError as error:
            child_said["raised"] = str(error)
        if child is None:
            os.write(tell, json.dumps(child_said).encode())
            os._exit(0)
        told(child=json.loads(said), status=exit_status, during=during, free=free, stored=stored())
        """,
        tmp_path,
    )
    there = {} if before == "pass" else {"before": "secret"}
    assert facts["status"] == 0
    assert str(facts["pid"]) in facts["child"]["refusal"]
    assert facts["child"]["seen"] == there
    assert facts["child"].get("raised", "") == ("'of the child'" if "raise" in leave else "")
    assert facts["during"] == there
    assert not facts["free"]
    assert set(facts["stored"]) == {*there, "parent", "parent again"}


def test_a_change_of_a_child_for_which_its_parent_waits_ends_after_5_seconds_in_an_error(
    tmp_path: Path,
) -> None:
    facts = run(
        """
        ready, tell = os.pipe()
        with cache.transaction():
            put("parent")
            child = fork()
            if child is None:
                words = refusal(lambda: put("child"))
                os.write(tell, words.encode())
                os._exit(0)
            os.close(tell)
            said = os.read(ready, 10000).decode()
            exit_status = status(child)
        told(said=said, status=exit_status, stored=stored())
        """,
        tmp_path,
    )
    assert facts["status"] == 0
    assert str(facts["pid"]) in facts["said"]
    assert facts["stored"] == {"parent": "secret"}


def test_a_change_of_a_child_is_stored_when_its_parent_has_left(tmp_path: Path) -> None:
    """The child changes the cache inside the inherited ``with``, and after it."""
    facts = run(
        """
        put("before")
        with cache.transaction():
            put("parent")
            child = fork()
            if child is None:
                put("inside")
                with cache.transaction():
                    put("inside too")
                remove("before")
        if child is None:
            put("outside")
            with cache.transaction():
                put("outside too")
            os._exit(0 if seen(cache) == stored() else 3)
        told(status=status(child), stored=stored(), seen=seen(cache))
        """,
        tmp_path,
    )
    assert facts["status"] == 0
    names = {"parent", "inside", "inside too", "outside", "outside too"}
    assert set(facts["stored"]) == names
    assert facts["seen"] == facts["stored"]


def test_the_end_of_an_inherited_with_saves_nothing(tmp_path: Path) -> None:
    """Not even a change of the child that failed and waits."""
    facts = run(
        """
        from msal_extensions import PersistenceError
        class Full(FilePersistence):
            full = False
            def save(self, content):
                if self.full:
                    raise PersistenceError(28, "full")
                super().save(content)
        cache = PersistedTokenCache(Full(LOCATION))
        with cache.transaction():
            put("parent")
            child = fork()
            if child is None:
                Full.full = True
                try:
                    put("waits")
                except PersistenceError:
                    pass
                Full.full = False
        if child is None:
            in_between = stored()
            put("next")
            os._exit(0 if set(in_between) == {"parent"} else 3)
        told(status=status(child), stored=stored())
        """,
        tmp_path,
    )
    assert facts["status"] == 0
    assert set(facts["stored"]) == {"parent", "waits", "next"}


def test_a_grandchild_is_nobodys_heir_either(tmp_path: Path) -> None:
    facts = run(
        """
        with cache.transaction():
            put("parent")
            child = fork()
            if child is None:
                with cache.transaction():
                    put("child")
                    grandchild = fork()
                    if grandchild is None:
                        put("grandchild")
        if child is None:
            os._exit(0 if grandchild is None else status(grandchild))
        told(status=status(child), stored=stored())
        """,
        tmp_path,
    )
    assert facts["status"] == 0
    assert set(facts["stored"]) == {"parent", "child", "grandchild"}


@pytest.mark.parametrize("others", [0, 2])
def test_forks_inside_transactions_lose_nothing(tmp_path: Path, others: int) -> None:
    """Meanwhile threads of the parent use the same cache object."""
    facts = run(
        """
        over = threading.Event()
        counts = [0] * int(sys.argv[2])
        def work(number):
            while not over.is_set():
                put(f"thread{number}", str(counts[number] + 1))
                counts[number] += 1
        workers = [threading.Thread(target=work, args=(number,)) for number in range(len(counts))]
        for worker in workers:
            worker.start()
        children = []
        for number in range(15):
            with cache.transaction(timeout=60):
                put(f"parent{number}")
                child = fork()
                if child is None:
                    with cache.transaction(timeout=60):
                        put(f"child{number}")
                    os._exit(0)
                children.append(child)
        results = [status(child) for child in children]
        over.set()
        for worker in workers:
            worker.join()
        told(results=results, stored=stored(), counts=counts)
        """,
        tmp_path,
        str(others),
    )
    assert facts["results"] == [0] * 15
    expected = {f"{name}{number}": "secret" for name in ("parent", "child") for number in range(15)}
    expected.update({f"thread{at}": str(count) for at, count in enumerate(facts["counts"])})
    assert facts["stored"] == expected


# ---- inside a single flight ----------------------------------------------------------------


def test_an_inherited_single_flight_is_not_the_childs_and_leaving_it_does_not_end_it(
    tmp_path: Path,
) -> None:
    facts = run(
        """
        ready, tell = os.pipe()
        with cache.single_flight():
            child = fork()
            if child is None:
                def fly():
                    with cache.single_flight(timeout=0.2):
                        pass
                words = refusal(fly)
                put("child")              # the cache is free
            else:
                os.close(tell)
                said = os.read(ready, 10000).decode()
                exit_status = status(child)
                held = not is_free(LOCATION + ".lockfile.refresh")
        if child is None:
            os.write(tell, words.encode())
            os._exit(0)
        told(said=said, status=exit_status, held=held, stored=stored())
        """,
        tmp_path,
    )
    assert facts["status"] == 0
    assert str(facts["pid"]) in facts["said"]
    assert facts["held"]
    assert facts["stored"] == {"child": "secret"}


def test_a_child_gets_its_own_single_flight_when_its_parents_is_over(tmp_path: Path) -> None:
    facts = run(
        """
        with cache.single_flight():
            put("parent")
            child = fork()
            if child is None:
                with cache.single_flight(timeout=60):
                    found = seen(cache)
                    put("child", "after " + " ".join(found))
                    free = is_free(LOCATION + ".lockfile.refresh")
                os._exit(3 if free else 0)
            put("late")
        told(status=status(child), stored=stored())
        """,
        tmp_path,
    )
    assert facts["status"] == 0
    assert facts["stored"]["child"] == "after parent late"
