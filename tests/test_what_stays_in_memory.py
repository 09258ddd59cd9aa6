"""Tokens in memory: removed ones do not stay there, and a traceback shows none."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msal
import pytest

import msal_extensions
from msal_extensions import (
    CrossPlatLock,
    FilePersistence,
    LockError,
    PersistedTokenCache,
    _reloading,
    libsecret,
    windows,
)
from msal_extensions._damage import parse_strictly
from msal_extensions._native import dpapi as native_dpapi
from msal_extensions._native import files
from msal_extensions._serializer import Serializer
from tests.support.capability import requires
from tests.support.inside import freshness_of
from tests.support.leftovers import left_behind
from tests.support.library import lib, library_that_answers
from tests.support.tokens import (
    ACCESS_TOKEN,
    REFRESH_TOKEN,
    metadata_only,
    secrets_of,
    sign_in,
    token,
)

#: No file, test or field has it in its name.
CANARY = "eyJ0c4n4ryk3n"
PACKAGE = os.path.join(os.path.dirname(msal_extensions.__file__), "")


def refresh_token(number: int, secret: str) -> dict[str, str]:
    return {
        "credential_type": REFRESH_TOKEN,
        "home_account_id": f"user{number}",
        "environment": "login.example.com",
        "client_id": "client",
        "secret": secret,
    }


# ---- Ctrl-C ----


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@requires("resource")  # not Windows; the numbers are from /proc
def test_a_content_is_given_back_when_ctrl_c_comes_before_it_is_python_s(tmp_path: Path) -> None:
    """Python delivers a signal after a C call that returned, before the result has a name."""
    location, size = str(tmp_path / "cache"), 2_000_000
    files.create(location, b"x" * size)

    def turn() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            files.read(location)

    with mock.patch.object(files, "take", interrupt):
        assert left_behind(turn, turns=50)["resident"] < 10 * size


# ---- what was removed ----


def has(value: Any) -> bool:
    if isinstance(value, str):
        return CANARY in value
    return isinstance(value, (bytes, bytearray)) and CANARY.encode() in value


def inside(root: object) -> Iterator[str]:
    """Where the canary is in the things that an object refers to, except classes and modules."""
    seen: dict[int, object] = {}
    todo: list[tuple[str, Any]] = [("cache", root)]
    while todo:
        path, value = todo.pop()
        if has(value):
            yield path
            continue
        if id(value) in seen or isinstance(value, (type, types.ModuleType, types.FunctionType)):
            continue
        seen[id(value)] = value
        if isinstance(value, dict):
            todo += [(f"{path}[{key!r:.40}]", item) for key, item in value.items()]
            todo += [(f"{path}.key", key) for key in value]
        elif hasattr(value, "__dict__"):
            todo += [(f"{path}.{name}", item) for name, item in vars(value).items()]
        elif not isinstance(value, (str, bytes)):
            todo += [(f"{path}>{type(item).__name__}", item) for item in gc.get_referents(value)]


def caches(location: Path, count: int) -> list[PersistedTokenCache]:
    return [PersistedTokenCache(FilePersistence(location)) for _ in range(count)]


def test_the_search_for_copies_finds_them(tmp_path: Path) -> None:
    (cache,) = caches(tmp_path / "cache", 1)
    cache.modify(REFRESH_TOKEN, refresh_token(1, CANARY), refresh_token(1, CANARY))
    found = list(inside(cache))
    assert any(".content" in path for path in found)
    assert any("_cache" in path for path in found)
    assert any(".serializer" in path for path in found)


def sign_out_alone(ours: PersistedTokenCache, theirs: PersistedTokenCache) -> None:
    ours.modify(REFRESH_TOKEN, refresh_token(1, CANARY))


def sign_out_in_a_transaction(ours: PersistedTokenCache, theirs: PersistedTokenCache) -> None:
    with ours.transaction():
        for number in (1, 2):
            ours.modify(REFRESH_TOKEN, refresh_token(number, ""))


def sign_out_elsewhere(ours: PersistedTokenCache, theirs: PersistedTokenCache) -> None:
    theirs.modify(REFRESH_TOKEN, refresh_token(1, CANARY))


def sign_in_anew_elsewhere(ours: PersistedTokenCache, theirs: PersistedTokenCache) -> None:
    theirs.modify(REFRESH_TOKEN, refresh_token(1, CANARY), {"secret": "rotated"})


def sign_out_after_an_error(ours: PersistedTokenCache, theirs: PersistedTokenCache) -> None:
    """Signs out after an error.  The program put an entry into memory without modify(), which would
    refuse it."""
    next(iter(ours.search(ACCESS_TOKEN)))["odd"] = object()
    with pytest.raises(TypeError):
        ours.modify(ACCESS_TOKEN, token(1), token(1))
    theirs.modify(REFRESH_TOKEN, refresh_token(1, CANARY))
    ours.modify(REFRESH_TOKEN, refresh_token(1, CANARY))


@pytest.mark.parametrize(
    "sign_out",
    [
        sign_out_alone,
        sign_out_in_a_transaction,
        sign_out_elsewhere,
        sign_in_anew_elsewhere,
        sign_out_after_an_error,
    ],
)
def test_a_removed_token_is_in_no_cache_object_that_noticed(
    tmp_path: Path, sign_out: Callable[[PersistedTokenCache, PersistedTokenCache], None]
) -> None:
    ours, theirs = caches(tmp_path / "cache", 2)
    for cache in (theirs, ours):  # both have encoded the removed token
        cache.modify(REFRESH_TOKEN, refresh_token(1, CANARY), refresh_token(1, CANARY))
        cache.modify(ACCESS_TOKEN, token(2), token(2, f"other{id(cache)}"))
    sign_out(ours, theirs)
    for cache in (ours, theirs):
        list(cache.search(REFRESH_TOKEN))
        assert list(inside(cache)) == []
    if sign_out is not sign_out_after_an_error:
        assert freshness_of(ours).content == (tmp_path / "cache").read_bytes()


def test_msals_sign_out_leaves_no_copy(tmp_path: Path) -> None:
    ours, theirs = caches(tmp_path / "cache", 2)
    event = sign_in(1)
    event["response"]["refresh_token"] = CANARY
    ours.add(event)
    ours.add(sign_in(2))
    theirs.modify(ACCESS_TOKEN, token(9), token(9))
    for cache in (ours, theirs):
        assert CANARY in secrets_of(cache, REFRESH_TOKEN)
    app = msal.ClientApplication(
        "client",
        authority="https://login.example.com/tenant",
        validate_authority=False,
        instance_discovery=False,
        token_cache=ours,
        http_client=metadata_only(),
    )
    (account,) = (a for a in app.get_accounts() if a["home_account_id"].startswith("user1"))
    app.remove_account(account)
    del event
    for cache in (ours, theirs):
        list(cache.search(REFRESH_TOKEN))
        assert list(inside(cache)) == []
        assert secrets_of(cache, REFRESH_TOKEN) == {"refresh2"}


def test_what_was_not_removed_is_not_encoded_again() -> None:
    serializer = Serializer()
    cache = {"Account": {str(number): {"secret": str(number)} for number in range(5)}}
    serializer.encode(cache)
    pieces = dict(serializer._kinds["Account"])
    changed: dict[str, Any] = {"Account": {**cache["Account"], "1": {"secret": "new"}}}
    del changed["Account"]["3"]
    serializer.retain(changed)
    assert serializer._kinds["Account"] == {key: pieces[key] for key in "024"}
    serializer.retain([])
    assert serializer._kinds["Account"] == {}


# ---- what a traceback shows ----


def shown(error: BaseException) -> Iterator[str]:
    """Where the canary is in what tools print of an error, including the local variables of our
    frames.

    They print a local variable by repr().  One named `secret` is left out, as by Sentry's scrubber.
    """
    todo, seen = [error], set()
    while todo:
        error = todo.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        todo += [other for other in (error.__cause__, error.__context__) if other is not None]
        name = type(error).__name__
        if CANARY in f"{error} {error!r} {error.args} {vars(error)}":
            yield name
        for attribute in ("doc", "object"):
            if has(getattr(error, attribute, None)):
                yield f"{name}.{attribute}"
        trace = error.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            if frame.f_code.co_filename.startswith(PACKAGE):
                for local, value in frame.f_locals.items():
                    if local != "secret" and CANARY in repr(value):
                        yield f"{name}: {frame.f_code.co_name}.{local}"
            elif "json" in os.path.dirname(frame.f_code.co_filename):
                yield f"{name}: a frame of json, whose locals are the text"
            trace = trace.tb_next


WHOLE = json.dumps({"AccessToken": {"key": token(1, CANARY)}})


def reading(content: bytes, on_unreadable: str = "raise") -> Callable[[Path], object]:
    def work(location: Path) -> object:
        location.write_bytes(content)
        cache = PersistedTokenCache(FilePersistence(location), on_unreadable=on_unreadable)  # type: ignore[arg-type]
        return list(cache.search(ACCESS_TOKEN))

    return work


def quarantining_without_a_place(location: Path) -> object:
    with mock.patch.object(files, "create", side_effect=OSError(28, "full")):
        return reading(WHOLE.encode() + b"x", "quarantine")(location)


def filled(location: Path) -> PersistedTokenCache:
    cache = PersistedTokenCache(FilePersistence(location))
    cache.modify(ACCESS_TOKEN, token(1), token(1, CANARY))
    return cache


def failing_replace(work: Callable[[PersistedTokenCache], object]) -> Callable[[Path], object]:
    def attempt(location: Path) -> object:
        cache = filled(location)
        with mock.patch.object(files, "_stamp", side_effect=OSError(28, "full")):
            return work(cache)

    return attempt


def locked_out(work: Callable[[PersistedTokenCache], object]) -> Callable[[Path], object]:
    def attempt(location: Path) -> object:
        cache = filled(location)
        with mock.patch.object(CrossPlatLock, "acquire", side_effect=LockError("busy")):
            return work(cache)

    return attempt


def change(cache: PersistedTokenCache) -> None:
    cache.modify(ACCESS_TOKEN, token(1, CANARY), token(1, CANARY + "2"))


def sign_in_with(cache: PersistedTokenCache) -> None:
    event = sign_in(1)
    event["response"]["refresh_token"] = CANARY
    cache.add(event)


def unencodable(cache: PersistedTokenCache) -> None:
    cache.modify(ACCESS_TOKEN, token(2), {**token(2, CANARY), "odd": b"bytes"})


def over_a_damaged_cache(location: Path) -> None:
    location.write_text("[" + json.dumps(CANARY) + "]")
    change(PersistedTokenCache(FilePersistence(location)))


def purging(location: Path) -> object:
    cache = filled(location)
    expired = token(3, CANARY, expires_in=-9)
    cache.modify(ACCESS_TOKEN, expired, expired)
    with mock.patch.object(files, "replace", side_effect=TypeError("not today")):
        return list(cache.search(ACCESS_TOKEN, query={"home_account_id": "user3"}))


def reloading_with_something_pending(location: Path) -> object:
    cache = filled(location)
    with (
        mock.patch.object(files, "replace", side_effect=OSError(28, "full")),
        pytest.raises(OSError, match="full"),
    ):
        change(cache)
    location.write_text(json.dumps([CANARY]))
    return list(cache.search(ACCESS_TOKEN))


def dpapi(method: str, content: str | bytes) -> Callable[[Path], object]:
    def attempt(_: Path) -> object:
        with mock.patch.object(native_dpapi, "require"):
            agent = windows.WindowsDataProtectionAgent()
        with library_that_answers(lib.MSALEX_OS_ERROR, 87, f"msalex_dpapi_{method}"):
            return getattr(agent, method)(content)

    return attempt


def no_directory(location: Path) -> None:
    persistence = FilePersistence(location.parent / "x" / "cache")
    location.with_name("x").rmdir()
    persistence.save(CANARY)


def keyring(_: Path) -> object:
    with library_that_answers(lib.MSALEX_DENIED, 0, "msalex_libsecret_start"):
        return libsecret.LibSecretAgent("schema", {"a": "b"}, timeout=5).save(CANARY)


FAILURES: dict[str, Callable[[Path], object]] = {
    "no JSON": reading(WHOLE.encode() + b"x"),
    "truncated": reading(WHOLE.encode()[:-9]),
    "no UTF-8": reading(WHOLE.encode() + b"\xff"),
    "with a BOM": reading(b"\xef\xbb\xbf" + WHOLE.encode()),
    "too many digits": reading(WHOLE.encode().replace(b"{", b'{"n": %s, ' % (b"9" * 5000), 1)),
    "too deep": reading(WHOLE.encode()[:-1] + b', "x":' + b"[" * 200000),
    "evidence that cannot be kept": quarantining_without_a_place,
    "a lone surrogate": lambda location: FilePersistence(location).save(CANARY + "\ud800"),
    "no text": lambda location: FilePersistence(location).save(CANARY.encode()),  # type: ignore[arg-type]
    "no directory": no_directory,
    "a change that cannot be saved": failing_replace(change),
    "a sign-in that cannot be saved": failing_replace(sign_in_with),
    "a change without the lock": locked_out(change),
    "a sign-in without the lock": locked_out(sign_in_with),
    "an entry that JSON cannot hold": lambda location: unencodable(filled(location)),
    "a change of a damaged cache": over_a_damaged_cache,
    "an unsaved change of a damaged cache": reloading_with_something_pending,
    "a purge": purging,
    "DPAPI protects": dpapi("protect", CANARY),
    "DPAPI unprotects plain text": dpapi("unprotect", WHOLE.encode()),
    "a locked keyring": keyring,
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
def test_no_traceback_shows_a_token(
    tmp_path: Path, failure: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reloading, "_REREAD_AFTER", (0.0,))
    with pytest.raises(Exception) as caught:  # noqa: PT011
        failure(tmp_path / "cache")
    assert list(shown(caught.value)) == []


def test_the_search_in_tracebacks_finds_what_is_there() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(CANARY)
    assert {"JSONDecodeError.doc"} < set(shown(caught.value))


def test_a_healthy_text_is_parsed_though_no_local_keeps_it() -> None:
    assert parse_strictly(WHOLE) == json.loads(WHOLE)
    assert sys.exc_info() == (None, None, None)
