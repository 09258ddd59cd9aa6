"""The released packages azure-identity and azure-cli-core, as programs that sign in.

    machine = Machine(home, provider, with_ours())
    [signed_in, found] = machine.run(AZ_PROGRAM, "login", "get-access-token")

They stand in directories of their own, kept in MSALEX_CACHE, without the msal-extensions that pip
brings with them: ours comes from the environment of the tests, 1.3.1 from tests/support/reference.
Nothing in them is changed or mocked.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samples.local_identity_provider import LocalIdentityProvider
from tests.conftest import SESSION_VARIABLES
from tests.support.cached import cached
from tests.support.capability import needs
from tests.support.foreign_suites import AZURE_IDENTITY
from tests.support.processes import PATIENCE
from tests.support.reference import python_with_gi, reference_site_packages

RELEASES = (AZURE_IDENTITY, "azure-cli-core==2.91.0")
PIP_S = 600

#: Prints the token, or the classes of the exception and of its causes.
OUTCOME = """
import json, os, sys, traceback
def kinds(error):
    while error is not None:
        yield [kind.__name__ for kind in type(error).__mro__]
        error = error.__cause__
try:
    said = {"token": work(sys.argv[1]), "error": []}
except Exception as error:
    traceback.print_exc()
    said = {"token": None, "error": list(kinds(error))}
print(json.dumps(said))
"""

#: As its documentation shows it.  For a cache it calls LibsecretPersistence(file_path, cache_name,
#: {"MsalClientID": "Microsoft.Developer.IdentityService"}, label=account_name), catches Exception,
#: and then raises a ValueError or, if plain text is allowed, takes FilePersistence(file_path):
#: _get_persistence() in azure/identity/_persistent_cache.py.
AZURE_IDENTITY_PROGRAM = """
def work(storage):
    from azure.identity import ClientSecretCredential, TokenCachePersistenceOptions
    credential = ClientSecretCredential(
        os.environ["TENANT"], os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"],
        authority=os.environ["HOST"], disable_instance_discovery=True,
        cache_persistence_options=TokenCachePersistenceOptions(
            name="own", allow_unencrypted_storage=(storage == "plain text is allowed")))
    return credential.get_token("https://graph.microsoft.com/.default").token
"""

#: What `az login --service-principal` and `az account get-access-token` do about secrets: they
#: stand in azure-cli-core, the commands themselves in azure-cli, which has a hundred requirements.
#: With core.encrypt_token_cache it calls LibsecretPersistence(location,
#: schema_name="my_schema_name", attributes={"my_attr1": "foo", "my_attr2": "bar"}) for the tokens
#: and for the secrets of service principals: build_persistence() in
#: azure/cli/core/auth/persistence.py.
AZ_PROGRAM = """
def work(command):
    from azure.cli.core import get_default_cli
    from azure.cli.core._profile import Profile, _create_identity_instance
    scopes = ["https://management.core.windows.net//.default"]
    client, cli = os.environ["CLIENT_ID"], get_default_cli()
    identity = _create_identity_instance(cli, os.environ["HOST"], tenant_id=os.environ["TENANT"])
    if command == "login":
        secret = {"client_secret": os.environ["CLIENT_SECRET"]}
        identity.login_with_service_principal(client, secret, scopes)
    if command == "logout":
        identity.logout_service_principal(client)
    if command == "account clear":
        identity.logout_all_users()
        identity.logout_all_service_principal()
    if command != "get-access-token":
        return None
    return identity.get_service_principal_credential(client).acquire_token(scopes)["access_token"]
"""
#: ~/.azure/config, as `az config set core.encrypt_token_cache=true` writes it.  The others are for
#: a provider that Microsoft does not know, and against messages to Microsoft.
AZ_CONFIG = """
[core]
encrypt_token_cache = true
instance_discovery = false
collect_telemetry = false
"""


@dataclass(frozen=True)
class Installation:
    """A Python, and the directories from which it imports first."""

    python: str
    path: Sequence[Path]


def _site(python: str) -> Path:
    """Both packages and what they need, for that Python."""

    def make(directory: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
        into = ["--target", str(directory), "--only-binary", ":all:"]
        done = subprocess.run(
            [*pip, *into, *RELEASES], capture_output=True, text=True, timeout=PIP_S
        )
        if done.returncode != 0:
            needs(f"azure-identity and azure-cli-core cannot be installed: {done.stderr[-500:]}")
        for found in directory.glob("msal_extensions*"):
            shutil.rmtree(found)

    facts = "import sys, sysconfig; print(sys.version, sysconfig.get_platform())"
    interpreter = subprocess.run([python, "-c", facts], capture_output=True, text=True, check=True)
    return cached("azure", "programs", f"{RELEASES} {interpreter.stdout}", make)


def with_ours() -> Installation:
    return Installation(sys.executable, [_site(sys.executable)])


def with_1_3_1() -> Installation:
    """With PyGObject, without which it does not get as far as to look for a keyring."""
    python = python_with_gi()
    return Installation(python, [reference_site_packages(True, python), _site(python)])


@dataclass
class Said:
    """What a program said at the end."""

    token: str | None
    error: list[list[str]]
    output: str  #: what it and the others of the same run() printed beside that


@dataclass
class Machine:
    """The home of a user on a machine without a desktop."""

    home: Path
    provider: LocalIdentityProvider
    installation: Installation
    variables: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.home / ".azure").mkdir(parents=True)
        (self.home / ".azure" / "config").write_text(AZ_CONFIG)

    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in SESSION_VARIABLES and not name.startswith(("AZURE_", "MSAL_", "XDG_"))
        }
        return {
            **kept,
            "HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join(map(str, self.installation.path)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "REQUESTS_CA_BUNDLE": self.provider.certificate,
            "no_proxy": "127.0.0.1",
            "HOST": self.provider.authority.rpartition("/")[0],
            "TENANT": self.provider.tenant,
            "CLIENT_ID": self.provider.client_id,
            "CLIENT_SECRET": self.provider.client_secret,
            **self.variables,
        }

    def run(self, program: str, *arguments: str, around: Sequence[str] = ()) -> list[Said]:
        """The program with one argument after the other, each time in a process of its own.

        :param around: The beginning of a command that runs all of this.
        """
        each = 'for argument; do "$python" -c "$program" "$argument"; done'
        script = f"python=$1 program=$2; shift 2; {each}"
        words = [self.installation.python, program + OUTCOME, *arguments]
        done = subprocess.run(
            [*around, "sh", "-c", script, "sh", *words],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        lines = done.stdout.splitlines()
        assert len(lines) == len(arguments), done.stderr[-3000:]
        told: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [Said(it["token"], it["error"], done.stderr) for it in told]

    def files(self) -> dict[str, bytes]:
        """The content of each file below the home, by its name there."""
        found = (path for path in self.home.rglob("*") if path.is_file())
        return {str(path.relative_to(self.home)): path.read_bytes() for path in found}

    def files_with(self, secret: str) -> set[str]:
        """The files below the home in which the secret stands, or a part of it if it is a token."""
        parts = [part.encode() for part in secret.split(".")]
        return {name for name, content in self.files().items() if any(p in content for p in parts)}
