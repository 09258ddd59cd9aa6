"""`migrate` from and to a real keyring, and beside other programs: no token is lost or left."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import FilePersistence
from tests.support import keyring
from tests.support.capability import requires
from tests.support.key_sources import new_key
from tests.support.moving import (
    CANARY,
    PATH,
    SIGN_INS,
    in_a_process,
    place,
    signed_in,
    usable,
    with_canary,
)
from tests.support.processes import Member, python, together
from tests.support.reference import python_with_gi, reference_python, reference_site_packages

pytestmark = [pytest.mark.slow, requires("fcntl")]

USERS = [f"user{number}@example.com" for number in range(3)]
#: What azure-cli passes to 1.3.1.
SCHEMA, ATTRIBUTES = "my_schema_name", {"my_attr1": "foo", "my_attr2": "bar"}
MIGRATE = "migrate(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3]))"


class Site:
    """Three places, a key file elsewhere, and a keyring."""

    def __init__(self, directory: Path, session: keyring.Keyring) -> None:
        self.directory, self.session = directory / "caches", session
        self.directory.mkdir(mode=0o700)
        self.key_file = str(new_key(directory / "keys" / "key"))
        item = {"schema": SCHEMA, "attributes": ATTRIBUTES}
        self.options: dict[str, Any] = {**item, "key_file": self.key_file}
        self.signal = self.directory / "signal.bin"
        self.plain = f"plain:{self.directory}/plain.json"
        self.sealed = f"encrypted:{self.directory}/sealed.bin"
        self.keyring = f"keyring:{self.signal}"

    def migrate(self, source: str, target: str) -> tuple[list[str], list[str]]:
        options = json.dumps(self.options)
        return in_a_process(MIGRATE, self.session.environment, source, target, options)

    def users(self, name: str) -> list[str]:
        return usable(name, self.session.environment, **self.options)

    def files(self) -> list[str]:
        return sorted(os.listdir(self.directory))


@pytest.fixture
def site(tmp_path: Path, keyring_of: Callable[[str], keyring.Keyring]) -> Site:
    session = keyring_of("gnome-keyring")
    session.clear()
    return Site(tmp_path, session)


def of_1_3_1(site: Site, code: str) -> str:
    command = python_with_gi()
    path = reference_site_packages(portalocker=False, python=command)
    environment = {**site.session.environment, "PYTHONPATH": str(path)}
    make = f"""
from msal_extensions.persistence import LibsecretPersistence
here = LibsecretPersistence(
    sys.argv[1], {SCHEMA!r}, {ATTRIBUTES!r})
cache = msal_extensions.PersistedTokenCache(here)
"""
    code = SIGN_INS + make + code
    return python(code, str(site.signal), command=[command], environment=environment).stdout


def test_a_cache_that_1_3_1_put_into_a_keyring_goes_round_all_kinds_of_places(site: Site) -> None:
    version = "print(msal_extensions.__version__)"
    said = of_1_3_1(site, f"for number in range(3): cache.add(sign_in(number))\n{version}")
    assert said.strip() == "1.3.1"
    [before] = site.session.secrets()
    assert CANARY.encode() in before

    done, references = site.migrate(site.keyring, site.sealed)
    assert references == []
    assert "3 accounts, 9 tokens moved" in done[0]
    assert site.session.items() == []
    assert site.files() == ["sealed.bin"]
    assert with_canary(site.directory) == []
    assert site.users(site.sealed) == USERS

    _, references = site.migrate(site.sealed, site.keyring)
    assert references == []
    assert json.loads(site.session.secrets()[0]) == json.loads(before)
    assert site.files() == ["signal.bin"]
    assert site.users(site.keyring) == USERS
    said = of_1_3_1(site, "print(len(cache.find('RefreshToken')))")
    assert said.strip() == "3"

    _, references = site.migrate(site.keyring, site.plain)
    assert references == []
    assert site.session.items() == []
    assert site.files() == ["plain.json"]

    _, references = site.migrate(site.plain, site.keyring)
    assert references == []
    assert site.files() == ["signal.bin"]
    assert with_canary(site.directory) == []
    assert site.users(site.keyring) == USERS


def test_plain_text_in_the_signal_file_itself_is_moved_and_the_file_goes_on_signalling(
    site: Site,
) -> None:
    """azure-identity has one name for both: it takes the file where no keyring answers."""
    FilePersistence(site.signal).save(signed_in(3))
    done, references = site.migrate(f"plain:{site.signal}", site.keyring)
    assert references == []
    assert "3 accounts, 9 tokens moved" in done[0]
    assert site.signal.read_bytes() == b""
    assert with_canary(site.directory) == []
    assert site.users(site.keyring) == USERS
    assert of_1_3_1(site, "print(len(cache.find('RefreshToken')))").strip() == "3"
    _, references = site.migrate(site.keyring, f"plain:{site.signal}")
    assert references == ["MSX-86"]
    assert site.users(site.keyring) == USERS


def test_an_item_without_its_signal_file_is_moved(site: Site) -> None:
    attributes = {"xdg:schema": SCHEMA, **ATTRIBUTES}
    site.session.add("MSALCache", attributes, signed_in(3).encode())
    _, references = site.migrate(site.keyring, site.sealed)
    assert references == []
    assert site.session.items() == []
    assert site.users(site.sealed) == USERS


def test_the_encrypted_file_in_the_place_of_a_keyring_is_moved_and_the_item_is_named(
    site: Site,
) -> None:
    attributes = {"xdg:schema": SCHEMA, **ATTRIBUTES}
    site.session.add("MSALCache", attributes, b"{}")
    write = """
import sys
from msal_extensions import EncryptedFilePersistence
EncryptedFilePersistence(sys.argv[1]).save(sys.argv[2])
"""
    environment = {**site.session.environment, "MSAL_EXTENSIONS_KEY_FILE": site.key_file}
    python(write, f"{site.signal}.enc", signed_in(3), environment=environment)
    site.signal.touch(0o600)
    options = json.dumps(site.options)
    done, references = in_a_process(MIGRATE, environment, site.keyring, site.sealed, options)
    assert done != []
    assert references == ["MSX-35"]
    assert site.session.secrets() == [b"{}"], "the item was not moved, so it must stay"
    assert site.files() == ["sealed.bin", "signal.bin"]
    assert site.users(site.sealed) == USERS


@pytest.mark.parametrize("direction", ["from", "to"])
def test_a_keyring_that_is_locked_changes_nothing(
    site: Site, tmp_path: Path, direction: str
) -> None:
    FilePersistence(site.plain.removeprefix("plain:")).save(signed_in(1))
    if direction == "from":
        of_1_3_1(site, "cache.add(sign_in(1))")
    before = site.files()
    site.session.lock_collection()
    try:
        names = (site.keyring, site.sealed) if direction == "from" else (site.plain, site.keyring)
        done, references = site.migrate(*names)
    finally:
        site.session.unlock_collection()
    assert (done, references) == ([], ["MSX-07"])
    assert site.files() == before
    assert len(site.session.items()) == (direction == "from")


@pytest.mark.parametrize("direction", ["from", "to"])
def test_without_a_keyring_nothing_changes(site: Site, tmp_path: Path, direction: str) -> None:
    FilePersistence(site.plain.removeprefix("plain:")).save(signed_in(1))
    before = site.files()
    names = (site.keyring, site.sealed) if direction == "from" else (site.plain, site.keyring)
    environment = keyring.no_bus(tmp_path)
    options = json.dumps(site.options)
    done, references = in_a_process(
        MIGRATE, {**environment, "DBUS_SESSION_BUS_ADDRESS": "disabled:"}, *names, options
    )
    assert (done, references) == ([], ["MSX-04"])
    assert site.files() == before


# ---- beside other programs ---------------------------------------------------------------

#: A program that adds tokens of its own again and again.  It prints how many.
ADDING = (
    SIGN_INS
    + """
import time
cache = msal_extensions.PersistedTokenCache(msal_extensions.FilePersistence(sys.argv[1]))
base = int(sys.argv[2])
ready()
end, number = time.monotonic() + 4, base
while time.monotonic() < end:
    try:
        cache.add(sign_in(number))
    except msal_extensions.LockError:
        continue
    number += 1
    time.sleep(0.01)
print(number - base)
"""
)
MOVING = """
import json, sys, time
from tests.support.moving import migrate, references_of
ready()
time.sleep(float(sys.argv[4]))
report = migrate(sys.argv[1], sys.argv[2], key_file=sys.argv[3], timeout=60.0)
print(json.dumps([report.done, references_of(report), [f.words for f in report.findings]]))
"""


def contents(site: Site) -> list[str]:
    """What is in the encrypted place and in the plain one."""
    found = []
    for name in (site.sealed, site.plain):
        one = place(name, **site.options)
        if one.exists():
            found.append(one.open().load())
    return found


def test_a_move_beside_programs_that_save_loses_no_token(site: Site) -> None:
    """What they save after the move is at the old place: nobody has told them."""
    command, environment = reference_python(portalocker=False)
    path = site.plain.removeprefix("plain:")
    FilePersistence(path).save(signed_in(1))
    key_file = site.key_file
    members = [
        Member(ADDING, (path, "1000")),
        Member(ADDING, (path, "2000"), command, environment),
        Member(MOVING, (site.plain, site.sealed, key_file, "1"), environment={"PYTHONPATH": PATH}),
    ]
    *counts, said = together(members)
    done, references, words = json.loads(said)
    assert (done != [], references) == (True, []), words
    known = {
        entry["secret"]
        for content in contents(site)
        for entry in json.loads(content).get("RefreshToken", {}).values()
    }
    numbers = [0]
    for base, count in zip((1000, 2000), counts, strict=True):
        assert int(count) > 1
        numbers += range(base, base + int(count))
    missing = {f"{CANARY}-refresh{number}" for number in numbers} - known
    assert missing == set()


def test_of_two_moves_at_once_one_moves_and_the_other_finds_nothing(site: Site) -> None:
    FilePersistence(site.plain.removeprefix("plain:")).save(signed_in(3))
    arguments = (site.plain, site.sealed, site.key_file, "0")
    said = together([Member(MOVING, arguments, environment={"PYTHONPATH": PATH})] * 2)
    results = sorted(json.loads(each)[:2] for each in said)
    assert results[0] == [[], ["MSX-20"]]
    assert results[1][1] == []
    assert site.files() == ["sealed.bin"]
    assert site.users(site.sealed) == USERS


def test_two_moves_in_opposite_directions_do_not_wait_for_each_other_for_ever(site: Site) -> None:
    text = signed_in(3)
    FilePersistence(site.plain.removeprefix("plain:")).save(text)
    ways = [(site.plain, site.sealed), (site.sealed, site.plain)] * 2
    members = [
        Member(MOVING, (*way, site.key_file, "0"), environment={"PYTHONPATH": PATH}) for way in ways
    ]
    for each in together(members):
        done, references, words = json.loads(each)
        assert bool(done) != bool(references)
        assert references in ([], ["MSX-20"]), words
    assert contents(site) == [text]
