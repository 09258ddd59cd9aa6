"""The actions of the command, for tests: in this process, and in one of its own.

    report = migrate("plain:/x/a", "encrypted:/x/b", key_file="/k")
    assert references_of(report) == []

A report is as the command makes it, before it is printed.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import msal

from msal_extensions import EncryptedFilePersistence, FilePersistence, KeyFile
from msal_extensions._command import actions, look
from msal_extensions._command.places import Options, Place, named
from msal_extensions._command.report import Installation, Report
from tests.support.key_sources import new_key
from tests.support.processes import python

#: A text that every secret of these tests has.
CANARY = "canary-5e1f"
ROOT = str(Path(__file__).resolve().parents[2])
#: The PYTHONPATH of a process that imports this module.
PATH = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))

#: For a snippet, which may run with 1.3.1: what MSAL gives to add() after a sign-in.
SIGN_INS = f"""
import base64, json, sys
import msal, msal_extensions

def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

def sign_in(number):
    claims = {{"preferred_username": f"user{{number}}@example.com", "sub": "x"}}
    return {{
        "client_id": "client",
        "scope": ["scope"],
        # MSAL takes the tenant from here: see metadata_only().
        "token_endpoint": "https://login.example.com/t",
        "environment": "login.example.com",
        "response": {{
            "access_token": f"{CANARY}-access{{number}}",
            "refresh_token": f"{CANARY}-refresh{{number}}",
            "id_token": f"e30.{{encoded(claims)}}.x",
            "token_type": "Bearer",
            "expires_in": 86400,  # longer than any run of the tests
            "client_info": encoded({{"uid": f"user{{number}}", "utid": "tenant"}}),
        }},
    }}
"""


@functools.cache  # MSAL writes the time into each entry: made twice, the text could differ
def signed_in(count: int) -> str:
    """The content of a cache with so many accounts, as MSAL itself writes it."""
    names: dict[str, Any] = {}
    exec(SIGN_INS, names)
    cache = msal.SerializableTokenCache()
    for number in range(count):
        cache.add(names["sign_in"](number))
    return cache.serialize()  # type: ignore[no-any-return]


def usable(name: str, environment: Mapping[str, str] | None = None, **options: Any) -> list[str]:
    """The users for whom MSAL finds the right tokens in a place, in a process of its own."""
    code = """
import json, sys
import msal
from msal_extensions import PersistedTokenCache
from tests.support.moving import CANARY, place
from tests.support.tokens import metadata_only

name, options = json.loads(sys.argv[1])
cache = PersistedTokenCache(place(name, **options).open())
authority = "https://login.example.com/tenant"
app = msal.PublicClientApplication(
    "client", authority=authority, token_cache=cache, http_client=metadata_only(),
    instance_discovery=False,
)
refreshing = {entry["home_account_id"]: entry["secret"] for entry in cache.search("RefreshToken")}
for account in app.get_accounts():
    number = account["username"].removeprefix("user").partition("@")[0]
    assert refreshing[account["home_account_id"]] == f"{CANARY}-refresh{number}"
    token = app.acquire_token_silent(["scope"], account)
    assert token["access_token"] == f"{CANARY}-access{number}"
    print(account["username"])
"""
    asked = json.dumps([name, options])
    done = python(code, asked, environment={"PYTHONPATH": PATH, **(environment or {})})
    return sorted(done.stdout.split())


def place(name: str, **options: Any) -> Place:
    return named(name, Options(**options))


def new_report(command: str) -> Report:
    return Report(command, Installation("", True, "", "", "", "", ""))


def yes(_: str) -> bool:
    return True


def without_looks() -> AbstractContextManager[object]:
    """The actions leave out their look at the places, which finds things of its own."""
    return mock.patch.object(look, "examine")


def migrate(
    source: str, target: str, confirm: Callable[[str], bool] = yes, **options: Any
) -> Report:
    report = new_report("migrate")
    with without_looks():
        actions.migrate(report, place(source, **options), place(target, **options), confirm)
    return report


def clear(*names: str, confirm: Callable[[str], bool] = yes, **options: Any) -> Report:
    report = new_report("clear")
    with without_looks():
        actions.clear(report, [place(name, **options) for name in names], confirm)
    return report


def references_of(report: Report) -> list[str]:
    """The references of what was found, in order."""
    return [finding.reference.code for finding in report.findings]


def with_canary(directory: Path, *without: Path) -> list[str]:
    """The files below a directory that have a secret of these tests."""
    return [
        str(path.relative_to(directory))
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path not in without and CANARY.encode() in path.read_bytes()
    ]


class Files:
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


def in_a_process(
    call: str, environment: Mapping[str, str], *arguments: str
) -> tuple[list[str], list[str]]:
    """Calls `migrate(...)` or `clear(...)` in a process of its own: what it did, and references."""
    code = f"""
import json, sys
from tests.support.moving import *
report = {call}
print(json.dumps([report.done, references_of(report)]))
"""
    found = python(code, *arguments, environment={"PYTHONPATH": PATH, **environment})
    done, references = json.loads(found.stdout.splitlines()[-1])
    return done, references
