"""azure-identity and az work on a server without a keyring, and their tokens are encrypted.

Both construct LibsecretPersistence themselves, and nobody changes their code.  So a variable says
that it shall go on in an encrypted file.  Without the variable all is as with 1.3.1.  The packages
are the released ones; the identity provider is on loopback.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import NamedTuple

import pytest

from samples.local_identity_provider import LocalIdentityProvider
from tests.support import no_keyctl, own_keyrings
from tests.support.azure_programs import (
    AZ_PROGRAM,
    AZURE_IDENTITY_PROGRAM,
    Machine,
    with_1_3_1,
    with_ours,
)
from tests.support.capability import requires
from tests.support.key_sources import new_key
from tests.support.provider import provider_fixture as provider_fixture

pytestmark = [pytest.mark.slow, requires("fcntl", "os.fork")]

ENCRYPTED_FILE = {"MSAL_EXTENSIONS_WITHOUT_KEYRING": "encrypted_file"}
#: What the first line of an encrypted file begins with: docs/encrypted-file.md.
FIRST_LINE = b"msalex-enc/1"
#: Arguments of AZURE_IDENTITY_PROGRAM.
ALLOWED, FORBIDDEN = "plain text is allowed", "plain text is forbidden"
#: Arguments of AZ_PROGRAM.
LOGIN, GET_TOKEN, LOGOUT, CLEAR = "login", "get-access-token", "logout", "account clear"
AZURE_IDENTITY_CACHE = ".IdentityService/own.nocae"
AZ_CACHE, AZ_SECRETS = ".azure/msal_token_cache.bin", ".azure/service_principal_entries.bin"


class Source(NamedTuple):
    """Where the key comes from."""

    around: list[str]  #: the beginning of a command that runs the programs
    variables: dict[str, str]


@pytest.fixture(params=["key file", "kernel keyring"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """A key file that a variable names, or a kernel keyring that is not that of a user here."""
    if request.param == "kernel keyring":
        return Source(own_keyrings.command([]), ENCRYPTED_FILE)
    key = str(new_key(tmp_path / "key"))
    return Source([], {**ENCRYPTED_FILE, "MSAL_EXTENSIONS_KEY_FILE": key})


@pytest.fixture
def machine(tmp_path: Path, provider: LocalIdentityProvider) -> Machine:
    return Machine(tmp_path / "home", provider, with_ours())


def encrypted(machine: Machine) -> set[str]:
    """The files that are encrypted, without their last suffix."""
    found = {name for name, text in machine.files().items() if text.startswith(FIRST_LINE)}
    assert all(name.endswith(".enc") for name in found), found
    return {name.removesuffix(".enc") for name in found}


@pytest.mark.parametrize("storage", [ALLOWED, FORBIDDEN])
def test_azure_identity_finds_its_encrypted_token_again_in_another_process(
    storage: str, machine: Machine, source: Source
) -> None:
    machine.variables = source.variables
    first, second = machine.run(AZURE_IDENTITY_PROGRAM, storage, storage, around=source.around)
    assert first.token, first.output
    assert second.token == first.token
    assert machine.provider.token_requests == {"client_credentials": 1}
    assert encrypted(machine) == {AZURE_IDENTITY_CACHE}
    assert machine.files_with(first.token) == set()
    assert machine.provider.client_secret not in first.output


def test_az_finds_its_encrypted_token_and_secret_again_in_another_process(
    machine: Machine, source: Source
) -> None:
    machine.variables = source.variables
    steps = [LOGIN, GET_TOKEN, GET_TOKEN]
    signed_in, first, second = machine.run(AZ_PROGRAM, *steps, around=source.around)
    assert not signed_in.error, signed_in.output
    assert first.token, first.output
    assert second.token == first.token
    assert machine.provider.token_requests == {"client_credentials": 1}
    assert encrypted(machine) == {AZ_CACHE, AZ_SECRETS}
    for secret in (first.token, machine.provider.client_secret):
        assert machine.files_with(secret) == set()
        assert secret not in first.output


def test_az_needs_no_network_to_find_its_token_again(machine: Machine, tmp_path: Path) -> None:
    machine.variables = {**ENCRYPTED_FILE, "MSAL_EXTENSIONS_KEY_FILE": str(new_key(tmp_path / "k"))}
    _, first = machine.run(AZ_PROGRAM, LOGIN, GET_TOKEN)
    # A user namespace allows a network namespace, in which there is no network.
    cut_off = [*own_keyrings.command([]), "unshare", "--net"]
    [second] = machine.run(AZ_PROGRAM, GET_TOKEN, around=cut_off)
    assert second.token == first.token
    assert second.token, second.output


@pytest.mark.parametrize(
    ("program", "argument"),
    [
        (AZURE_IDENTITY_PROGRAM, ALLOWED),
        (AZURE_IDENTITY_PROGRAM, FORBIDDEN),
        (AZ_PROGRAM, LOGIN),
    ],
    ids=["azure-identity, plain text allowed", "azure-identity", "az"],
)
def test_without_the_variable_all_is_as_with_1_3_1(
    program: str, argument: str, machine: Machine, tmp_path: Path, provider: LocalIdentityProvider
) -> None:
    reference = Machine(tmp_path / "reference", provider, with_1_3_1())
    [theirs], [ours] = reference.run(program, argument), machine.run(program, argument)
    # Each of our exceptions is one of what 1.3.1 raises.
    assert len(theirs.error) == len(ours.error)
    for expected, raised in zip(theirs.error, ours.error, strict=True):
        assert expected[0] in raised
    assert (theirs.token is None) == (ours.token is None)
    assert set(machine.files()) == set(reference.files())
    if theirs.token and ours.token:
        assert argument == ALLOWED
        assert reference.files_with(theirs.token) == {AZURE_IDENTITY_CACHE}
        assert machine.files_with(ours.token) == {AZURE_IDENTITY_CACHE}


@pytest.mark.parametrize("storage", [ALLOWED, FORBIDDEN])
def test_without_any_key_azure_identity_takes_plain_text_only_if_it_may(
    storage: str, machine: Machine
) -> None:
    """docs/headless.md tells it: azure-identity catches every exception of ours."""
    machine.variables = ENCRYPTED_FILE
    around = no_keyctl.command(errno.EPERM, [])
    [said] = machine.run(AZURE_IDENTITY_PROGRAM, storage, around=around)
    assert encrypted(machine) == set()
    if storage == ALLOWED:
        assert machine.files_with(said.token or "no token") == {AZURE_IDENTITY_CACHE}
    else:
        assert said.token is None
        assert any("KeyUnavailable" in kinds for kinds in said.error)
        assert "MSAL_EXTENSIONS_KEY_FILE" in said.output
        assert AZURE_IDENTITY_CACHE not in machine.files()


def test_az_logout_removes_the_secret_and_account_clear_does_not(
    machine: Machine, source: Source
) -> None:
    """docs/headless.md tells it: `az account clear` deletes the names of files that it knows, as it
    does beside a keyring, where the items stay."""
    machine.variables = source.variables
    steps = [LOGIN, CLEAR, GET_TOKEN, LOGOUT, GET_TOKEN]
    told = machine.run(AZ_PROGRAM, *steps, around=source.around)
    _, cleared, found, logged_out, last = told
    assert not cleared.error, cleared.output
    assert found.token, found.output
    assert not logged_out.error, logged_out.output
    assert last.token is None
    assert "Could not retrieve credential" in last.output
