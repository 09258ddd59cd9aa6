"""`migrate FROM TO`: everything arrives, and what was there goes only after that."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from msal_extensions import (
    EncryptedFilePersistence,
    FilePersistence,
    KeyFile,
    PersistedTokenCache,
)
from msal_extensions._command import actions, migration
from tests.support import command as commands
from tests.support.capability import SYMBOLIC_LINKS, requires
from tests.support.key_sources import new_key
from tests.support.moving import (
    CANARY,
    SIGN_INS,
    Files,
    migrate,
    new_report,
    place,
    references_of,
    signed_in,
    usable,
    with_canary,
    yes,
)
from tests.support.processes import python
from tests.support.reference import reference_python
from tests.support.tokens import add_token

PRINCIPALS = json.dumps([{"client_id": "c", "tenant": "t", "client_secret": CANARY}])
USERS = [f"user{number}@example.com" for number in range(3)]


@pytest.fixture
def site(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_cache_that_1_3_1_wrote_arrives_with_every_token_and_leaves_none_behind(
    site: Files,
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
def test_any_json_arrives_as_it_was(site: Files, text: str) -> None:
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
def test_what_is_damaged_stays_where_it_is(site: Files, content: bytes, reference: str) -> None:
    site.plain.write_bytes(content)
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == [reference]
    assert report.done == []
    assert CANARY not in str(report)
    assert site.files() == {"plain.json": content}


def test_an_encrypted_file_that_somebody_has_changed_stays_where_it_is(site: Files) -> None:
    EncryptedFilePersistence(site.sealed, KeyFile(site.key_file)).save("{}")
    content = bytearray(site.sealed.read_bytes())
    content[-1] ^= 1
    site.sealed.write_bytes(content)
    report = migrate(site.target, site.source, key_file=site.key_file)
    assert references_of(report) == ["MSX-56"]
    assert site.files() == {"sealed.bin": bytes(content)}


def test_other_tokens_in_the_other_place_are_not_touched(site: Files) -> None:
    site.fill(signed_in(1))
    EncryptedFilePersistence(site.sealed, KeyFile(site.key_file)).save(signed_in(2))
    before = site.files()
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == ["MSX-81"]
    assert site.files() == before


def test_a_move_that_was_killed_before_its_end_goes_on(site: Files) -> None:
    site.fill(signed_in(2))
    persistence = EncryptedFilePersistence(site.sealed, KeyFile(site.key_file))
    persistence.save(json.dumps(json.loads(signed_in(2)), indent=1))
    before = site.sealed.read_bytes()
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == []
    assert site.files() == {"sealed.bin": before}, "it was saved once more without need"


@pytest.mark.parametrize("empty", ["", "{}", '{"AccessToken": {}, "Account": {}}'])
def test_a_place_from_which_everybody_has_signed_out_counts_as_empty(
    site: Files, empty: str
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
    site: Files, has_target: bool
) -> None:
    if has_target:
        EncryptedFilePersistence(site.sealed, KeyFile(site.key_file)).save("{}")
    before = site.files()
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == ["MSX-20"]
    assert report.status() == 1
    assert ("moved already" in report.findings[0].words) == has_target
    assert site.files() == before


def test_nothing_is_made_and_nothing_changed_when_nobody_confirms(site: Files) -> None:
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
def test_a_key_that_is_not_there_changes_nothing(site: Files, keys: str) -> None:
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


def one_file(site: Files) -> list[tuple[str, str]]:
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
        (f"keyring:{site.plain}", site.source),
        (f"keyring:{site.directory}/plain", f"encrypted:{site.directory}/plain.enc"),
        (f"encrypted:{site.directory}/plain.enc", f"keyring:{site.directory}/plain"),
        (site.source, f"encrypted:{site.plain}.lockfile"),
    ]


@requires("os.link", SYMBOLIC_LINKS)
def test_two_names_of_one_place_are_refused_and_nothing_is_lost(site: Files) -> None:
    site.fill(signed_in(1))
    names = one_file(site)
    before = site.files()
    for source, target in names:
        report = migrate(source, target, key_file=site.key_file)
        assert references_of(report) == ["MSX-86"], (source, target)
        assert site.files() == before, (source, target)


def test_two_signal_files_of_one_item_are_refused(site: Files) -> None:
    one, other = (f"keyring:{site.directory}/{name}" for name in "ab")
    for options in ({"schema": "s"}, {"schema": "s", "attributes": {"x": "y"}}):
        assert references_of(migrate(one, other, **options)) == ["MSX-86"]


def test_two_places_that_are_one_in_spite_of_their_names_lose_nothing(
    site: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As through two mounts that nothing can compare."""
    site.fill(signed_in(1))
    monkeypatch.setattr(migration, "_refuse_one_place", lambda *_: None)
    report = migrate(site.source, f"plain:{site.plain}")
    assert references_of(report) == ["MSX-86"]
    assert json.loads(site.plain.read_text()) == json.loads(signed_in(1))


def test_a_store_that_returns_something_else_keeps_the_first_place(
    site: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(signed_in(1))
    monkeypatch.setattr(EncryptedFilePersistence, "load", lambda self: "{}")
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == ["MSX-40"]
    assert json.loads(site.plain.read_text()) == json.loads(signed_in(1))


def test_an_error_that_nobody_expected_is_a_finding_without_its_text(
    site: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(signed_in(1))

    def fail(self: object) -> str:
        raise KeyError(CANARY)

    monkeypatch.setattr(EncryptedFilePersistence, "load", fail)
    report = migrate(site.source, site.target, key_file=site.key_file)
    assert references_of(report) == ["MSX-03"]
    assert CANARY not in str(report)
    assert json.loads(site.plain.read_text()) == json.loads(signed_in(1))


def test_afterwards_both_places_are_looked_at_and_copies_that_stay_are_named(site: Files) -> None:
    site.plain.write_text("{" + CANARY)
    cache = PersistedTokenCache(FilePersistence(site.plain), on_unreadable="quarantine")
    add_token(cache, CANARY)
    report = new_report("migrate")
    source, target = (place(name, key_file=site.key_file) for name in (site.source, site.target))
    actions.migrate(report, source, target, yes)
    assert [(it.name, it.state) for it in report.caches] == [
        (site.source, "nothing"),
        (site.target, "stored"),
    ]
    assert references_of(report) == ["MSX-35"]
    [copy] = with_canary(site.directory)
    assert copy in report.findings[0].words


def test_the_command_asks_before_and_never_shows_a_secret(site: Files) -> None:
    site.fill(signed_in(2))
    environment = commands.session(site.directory.parent / "home")
    move = ("migrate", site.source, site.target, "--key-file", site.key_file, "-v")
    said = commands.run(*move, environment=environment)
    assert said.status == commands.PROBLEMS
    assert "MSX-80" in said.text
    assert set(site.files()) == {"plain.json"}
    yes_said = commands.run(*move, "--yes", environment=environment)
    assert yes_said.status == commands.FINE, yes_said.everything
    assert "2 accounts, 6 tokens moved" in " ".join(yes_said.text.split())
    again = commands.run(*move, "--yes", "--json", environment=environment)
    assert again.status == commands.WARNINGS
    assert again.references == ["MSX-20"]
    for each in (said, yes_said, again):
        assert CANARY not in each.everything
    assert with_canary(site.directory) == []
