"""The names of places lead where Azure CLI and azure-identity, the released ones, keep tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import EncryptedFilePersistence, FilePersistence
from msal_extensions._command import look, places
from msal_extensions._command.installation import look as look_at_installation
from msal_extensions._command.places import BadPlace, Kind, Options, Place
from msal_extensions._command.report import Report
from tests.support import azure_programs, keyring
from tests.support.capability import requires
from tests.support.processes import PATIENCE
from tests.support.users import US, as_user
from tests.support.users import shared as shared

#: Lets both packages make their persistences, as on this system and as they would on others.
THEIRS = """
import json, os, sys
import msal_extensions
from azure.cli.core._environment import get_config_dir
from azure.cli.core.auth import persistence as az
from azure.identity import _persistent_cache as identity

made = {}

def note(name, persistence):
    location = persistence.get_location()
    agent = getattr(persistence, "_agent", None)
    item = getattr(agent, "item", None)
    made[name] = [
        type(persistence).__name__, location,
        [item.schema, item.attributes] if item else
        [persistence._service_name, persistence._account_name]
        if hasattr(persistence, "_service_name") else [],
    ]

def note_all():
    for name, file in (("az", "msal_token_cache"), ("az:principals", "service_principal_entries")):
        for encrypt, name in ((False, name), (True, name + (":" if name == "az" else "-")
                                              + "encrypted")):
            note(name, az.build_persistence(os.path.join(get_config_dir(), file), encrypt))
    for cache in ("msal.cache.nocae", "msal.cache.cae", "own.nocae"):
        note("identity:" + cache, identity._get_persistence(False, "MSALCache", cache))

class Recorded:
    def __init__(self, location, service=None, account=None):
        self._location = location
        if service:
            self._service_name, self._account_name = service, account
    def get_location(self):
        return self._location

sys.platform = sys.argv[1]
if sys.platform != "linux":
    for module in (msal_extensions, az):
        for kind in ("KeychainPersistence", "FilePersistenceWithDataProtection"):
            setattr(module, kind, type(kind, (Recorded,), {}))
note_all()
print(json.dumps(made))
"""
KINDS = {
    "FilePersistence": Kind.PLAIN,
    "LibsecretPersistence": Kind.KEYRING,
    "KeychainPersistence": Kind.KEYRING,
    "FilePersistenceWithDataProtection": Kind.DPAPI,
}


@pytest.fixture
def home(fresh_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCALAPPDATA", str(fresh_home / "local"))
    monkeypatch.delenv("AZURE_CONFIG_DIR", raising=False)
    return fresh_home


def theirs(platform: str, variables: Mapping[str, str]) -> dict[str, Any]:
    programs = azure_programs.with_ours()
    done = subprocess.run(
        [programs.python, "-c", THEIRS, platform],
        env={**os.environ, **variables, "PYTHONPATH": os.pathsep.join(map(str, programs.path))},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def ours(name: str) -> list[Any]:
    place = places.named(name, Options())
    item: list[Any] = []
    if place.kind is Kind.KEYRING:
        options = place.options
        item = [options.schema, dict(options.attributes)]
        if sys.platform == "darwin":
            item = [options.service, options.account]
    return [place.kind, place.location, item]


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("directory", [None, "elsewhere"])
def test_each_name_is_where_the_released_programs_keep_their_tokens(
    platform: str,
    directory: str | None,
    home: Path,
    keyring_of: Callable[[str], keyring.Keyring],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if directory:
        monkeypatch.setenv("AZURE_CONFIG_DIR", str(home / directory))
    bus = keyring_of("gnome-keyring").variables if platform == "linux" else {}
    variables = {name: bus[name] for name in bus if name != "HOME"}
    made = theirs(platform, variables)
    monkeypatch.setattr(sys, "platform", platform)
    for name, (kind, location, item) in made.items():
        assert ours(name) == [KINDS[kind], location, item], name
    assert ours("identity") == ours("identity:msal.cache.nocae")


def test_no_name_leads_to_a_cache_that_nobody_has_used(home: Path) -> None:
    assert places.well_known(Options()) == []
    assert list(home.iterdir()) == []


@requires("os.fork")
def test_the_well_known_places_are_those_of_which_a_file_is_there(home: Path) -> None:
    for file in (
        ".azure/msal_token_cache.json",
        ".azure/service_principal_entries.bin.enc",
        ".IdentityService/msal.cache.nocae",
        ".IdentityService/own.cae.enc",
        ".IdentityService/msal.cache.nocae.lockfile",
        ".IdentityService/something else",
    ):
        path = home / file
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    found = [place.name for place in places.well_known(Options())]
    assert found == ["az", "az:principals-encrypted", "identity", "identity:own.cae"]


@requires("os.fork")
def test_the_file_of_azure_identity_is_plain_text_or_the_signal_of_a_keyring(home: Path) -> None:
    file = home / ".IdentityService" / "msal.cache.nocae"
    file.parent.mkdir()
    file.write_text("{}")
    assert places.named("identity", Options()).kind is Kind.PLAIN
    assert places.named("identity:encrypted", Options()).kind is Kind.KEYRING
    sealed = Path(f"{file}.enc")
    sealed.touch()  # then every session uses that file
    assert places.named("identity", Options()).kind is Kind.KEYRING
    sealed.unlink()
    file.write_text("")
    place = places.named("identity", Options())
    encrypted = places.named("identity:encrypted", Options())
    assert place.kind is Kind.KEYRING
    assert replace(encrypted, name="identity") == place


# ---- paths ----


def test_a_path_is_opened_as_its_content_shows(tmp_path: Path) -> None:
    plain, encrypted = tmp_path / "plain", tmp_path / "encrypted"
    FilePersistence(str(plain)).save("{}")
    EncryptedFilePersistence(str(encrypted), bytes(32)).save("{}")
    for path, kind in ((plain, Kind.PLAIN), (encrypted, Kind.ENCRYPTED)):
        assert places.named(str(path), Options()) == Place(str(path), kind, str(path))
    missing = str(tmp_path / "missing")
    assert places.named(missing, Options()).kind is Kind.PLAIN


@requires("os.fork")
def test_a_path_beside_an_encrypted_file_is_that_of_a_keyring(tmp_path: Path) -> None:
    """It is the location that its program knows; the encrypted file took the place of a keyring."""
    EncryptedFilePersistence(str(tmp_path / "cache.enc"), bytes(32)).save("{}")
    place = places.named(str(tmp_path / "cache"), Options())
    assert place.kind is Kind.KEYRING
    assert place.exists()
    (tmp_path / "signal").touch()
    assert places.named(str(tmp_path / "signal"), Options()).kind is Kind.KEYRING


def test_a_relative_path_and_one_with_a_tilde_become_absolute(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(home)
    for text in ("plain:cache.json", "plain:~/cache.json", "./cache.json", "cache.json"):
        assert places.named(text, Options()).location == str(home / "cache.json"), text


def test_a_prefix_is_no_drive_of_windows_and_a_colon_may_be_in_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert places.named("C:\\cache.json", Options()).location.endswith("C:\\cache.json")
    assert places.named("plain:C:\\x", Options()).location.endswith("C:\\x")
    for text in ("unknown:cache", "identity:own", "identity:../x.cae", "plain:", "", "plain:a\0"):
        with pytest.raises(BadPlace):
            places.named(text, Options())


@requires("os.fork")
def test_a_file_whose_name_looks_like_a_place_can_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("unknown:cache", "az"):
        Path(name).write_text("{}")
    assert places.named("unknown:cache", Options()).location == str(tmp_path / "unknown:cache")
    assert places.named("./az", Options()).location == str(tmp_path / "az")
    assert places.named("az", Options()).location != str(tmp_path / "az")


def test_the_item_of_a_keyring_has_the_name_that_its_program_gave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in 1.3.1 it is the SHA-256 of the path, as the program gave the path."""
    from msal_extensions._paths import sha256_of

    monkeypatch.chdir(tmp_path)
    place = places.named("keyring:token_cache.bin", Options())
    assert place.location == str(tmp_path / "token_cache.bin")
    assert place.options.schema == place.options.account == sha256_of("token_cache.bin")
    given = places.named("keyring:x", Options(schema="S", account="A")).options
    assert (given.schema, given.account) == ("S", "A")


@requires("os.setuid")
def test_without_a_home_one_place_says_so_and_none_is_in_a_directory_named_tilde(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "AZURE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)

    def look_at_all() -> list[tuple[str, str, list[str]]]:
        report = Report("status", look_at_installation())
        found = [look.examine(report, place) for place in places.well_known(Options())]
        codes = [finding.reference.code for finding in report.findings]
        return [(cache.location, cache.state, codes) for cache in found]

    [(location, state, codes)] = as_user(US, look_at_all)
    assert location.startswith("~")
    assert (state, codes) == ("unreadable", ["MSX-22"])
