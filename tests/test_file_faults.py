"""After any failed system call a cache file has the old content or the new one.

tests/support/seccomp.py makes each call fail in turn, so no system call of the library is left out.
The suite leaves out some errors at operations of many calls; MSALEX_FAULTS=all tries each error at
each call.  tests/test_faults_on_file_systems.py runs this on other file systems.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msal_extensions._msalex import ffi, lib

from msal_extensions import (
    CrossPlatLock,
    EncryptedFilePersistence,
    FilePersistence,
    LockError,
    PersistedTokenCache,
    PersistenceError,
)
from msal_extensions._native import files
from tests.support import tally
from tests.support.capability import SYMBOLIC_LINKS, needs, requires
from tests.support.seccomp import GO_ON, KILL, Run, supervised

ERRNOS = (
    *(errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EACCES),
    *(errno.EPERM, errno.ENOENT, errno.EMFILE, errno.ENOMEM, errno.EINTR),
)
#: For operations of many calls: an error that ends the operation, one after which it tries another
#: way, one that means "there is none", and one after which the call is repeated.
FEW_ERRNOS = (errno.EIO, errno.EACCES, errno.ENOENT, errno.EINTR)
CHANGES = (
    *("the first change in a cache", "a change in a cache"),
    *("the first change in an encrypted cache", "a change in an encrypted cache"),
)
ALL = os.environ.get("MSALEX_FAULTS") == "all"
KEY = bytes(range(32))
OLD, NEW = "old content " * 400, "newer content " * 400
#: Seconds: longer ago than the age from which a writer without a sign of life counts as dead.
LONG_AGO_S = 3600

pytestmark = [pytest.mark.slow, requires("os.fork", SYMBOLIC_LINKS)]


def event(client: str) -> dict[str, object]:
    return {
        "client_id": client,
        "token_endpoint": "https://login.example/token",
        "response": {"access_token": "secret", "expires_in": 3600},
    }


def encrypted(path: Path) -> EncryptedFilePersistence:
    """By whatever path it is reached: without a name the file's own name is one."""
    return EncryptedFilePersistence(path, KEY, name="faults")


class Site:
    """A directory with a cache, and the objects that use it."""

    target: Path  #: the file that has the content
    location: Path  #: the path that the library gets
    persistence: Any  #: a FilePersistence or an EncryptedFilePersistence
    cache: PersistedTokenCache

    def __init__(self, directory: Path, linked: bool) -> None:
        self.linked = linked
        self.sealed = False
        self.real = directory / "real"
        self.real.mkdir()
        (directory / "link").symlink_to("real")

    def prepare(self, content: str | None, sealed: bool = False) -> None:
        self.sealed = sealed
        for name in os.listdir(self.real):
            (self.real / name).unlink()
        self.target = self.real / "cache.bin"
        self.location = self.real.parent / "link" / "cache.bin" if self.linked else self.target
        if content is not None:
            if sealed:
                encrypted(self.target).save(content)
            else:
                self.target.write_text(content)
            if self.linked:
                self.location = self.location.with_name("link.bin")
                self.location.symlink_to("cache.bin")
        self.persistence = encrypted(self.location) if sealed else FilePersistence(self.location)
        self.cache = PersistedTokenCache(self.persistence)

    def state(self) -> str | None:
        """The content of the file: nothing, a text, or tokens of these clients."""
        try:
            text = self.target.read_text(errors="replace")
            if self.sealed and text:
                text = encrypted(self.target).load()
        except FileNotFoundError:
            return None
        if not text.startswith("{"):
            return text
        tokens = json.loads(text)["AccessToken"].values()
        return "tokens of " + " ".join(sorted(token["client_id"] for token in tokens))

    def litter(self) -> list[str]:
        return sorted(set(os.listdir(self.real)) - {"cache.bin", "link.bin"})

    def what_stays(self, delete: bool) -> list[str]:
        """The temporary files that are still there although they are old, and although the
        directory was used since."""
        for name in self.litter():
            if name.startswith(".msalex-"):
                long_ago = time.time() - LONG_AGO_S
                os.utime(self.real / name, (long_ago, long_ago))
        with CrossPlatLock(f"{self.location}.lockfile"):
            self.persistence.delete() if delete else self.persistence.save("after")
        if delete:
            assert not os.path.lexists(self.location)
        else:
            assert self.state() == "after"
        return self.litter()


class Operation(NamedTuple):
    """An operation, the content before it, and the content after it."""

    before: str | None
    after: str | None
    work: Callable[[Site], Any]
    returns: Any = None
    sealed: bool = False  #: in an encrypted file


#: A cache with one token, of client c.
CACHE = json.dumps(
    {
        "AccessToken": {
            "-login.example-accesstoken-c--": {
                "client_id": "c",
                "credential_type": "AccessToken",
                "environment": "login.example",
                "secret": "secret",
                "expires_on": "32503680000",
            }
        }
    }
)
OPERATIONS = {
    "save a new file": Operation(None, NEW, lambda site: site.persistence.save(NEW)),
    "save over an old one": Operation(OLD, NEW, lambda site: site.persistence.save(NEW)),
    "load": Operation(OLD, OLD, lambda site: site.persistence.load(), OLD),
    "delete": Operation(OLD, None, lambda site: site.persistence.delete()),
    "touch a new file": Operation(None, "", lambda site: site.persistence.touch()),
    "touch an old one": Operation(OLD, OLD, lambda site: site.persistence.touch()),
    "verify": Operation(OLD, OLD, lambda site: site.persistence.verify()),
    "the first change in a cache": Operation(
        None, "tokens of d", lambda site: site.cache.add(event("d"))
    ),
    "a change in a cache": Operation(
        CACHE, "tokens of c d", lambda site: site.cache.add(event("d"))
    ),
    "save over an encrypted one": Operation(
        OLD, NEW, lambda site: site.persistence.save(NEW), sealed=True
    ),
    "the first change in an encrypted cache": Operation(
        None, "tokens of d", lambda site: site.cache.add(event("d")), sealed=True
    ),
    "a change in an encrypted cache": Operation(
        CACHE, "tokens of c d", lambda site: site.cache.add(event("d")), sealed=True
    ),
}


class Outcome(NamedTuple):
    """The result of one try."""

    what: str  #: "done", "typed", "untyped" or "killed"
    error: str
    returned: Any
    state: str | None
    litter: list[str]
    leaked: int
    again: str  #: the result of a second try in the same process


def attempt(work: Callable[[], Any]) -> tuple[str, str, Any]:
    try:
        return "done", "", work()
    except (PersistenceError, LockError) as error:
        return "typed", repr(error), None
    except Exception as error:
        return "untyped", repr(error), None


def tried(
    site: Site, operation: Operation, answer: Callable[[int, str], int], again: bool = True
) -> tuple[Run, Outcome]:
    """Does the operation in a process of its own: once with the fault, and then again without."""
    site.prepare(operation.before, operation.sealed)

    def work() -> tuple[str, str, Any]:
        return attempt(lambda: operation.work(site))

    def look_and_go_on() -> tuple[str | None, list[str], str]:
        return site.state(), site.litter(), " ".join(work()[:2]).strip() if again else "done"

    run = supervised(work, answer, look_and_go_on)
    if run.result is None:
        return run, Outcome("killed", "", None, site.state(), site.litter(), 0, "done")
    what, error, returned = run.result
    state, litter, second = run.afterwards
    return run, Outcome(what, error, returned, state, litter, run.leaked, second)


def fault_at(place: int, code: int) -> Callable[[int, str], int]:
    return lambda number, _: code if number == place else GO_ON


def each_call(site: Site, operation: Operation, code: int) -> Iterator[tuple[int, str, Outcome]]:
    """Repeats the operation, with the fault at its first call, at its second call, and so on."""
    for place in itertools.count():
        # Everything else that an error leaves in the process is the same for each error.
        run, outcome = tried(site, operation, fault_at(place, code), again=code == errno.EIO)
        if len(run.calls) <= place:
            assert outcome.what == "done"
            return
        yield place, run.calls[place], outcome


def wrong(operation: Operation, code: int, call: str, outcome: Outcome) -> Iterator[str]:
    """The sentences about what is wrong with an outcome."""
    states = {before_as_state(operation), operation.after}
    if outcome.what == "done":
        states = {operation.after}
        if outcome.returned != operation.returns:
            yield "it returned something else"
    if code == errno.ENOENT and call != "close":
        # The kernel reports this error for a file that is not there.  So a load or a delete has
        # nothing to do, and a cache starts with no tokens.
        states |= {before_as_state(operation), "tokens of d"}
    if outcome.state not in states:
        yield f"it left {outcome.state!r:.60}"
    if outcome.what == "untyped":
        yield "its error has no type"
    if code == errno.EINTR and outcome.what != "done":
        yield "it was not done again"
    # After a close that failed the descriptor stays open: see tests/support/seccomp.py.
    if outcome.leaked > (call == "close"):
        yield f"it left {outcome.leaked} descriptors open"
    if outcome.again != "done":
        yield f"it does not work any more: {outcome.again}"
    # A lock file that stays belongs to nobody; the next release of the lock removes it.  A probe
    # stays when its deletion fails, at any call, and a later sweep removes it.
    litter = [name for name in outcome.litter if not name.endswith(".lockfile")]
    # FUSE keeps a removed file under such a name while it is open.
    if call == "close":
        litter = [name for name in litter if not name.startswith(".fuse_hidden")]
    is_probe = operation is OPERATIONS["verify"]
    if code != KILL and litter and not call.startswith("unlink") and not is_probe:
        yield f"it left {litter}"


def before_as_state(operation: Operation) -> str | None:
    return "tokens of c" if operation.before == CACHE else operation.before


def sweep(site: Site, operation: Operation, codes: Sequence[int]) -> tuple[Counter[str], list[str]]:
    """Tries all these faults at all calls; returns the results, and what went wrong."""
    ends: Counter[str] = Counter()
    complaints = []
    for code in codes:
        for place, call, outcome in each_call(site, operation, code):
            ends[outcome.what] += 1
            found = list(wrong(operation, code, call, outcome))
            if outcome.litter or code == KILL:
                stays = site.what_stays(delete=place % 2 == 0 or operation.after is None)
                found += [f"{stays} stays for ever"] if stays else []
            name = "SIGKILL" if code == KILL else errno.errorcode[code]
            complaints += [f"{name} at {place}, {call}: {text}; {outcome.error}" for text in found]
            tally.tried()
            tally.lost(bool(found))
    return ends, complaints


@pytest.fixture(scope="module", autouse=True)
def used(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first use imports modules: those calls are Python's own, and not about a cache file."""
    cache = PersistedTokenCache(FilePersistence(tmp_path_factory.mktemp("used") / "cache"))
    cache.modify(cache.CredentialType.REFRESH_TOKEN, {"home_account_id": "user"}, {"secret": "s"})
    encrypted(tmp_path_factory.mktemp("used") / "sealed").save("{}")


@pytest.fixture(params=["plain", "linked"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """Once without a link on the path; once with a linked directory and a linked file."""
    return Site(tmp_path, request.param == "linked")


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_kill_at_any_system_call_leaves_the_old_content_or_the_new_one(
    name: str, site: Site
) -> None:
    ends, complaints = sweep(site, OPERATIONS[name], [KILL])
    print(f"{name}: {ends['killed']} kills")
    assert ends["killed"]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("name", OPERATIONS)
def test_any_error_at_any_system_call_is_harmless_or_typed(name: str, site: Site) -> None:
    codes: Sequence[int] = ERRNOS
    if not ALL and (name in CHANGES or (site.linked and name == "verify")):
        codes = FEW_ERRNOS
    if not ALL and name in CHANGES and site.linked:
        codes = (errno.EIO, errno.EINTR)
    ends, complaints = sweep(site, OPERATIONS[name], codes)
    print(
        f"{name}: {ends.total()} errors at {ends.total() // len(codes)} calls,"
        f" {ends['done']} harmless, {ends['typed']} typed, {ends['untyped']} others"
    )
    assert ends["done"]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", OPERATIONS)
def test_without_openat2_all_works_as_with_it(name: str, code: int, site: Site) -> None:
    """Linux before 5.6 and gVisor say ENOSYS; older seccomp filters of containers say EPERM."""
    operation = OPERATIONS[name]
    run, outcome = tried(site, operation, lambda _, call: code if call == "openat2" else GO_ON)
    assert "openat2" in run.calls
    assert not list(wrong(operation, GO_ON, "", outcome)), outcome
    assert outcome.what == "done", outcome.error


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EPERM, errno.EIO], ids=errno.errorcode.get)
def test_where_a_new_name_cannot_be_given_a_copy_is_not_said_to_be_there(
    code: int, tmp_path: Path
) -> None:
    """A file system that cannot rename without replacing says EINVAL, and then a link is tried.
    The caller must hear it when that fails, too: a quarantine empties the cache next."""

    def answer(number: int, call: str) -> int:
        return {"renameat2": errno.EINVAL, "linkat": code}.get(call, GO_ON)

    copy = str(tmp_path / "copy")
    run = supervised(lambda: attempt(lambda: files.create(copy, b"evidence")), answer)
    assert {"renameat2", "linkat"} <= set(run.calls)
    assert run.result[0] == "typed", run.result
    assert os.listdir(tmp_path) == []


def test_a_load_that_fails_in_the_middle_leaves_nothing_in_the_buffer(tmp_path: Path) -> None:
    """What it had read is wiped, and no caller has to free it."""
    location = tmp_path / "cache.bin"
    location.write_text(OLD)

    def load() -> tuple[int, bool, int]:
        content, stamp = ffi.new("msalex_buffer *"), ffi.new("msalex_stamp *")
        error = ffi.new("msalex_error *")
        status = lib.msalex_file_read(os.fsencode(location), content, stamp, error)
        return status, content.data == ffi.NULL, content.size

    run = supervised(load, lambda _, call: errno.EIO if call == "read" else GO_ON)
    assert "read" in run.calls
    assert run.result == (lib.MSALEX_OS_ERROR, True, 0)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if "new" not in name])
def test_at_each_system_call_a_reader_finds_a_whole_version(name: str, site: Site) -> None:
    operation = OPERATIONS[name]
    seen: list[str | None] = []

    def read(number: int, call: str) -> int:
        state = site.state()
        if not seen or seen[-1] != state:
            seen.append(state)
        return GO_ON

    run, outcome = tried(site, operation, read)
    print(f"{name}: {len(run.calls)} looks, {len(seen)} versions")
    assert outcome.what == "done", outcome.error
    assert [before_as_state(operation)] == seen[:1]
    assert seen[1:] in ([], [operation.after])


# ---- who may read the file meanwhile ------------------------------------------------------

# acl(5) and linux/posix_acl_xattr.h
LIST, DEFAULT_LIST = "system.posix_acl_access", "system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
READ, WRITE, NOBODY = 4, 2, 0xFFFFFFFF
OWNER, ITS_GROUP, LISTED, INHERITING = 12001, 12002, 12003, 12004


def access_list(user: int, group_may: int) -> bytes:
    """An access list: one user may read, and the owning group has these rights."""
    entries = [
        *((USER_OBJ, READ | WRITE, NOBODY), (USER, READ, user), (GROUP_OBJ, group_may, NOBODY)),
        *((MASK, READ, NOBODY), (OTHER, 0, NOBODY)),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def readers(path: Path) -> set[str]:
    """All users and groups that mode and access list let read the file."""
    status = path.stat()
    entries = [(GROUP_OBJ, status.st_mode >> 3 & 7, NOBODY)]
    if LIST in os.listxattr(path):
        entries = list(struct.iter_unpack("<HHI", os.getxattr(path, LIST)[4:]))
    mask = {tag: may for tag, may, _ in entries}.get(MASK, 7)
    found = {f"user {status.st_uid}"}
    found |= {"others"} if status.st_mode & 0o004 else set()
    for tag, may, who in entries:
        if may & mask & READ and tag in (USER, GROUP_OBJ, GROUP):
            number = status.st_gid if tag == GROUP_OBJ else who
            found.add(f"{'user' if tag == USER else 'group'} {number}")
    return found


def a_listed_file(path: Path) -> set[str]:
    path.write_text(OLD)
    os.chown(path, OWNER, ITS_GROUP)
    os.setxattr(path, LIST, access_list(LISTED, 0))
    return {f"user {OWNER}", f"user {LISTED}"}


def a_shared_file(path: Path) -> set[str]:
    path.write_text(OLD)
    os.removexattr(path, LIST)
    os.chown(path, OWNER, ITS_GROUP)
    path.chmod(0o660)
    return {f"user {OWNER}", f"group {ITS_GROUP}"}


def no_file(path: Path) -> set[str]:
    return set()


class Witness:
    """Answers system calls as it is told, and before each call notes who may read the files of a
    directory."""

    def __init__(self, directory: Path, answer: Callable[[int, str], int]) -> None:
        self.directory, self.answer = directory, answer
        self.found: set[str] = set()

    def look(self) -> None:
        for path in self.directory.iterdir():
            self.found |= readers(path)

    def __call__(self, number: int, name: str) -> int:
        self.look()
        return self.answer(number, name)


@pytest.mark.parametrize("before", [a_listed_file, a_shared_file, no_file])
def test_no_error_at_any_call_of_a_save_lets_anybody_else_read(
    before: Callable[[Path], set[str]], tmp_path: Path
) -> None:
    """Neither the file nor the files beside it, before and after each call."""
    needs(None if os.geteuid() == 0 else "only root can give files away")
    site = Site(tmp_path, linked=False)
    try:
        os.setxattr(site.real, DEFAULT_LIST, access_list(INHERITING, READ))
    except OSError as error:
        needs(f"the file system has no access lists: {error}")
    looks, saves = 0, 0
    for code in ERRNOS:
        for place in itertools.count():
            site.prepare(None)
            allowed = before(site.target) | {"user 0"}
            witness = Witness(site.real, fault_at(place, code))
            run = supervised(lambda: attempt(lambda: site.persistence.save(NEW)), witness)
            witness.look()
            assert witness.found <= allowed, (code, run.calls[place:][:1], witness.found - allowed)
            looks, saves = looks + len(run.calls), saves + 1
            if len(run.calls) <= place:
                assert run.result[0] == "done"
                break
    print(f"{saves} saves with an error, looked at {looks} times")
