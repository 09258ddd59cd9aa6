"""The lines that `status` tells move the sign-ins of the released az and azure-identity.

Both sign in and keep plain text.  Then a person copies the lines.  Then both find the same tokens
again, encrypted, without asking the identity provider.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samples.local_identity_provider import LocalIdentityProvider
from tests.support import keyring
from tests.support.azure_programs import (
    AZ_CONFIG,
    AZ_PROGRAM,
    AZURE_IDENTITY_PROGRAM,
    Machine,
    with_ours,
)
from tests.support.capability import requires
from tests.support.key_sources import new_key
from tests.support.processes import PATIENCE
from tests.support.provider import provider_fixture as provider_fixture

pytestmark = [pytest.mark.slow, requires("fcntl", "os.fork")]

#: ~/.azure/config before `az config set core.encrypt_token_cache=true`.
AZ_PLAIN = AZ_CONFIG.replace("encrypt_token_cache = true", "encrypt_token_cache = false")
LOGIN, GET_TOKEN = "login", "get-access-token"
ALLOWED, FORBIDDEN = "plain text is allowed", "plain text is forbidden"
#: A shell in which a person answers yes to each question, and `az config` writes its line.
SHELL = """
python() { "$PYTHON" "$@" --yes || exit; }
az() { test "$*" = "config set core.encrypt_token_cache=true" && printf %s "$AZ_CONFIG" > "$HOME/.azure/config"; }
eval "$1"
"""  # noqa: E501


@pytest.fixture
def machine(tmp_path: Path, provider: LocalIdentityProvider) -> Machine:
    made = Machine(tmp_path / "home", provider, with_ours())
    made.variables = {"MSAL_EXTENSIONS_KEY_FILE": str(new_key(tmp_path / "keys" / "key"))}
    return made


def status(machine: Machine) -> Any:
    command = [sys.executable, "-m", "msal_extensions", "status", "--json"]
    environment = machine.environment()
    done = subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE)
    return json.loads(done.stdout)


def follow_the_remedy(machine: Machine) -> None:
    """Types what status tells about plain text."""
    findings = [each for each in status(machine)["findings"] if each["reference"] == "MSX-21"]
    [remedy] = {each["remedy"] for each in findings}
    print(remedy)
    environment = {**machine.environment(), "PYTHON": sys.executable, "AZ_CONFIG": AZ_CONFIG}
    done = subprocess.run(
        ["sh", "-c", SHELL, "sh", remedy],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "export MSAL_EXTENSIONS_WITHOUT_KEYRING=encrypted_file" in remedy
    machine.variables = {
        **machine.variables,
        "MSAL_EXTENSIONS_WITHOUT_KEYRING": "encrypted_file",
    }


def test_az_finds_its_sign_in_and_its_secret_after_the_lines_that_status_tells(
    machine: Machine,
) -> None:
    (machine.home / ".azure" / "config").write_text(AZ_PLAIN)
    _, before = machine.run(AZ_PROGRAM, LOGIN, GET_TOKEN)
    assert before.token, before.output
    assert machine.files_with(before.token) == {".azure/msal_token_cache.json"}
    assert machine.files_with(machine.provider.client_secret)

    follow_the_remedy(machine)

    [after] = machine.run(AZ_PROGRAM, GET_TOKEN)
    assert after.token == before.token
    assert machine.provider.token_requests == {"client_credentials": 1}
    for secret in (before.token, machine.provider.client_secret):
        assert machine.files_with(secret) == set()
    said = status(machine)
    assert said["good_to_go"], said["findings"]
    assert [cache["is_encrypted"] for cache in said["caches"]] == [True, True]


def test_where_there_is_a_keyring_az_does_not_get_one_item_for_tokens_and_secrets(
    machine: Machine, keyring_of: Callable[[str], keyring.Keyring]
) -> None:
    """It gives both the same names there, and would find its secrets in the place of its tokens."""
    session = keyring_of("gnome-keyring")
    session.clear()
    machine.variables = {**machine.variables, **session.variables, "HOME": str(machine.home)}
    (machine.home / ".azure" / "config").write_text(AZ_PLAIN)
    _, before = machine.run(AZ_PROGRAM, LOGIN, GET_TOKEN)
    assert before.token, before.output

    follow_the_remedy(machine)

    [after] = machine.run(AZ_PROGRAM, GET_TOKEN)
    assert after.token == before.token, after.output
    assert machine.provider.token_requests == {"client_credentials": 1}
    assert session.items() == []
    for secret in (before.token, machine.provider.client_secret):
        assert machine.files_with(secret) == set()


def test_azure_identity_finds_its_token_after_the_lines_that_status_tells(machine: Machine) -> None:
    [before] = machine.run(AZURE_IDENTITY_PROGRAM, ALLOWED)
    assert before.token, before.output
    assert machine.files_with(before.token) == {".IdentityService/own.nocae"}

    follow_the_remedy(machine)

    [after] = machine.run(AZURE_IDENTITY_PROGRAM, FORBIDDEN)
    assert after.token == before.token
    assert machine.provider.token_requests == {"client_credentials": 1}
    assert machine.files_with(before.token) == set()
    [cache] = status(machine)["caches"]
    assert cache["is_encrypted"]
