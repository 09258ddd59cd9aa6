"""``status`` with real keyrings: an item, a locked keyring, none, and one that does not answer."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from msal_extensions import EncryptedFilePersistence, KeyFile
from msal_extensions._command.places import Options, Place, named
from tests.support import command, keyring
from tests.support.capability import needs
from tests.support.command import FINE, PROBLEMS, WARNINGS, Said, cache_text
from tests.support.processes import python

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="The Secret Service exists on Linux only."
)
#: Saves as the program that owns the cache does.
SAVE = """
import json, sys
from msal_extensions import LibsecretPersistence
location, schema, attributes, content = sys.argv[1:]
LibsecretPersistence(location, schema, json.loads(attributes), label="x").save(content)
"""


@pytest.fixture
def home(fresh_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("AZURE_CONFIG_DIR", raising=False)
    return fresh_home


@pytest.fixture
def running(tmp_path: Path) -> Iterator[keyring.Keyring]:
    """A keyring of this test alone, which it may lock."""
    needs(keyring.missing())
    with keyring.running(tmp_path / "keyring") as service:
        yield service


@pytest.fixture
def shared_keyring(keyring_of: Callable[[str], keyring.Keyring]) -> Iterator[keyring.Keyring]:
    service = keyring_of("gnome-keyring")
    yield service
    service.clear()


def status(home: Path, service: keyring.Keyring | None, *arguments: str, **more: str) -> Said:
    variables = {**(service.variables if service else {}), **more}
    environment = command.session(home, variables)
    return command.run("status", "--json", *arguments, environment=environment, cwd=home)


def place_of(name: str) -> Place:
    """As for a user with this home; a test's own process has the same."""
    return named(name, Options())


def save(name: str, service: keyring.Keyring, content: str) -> None:
    place = place_of(name)
    options = place.options
    attributes = json.dumps(dict(options.attributes))
    environment = {"DBUS_SESSION_BUS_ADDRESS": service.address}
    python(SAVE, place.location, options.schema, attributes, content, environment=environment)


def kinds(said: Said) -> list[tuple[str, str, str]]:
    return [(each["name"], each["kind"], each["state"]) for each in said.json["caches"]]


@pytest.mark.parametrize("name", ["az:encrypted", "identity", "identity:own.cae", "keyring:a/b"])
def test_an_item_is_found_under_the_name_of_its_program(
    name: str, home: Path, shared_keyring: keyring.Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    save(name, shared_keyring, cache_text())
    said = status(home, shared_keyring, name)
    assert (said.status, said.references) == (FINE, [])
    assert kinds(said) == [(name, "keyring", "stored")]
    assert said.cache["protection"] == "In the keyring of this user."
    assert said.cache["is_encrypted"] is True
    assert said.cache["tokens"]["access"] == 2


def test_a_locked_keyring_is_a_problem_and_is_not_nothing(
    home: Path, running: keyring.Keyring
) -> None:
    save("identity", running, cache_text())
    running.lock_collection()
    said = status(home, running)
    assert (said.status, said.references) == (PROBLEMS, ["MSX-07"])
    assert kinds(said) == [("identity", "keyring", "unreadable")]
    text = command.run(environment=command.session(home, running.variables)).text
    assert "CANNOT BE READ, in the keyring of this user" in text
    assert text.count("nlock the keyring") == 1  # what to do stands there once
    assert text.splitlines()[-1] == "1 problem. Not good to go: MSX-07."


def test_without_a_keyring_a_cache_of_it_is_unreadable_and_without_a_trace_it_is_nothing(
    home: Path, running: keyring.Keyring
) -> None:
    assert status(home, None).json["caches"] == []
    save("identity", running, cache_text())
    said = status(home, None)
    assert (said.status, said.references) == (PROBLEMS, ["MSX-04"])
    assert kinds(said) == [("identity", "keyring", "unreadable")]
    # What a person names is asked for, although no file shows that it was ever used.
    assert kinds(status(home, None, "az:encrypted")) == [("az:encrypted", "keyring", "unreadable")]
    assert kinds(status(home, running, "az:encrypted")) == [("az:encrypted", "keyring", "nothing")]


def test_a_keyring_that_does_not_answer_is_waited_for_no_longer_than_it_was_said(
    home: Path, tmp_path: Path
) -> None:
    needs(keyring.missing())
    with keyring.silent(tmp_path / "silent") as service:
        before = time.monotonic()
        said = status(home, service, "identity", "--timeout", "0.5")
        assert time.monotonic() - before < 60
    assert (said.status, said.references) == (PROBLEMS, ["MSX-08"])
    assert kinds(said) == [("identity", "keyring", "unreadable")]


# ---- what else holds tokens ----


def plain_of_identity(home: Path) -> Path:
    file = home / ".IdentityService" / "msal.cache.nocae"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_text(cache_text())
    file.chmod(0o600)
    return file


def test_azure_identity_may_have_tokens_in_plain_text_and_in_the_keyring(
    home: Path, shared_keyring: keyring.Keyring
) -> None:
    save("identity", shared_keyring, cache_text())
    plain_of_identity(home)
    said = status(home, shared_keyring)
    assert kinds(said) == [("identity", "plain", "stored"), ("identity", "keyring", "stored")]
    assert (said.status, said.references) == (WARNINGS, ["MSX-21"])
    remedy = "python -m msal_extensions migrate identity identity:encrypted"
    assert said.json["findings"][0]["remedy"] == remedy


def test_where_its_tokens_are_in_plain_text_a_missing_or_locked_keyring_is_no_problem(
    home: Path, running: keyring.Keyring
) -> None:
    plain_of_identity(home)
    said = status(home, None)
    assert (kinds(said), said.references) == ([("identity", "plain", "stored")], ["MSX-21"])
    assert said.cache["notes"] == []
    running.lock_collection()
    said = status(home, running)
    assert (kinds(said), said.references) == ([("identity", "plain", "stored")], ["MSX-21"])
    assert "[MSX-07]" in said.cache["notes"][0]  # for nobody knows what it has


def with_key(tmp_path: Path) -> Mapping[str, str]:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    return {"MSAL_EXTENSIONS_KEY_FILE": str(key)}


def test_an_encrypted_file_in_the_place_of_a_keyring_comes_first_and_the_item_is_shown_too(
    home: Path, shared_keyring: keyring.Keyring, tmp_path: Path
) -> None:
    variables = with_key(tmp_path)
    sealed = Path(place_of("identity").sealed())
    persistence = EncryptedFilePersistence(sealed, KeyFile(tmp_path / "key"))
    persistence.save(cache_text())
    said = status(home, None, **variables)
    assert (said.status, kinds(said)) == (FINE, [("identity", "encrypted", "stored")])
    assert said.cache["location"] == str(sealed)
    save("identity", shared_keyring, cache_text())
    plain_of_identity(home)
    said = status(home, shared_keyring, **variables)
    assert kinds(said) == [
        ("identity", "encrypted", "stored"),
        ("identity", "keyring", "stored"),
        ("identity", "plain", "stored"),
    ]
    assert said.references == ["MSX-21"]


def test_a_file_whose_key_is_lost_is_unreadable_although_its_programs_would_start_anew(
    home: Path, tmp_path: Path
) -> None:
    """They put it aside at the next save; until then nobody should take it for empty."""
    from msal_extensions._stores import envelope

    sealed = Path(place_of("identity").sealed())
    sealed.parent.mkdir(mode=0o700)
    content = envelope.seal(
        cache_text().encode(),
        file_id=bytes(16),
        generation=1,
        key=bytes(32),
        key_id="x",
        source="kernel",
        hints={"boot": "another", "userns": ""},
        name=sealed.name,
    )
    sealed.write_bytes(content)
    sealed.chmod(0o600)
    said = status(home, None)
    assert kinds(said) == [("identity", "encrypted", "unreadable")]
    assert said.references in (["MSX-52"], ["MSX-50"])  # or there is no kernel keyring at all
