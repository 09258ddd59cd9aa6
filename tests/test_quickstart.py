"""The quickstart does what it says, and says in one sentence what went wrong."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

import msal_extensions
from msal_extensions.encrypted import Protection
from samples.local_identity_provider import LocalIdentityProvider
from tests.support import keyring, no_keyctl, own_keyrings
from tests.support.capability import needs, requires
from tests.support.key_sources import new_key
from tests.support.provider import SAMPLES, SCOPES
from tests.support.provider import provider_fixture as provider_fixture

VARIABLES = ("CLIENT_ID", "CLIENT_SECRET", "AUTHORITY")
TOKEN_LINE = re.compile(
    r"^(First|Second) process \((\d+)\): token ([0-9a-f]{12}) from (.*)\.$", re.MULTILINE
)
KEY_FILE = "MSAL_EXTENSIONS_KEY_FILE"
IDP, CACHE = "the identity provider", "the cache"

Environment = dict[str, str]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """The environment of a new user: an empty home, none of our variables, no keyring.

    A key file is in the place of the kernel keyring, which belongs to the users of this machine.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in (*VARIABLES, "REQUESTS_CA_BUNDLE", "XDG_STATE_HOME")
    }
    for name, folder in (("HOME", "home"), ("TMPDIR", "tmp")):
        (tmp_path / folder).mkdir()
        environment[name] = str(tmp_path / folder)
    environment["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={tmp_path}/no-bus"
    environment["XDG_RUNTIME_DIR"] = str(tmp_path / "no-runtime-directory")
    environment[KEY_FILE] = str(new_key(tmp_path / "key"))
    return environment


@pytest.fixture
def variables(environment: Environment, provider: LocalIdentityProvider) -> Environment:
    """The environment with the three variables, and trust in a provider that already runs."""
    return {
        **environment,
        "CLIENT_ID": provider.client_id,
        "AUTHORITY": provider.authority,
        "CLIENT_SECRET": provider.client_secret,
        "REQUESTS_CA_BUNDLE": provider.certificate,
    }


def quickstart(
    environment: Environment,
    *arguments: str | Path,
    python: str | Path = sys.executable,
    prefix: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, python, SAMPLES / "quickstart.py", *arguments],
        env=environment,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def sources(result: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """The source of the token in each of the two processes, which have the same token."""
    assert (result.returncode, result.stderr) == (0, "")
    (_, pid, first, first_source), (_, other_pid, second, second_source) = TOKEN_LINE.findall(
        result.stdout
    )
    assert pid != other_pid
    assert first == second
    return first_source, second_source


def assert_one_sentence(
    result: subprocess.CompletedProcess[str], *words: str, secret: str = ""
) -> None:
    assert result.returncode == 1
    assert re.fullmatch(r"quickstart: [^\n]+\.\n", result.stderr), result.stderr
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stdout
    assert not secret or secret not in result.stdout + result.stderr


def file_of(location: Path) -> Path:
    """The file with the tokens, without a keyring."""
    return location if os.name == "nt" else location.with_name(location.name + ".enc")


def access_tokens(location: Path, environment: Environment) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_FILE, environment[KEY_FILE])
        persistence = msal_extensions.build_encrypted_persistence(
            str(location), without_keyring="encrypted_file"
        )
        entries = json.loads(persistence.load())["AccessToken"].values()
    return [entry["secret"] for entry in entries]


def test_a_second_process_finds_the_token_in_the_cache(environment: Environment) -> None:
    result = quickstart(environment)
    assert sources(result) == (IDP, CACHE)
    assert "The provider counted 1 token request.\n" in result.stdout


def test_the_demonstration_leaves_nothing_behind(environment: Environment) -> None:
    sources(quickstart(environment))
    assert not list(Path(environment["TMPDIR"]).iterdir())
    assert not list(Path(environment["HOME"]).iterdir())


def test_the_demonstration_ignores_proxies_and_other_certificates(
    environment: Environment, tmp_path: Path
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        environment[name] = "http://127.0.0.1:9"
    environment.pop("no_proxy", None)
    environment.pop("NO_PROXY", None)
    environment["CURL_CA_BUNDLE"] = environment["REQUESTS_CA_BUNDLE"] = str(tmp_path / "none.pem")
    assert sources(quickstart(environment)) == (IDP, CACHE)


def test_with_the_three_variables_it_uses_these_and_asks_the_provider_once_for_both_runs(
    variables: Environment, provider: LocalIdentityProvider, tmp_path: Path
) -> None:
    location = tmp_path / "new" / "cache.bin"
    assert sources(quickstart(variables, "--location", location)) == (IDP, CACHE)
    assert provider.token_requests == {"client_credentials": 1}
    assert sources(quickstart(variables, "--location", location)) == (CACHE, CACHE)
    assert provider.token_requests == {"client_credentials": 1}
    assert stat.S_IMODE(file_of(location).stat().st_mode) == 0o600


def test_the_fingerprint_is_of_the_token_in_the_cache_which_itself_is_not_shown(
    variables: Environment, provider: LocalIdentityProvider, tmp_path: Path
) -> None:
    result = quickstart(variables, "--location", tmp_path / "cache.bin")
    [token] = access_tokens(tmp_path / "cache.bin", variables)
    assert f"token {hashlib.sha256(token.encode()).hexdigest()[:12]} from" in result.stdout
    for secret in (token, *token.split("."), provider.client_secret):
        assert secret not in result.stdout + result.stderr


def test_no_token_is_in_any_file(variables: Environment, tmp_path: Path) -> None:
    location = tmp_path / "cache.bin"
    sources(quickstart(variables, "--location", location))
    [token] = access_tokens(location, variables)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert not any(part.encode() in file.read_bytes() for part in token.split(".")), file


@requires("fcntl", "os.fork")
def test_without_a_keyring_and_a_key_of_ones_own_the_kernel_has_the_key(
    environment: Environment, variables: Environment, tmp_path: Path
) -> None:
    """It says where the tokens are, why there, and what the encryption is worth."""
    environment.pop(KEY_FILE)
    result = quickstart(environment, prefix=(*own_keyrings.command([]),))
    assert sources(result) == (IDP, CACHE)
    lines = result.stdout.splitlines()
    [chosen] = [line for line in lines if line.startswith("Persistence: ")]
    assert re.match(r"Persistence: Encrypted file .*\.enc\. There is no keyring: .*", chosen)
    assert "Encrypted: " + Protection.UNTIL_REBOOT.value in lines


@requires("fcntl", "os.fork")
def test_where_there_is_no_key_either_it_says_so_and_keeps_no_token_in_plain_text(
    variables: Environment, provider: LocalIdentityProvider, tmp_path: Path
) -> None:
    variables.pop(KEY_FILE)
    prefix = tuple(no_keyctl.command(errno.EPERM, []))
    result = quickstart(variables, "--location", tmp_path / "cache.bin", prefix=prefix)
    assert_one_sentence(
        result, "cannot be encrypted here", "docs/headless.md", secret=provider.client_secret
    )
    assert not provider.token_requests
    assert not list(tmp_path.glob("cache.bin*"))


def test_with_a_keyring_it_encrypts_and_the_demonstration_leaves_no_item_in_it(
    environment: Environment, tmp_path: Path
) -> None:
    needs(keyring.missing())
    with keyring.running(tmp_path) as service:
        environment.update(service.variables)
        result = quickstart(environment)
        assert sources(result) == (IDP, CACHE)
        assert re.search(
            r"^Persistence: LibsecretPersistence at .*\.\nEncrypted: by this system",
            result.stdout,
            re.MULTILINE,
        )
        assert not service.items()


def test_with_a_keyring_the_token_is_in_there_and_in_no_file(
    variables: Environment, tmp_path: Path
) -> None:
    needs(keyring.missing())
    with keyring.running(tmp_path) as service:
        variables.update(service.variables)
        assert sources(quickstart(variables, "--location", tmp_path / "signal")) == (IDP, CACHE)
        [cache] = service.secrets()
        [entry] = json.loads(cache)["AccessToken"].values()
        assert not [
            file
            for file in tmp_path.rglob("*")
            if file.is_file() and entry["secret"].encode() in file.read_bytes()
        ]


def test_with_a_locked_keyring_it_says_so_and_what_is_in_there_is_not_lost(
    variables: Environment, tmp_path: Path
) -> None:
    needs(keyring.missing())
    with keyring.running(tmp_path) as service:
        variables.update(service.variables)
        first = quickstart(variables, "--location", tmp_path / "signal")
        service.lock_collection()
        locked = quickstart(variables, "--location", tmp_path / "signal")
        assert_one_sentence(locked, "locked")
        service.unlock_collection()
        again = quickstart(variables, "--location", tmp_path / "signal")
    assert (sources(first), sources(again)) == ((IDP, CACHE), (CACHE, CACHE))
    assert TOKEN_LINE.findall(first.stdout)[0][2] == TOKEN_LINE.findall(again.stdout)[0][2]


def test_without_a_location_the_cache_is_in_the_state_directory_of_the_user(
    variables: Environment, tmp_path: Path
) -> None:
    sources(quickstart(variables))
    place = Path("msal-extensions-quickstart", "token_cache.bin")
    assert file_of(Path(variables["HOME"]) / ".local" / "state" / place).is_file()
    sources(quickstart({**variables, "XDG_STATE_HOME": str(tmp_path / "state")}))
    assert file_of(tmp_path / "state" / place).is_file()


def test_a_cache_somebody_named_is_kept_by_the_demonstration(
    environment: Environment, variables: Environment, tmp_path: Path
) -> None:
    location = tmp_path / "cache.bin"
    sources(quickstart(variables, "--location", location))
    [token] = access_tokens(location, variables)
    sources(quickstart(environment, "--location", location))
    assert len(access_tokens(location, variables)) == 2
    assert token in access_tokens(location, variables)


def test_the_second_process_alone_has_no_token_but_from_the_provider(
    variables: Environment, provider: LocalIdentityProvider, tmp_path: Path
) -> None:
    result = quickstart(variables, "--second-process", tmp_path / "cache.bin")
    assert json.loads(result.stdout)["source"] == "identity_provider"
    assert provider.token_requests == {"client_credentials": 1}


def test_it_admits_that_the_second_process_did_not_find_the_token(
    variables: Environment, provider: LocalIdentityProvider, tmp_path: Path
) -> None:
    provider.token_lifetime = 60  # MSAL treats a token as expired 5 minutes before its end
    result = quickstart(variables, "--location", tmp_path / "cache.bin")
    assert_one_sentence(result, "did not find this token", "longer than 5 minutes")
    assert "It is the same token" not in result.stdout


@pytest.mark.parametrize(
    "given", [*combinations(VARIABLES, 1), *combinations(VARIABLES, 2)], ids="+".join
)
def test_some_of_the_variables_alone_are_refused_by_name(
    variables: Environment, provider: LocalIdentityProvider, given: tuple[str, ...]
) -> None:
    for name in set(VARIABLES).difference(given):
        variables[name] = ""
    result = quickstart(variables)
    missing = [name for name in VARIABLES if name not in given]
    assert_one_sentence(result, f"not set: {', '.join(missing)};", secret=provider.client_secret)
    assert result.stdout == ""
    assert not provider.token_requests


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AUTHORITY", "no-such-tenant", ("AADSTS90002", "set AUTHORITY to")),
        ("CLIENT_SECRET", "not the secret", ("AADSTS7000215", "CLIENT_SECRET")),
        ("CLIENT_ID", "stranger", ("AADSTS700016", "set CLIENT_ID to")),
    ],
)
def test_what_the_provider_refuses_is_said_in_one_sentence(
    variables: Environment,
    provider: LocalIdentityProvider,
    tmp_path: Path,
    name: str,
    value: str,
    words: tuple[str, ...],
) -> None:
    if name == "AUTHORITY":
        value = provider.authority.replace(provider.tenant, value)
    result = quickstart({**variables, name: value}, "--location", tmp_path / "cache.bin")
    assert_one_sentence(result, *words, secret=provider.client_secret)
    assert "not the secret" not in result.stdout + result.stderr
    assert not file_of(tmp_path / "cache.bin").exists()


@pytest.mark.parametrize("authority", ["http://localhost/tenant", "https://localhost", "tenant"])
def test_an_authority_that_is_no_address_of_a_tenant_is_said_in_one_sentence(
    variables: Environment, tmp_path: Path, authority: str
) -> None:
    result = quickstart({**variables, "AUTHORITY": authority}, "--location", tmp_path / "cache")
    assert_one_sentence(result, "set AUTHORITY to", secret=variables["CLIENT_SECRET"])


def test_an_authority_where_nobody_listens_is_said_in_one_sentence(
    variables: Environment, tmp_path: Path
) -> None:
    with socket.socket() as bound:  # bound but not listening, so that nothing else gets the port
        bound.bind(("127.0.0.1", 0))
        variables["AUTHORITY"] = f"https://localhost:{bound.getsockname()[1]}/tenant"
        result = quickstart(variables, "--location", tmp_path / "cache.bin")
    assert_one_sentence(result, "localhost does not answer", secret=variables["CLIENT_SECRET"])


def test_a_certificate_nobody_vouches_for_is_said_in_one_sentence(
    variables: Environment, provider: LocalIdentityProvider, tmp_path: Path
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        variables.pop(name, None)
    result = quickstart(variables, "--location", tmp_path / "cache.bin")
    assert_one_sentence(result, "not trusted", "REQUESTS_CA_BUNDLE", secret=provider.client_secret)
    assert not provider.token_requests


def test_a_certificate_file_that_is_not_there_is_said_in_one_sentence(
    variables: Environment, tmp_path: Path
) -> None:
    variables["REQUESTS_CA_BUNDLE"] = str(tmp_path / "none.pem")
    result = quickstart(variables, "--location", tmp_path / "cache.bin")
    assert_one_sentence(result, "none.pem", "REQUESTS_CA_BUNDLE")


def below_a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("not a directory")
    return tmp_path / "file" / "cache.bin"


def a_directory(tmp_path: Path) -> Path:
    file_of(tmp_path / "directory").mkdir()
    return tmp_path / "directory"


def in_a_read_only_directory(tmp_path: Path) -> Path:
    (tmp_path / "read-only").mkdir(mode=0o500)
    return tmp_path / "read-only" / "cache.bin"


@pytest.mark.parametrize("place", [below_a_file, a_directory, in_a_read_only_directory])
def test_a_location_that_cannot_be_written_is_said_in_one_sentence(
    variables: Environment,
    provider: LocalIdentityProvider,
    tmp_path: Path,
    place: Callable[[Path], Path],
) -> None:
    location = place(tmp_path)
    prefix: tuple[str, ...] = ()
    if os.name == "posix" and os.geteuid() == 0:  # modes do not bind root, unless it gives that up
        setpriv = shutil.which("setpriv")
        needs(None if setpriv else "setpriv is not installed (Debian package util-linux).")
        prefix = (str(setpriv), "--bounding-set=-dac_override,-dac_read_search")
    result = quickstart(variables, "--location", location, prefix=prefix)
    assert_one_sentence(
        result,
        f"Tokens cannot be kept at {location}",
        "--location",
        secret=provider.client_secret,
    )


@pytest.mark.parametrize("missing", ["msal", "msal_extensions"])
def test_a_missing_package_is_said_in_one_sentence(
    environment: Environment, tmp_path: Path, missing: str
) -> None:
    """In an environment like this one, without this one package."""
    venv.create(tmp_path / "venv", symlinks=True)
    folder = "Scripts" if os.name == "nt" else "bin"
    python = next((tmp_path / "venv" / folder).glob("python*"))
    site = tmp_path / "site"
    site.mkdir()
    import cffi
    import msal

    for package in (cffi, msal, msal_extensions):
        for entry in Path(str(package.__file__)).parents[1].iterdir():
            if entry.name != missing and not entry.name.startswith("__editable__"):
                target = site / entry.name
                if not target.exists():
                    target.symlink_to(entry)
    environment["PYTHONPATH"] = str(site)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    result = quickstart(environment, python=python)
    assert_one_sentence(result, f"'{missing}'", f"pip install {SAMPLES.parent}`")


def start(environment: Environment, location: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, SAMPLES / "quickstart.py", "--location", location],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.parametrize("waiting", ["first", "second"])
def test_ctrl_c_ends_both_processes_silently_with_130(
    variables: Environment, provider: LocalIdentityProvider, tmp_path: Path, waiting: str
) -> None:
    provider.token_lifetime = 60  # so that the second process must ask the provider as well
    if waiting == "first":
        provider.response_delay = 30.0
    requests = {"first": 1, "second": 2}[waiting]
    running = start({**variables, "PYTHONUNBUFFERED": "1"}, tmp_path / "cache.bin")
    assert running.stdout is not None
    try:
        if waiting == "second":
            while not running.stdout.readline().startswith("First process"):
                assert running.poll() is None
            provider.response_delay = 30.0
        wait_until(lambda: provider.token_requests["client_credentials"] == requests)
        os.killpg(running.pid, signal.SIGINT)  # a terminal does the same
        _, stderr = running.communicate(timeout=20)
        assert (running.returncode, stderr) == (130, "")
    finally:
        running.kill()
        running.wait()


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(300):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("did not happen within 15 s")


# The quickstart of the project that this package replaces, in that project's own words: a
# persistence goes straight to MSAL. Only the values are filled in.
UPSTREAM = """
from msal import ConfidentialClientApplication
from msal_extensions import FilePersistence

app = ConfidentialClientApplication(
    {client_id!r}, client_credential={client_secret!r}, authority={authority!r},
    token_cache=FilePersistence('my_cache.bin'))
for _ in range(2):
    result = app.acquire_token_for_client(scopes={scopes!r})
    print(result["token_source"], hash_of(result["access_token"]))
"""
HASH_OF = "import hashlib\ndef hash_of(token): return hashlib.sha256(token.encode()).hexdigest()\n"


def test_upstreams_quickstart_runs_as_written_and_a_new_process_finds_the_token(
    variables: Environment, provider: LocalIdentityProvider, tmp_path: Path
) -> None:
    # The B2C form of the authority.  With the other form MSAL would ask Microsoft about the host,
    # unless it gets instance_discovery=False.
    program = HASH_OF + UPSTREAM.format(
        client_id=provider.client_id,
        client_secret=provider.client_secret,
        authority=provider.b2c_authority,
        scopes=SCOPES,
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=variables,
            cwd=tmp_path,
            text=True,
            capture_output=True,
            timeout=60,
            check=True,
        )
        for _ in range(2)
    ]
    assert [output.stderr for output in outputs] == ["", ""]
    words = " ".join(output.stdout for output in outputs).split()
    assert words[0::2] == ["identity_provider", "cache", "cache", "cache"]
    assert len(set(words[1::2])) == 1
    assert provider.token_requests == {"client_credentials": 1}
    assert (tmp_path / "my_cache.bin").is_file()
