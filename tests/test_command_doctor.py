"""doctor on a machine that is broken in one way: keyrings, keys, settings, home.

Each test breaks something for real, and where that can be done follows the remedy.
tests/test_command_doctor_caches.py has files and disks, tests/test_command_installation.py the
package itself.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from msal_extensions import EncryptedFilePersistence, KernelKey, KeyFile, PersistenceTimeout
from msal_extensions._command.findings import within
from tests.support import keyring, no_keyctl, own_keyrings, situations
from tests.support.capability import needs, requires
from tests.support.command import WARNINGS, session
from tests.support.doctor import Both, doctor, doctor_here, is_fine, the_finding, warned
from tests.support.doctor import home as home
from tests.support.installation import Site
from tests.support.kernel_in_memory import Kernel
from tests.support.kernel_in_memory import kernel_fixture as kernel_fixture
from tests.support.key_sources import new_key, text_of, write_key
from tests.support.processes import saying
from tests.support.users import ROOT, US, as_user
from tests.support.users import shared as shared

pytestmark = requires("fcntl", "os.geteuid")

KEY_FILE = "MSAL_EXTENSIONS_KEY_FILE"
WITHOUT_KEYRING = "MSAL_EXTENSIONS_WITHOUT_KEYRING"
CONTENT = '{"AccessToken": {}}'
CANARY = "canary-5d1e"


@pytest.fixture
def in_keyring(home: Path) -> Path:
    """The signal file of a cache of azure-identity, which a program has made with a keyring."""
    (home / ".IdentityService").mkdir(mode=0o700)
    made = home / ".IdentityService" / "msal.cache.nocae"
    made.touch(0o600)
    return made


def test_a_server_without_a_keyring_is_no_problem(home: Path) -> None:
    said = doctor(environment=session(home))
    assert is_fine(said)
    assert said.check("keyring").startswith("none: ")
    assert list(home.iterdir()) == []


# ---- keyrings ----


def test_a_keyring_that_answers_is_tried_and_nothing_of_the_trial_stays(
    home: Path, in_keyring: Path, keyring_session: keyring.Keyring
) -> None:
    environment = session(home, keyring_session.variables)
    attributes = {"MsalClientID": "Microsoft.Developer.IdentityService"}
    attributes["xdg:schema"] = "msal.cache.nocae"
    keyring_session.clear()
    keyring_session.add("MSALCache", attributes, CONTENT.encode())
    said = doctor(environment=environment)
    assert is_fine(said)
    assert said.check("keyring") == "It answers."
    assert "read back" in said.check("saving to identity")
    assert len(keyring_session.items()) == 1
    assert os.listdir(in_keyring.parent) == [in_keyring.name]
    keyring_session.clear()


def test_a_locked_keyring_is_locked_and_not_empty(home: Path, in_keyring: Path) -> None:
    needs(keyring.missing())
    with keyring.running(home.parent / "keyring") as service:
        environment = session(home, service.variables)
        service.lock_collection()
        found = the_finding(doctor(environment=environment), "MSX-07", "locked")
        assert "nlock the keyring" in found["remedy"]
        service.unlock_collection()
        assert is_fine(doctor(environment=environment))


def test_a_keyring_that_never_answers_is_a_problem_where_it_has_a_cache(
    home: Path, in_keyring: Path
) -> None:
    needs(keyring.Fake.missing())
    with keyring.silent(home.parent / "keyring") as service:
        environment = session(home, service.variables)
        the_finding(doctor(environment=environment), "MSX-08")
        in_keyring.unlink()
        warned(doctor(environment=environment), "MSX-08", "The keyring: ")


@pytest.mark.parametrize("gone", ["no bus", "dead socket", "no service", "no libsecret"])
def test_a_keyring_that_is_gone_is_a_problem_where_a_cache_is_in_it(
    home: Path, in_keyring: Path, gone: str
) -> None:
    around: list[str] = []
    with ExitStack() as stack:
        variables: dict[str, str] = {"DBUS_SESSION_BUS_ADDRESS": ""}
        if gone == "dead socket":
            variables = stack.enter_context(keyring.dead_socket(home.parent))
        elif gone == "no service":
            needs(keyring.Keyring.missing())
            variables = stack.enter_context(keyring.bus_only(home.parent / "bus")).variables
        elif gone == "no libsecret":
            enter = situations.without("libsecret-1.so.0")
            around = [*stack.enter_context(enter(home.parent)).prefix]
        environment = session(home, variables)
        found = the_finding(doctor(environment=environment, around=around), "MSX-04")
        assert found["about"] == "identity"
        in_keyring.unlink()
        assert is_fine(doctor(environment=environment, around=around))


def test_an_encrypted_file_in_the_place_of_the_keyring_needs_none(
    home: Path, in_keyring: Path
) -> None:
    key = new_key(home.parent / "key")
    EncryptedFilePersistence(f"{in_keyring}.enc", KeyFile(key)).save(CONTENT)
    environment = {**session(home), KEY_FILE: str(key), WITHOUT_KEYRING: "encrypted_file"}
    said = doctor(environment=environment)
    assert is_fine(said)
    assert "read back" in said.check("saving to identity")


# ---- keys ----


def encrypted(directory: Path, key: Path) -> str:
    location = directory / "cache.bin"
    EncryptedFilePersistence(location, KeyFile(key)).save(CONTENT)
    return f"encrypted:{location}"


@pytest.mark.parametrize("mode", [0o644, 0o602])
def test_a_key_file_that_others_may_use_is_named_and_chmod_mends_it(home: Path, mode: int) -> None:
    key = new_key(home.parent / "key")
    place, environment = encrypted(home, key), {**session(home), KEY_FILE: str(key)}
    key.chmod(mode)
    found = the_finding(doctor(place, environment=environment), "MSX-51", "Other users may")
    assert "chmod 600" in found["remedy"]
    key.chmod(0o600)
    assert is_fine(doctor(place, environment=environment))


def test_a_key_file_that_others_may_use_is_a_problem_before_there_is_a_cache(home: Path) -> None:
    key = new_key(home.parent / "key")
    key.chmod(0o644)
    environment = {**session(home), KEY_FILE: str(key)}
    the_finding(doctor(environment=environment), "MSX-51", f"The key file {key}: ")


def test_a_wrong_key_is_told_and_the_right_one_mends_it(home: Path) -> None:
    key = new_key(home.parent / "key")
    place, right = encrypted(home, key), key.read_text()
    environment = {**session(home), KEY_FILE: str(key)}
    key.write_text(text_of(os.urandom(32)))
    found = the_finding(doctor(place, environment=environment), "MSX-55")
    assert found["about"] == place
    key.write_text(right)
    assert is_fine(doctor(place, environment=environment))


def test_a_key_in_the_variable_of_its_file_is_shown_nowhere(home: Path) -> None:
    key = text_of(os.urandom(32))
    said = doctor(environment={**session(home), KEY_FILE: key})
    the_finding(said, "MSX-50", f"The key file of {KEY_FILE}: ")
    assert key not in said.text + str(said.json)


def test_a_credential_of_systemd_without_a_key_is_told(home: Path) -> None:
    credential = home.parent / "msal-extensions-key"
    write_key(credential)
    environment = {**session(home), "CREDENTIALS_DIRECTORY": str(home.parent)}
    the_finding(doctor(environment=environment), "MSX-50", "credential of systemd")
    new_key(credential)
    said = doctor(environment=environment)
    assert is_fine(said)
    assert said.check("credential of systemd") == "It has a key."


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS])
def test_a_container_that_forbids_keys_is_a_problem_where_encrypted_files_are_asked_for(
    home: Path, code: int
) -> None:
    around, environment = no_keyctl.command(code, []), session(home)
    said = doctor(environment=environment, around=around)
    assert is_fine(said)
    assert said.check("kernel key").startswith("none can be kept: ")
    asking = {**environment, WITHOUT_KEYRING: "encrypted_file"}
    the_finding(doctor(environment=asking, around=around), "MSX-50", WITHOUT_KEYRING)
    asking[KEY_FILE] = str(new_key(home.parent / "key"))  # as the remedy says
    assert is_fine(doctor(environment=asking, around=around))


def test_a_key_that_went_with_a_reboot_is_told(kernel: Kernel, shared: Path) -> None:
    location = shared / "cache.bin"
    place = f"encrypted:{location}"

    def look() -> list[Both]:
        """Not in this process, which would then keep the bus for all other tests."""
        os.environ["HOME"] = str(shared)
        EncryptedFilePersistence(location, KernelKey()).save(CONTENT)
        said = [doctor_here(place)]
        kernel.boot = "boot-2"
        kernel.keys.clear()
        said.append(doctor_here(place))
        location.unlink()
        said.append(doctor_here(place))
        assert kernel.keys == {}
        return said

    before, lost, removed = as_user(ROOT, look)
    assert is_fine(before)
    the_finding(lost, "MSX-52", "started anew")
    assert is_fine(removed)


SAVE = f"""
import sys
from msal_extensions import EncryptedFilePersistence, KernelKey
EncryptedFilePersistence(sys.argv[1], KernelKey()).save({CONTENT!r})
print("saved", flush=True)
sys.stdin.read()
"""


def test_a_key_outside_this_container_is_told(home: Path) -> None:
    """Each process is in a user namespace of its own, as a container can be."""
    location = str(home / "cache.bin")
    around, environment = own_keyrings.command([]), session(home)
    saver = [*around, sys.executable, "-c", SAVE, location]
    with saying("saved", saver, environment):  # as long as it lives, no other has its number
        said = doctor(location, environment=environment, around=around)
    the_finding(said, "MSX-54", "another user namespace")


# ---- settings, home, cryptography ----


def test_a_setting_with_a_wrong_value_is_told_with_the_right_ones(home: Path) -> None:
    environment = {**session(home), WITHOUT_KEYRING: "plain_file"}
    found = the_finding(
        doctor(environment=environment), "MSX-74", f"{WITHOUT_KEYRING}", "plain_file"
    )
    assert "encrypted_file" in found["remedy"]
    assert is_fine(doctor(environment={**environment, WITHOUT_KEYRING: "encrypted_file"}))


def test_a_setting_that_does_not_exist_is_a_warning_and_its_value_is_not_shown(home: Path) -> None:
    environment = {**session(home), "MSAL_EXTENSIONS_KEYFILE": CANARY}
    said = doctor(environment=environment)
    found = warned(said, "MSX-74", "MSAL_EXTENSIONS_KEYFILE")
    assert found["remedy"] == f"Unset it, or set {KEY_FILE}."
    assert CANARY not in said.text + str(said.json)


def test_a_value_that_a_terminal_would_obey_is_not_shown(home: Path) -> None:
    said = doctor(environment={**session(home), WITHOUT_KEYRING: f"\x1b[2J{CANARY}"})
    the_finding(said, "MSX-74")
    assert CANARY not in said.text + str(said.json)


def test_without_a_home_it_says_so_and_makes_none(shared: Path) -> None:
    """A user that has no entry in /etc/passwd, and no HOME, as in some containers."""

    def look() -> Both:
        os.chdir(shared)
        for name in ("HOME", "USERPROFILE"):
            os.environ.pop(name, None)
        return doctor_here()

    said = as_user(US, look)
    found = the_finding(said, "MSX-22", "no home directory")
    assert "HOME" in found["remedy"]
    assert list(shared.iterdir()) == []


def test_a_home_that_does_not_exist_is_a_warning(home: Path) -> None:
    environment = session(home / "missing")
    warned(doctor(environment=environment), "MSX-23", str(home / "missing"))
    assert list(home.iterdir()) == []


def test_a_broken_cryptography_is_a_problem_only_where_a_file_is_encrypted(
    home: Path, tmp_path: Path
) -> None:
    site = Site(tmp_path)
    site.put("cryptography/__init__.py", "raise ImportError('broken on purpose')")
    key = new_key(tmp_path / "key")
    environment = {**site.environment(home), KEY_FILE: str(key)}
    said = doctor(environment=environment, python=site.python)
    found = warned(said, "MSX-73", "broken on purpose")
    assert found["remedy"].startswith("pip install --force-reinstall")
    place = encrypted(home, key)
    said = doctor(place, environment=environment, python=site.python)
    assert "MSX-73" in said.references
    assert said.status > WARNINGS


# ---- time ----


def test_a_file_system_that_hangs_is_given_up_after_the_time(tmp_path: Path) -> None:
    never = threading.Event()
    begin = time.monotonic()
    with pytest.raises(PersistenceTimeout) as caught:
        within(0.1, never.wait, str(tmp_path))
    assert time.monotonic() - begin < 30
    assert caught.value.location == str(tmp_path)
    never.set()


def test_an_error_of_a_bounded_call_is_its_own() -> None:
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 // 0, "")
    assert within(60, lambda: None, "") is None
