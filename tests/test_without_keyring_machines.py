"""Machines without a keyring: a bare Debian, and a container that forbids the kernel's keys.

In Debian 12 and 13, as debootstrap makes them with python3 and nothing else, the README's first
command ends with an encrypted cache that a second process reads.
"""

from __future__ import annotations

import errno
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from msal_extensions.encrypted import Protection
from samples.local_identity_provider import LocalIdentityProvider
from tests.support import debian, no_keyctl, own_keyrings
from tests.support.cached import cached
from tests.support.capability import needs, requires
from tests.support.headless import block
from tests.support.key_sources import new_key
from tests.support.provider import provider_fixture as provider_fixture

pytestmark = [pytest.mark.slow, requires("fcntl", "os.fork")]

ROOT = Path(__file__).resolve().parents[1]
RELEASES = ("bookworm", "trixie")  # Debian 12 and 13
#: Seconds for a command that installs a compiler and this package over the network.
INSTALL_S = 900
ENCRYPTED_FILE = {"MSAL_EXTENSIONS_WITHOUT_KEYRING": "encrypted_file"}
#: What the first line of an encrypted file begins with: docs/encrypted-file.md.
FIRST_LINE = b"msalex-enc/1"
#: What the quickstart says about a token: its source.
SOURCE = re.compile(r"^(?:First|Second) process .* from the (.*)\.$", re.MULTILINE)
IDP, CACHE = "identity provider", "cache"
#: In the other Debian.
HELPERS = "/srv/checkout/tests/support"


INSTALL_SYSTEMD = "apt-get -q install -y --no-install-recommends systemd openssl"
DECRYPT = """
mkdir -m 700 /srv/credentials
cd /srv/credentials
systemd-creds decrypt --name=msal-extensions-key \\
    /etc/credstore.encrypted/msal-extensions-key msal-extensions-key
chmod 400 msal-extensions-key
"""


# ---- a bare Debian ----


class Bare:
    """A Debian with python3 and nothing else, and this checkout in /srv/checkout."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        return self.directory / name.lstrip("/")

    def run(self, script: str, variables: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Runs a script as root, with kernel keyrings of its own: its status, and what it said."""
        shell = ["sh", "-c", f"exec > /srv/said 2>&1; {script}"]
        command = own_keyrings.command(shell, "python3", f"{HELPERS}/own_keyrings.py")
        with debian.running(self.directory, command, "/srv/checkout", variables) as process:
            status = process.wait(INSTALL_S)
        return status, self.path("/srv/said").read_text()

    def trust(self, provider: LocalIdentityProvider) -> str:
        """A file of certificates: the provider's, and those that this machine trusts.

        pip needs them, because apt may have brought a newer Python, for which dev.py installs anew.
        """
        known = [Path(provider.certificate), self.path(debian.TRUSTED)]
        bundle = [path.read_bytes() for path in known if path.exists()]
        self.path("/srv/trusted.pem").write_bytes(b"\n".join(bundle))
        return "/srv/trusted.pem"

    def without_keyctl(self, command: str) -> str:
        """The command, but the kernel refuses keys to it, as in a container."""
        file = f"{HELPERS}/no_keyctl.py"
        return shlex.join(no_keyctl.command(errno.EPERM, command.split(), "python3", file))


def bare_root(release: str) -> Path:
    return cached(
        "debian",
        f"{release}-python3",
        "",
        lambda directory: debian.make(release, directory / "root"),
    )


@pytest.fixture(params=RELEASES)
def bare(request: pytest.FixtureRequest) -> Iterator[Bare]:
    needs(debian.missing())
    with tempfile.TemporaryDirectory(prefix="msalex-bare-") as temporary:
        directory = Path(temporary, "root")
        try:
            kept = bare_root(request.param) / "root"
            subprocess.run(["cp", "-a", str(kept), str(directory)], check=True, timeout=INSTALL_S)
            debian.make(request.param, directory)  # what it knows of the network may be old
        except debian.CannotMake as error:
            needs(str(error))
        from tests.prove import copy_checkout

        copy_checkout(directory / "srv" / "checkout")
        yield Bare(directory)


@pytest.mark.timeout(3 * INSTALL_S)
def test_on_a_bare_debian_the_first_command_of_the_readme_ends_with_an_encrypted_cache(
    bare: Bare, provider: LocalIdentityProvider
) -> None:
    quickstart = "python3 dev.py quickstart"
    assert quickstart in (ROOT / "README.md").read_text()
    status, said = bare.run(quickstart)
    assert (status, SOURCE.findall(said)) == (0, [IDP, CACHE]), said
    assert_encrypted(said)

    # A cache that stays: the second run finds it.
    variables = {
        "AUTHORITY": provider.authority,
        "CLIENT_ID": provider.client_id,
        "CLIENT_SECRET": provider.client_secret,
        "REQUESTS_CA_BUNDLE": bare.trust(provider),
    }
    kept = f"{quickstart} --location /root/cache.bin"
    status, said = bare.run(f"{kept} && {kept}", variables)
    assert (status, SOURCE.findall(said)) == (0, [IDP, CACHE, CACHE, CACHE]), said
    assert provider.token_requests == {"client_credentials": 1}
    assert_encrypted(said)
    assert_sealed(bare.path("/root/cache.bin.enc"), provider)
    assert not bare.path("/root/cache.bin").exists()

    # A container forbids the kernel keyring; a key file works there.
    status, said = bare.run(bare.without_keyctl(quickstart))
    assert status == 1
    assert re.search(r"^quickstart: [^\n]+ docs/headless\.md [^\n]+\.$", said, re.MULTILINE), said
    new_key(bare.path("/srv/key"))
    variables["MSAL_EXTENSIONS_KEY_FILE"] = "/srv/key"
    in_container = bare.without_keyctl(f"{quickstart} --location /root/container.bin")
    status, said = bare.run(f"{in_container} && {in_container}", variables)
    assert (status, SOURCE.findall(said)) == (0, [IDP, CACHE, CACHE, CACHE]), said
    assert_sealed(bare.path("/root/container.bin.enc"), provider)

    # A systemd credential, by the commands of docs/headless.md; systemd itself decrypts it for the
    # service, into a directory for that service alone.
    make_key, encrypt = block("sh", "openssl rand"), block("sh", "systemd-creds encrypt")
    status, said = bare.run(f"set -e\n{INSTALL_SYSTEMD}\n{make_key}{encrypt}{DECRYPT}")
    assert status == 0, said
    del variables["MSAL_EXTENSIONS_KEY_FILE"]
    variables["CREDENTIALS_DIRECTORY"] = "/srv/credentials"
    as_service = bare.without_keyctl(f"{quickstart} --location /root/service.bin")
    status, said = bare.run(f"{as_service} && {as_service}", variables)
    assert (status, SOURCE.findall(said)) == (0, [IDP, CACHE, CACHE, CACHE]), said
    assert Protection.CREDENTIAL.value in said
    assert_sealed(bare.path("/root/service.bin.enc"), provider)


def assert_encrypted(said: str) -> None:
    lines = re.findall(r"^Persistence: Encrypted file \S+\.enc\. ", said, re.MULTILINE)
    assert len(lines) == len(re.findall("^Persistence: ", said, re.MULTILINE)) > 0, said
    assert Protection.UNTIL_REBOOT.value in said
    assert "not encrypted" not in said.lower()


def assert_sealed(file: Path, provider: LocalIdentityProvider) -> None:
    content = file.read_bytes()
    assert content.startswith(FIRST_LINE)
    for plain in (b"AccessToken", b"eyJ", b'"secret"', provider.client_id.encode()):
        assert plain not in content
