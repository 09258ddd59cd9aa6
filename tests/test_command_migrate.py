"""`migrate FROM TO`: everything arrives, and what was there goes only after that."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from msal_extensions import (
    CrossPlatLock,
    EncryptedFilePersistence,
    FilePersistence,
    KeyFile,
    PersistedTokenCache,
)
from msal_extensions._command import changing, migration
from msal_extensions.errors import PersistenceDenied
from tests.support.capability import SYMBOLIC_LINKS, requires
from tests.support.key_sources import new_key
from tests.support.moving import (
    CANARY,
    SIGN_INS,
    migrate,
    references_of,
    signed_in,
    usable,
    with_canary,
)
from tests.support.processes import python
from tests.support.reference import reference_python
from tests.support.tokens import add_token

PRINCIPALS = json.dumps([{"client_id": "c", "tenant": "t", "client_secret": CANARY}])
USERS = [f"user{number}@example.com" for number in range(3)]


class Site:
    """A directory with two places, and a key file elsewhere."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "caches"
        self.directory.mkdir(mode=0o700)
        self.key_file = str(new_key(directory / "keys" / "key"))
        self.plain = self.directory / "plain.json"
        self.sealed = self.directory / "sealed.bin"
        self.source, self.target = f"plain:{self.plain}", f"encrypted:{self.sealed}"

    def fill(self, text: str) -> None:
        FilePersistence(self.plain).save(text)

    def there(self) -> str:
        return EncryptedFilePersistence(self.sealed, KeyFile(self.key_file)).load()

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.directory.iterdir() if path.is_file()}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_cache_that_1_3_1_wrote_arrives_with_every_token_and_leaves_none_behind(
    site: Site,
) -> None:
    command, environment = reference_python(portalocker=False)
    write = (
        SIGN_INS
        + """
cache = msal_extensions.PersistedTokenCache(msal_extensions.FilePersistence(sys.argv[1]))
for number in range(3):
    cache.add(sign_in(number))
print(msal_extensions.__version__)
"""
    )
    done = python(write, str(site.plain), command=command, environment=environment)
    assert done.stdout.strip() == "1.3.1"
    before = json.loads(site.plain.read_text())
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == []
    [done_] = report.done
    assert "3 accounts, 9 tokens moved" in done_
    assert json.loads(site.there()) == before
    assert len(before["RefreshToken"]) == len(before["AccessToken"]) == 3
    assert usable(site.target, key_file=site.key_file) == USERS
    assert with_canary(site.directory) == []
    assert set(site.files()) == {"sealed.bin"}
    # And back, to 1.3.1.
    report = migrate(site.target, site.source, key_file=site.key_file)
    assert references_of(report) == []
    assert set(site.files()) == {"plain.json"}
    read = (
        SIGN_INS
        + """
cache = msal_extensions.PersistedTokenCache(msal_extensions.FilePersistence(sys.argv[1]))
print(sorted(entry["secret"] for entry in cache.find("RefreshToken")))
"""
    )
    done = python(read, str(site.plain), command=command, environment=environment)
    assert done.stdout.strip() == str([f"{CANARY}-refresh{number}" for number in range(3)])


@pytest.mark.parametrize("text", [PRINCIPALS, '{"unknown": [1, null, "\\ud83d"]}', "{}", "[]", "5"])
def test_any_json_arrives_as_it_was(site: Site, text: str) -> None:
    site.fill(text)
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == []
    assert site.there() == text
    assert set(site.files()) == {"sealed.bin"}


@pytest.mark.parametrize(
    ("content", "reference"),
    [
        (b'{"AccessToken": {"' + CANARY.encode(), "MSX-41"),
        (b'{} {"Extra": "data"}', "MSX-41"),
        (b"\xff\xfe" + CANARY.encode(), "MSX-40"),
        (b"9" * 5000, "MSX-41"),
        (b"[" * 200_000, "MSX-41"),
    ],
)
def test_what_is_damaged_stays_where_it_is(site: Site, content: bytes, reference: str) -> None:
    site.plain.write_bytes(content)
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == [reference]
    assert report.done == []
    assert CANARY not in str(report)
    assert site.files() == {"plain.json": content}


def test_an_encrypted_file_that_somebody_has_changed_stays_where_it_is(site: Site) -> None:
    EncryptedFilePersistence(site.sealed, KeyFile(site.key_file)).save("{}")
    content = bytearray(site.sealed.read_bytes())
    content[-1] ^= 1
    site.sealed.write_bytes(content)
    report = migrate(site.target, site.source, key_file=site.key_file)
    assert references_of(report) == ["MSX-56"]
    assert site.files() == {"sealed.bin": bytes(content)}


def test_other_tokens_in_the_other_place_are_not_touched(site: Site) -> None:
    site.fill(signed_in(1))
    EncryptedFilePersistence(site.sealed, KeyFile(site.key_file)).save(signed_in(2))
    before = site.files()
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == ["MSX-81"]
    assert site.files() == before


def test_a_move_that_was_killed_before_its_end_goes_on(site: Site) -> None:
    site.fill(signed_in(2))
    persistence = EncryptedFilePersistence(site.sealed, KeyFile(site.key_file))
    persistence.save(json.dumps(json.loads(signed_in(2)), indent=1))
    before = site.sealed.read_bytes()
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == []
    assert site.files() == {"sealed.bin": before}, "it was saved once more without need"


@pytest.mark.parametrize("empty", ["", "{}", '{"AccessToken": {}, "Account": {}}'])
def test_a_place_from_which_everybody_has_signed_out_counts_as_empty(
    site: Site, empty: str
) -> None:
    site.fill(signed_in(1))
    if empty:
        EncryptedFilePersistence(site.sealed, KeyFile(site.key_file)).save(empty)
    else:
        site.sealed.touch(0o600)
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == []
    assert json.loads(site.there()) == json.loads(signed_in(1))


@pytest.mark.parametrize("has_target", [False, True])
def test_an_empty_place_is_a_warning_that_says_whether_it_was_moved_already(
    site: Site, has_target: bool
) -> None:
    if has_target:
        EncryptedFilePersistence(site.sealed, KeyFile(site.key_file)).save("{}")
    before = site.files()
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == ["MSX-20"]
    assert report.status() == 1
    assert ("moved already" in report.findings[0].words) == has_target
    assert site.files() == before


def test_nothing_is_made_and_nothing_changed_when_nobody_confirms(site: Site) -> None:
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    site.fill(signed_in(2))
    before = site.files()
    elsewhere = site.directory.parent / "new" / "\x1b[2Jsealed"
    report = migrate(site.source, f"encrypted:{elsewhere}", no, key_file=site.key_file)
    assert references_of(report) == ["MSX-80"]
    assert "2 accounts, 6 tokens" in asked[0]
    assert str(site.plain) in asked[0]
    assert "\x1b" not in asked[0]
    assert site.files() == before
    assert not elsewhere.parent.exists()


@pytest.mark.parametrize("keys", ["missing", "no key", "another"])
def test_a_key_that_is_not_there_changes_nothing(site: Site, keys: str) -> None:
    site.fill(signed_in(1))
    EncryptedFilePersistence(site.sealed, KeyFile(site.key_file)).save("{}")
    key_file = site.directory.parent / "keys" / "other"
    if keys == "another":
        new_key(key_file)
    elif keys == "no key":
        key_file.write_text("hello")
        key_file.chmod(0o600)
    before = site.files()
    report = migrate(site.source, site.target, key_file=str(key_file))
    assert references_of(report) == ["MSX-55" if keys == "another" else "MSX-50"]
    assert report.findings[0].about == site.target
    assert site.files() == before


def one_file(site: Site) -> list[tuple[str, str]]:
    link, hard, via = site.directory / "link", site.directory / "hard", site.directory / "via"
    link.symlink_to(site.plain)
    via.symlink_to(site.directory)
    os.link(site.plain, hard)
    return [
        (site.source, site.source),
        (site.source, f"encrypted:{site.plain}"),
        (site.source, f"encrypted:{link}"),
        (f"plain:{link}", f"encrypted:{site.plain}"),
        (site.source, f"encrypted:{via}/plain.json"),
        (site.source, f"plain:{site.directory}/../caches/plain.json"),
        (site.source, f"plain:{hard}"),
        (site.source, f"keyring:{site.plain}"),
        (f"keyring:{site.directory}/plain", f"encrypted:{site.directory}/plain.enc"),
        (f"encrypted:{site.directory}/plain.enc", f"keyring:{site.directory}/plain"),
        (site.source, f"encrypted:{site.plain}.lockfile"),
    ]


@requires("os.link", SYMBOLIC_LINKS)
def test_two_names_of_one_place_are_refused_and_nothing_is_lost(site: Site) -> None:
    site.fill(signed_in(1))
    names = one_file(site)
    before = site.files()
    for source, target in names:
        report = migrate(source, target, key_file=site.key_file)
        assert references_of(report) == ["MSX-86"], (source, target)
        assert site.files() == before, (source, target)


def test_two_signal_files_of_one_item_are_refused(site: Site) -> None:
    one, other = (f"keyring:{site.directory}/{name}" for name in "ab")
    for options in ({"schema": "s"}, {"schema": "s", "attributes": {"x": "y"}}):
        assert references_of(migrate(one, other, **options)) == ["MSX-86"]


def test_two_places_that_are_one_in_spite_of_their_names_lose_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As through two mounts that nothing can compare."""
    site.fill(signed_in(1))
    monkeypatch.setattr(migration, "_refuse_one_place", lambda *_: None)
    report = migrate(site.source, f"plain:{site.plain}")
    assert references_of(report) == ["MSX-86"]
    assert json.loads(site.plain.read_text()) == json.loads(signed_in(1))


# ---- while others are at work ------------------------------------------------------------


def before_the_look(number: int, change: Callable[[], object]) -> Callable[..., object]:
    """migration._load(), and a change by somebody else before it is called so often, and then
    before each of its calls."""
    real, calls = migration._load, 0

    def load(persistence: object) -> object:
        nonlocal calls
        calls += 1
        if calls >= number:
            change()
        return real(persistence)  # type: ignore[arg-type]

    return load


#: The calls of _load(): for the question; then FROM, TO, what was saved in TO, FROM once more.
LAST_LOOK = 5


def test_a_save_by_a_program_without_a_lock_is_moved_too(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(signed_in(1))
    saved: list[str] = []

    def save() -> None:
        if not saved:
            saved.append(signed_in(2))
            FilePersistence(site.plain).save(saved[0])

    monkeypatch.setattr(migration, "_load", before_the_look(LAST_LOOK, save))
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == []
    assert site.there() == saved[0]
    assert not site.plain.exists()


def test_a_program_that_saves_again_and_again_without_a_lock_loses_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(signed_in(1))
    count = iter(range(1000))

    def save() -> None:
        FilePersistence(site.plain).save(json.dumps({"AccessToken": {"n": next(count)}}))

    monkeypatch.setattr(migration, "_load", before_the_look(LAST_LOOK, save))
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == ["MSX-65"]
    assert f"clear {site.target}" in report.findings[0].remedy
    assert json.loads(site.plain.read_text()) == {"AccessToken": {"n": next(count) - 1}}


def test_nothing_is_removed_without_the_lock(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(signed_in(1))
    lock_file = Path(f"{site.plain}.lockfile")
    removals: list[bool] = []

    def rob() -> None:
        removals.append(lock_file.exists())
        lock_file.unlink(missing_ok=True)

    monkeypatch.setattr(migration, "_load", before_the_look(LAST_LOOK, rob))
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert any(removals)
    assert references_of(report) == ["MSX-61"]
    assert json.loads(site.plain.read_text()) == json.loads(signed_in(1))


def test_a_lock_file_that_was_removed_once_costs_another_try_only(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(signed_in(1))
    lock_file = Path(f"{site.plain}.lockfile")
    robbed: list[bool] = []

    def rob() -> None:
        if not robbed:
            robbed.append(True)
            lock_file.unlink()

    monkeypatch.setattr(migration, "_load", before_the_look(LAST_LOOK, rob))
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert robbed
    assert references_of(report) == []
    assert set(site.files()) == {"sealed.bin"}


@pytest.mark.parametrize("busy", ["plain", "sealed"])
def test_the_lock_of_both_places_is_waited_for_no_longer_than_the_timeout(
    site: Site, busy: str
) -> None:
    site.fill(signed_in(1))
    location = getattr(site, busy)
    # This thread would join its own holding.
    with CrossPlatLock(f"{location}.lockfile"), ThreadPoolExecutor(1) as pool:
        options: dict[str, Any] = {"key_file": site.key_file, "timeout": 0.1}
        report = pool.submit(partial(migrate, site.source, site.target, **options)).result()
    assert references_of(report) == ["MSX-60"]
    assert set(site.files()) == {"plain.json"}


def test_when_the_removal_fails_both_are_there_and_the_same_again_ends_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(signed_in(1))

    def refuse(self: FilePersistence) -> None:
        raise PersistenceDenied(13, "Permission denied", self.get_location())

    with monkeypatch.context() as patch:
        patch.setattr(FilePersistence, "delete", refuse)
        report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == ["MSX-25"]
    assert "do the same again" in report.findings[0].remedy
    assert report.done == []
    assert set(site.files()) == {"plain.json", "sealed.bin"}
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == []
    assert set(site.files()) == {"sealed.bin"}


def test_a_store_that_returns_something_else_keeps_the_first_place(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(signed_in(1))
    monkeypatch.setattr(EncryptedFilePersistence, "load", lambda self: "{}")
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == ["MSX-40"]
    assert json.loads(site.plain.read_text()) == json.loads(signed_in(1))


def test_an_error_that_nobody_expected_is_a_finding_without_its_text(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(signed_in(1))

    def fail(self: object) -> str:
        raise KeyError(CANARY)

    monkeypatch.setattr(EncryptedFilePersistence, "load", fail)
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == ["MSX-03"]
    assert CANARY not in str(report)
    assert json.loads(site.plain.read_text()) == json.loads(signed_in(1))


def interrupted(work: Callable[[], object], number: int) -> bool:
    """Does the work, with Ctrl-C at the line of this number in our module.

    :returns: Whether there was such a line.
    """
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in (migration.__file__, changing.__file__):
            return None
        if event == "line":
            count += 1
            if count == number:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_ctrl_c_at_any_line_loses_nothing_and_the_same_again_ends_well(site: Site) -> None:
    text = signed_in(1)
    again = partial(migrate, site.source, site.target, key_file=site.key_file, timeout=1.0)
    for number in itertools.count(1):
        for name in site.files():
            (site.directory / name).unlink()
        site.fill(text)
        there = interrupted(again, number)
        assert text in (
            site.plain.read_text() if site.plain.exists() else None,
            site.there() if site.sealed.exists() else None,
        )
        if there:
            assert references_of(again()) in ([], ["MSX-20"])
        assert site.there() == text
        assert set(site.files()) == {"sealed.bin"}
        if not there:
            break
    assert number > 50


def test_copies_with_tokens_that_stay_are_named(site: Site) -> None:
    site.plain.write_text("{" + CANARY)
    cache = PersistedTokenCache(FilePersistence(site.plain), on_unreadable="quarantine")
    add_token(cache, CANARY)
    (site.directory / "plain.json.lost").write_text(CANARY)
    (site.directory / "plain.json.damaged-by-somebody").write_text(CANARY)
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == ["MSX-35"]
    assert report.done != []
    assert f"clear {site.source}" in report.findings[0].remedy
    for name in with_canary(site.directory):
        assert (name in report.findings[0].words) == ("somebody" not in name)
