"""docs/headless.md, and what the error says where there is no key, are true as far as we can try.

Containers are imitated: their mounts by the kernel's own, their filter of system calls by a filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import EncryptedFilePersistence
from msal_extensions.encrypted import Protection
from tests.conftest import SESSION_VARIABLES
from tests.support import no_keyctl
from tests.support.capability import needs, requires
from tests.support.headless import DOCUMENT, block, blocks
from tests.support.key_sources import new_key
from tests.support.processes import finished, python
from tests.support.users import ROOT as ROOT_USER
from tests.support.users import US, as_user, become
from tests.support.users import shared as shared

pytestmark = requires("fcntl", "os.fork")

KEY_FILE, WITHOUT = "MSAL_EXTENSIONS_KEY_FILE", "MSAL_EXTENSIONS_WITHOUT_KEYRING"
CLONE_NEWNS = 0x20000  # sched.h

#: Each way to a persistence, as programs write it.
WAYS = {
    "class": "EncryptedFilePersistence(location)",
    "function": 'build_encrypted_persistence(location, without_keyring="encrypted_file")',
    "azure-identity's": 'LibsecretPersistence(location, "own.nocae", {"MsalClientID": "own"})',
}
SAVE_OR_LOAD = """
    import sys
    from msal_extensions import *
    location = sys.argv[1]
    try:
        persistence = {way}
        if sys.argv[2:]:
            persistence.save(sys.argv[2])
        print(persistence.load())
    except KeyUnavailable as error:
        assert isinstance(error, PersistenceUnavailable)
        assert isinstance(error, RuntimeError)
        print(error)
        raise SystemExit(3)
"""


def on_a_server(way: str, *arguments: str, error: int, **variables: str) -> tuple[int, str]:
    """Saves, or only loads, where keys are forbidden: the status, and what was printed."""
    environment = {k: v for k, v in os.environ.items() if k not in SESSION_VARIABLES}
    snippet = textwrap.dedent(SAVE_OR_LOAD).format(way=WAYS[way])
    told = subprocess.run(
        no_keyctl.command(error, [sys.executable, "-c", snippet, *arguments]),
        env={**environment, WITHOUT: "encrypted_file", **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode in (0, 3), told.stderr
    return told.returncode, told.stdout


# ---- no key at all ----


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS], ids=["EPERM", "ENOSYS"])
def test_where_keys_are_forbidden_the_error_says_what_to_mount_or_set(
    error: int, way: str, tmp_path: Path
) -> None:
    location = str(tmp_path / "cache")
    status, said = on_a_server(way, location, "text", error=error)
    assert status == 3
    for platform, words in (
        ("Docker", ("docker run -v ", f"-e {KEY_FILE}=")),
        ("Kubernetes", ("Secret", KEY_FILE)),
        ("systemd", ("LoadCredentialEncrypted=msal-extensions-key:", "[Service]")),
    ):
        [line] = [line for line in said.splitlines() if line.startswith(f"- {platform}: ")]
        assert all(word in line for word in words), line
    assert os.strerror(error) in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("source", ["key file", "credential"])
def test_where_keys_are_forbidden_a_key_file_or_a_credential_works(
    source: str, way: str, tmp_path: Path
) -> None:
    place = tmp_path / "credentials"
    place.mkdir()
    key = new_key(place / "msal-extensions-key")
    variables = {KEY_FILE: str(key)}
    if source == "credential":
        key.chmod(0o400)
        variables = {"CREDENTIALS_DIRECTORY": str(place)}
    location = str(tmp_path / "cache")
    for arguments in ([location, "text"], [location]):
        assert on_a_server(way, *arguments, error=errno.EPERM, **variables) == (0, "text\n")
    assert b"text" not in b"".join(p.read_bytes() for p in tmp_path.glob("cache*"))


# ---- as containers mount it ----


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, timeout=60)


def in_container(user: int, mounts: Callable[[], None], work: Callable[[], Any]) -> Any:
    """The result of the work of that user, who sees these mounts."""

    def enter() -> Any:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        mount("--make-rprivate", "/")
        mounts()
        become(user)
        return work()

    return as_user(ROOT_USER, enter)


def saves_and_loads(location: Path, path: str) -> str:
    os.environ[KEY_FILE] = path  # of the process of as_user() only
    EncryptedFilePersistence(location).save("text")
    persistence = EncryptedFilePersistence(location)
    assert persistence.protection is Protection.KEY_FILE
    return persistence.load()


@pytest.mark.parametrize("user", [ROOT_USER, US], ids=["root", "another user"])
def test_a_secret_that_is_mounted_as_by_kubernetes_is_a_key_file(user: int, shared: Path) -> None:
    """A tmpfs that is read-only in the container; `key` is a link to ..data/key, and that directory
    is a link to a new directory for each version (AtomicWriter in pkg/volume/util).  The file is
    root's and readable by all (defaultMode 0644)."""
    place = shared / "secret"
    place.mkdir()

    def mounts() -> None:
        mount("-t", "tmpfs", "tmpfs", place)
        version = place / "..2026_11_30_16_00_00.1"
        version.mkdir()
        new_key(version / "key").chmod(0o644)
        (place / "..data").symlink_to(version.name)
        (place / "key").symlink_to("..data/key")
        mount("-o", "remount,ro", place)

    home = shared / "home"
    home.mkdir()
    os.chown(home, user, user)
    path = str(place / "key")
    told = in_container(user, mounts, lambda: saves_and_loads(home / "cache", path))
    assert told == "text"


@pytest.mark.parametrize("user", [ROOT_USER, US], ids=["root", "another user"])
def test_the_line_for_docker_works(user: int, shared: Path) -> None:
    """With a key file that belongs to the user in the container, as docs/headless.md says."""
    _, said = on_a_server("class", str(shared / "cache"), error=errno.EPERM)
    [line] = [line for line in said.splitlines() if line.startswith("- Docker: ")]
    words = shlex.split(line.removeprefix("- Docker: "))
    source, target, mode = words[words.index("-v") + 1].split(":")
    name, path = words[words.index("-e") + 1].split("=")
    assert (source, mode, name) == ("/path/to/key", "ro", KEY_FILE)
    key, root, home = new_key(shared / "key"), shared / "root", shared / "home"
    inside = root / target.lstrip("/")
    for directory in (inside.parent, home):
        directory.mkdir(parents=True)
    inside.touch()
    for owned in (key, home):
        os.chown(owned, user, user)

    def mounts() -> None:
        mount("--bind", key, inside)
        mount("-o", "remount,ro,bind", inside)

    told = in_container(
        user, mounts, lambda: saves_and_loads(home / "cache", str(root / path.lstrip("/")))
    )
    assert told == "text"


# ---- the examples of the document ----


def yaml(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(text)


def test_the_unit_for_systemd_is_valid(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    needs(None if analyze else "systemd-analyze is not installed (Debian: systemd)")

    def complaints(text: str) -> str:
        unit = tmp_path / "app.service"
        unit.write_text(f"{text}ExecStart=/bin/true\n")
        return finished([str(analyze), "verify", "--man=no", unit])

    text = block("ini", "[Service]")
    assert complaints(text) == ""
    assert "Unknown key" in complaints(text.replace("LoadCredential", "LodeCredential"))
    assert f"Environment={WITHOUT}=encrypted_file\n" in text


def test_the_file_for_docker_compose_is_valid(tmp_path: Path) -> None:
    text = block("yaml", "services:")
    file = tmp_path / "compose.yaml"
    file.write_text(text)
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    finished([*check, file])
    told = yaml(text)
    [app] = told["services"].values()
    [secret] = app["secrets"]
    assert app["environment"] == {
        WITHOUT: "encrypted_file",
        KEY_FILE: f"/run/secrets/{secret}",
    }
    assert set(told["secrets"]) == {secret}
    assert {volume.partition(":")[0] for volume in app["volumes"]} == set(told["volumes"])


def test_in_the_pod_the_variable_names_the_file_of_the_mounted_secret() -> None:
    """The names of the fields are those of Kubernetes' API, core/v1: Pod."""
    pod = yaml(block("yaml", "kind: Pod"))
    [container], [volume] = pod["spec"]["containers"], pod["spec"]["volumes"]
    [mounted] = container["volumeMounts"]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert mounted["name"] == volume["name"]
    assert mounted["readOnly"] is True
    [created] = re.findall(
        r"kubectl create secret generic (\S+) --from-file=(\w+)=", DOCUMENT.read_text("utf-8")
    )
    assert volume["secret"] == {"secretName": created[0]}
    assert variables == {
        WITHOUT: "encrypted_file",
        KEY_FILE: f"{mounted['mountPath']}/{created[1]}",
    }


def test_the_examples_in_python_run(tmp_path: Path) -> None:
    """`pass` is a program that prints a key."""
    programs = tmp_path / "programs"
    programs.mkdir()
    key = new_key(tmp_path / "key")
    (programs / "pass").write_text(f"#!/bin/sh\n[ $# = 2 ] && exec cat {shlex.quote(str(key))}\n")
    (programs / "pass").chmod(0o755)
    environment: Mapping[str, str] = {
        "HOME": str(tmp_path),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        KEY_FILE: str(key),
    }
    use = 'persistence.save("text")\nprint(persistence.load(), persistence.is_encrypted)\n'
    for example in blocks("python"):
        said = python(example + use, environment=environment).stdout
        assert said.splitlines()[-1] == "text True"


def test_the_document_names_no_variable_that_the_package_does_not_read() -> None:
    sources = (DOCUMENT.parents[1] / "python" / "msal_extensions").rglob("*.py")
    code = "".join(path.read_text("utf-8") for path in sources)
    named = set(re.findall(r"MSAL_EXTENSIONS_\w+", DOCUMENT.read_text("utf-8")))
    assert {KEY_FILE, WITHOUT} == named
    assert all(name in code for name in named)
