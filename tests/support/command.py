"""``python -m msal_extensions``, run as a person runs it: in a process of its own.

said = command.run("status", "--json", environment=command.session(home))
assert said.status == 0 and said.json["good_to_go"]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import SESSION_VARIABLES
from tests.support.processes import PATIENCE

FINE, WARNINGS, PROBLEMS = 0, 1, 2


@dataclass(frozen=True)
class Said:
    """How the command ended."""

    status: int  #: of its exit
    text: str  #: what it printed
    errors: str  #: what it printed to stderr

    @property
    def json(self) -> dict[str, Any]:
        """What it printed, of a run with --json."""
        said: dict[str, Any] = json.loads(self.text)
        assert complaints(said) == []
        assert said["exit_status"] == self.status
        return said

    @property
    def cache(self) -> dict[str, Any]:
        """The only cache of a run with --json."""
        [cache] = self.json["caches"]
        found: dict[str, Any] = cache
        return found

    @property
    def references(self) -> list[str]:
        """The references of the findings, in their order, of a run with --json."""
        return [finding["reference"] for finding in self.json["findings"]]

    @property
    def everything(self) -> str:
        return self.text + self.errors


SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "status.schema.json"


def complaints(said: object) -> list[str]:
    """What the schema does not allow."""
    if sys.platform == "win32":  # the validator needs a library that has to be compiled
        return []
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    found = Draft202012Validator(schema).iter_errors(said)
    return [f"{error.json_path}: {error.message}" for error in found]


def cache_text(secret: str = "secret", username: str = "alice@example.com") -> str:
    """A token cache: one account; an access token that is good for an hour, one that has expired;
    a refresh token, an id token and a client.

    :param secret: This is in each of its secrets.
    """
    common = {"environment": "login.example.com", "home_account_id": "user.tenant"}
    client = {**common, "client_id": "client", "realm": "tenant"}

    def entry(kind: str, **more: str) -> dict[str, str]:
        return {"credential_type": kind, "secret": f"{kind}-{secret}", **client, **more}

    def expiring(seconds: float) -> dict[str, str]:
        return entry("AccessToken", target="scope", expires_on=str(int(time.time() + seconds)))

    return json.dumps(
        {
            "AccessToken": {"one": expiring(3600), "two": expiring(-3600)},
            "RefreshToken": {"one": entry("RefreshToken", target="scope")},
            "IdToken": {"one": entry("IdToken")},
            "Account": {"one": {**common, "realm": "tenant", "username": username}},
            "AppMetadata": {"one": client},
        }
    )


def session(
    home: str | os.PathLike[str], variables: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of a user with this home, who has no desktop, no keyring and no settings.

    :param variables: These are added, such as ``keyring.running(...).variables`` for a keyring.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in SESSION_VARIABLES
        and not name.startswith(("AZURE_", "MSAL_", "XDG_", "CREDENTIALS_"))
    }
    own = {"HOME": str(home), "USERPROFILE": str(home), "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
    own["LOCALAPPDATA"] = str(Path(home) / "AppData" / "Local")
    # The home of a keyring of the tests is its own; the user's is the one that was asked for.
    return {**kept, **(variables or {}), **own} | _bus_of(variables)


def _bus_of(variables: Mapping[str, str] | None) -> dict[str, str]:
    name = "DBUS_SESSION_BUS_ADDRESS"
    return {name: variables[name]} if variables and name in variables else {}


def run(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    answer: str = "",
    around: Sequence[str] = (),
    python: Sequence[str] = (sys.executable,),
) -> Said:
    """Runs the command, and waits until it ends.

    :param environment: All of it, see session(); None: that of this process.
    :param answer: What its stdin has, which is no terminal.
    :param around: The beginning of a command that runs it, such as ``["strace", ...]``.
    :param python: The interpreter and its options.
    """
    done = subprocess.run(
        [*around, *python, "-m", "msal_extensions", *arguments],
        env=environment,
        cwd=cwd,
        input=answer.encode(),
        capture_output=True,
        timeout=PATIENCE,
    )
    text, errors = (out.decode("utf-8", "surrogateescape") for out in (done.stdout, done.stderr))
    return Said(done.returncode, text, errors)
