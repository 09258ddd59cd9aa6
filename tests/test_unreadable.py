"""A damaged cache: the errors of 1.3.1, or quarantine; sound content is never touched."""

from __future__ import annotations

import errno
import inspect
import json
import logging
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from msal_extensions import (
    CacheDamaged,
    CrossPlatLock,
    FilePersistence,
    KeyringLocked,
    PersistedTokenCache,
    PersistenceDecryptionError,
    PersistenceError,
    PersistenceIsADirectory,
    _reloading,
)
from msal_extensions._native import files
from tests.support import keyring
from tests.support.capability import (
    FILE_MODES,
    REMOVABLE_OPEN_FILES,
    SYMBOLIC_LINKS,
    needs,
    requires,
)
from tests.support.processes import crowd, python
from tests.support.reference import reference_python
from tests.support.tokens import ACCESS_TOKEN, REFRESH_TOKEN, secrets_of, token

SECRET = "s3cr3t"
WHOLE = json.dumps({"AccessToken": {"key": token(1, SECRET)}}).encode()
UNPARSABLE = {
    "truncated": WHOLE[:-20],
    "with a doubled tail": WHOLE + WHOLE[-30:],
    "of NULs": bytes(len(WHOLE)),
    "with a BOM": b"\xef\xbb\xbf" + WHOLE,
    "binary": bytes(range(128, 256)),
    "huge": WHOLE * 20000,
    "too deep": b"[" * 200000,
    "too deep an object": b'{"a":' * 200000 + b"1" + b"}" * 200000,
    "too deep for no object": b"[" * 3000 + b"]" * 3000,
    "too deep and truncated": b'{"a":' * 3000 + b"1",
    "too deep with other brackets": b'{"a":' * 3000 + b"1" + b"]" * 3000,
    "too deep with an open string": b'{"a":' * 3000 + b'"' + b"}" * 3000,
}
WRONG_TYPES = {
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "a string": b'"text"',
    "a list of tokens": b'{"AccessToken": []}',
    "a text for tokens": b'{"RefreshToken": "ab"}',
    "a text for a token": b'{"AccessToken": {"key": "text"}}',
    "a null for an account": b'{"Account": {"key": null}}',
    "no expiry": b'{"AccessToken": {"key": {"secret": "x"}}}',
    "an endless expiry": b'{"AccessToken": {"key": {"expires_on": Infinity}}}',
    "an expiry of 1e999": b'{"AccessToken": {"key": {"expires_on": 1e999}}}',
    "an expiry of no number": b'{"AccessToken": {"key": {"expires_on": NaN}}}',
}
if hasattr(sys, "get_int_max_str_digits"):  # this Python has a limit
    WRONG_TYPES["5,000 digits"] = b'{"AccessToken": {"key": {"expires_on": %s}}}' % (b"9" * 5000)
    WRONG_TYPES["5,000 digits in a string"] = (
        WRONG_TYPES["5,000 digits"].replace(b": 9", b': "9').replace(b"9}", b'9"}')
    )
DAMAGED = UNPARSABLE | WRONG_TYPES
damaged = pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())

TRY_ALL = """
import json, sys, time
from msal_extensions import FilePersistence, PersistedTokenCache
time.sleep = lambda seconds: None
ENTRY = {"home_account_id": "a", "environment": "e", "client_id": "c"}
def attempt(work):
    try:
        work(PersistedTokenCache(FilePersistence(sys.argv[1])))
    except Exception as error:
        known = (ValueError, AttributeError, TypeError, KeyError, RecursionError, OverflowError,
                 json.JSONDecodeError)
        return [kind.__name__ for kind in known if isinstance(error, kind)]
    return "fine"
print(attempt(lambda cache: list(cache.search("AccessToken"))))
print(attempt(lambda cache: list(cache.search("RefreshToken"))))
print(attempt(lambda cache: cache.modify("AccessToken", ENTRY, {"expires_on": "1"})))
"""


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin"


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes meanwhile, so the waits between two reads can be skipped."""
    monkeypatch.setattr(_reloading, "_REREAD_AFTER", (0.0, 0.0, 0.0))


def quarantining(location: Path) -> PersistedTokenCache:
    return PersistedTokenCache(FilePersistence(location), on_unreadable="quarantine")


def evidence(location: Path) -> list[Path]:
    return sorted(location.parent.glob(location.name + ".damaged-*"))


@pytest.mark.parametrize("content", [*DAMAGED.values(), b""], ids=[*DAMAGED.keys(), "empty"])
def test_raising_raises_what_1_3_1_raised(location: Path, content: bytes) -> None:
    """The same class or one of its bases; and what worked beside the damage still works."""
    results = []
    for command, environment in ([None, None], reference_python(portalocker=True)):
        location.write_bytes(content)
        options: dict[str, Any] = {"command": command} if command else {}
        output = python(TRY_ALL, str(location), environment=environment, **options).stdout
        after = location.read_bytes()
        results.append((output, "unchanged" if after == content else json.loads(after)))
    assert results[0] == results[1]


def test_the_error_is_a_json_error_and_tells_no_token(location: Path, no_patience: None) -> None:
    location.write_bytes(WHOLE + b" tail")
    with pytest.raises(json.JSONDecodeError) as caught:
        PersistedTokenCache(FilePersistence(location)).search(ACCESS_TOKEN)
    error = caught.value
    assert isinstance(error, CacheDamaged)
    assert (error.msg, error.pos, error.doc) == ("Extra data", len(WHOLE) + 1, "")
    assert str(location) in str(error)
    assert "quarantine" in str(error)
    assert error.__context__ is None
    assert SECRET not in str(error) + repr(error) + repr(vars(error))


@requires(FILE_MODES)
@damaged
def test_quarantine_keeps_the_evidence_and_gives_a_working_cache(
    location: Path, content: bytes, no_patience: None, caplog: pytest.LogCaptureFixture
) -> None:
    location.write_bytes(content)
    location.chmod(0o644)
    cache = quarantining(location)
    assert list(cache.search(REFRESH_TOKEN)) == []
    cache.modify(ACCESS_TOKEN, token(2), token(2, "new"))
    assert secrets_of(PersistedTokenCache(FilePersistence(location))) == {"new"}
    (kept,) = evidence(location)
    assert kept.read_bytes() == content
    assert kept.stat().st_mode & 0o777 == 0o600
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert str(kept) in warning.getMessage()


@damaged
def test_a_change_quarantines_as_a_search_does(
    location: Path, content: bytes, no_patience: None
) -> None:
    location.write_bytes(content)
    cache = quarantining(location)
    cache.modify(ACCESS_TOKEN, token(2), token(2, "new"))
    assert secrets_of(cache) == {"new"}
    assert len(evidence(location)) == 1
    assert sorted(os.listdir(location.parent)) == [location.name, evidence(location)[0].name]


def test_unknown_kinds_and_fields_of_other_libraries_are_not_damage(location: Path) -> None:
    content = {"AccessToken": {"k": {**token(1), "x": [1]}}, "Other": [1], "Version": 3}
    location.write_text(json.dumps(content))
    assert secrets_of(quarantining(location)) == {"secret"}
    assert evidence(location) == []


def test_an_empty_file_is_an_empty_cache(location: Path) -> None:
    location.touch()
    cache = quarantining(location)
    begin = time.monotonic()
    assert secrets_of(cache) == set()
    assert time.monotonic() - begin < 0.5
    cache.modify(ACCESS_TOKEN, token(1), token(1))
    assert evidence(location) == []


def test_a_file_that_a_writer_has_just_emptied_is_not_an_empty_cache(location: Path) -> None:
    """1.3.1 holds the lock, empties the file, and then writes."""
    location.write_bytes(WHOLE)
    code = """
        import sys, time
        with open(sys.argv[1] + ".lockfile", "x"):
            with open(sys.argv[1], "r+") as file:
                content = file.read()
                file.seek(0)
                file.truncate()
                print("emptied", flush=True)
                time.sleep(0.4)
                file.write(content)
        print("written", flush=True)
        """
    for cache in (PersistedTokenCache(FilePersistence(location)), quarantining(location)):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(location)],
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "emptied\n"
            assert secrets_of(cache) == {SECRET}
            assert writer.stdout.readline() == "written\n"
        os.unlink(f"{location}.lockfile")
    assert evidence(location) == []


@pytest.mark.slow
def test_one_of_eight_processes_quarantines(location: Path) -> None:
    location.write_bytes(WHOLE[:-5])
    outputs = crowd(
        """
        import logging
        from msal_extensions import FilePersistence, PersistedTokenCache
        logging.basicConfig(stream=sys.stdout)
        cache = PersistedTokenCache(FilePersistence(sys.argv[2]), on_unreadable="quarantine")
        ready()
        entry = {"home_account_id": sys.argv[1], "environment": "e", "client_id": "c"}
        if int(sys.argv[1]) % 2:
            assert list(cache.search("RefreshToken", query={"client_id": "x"})) == []
        with cache.transaction(timeout=60):
            cache.modify("RefreshToken", entry, {"secret": sys.argv[1]})
        """,
        8,
        str(location),
    )
    assert sum("was damaged" in output for output in outputs) == 1
    (kept,) = evidence(location)
    assert kept.read_bytes() == WHOLE[:-5]
    assert secrets_of(quarantining(location), REFRESH_TOKEN) == {str(n) for n in range(8)}


def test_what_was_repaired_before_the_lock_was_held_is_not_quarantined(location: Path) -> None:
    location.write_bytes(WHOLE[:-5])
    cache = quarantining(location)
    acquire = CrossPlatLock.acquire

    def repair(lock: CrossPlatLock, timeout: float | None = None) -> CrossPlatLock:
        location.write_bytes(WHOLE)
        return acquire(lock, timeout)

    with mock.patch.object(CrossPlatLock, "acquire", repair):
        assert secrets_of(cache) == {SECRET}
    assert evidence(location) == []


def test_a_change_that_msal_refuses_leaves_a_damaged_content_as_it_is(location: Path) -> None:
    damaged = b'{"AccessToken":   [], "Account": {}}'
    location.write_bytes(damaged)
    cache = PersistedTokenCache(FilePersistence(location))
    with pytest.raises(TypeError):
        cache.modify(ACCESS_TOKEN, token(1), {"secret": "new"})
    assert location.read_bytes() == damaged
    location.write_bytes(WHOLE)
    cache.modify(REFRESH_TOKEN, token(2), {"secret": "refresh"})
    assert secrets_of(cache) == {SECRET}


def test_a_thread_that_has_msals_lock_does_not_wait_for_the_lock_file(
    location: Path, no_patience: None
) -> None:
    """The holder of the lock file may be waiting for MSAL's lock."""
    location.write_bytes(b"[]")
    cache = quarantining(location)
    with cache._lock, pytest.raises(CacheDamaged):
        cache.search(ACCESS_TOKEN)
    assert evidence(location) == []
    assert secrets_of(cache) == set()
    assert len(evidence(location)) == 1


@requires(REMOVABLE_OPEN_FILES)
def test_without_the_lock_no_damaged_content_is_copied(location: Path, no_patience: None) -> None:
    """It may be the middle of a save by the one that has the lock now."""
    cache = quarantining(location)
    with cache.transaction():
        Path(f"{location}.lockfile").unlink()
        location.write_bytes(WHOLE[:-5])
        with pytest.raises(CacheDamaged):
            cache.search(ACCESS_TOKEN)
        assert evidence(location) == []
    assert location.read_bytes() == WHOLE[:-5]


def nested(levels: int) -> bytes:
    """A healthy cache with a field of another program, which is that many levels deeper than
    MSAL's."""
    field: Any = "x"
    for level in range(levels):
        field = {"in": field} if level % 2 else [field]
    return json.dumps({"AccessToken": {"key": token(1, SECRET) | {"field": field}}}).encode()


def at_depth(depth: int, work: Callable[[], object]) -> object:
    return at_depth(depth - 1, work) if depth else work()


@pytest.mark.parametrize("levels", [0, 10, 60])
def test_a_healthy_cache_is_kept_however_little_is_left_of_the_stack(
    location: Path, levels: int, no_patience: None
) -> None:
    content = nested(levels)
    location.write_bytes(content)
    room = sys.getrecursionlimit() - len(inspect.stack())
    outcomes = set()
    for depth in range(room - levels - 60, room, 1):
        cache = quarantining(location)
        try:
            at_depth(depth, lambda cache=cache: cache.search(ACCESS_TOKEN))  # type: ignore[misc]
            outcomes.add("fine")
        except RecursionError:
            outcomes.add("too deep")
        assert location.read_bytes() == content
    assert outcomes == {"fine", "too deep"}
    assert evidence(location) == []


def test_a_healthy_cache_that_this_python_cannot_parse_is_kept(
    location: Path, no_patience: None
) -> None:
    content = nested(400).replace(b'"x"', b'"]}\\"[{"')  # brackets inside of a string do not count
    location.write_bytes(content)
    output = python(
        """
        import sys
        from msal_extensions import FilePersistence, PersistedTokenCache
        cache = PersistedTokenCache(FilePersistence(sys.argv[1]), on_unreadable="quarantine")
        sys.setrecursionlimit(300)
        try:
            print(len(list(cache.search("AccessToken"))))
        except RecursionError as error:
            print(1)
        """,
        str(location),
    )
    assert output.stdout == "1\n"
    assert location.read_bytes() == content
    assert evidence(location) == []


def directory(location: Path) -> None:
    location.mkdir()


def forbidden(location: Path) -> None:
    location.write_bytes(WHOLE[:-5])
    location.chmod(0)


@pytest.mark.parametrize(
    ("prepare", "kind"),
    [(directory, PersistenceIsADirectory), (forbidden, PermissionError)],
    ids=["a directory", "no permission"],
)
@requires("os.geteuid")
def test_what_cannot_be_read_is_not_damage(
    location: Path, prepare: Callable[[Path], None], kind: type[Exception], no_patience: None
) -> None:
    prepare(location)
    if kind is PermissionError and os.geteuid() == 0:
        # root may read everything, so another user tries
        output = python(
            """
            import os, sys
            from msal_extensions import FilePersistence, PersistedTokenCache
            cache = PersistedTokenCache(FilePersistence(sys.argv[1]), on_unreadable="quarantine")
            os.chmod(os.path.dirname(sys.argv[1]), 0o777)
            directory = os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY)
            os.fchdir(directory)
            os.setuid(65534)
            cache = PersistedTokenCache(FilePersistence("cache.bin"), on_unreadable="quarantine")
            for work in (lambda: cache.search("AccessToken"),
                         lambda: cache.modify("AccessToken", {}, {"expires_on": "1"})):
                try:
                    work()
                except PermissionError as error:
                    print("denied")
            """,
            str(location),
        )
        assert output.stdout == "denied\n" * 2
    else:
        cache = quarantining(location)
        with pytest.raises(kind):
            cache.search(ACCESS_TOKEN)
        with pytest.raises(kind):
            cache.modify(ACCESS_TOKEN, token(1), token(1))
    assert os.listdir(location.parent) == [location.name]


class Encrypted(FilePersistence):
    """With a wrong key, or with a check of the program's own."""

    error: type[Exception] = PersistenceDecryptionError

    def load(self) -> str:
        raise self.error("the key does not fit")


@pytest.mark.parametrize("failure", ["ESTALE", "EAGAIN", "EBUSY", "EIO", "EACCES"])
def test_a_read_that_fails_for_a_moment_only_is_tried_again(
    location: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    """NFS answers ESTALE when another host has just replaced the file."""
    location.write_bytes(WHOLE)
    read, tries = files.read, []

    def fail_once(path: str) -> Any:
        tries.append(path)
        if len(tries) == 1:
            raise PersistenceError(getattr(errno, failure), "told by a test", path)
        return read(path)

    monkeypatch.setattr(files, "read", fail_once)
    cache = PersistedTokenCache(FilePersistence(location), on_unreadable="quarantine")
    if failure in ("EIO", "EACCES"):
        with pytest.raises(PersistenceError, match="told by a test"):
            cache.search(ACCESS_TOKEN)
        assert len(tries) == 1
    assert secrets_of(cache) == {SECRET}
    assert os.listdir(location.parent) == [location.name]


@pytest.mark.parametrize("kind", [PersistenceDecryptionError, ValueError, KeyringLocked])
def test_a_key_that_does_not_fit_is_not_damage(
    location: Path, kind: type[Exception], no_patience: None
) -> None:
    location.write_bytes(b"encrypted")
    persistence = Encrypted(location)
    persistence.error = kind
    cache = PersistedTokenCache(persistence, on_unreadable="quarantine")
    with pytest.raises(kind):
        cache.search(ACCESS_TOKEN)
    with pytest.raises(kind):
        cache.modify(ACCESS_TOKEN, token(1), token(1))
    assert os.listdir(location.parent) == [location.name]
    assert location.read_bytes() == b"encrypted"


def test_without_a_place_for_the_evidence_nothing_is_moved(
    location: Path, no_patience: None
) -> None:
    class Duck:
        is_encrypted = False
        content = "[]"

        def save(self, content: str) -> None:
            self.content = content

        def load(self) -> str:
            return self.content

        def time_last_modified(self) -> float:
            return 1.0

        def get_location(self) -> str:
            return str(location)

    duck = Duck()
    cache = PersistedTokenCache(duck, on_unreadable="quarantine")  # type: ignore[arg-type]
    with pytest.raises(CacheDamaged):
        cache.search(ACCESS_TOKEN)
    assert duck.content == "[]"


def test_evidence_that_cannot_be_kept_is_not_given_up(location: Path, no_patience: None) -> None:
    location.write_bytes(b"[]")
    with (
        mock.patch.object(files, "create", side_effect=OSError(28, "full")),
        pytest.raises(OSError, match="full"),
    ):
        quarantining(location).search(ACCESS_TOKEN)
    assert location.read_bytes() == b"[]"


@requires(SYMBOLIC_LINKS)
def test_a_link_stays_a_link(location: Path, tmp_path: Path, no_patience: None) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(b"[]")
    location.symlink_to(target)
    assert secrets_of(quarantining(location)) == set()
    assert location.is_symlink()
    assert target.read_bytes() == b"{}"


def test_only_two_words_are_known(location: Path) -> None:
    with pytest.raises(ValueError, match="on_unreadable"):
        PersistedTokenCache(FilePersistence(location), on_unreadable="ignore")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[keyring.Keyring]:
    needs(keyring.missing())
    with keyring.running(tmp_path_factory.mktemp("keyring")) as running:
        yield running


@pytest.mark.parametrize("content", ["[1, 2", "\\0\\udcff"], ids=["text", "no text"])
def test_the_evidence_of_a_keyring_stays_in_the_keyring(
    service: keyring.Keyring, location: Path, content: str
) -> None:
    output = python(
        """
        import base64, logging, os, sys
        from msal_extensions import LibsecretPersistence, PersistedTokenCache, _reloading
        from msal_extensions._native import libsecret
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        _reloading._REREAD_AFTER = (0.0,)
        content = sys.argv[2].encode().decode("unicode_escape").encode("utf-8", "surrogateescape")
        persistence = LibsecretPersistence(sys.argv[1], attributes={"a": "b"}, label="Tokens")
        persistence.save("first")
        load = libsecret.load
        if b"\\xff" in content:  # our own save() takes text only
            libsecret.load = lambda item, timeout: (
                content if item == persistence._agent.item else load(item, timeout))
        else:
            persistence.save(content.decode())
        kept = []
        save = libsecret.save
        def saving(item, secret, timeout):
            kept.append(item)
            save(item, secret, timeout)
            libsecret.load = load
        libsecret.save = saving
        cache = PersistedTokenCache(persistence, on_unreadable="quarantine")
        print(list(cache.search("RefreshToken")), persistence.load())
        stored = load(kept[0], 10)
        print(stored == content or base64.b64decode(stored) == content)
        print("a" in kept[0].attributes, kept[0].label)
        print(os.listdir(os.path.dirname(sys.argv[1])))
        """,
        str(location),
        content,
        environment=service.environment,
    ).stdout.splitlines()
    assert output[0].startswith("The token cache was damaged and is empty now; it is kept in")
    assert output[1] == "[] {}"
    assert output[2] == "True"
    assert output[3].startswith("False Tokens.damaged-")
    assert output[4] == "['cache.bin']"


def test_a_locked_keyring_is_not_damage(service: keyring.Keyring, location: Path) -> None:
    python(
        """
        import sys
        from msal_extensions import LibsecretPersistence
        LibsecretPersistence(sys.argv[1]).save("[]")
        """,
        str(location),
        environment=service.environment,
    )
    before = service.items()
    service.lock_collection()
    try:
        output = python(
            """
            import sys
            from unittest import mock
            from msal_extensions import KeyringLocked, LibsecretPersistence, PersistedTokenCache
            with mock.patch("msal_extensions.libsecret.LibSecretAgent.connect"):
                persistence = LibsecretPersistence(sys.argv[1], timeout=5)
            cache = PersistedTokenCache(persistence, on_unreadable="quarantine")
            try:
                cache.search("AccessToken")
            except KeyringLocked:
                print("locked")
            """,
            str(location),
            environment=service.environment,
        )
    finally:
        service.unlock_collection()
    assert output.stdout == "locked\n"
    assert service.items() == before
