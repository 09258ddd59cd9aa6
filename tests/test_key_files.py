"""A key file: what it may contain, which users and groups may have rights, where it may lie."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import (
    CredentialKey,
    EncryptedFilePersistence,
    KeyFile,
    KeyFileNotTrusted,
    KeyUnavailable,
    PersistenceNotFound,
)
from msal_extensions._stores.keys import Protection
from tests.support import users
from tests.support.capability import FILE_MODES, SYMBOLIC_LINKS, needs, requires
from tests.support.key_sources import own_keys as own_keys
from tests.support.key_sources import text_of, write_key
from tests.support.processes import python
from tests.support.users import GROUP, ROOT, THEM, US, as_user
from tests.support.users import shared as shared

PROJECT = Path(__file__).resolve().parents[1]
KEY, OTHER = bytes(range(200, 232)), bytes(range(100, 132))
BASE64, URL = base64.b64encode(KEY), base64.urlsafe_b64encode(KEY)


def key_file(path: Path, content: bytes) -> KeyFile:
    path.touch(0o600)
    path.write_bytes(content)
    return KeyFile(path)


def keys_in(key: KeyFile) -> list[bytes]:
    return [*key.ring().values()]


# ---- what it contains ---------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b" \n\n"])
@pytest.mark.parametrize("text", [BASE64, BASE64.rstrip(b"="), URL, URL.rstrip(b"=")])
def test_a_key_is_base64_of_either_alphabet_with_or_without_its_end(
    tmp_path: Path, text: bytes, end: bytes
) -> None:
    assert BASE64 != URL
    assert keys_in(key_file(tmp_path / "key", text + end)) == [KEY]


@pytest.mark.parametrize("key", [KEY, bytes(32), b"\n" * 31 + b"\0", b"A" * 31 + b"\xff"])
def test_a_key_is_32_bytes_as_they_are(tmp_path: Path, key: bytes) -> None:
    assert keys_in(key_file(tmp_path / "key", key)) == [key]


def test_each_line_has_a_key_and_the_first_one_encrypts(tmp_path: Path) -> None:
    content = base64.b64encode(OTHER) + b"\r\n\n" + URL.rstrip(b"=") + b"\n"
    assert keys_in(key_file(tmp_path / "key", content)) == [OTHER, KEY]


def test_a_key_that_stands_there_twice_counts_once(tmp_path: Path) -> None:
    assert keys_in(key_file(tmp_path / "key", BASE64 + b"\n" + URL + b"\n")) == [KEY]


def test_a_file_of_4096_bytes_is_read(tmp_path: Path) -> None:
    assert keys_in(key_file(tmp_path / "key", BASE64.ljust(4096, b"\n"))) == [KEY]


WRONG = {
    "empty": b"",
    "blank": b" \n\n",
    "31 bytes": KEY[:31],
    "33 bytes": KEY + b"\0",
    "31 bytes in Base64": base64.b64encode(KEY[:31]),
    "33 bytes in Base64": base64.b64encode(KEY + b"\0"),
    "hex": KEY.hex().encode(),
    "hex of 16 bytes": KEY[:16].hex().encode(),
    "a passphrase": b"correct horse battery staple",
    "a passphrase of 32 bytes": b"correct horse battery staple 123",
    "a passphrase of 31 bytes and a newline": b"correct horse battery staple 12\n",
    "a comment": b"# my key\n" + BASE64,
    "a second line that is no key": BASE64 + b"\nand another",
    "two alphabets and more": BASE64 + b"=!",
    "a mark of UTF-8": b"\xef\xbb\xbf" + BASE64,
    "UTF-16": BASE64.decode().encode("utf-16"),
    "too long": BASE64.ljust(4097, b"\n"),
    "far too long": b"\0" * 1_000_000,
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_what_is_no_key_is_refused_with_words_that_help(tmp_path: Path, content: bytes) -> None:
    key = key_file(tmp_path / "key", content)
    with pytest.raises(KeyUnavailable) as caught:
        EncryptedFilePersistence(tmp_path / "cache", key)
    assert caught.value.location == str(tmp_path / "key")
    assert "openssl rand -base64 32" in str(caught.value)
    said = "".join(traceback.format_exception(caught.value)) + repr(caught.value.args)
    for part in (BASE64.decode(), KEY.hex(), "correct horse", repr(KEY)[2:20]):
        assert part not in said
    assert KEY[:31] not in pickle.dumps(caught.value)


def test_a_missing_key_file_is_told_with_its_path_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailable, match="openssl rand") as caught:
        EncryptedFilePersistence(tmp_path / "cache", KeyFile(tmp_path / "key"))
    assert caught.value.errno == 2
    assert caught.value.location == str(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_no_key_file(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(KeyUnavailable, match="openssl rand"):
        KeyFile(tmp_path / "key").ring()


@requires("os.mkfifo")
@pytest.mark.timeout(60)
def test_a_pipe_that_nobody_writes_to_does_not_hold_us(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key", 0o600)
    for path in (tmp_path / "key", "/dev/zero", "/dev/tty"):
        with pytest.raises(KeyUnavailable):
            KeyFile(path).ring()


@pytest.mark.parametrize("call", ["open", "fstat", "read", "close"])
def test_whatever_the_system_refuses_is_an_error_of_ours(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, real = key_file(tmp_path / "key", BASE64), getattr(os, call)

    def fail(*arguments: Any) -> None:
        if call == "close":
            real(*arguments)
        raise OSError(errno.EIO, "the disk fails")

    with monkeypatch.context() as patches:
        patches.setattr(os, call, fail)
        with pytest.raises(KeyUnavailable, match="the disk fails") as caught:
            keys.ring()
    assert caught.value.errno == errno.EIO


@requires("os.fork")
def test_no_descriptor_is_left_of_a_key_file_that_is_refused(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    key_file(tmp_path / "open", BASE64)
    (tmp_path / "open").chmod(0o644)
    before = len(os.listdir("/proc/self/fd"))
    for name in ("directory", "open", "missing"):
        with contextlib.suppress(KeyUnavailable, KeyFileNotTrusted):
            KeyFile(tmp_path / name).ring()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_tilde_and_a_relative_path_mean_what_they_meant_when_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    write_key(tmp_path / "key", KEY)
    monkeypatch.chdir(tmp_path)
    keys = KeyFile("~/key"), KeyFile("key")
    monkeypatch.chdir(os.path.dirname(sys.executable))
    assert [keys_in(key) for key in keys] == [[KEY]] * 2


# ---- rights -------------------------------------------------------------------------------


def judged(path: Path) -> str:
    """Whether the key is used; if not, why."""
    try:
        return "used" if keys_in(KeyFile(path)) == [KEY] else "wrong"
    except (KeyFileNotTrusted, KeyUnavailable) as error:
        helps = "openssl" in str(error) or "chmod 600" in str(error)
        is_told = helps and error.location == str(path)
        return re.split(r" this key file|\. ", str(error.strerror))[0] if is_told else "no words"


OWNS, WRITES, READS = "Another user owns", "Other users may write to", "Other users may read"
DENIED = "Permission denied"


@requires(FILE_MODES)
@pytest.mark.parametrize(
    ("mode", "judgement"),
    [
        (0o600, "used"),
        (0o400, "used"),
        (0o700, "used"),
        (0o640, READS),
        (0o604, READS),
        (0o620, WRITES),
        (0o602, WRITES),
        (0o666, WRITES),
    ],
)
def test_only_the_owner_may_have_rights(tmp_path: Path, mode: int, judgement: str) -> None:
    write_key(tmp_path / "key", KEY).chmod(mode)
    assert judged(tmp_path / "key") == judgement


#: Owner, group, mode; and the judgement of us, of us in that group, and of root.
RIGHTS = {
    "ours": (US, US, 0o600, ("used", "used", OWNS)),
    "ours, for our group": (US, GROUP, 0o640, (READS, READS, OWNS)),
    "theirs, for all": (THEM, THEM, 0o644, (OWNS, OWNS, OWNS)),
    "theirs, for our group": (THEM, GROUP, 0o640, (DENIED, OWNS, OWNS)),
    "root's": (ROOT, ROOT, 0o400, (DENIED, DENIED, "used")),
    "root's, for our group": (ROOT, GROUP, 0o440, (DENIED, "used", READS)),
    "root's, our group writes": (ROOT, GROUP, 0o460, (DENIED, WRITES, WRITES)),
    "root's, for all": (ROOT, ROOT, 0o444, (READS, READS, READS)),
}


@requires("os.fork")
@pytest.mark.parametrize(("owner", "group", "mode", "judgements"), RIGHTS.values(), ids=RIGHTS)
def test_a_key_file_of_others_or_for_others_is_not_used(
    shared: Path, owner: int, group: int, mode: int, judgements: tuple[str, str, str]
) -> None:
    path = users.file(shared / "key", text_of(KEY), owner, mode, group)
    assert (
        as_user(US, lambda: judged(path)),
        as_user(US, lambda: judged(path), [GROUP]),
        judged(path),
    ) == judgements


@requires("os.fork")
def test_a_file_of_root_for_one_user_by_an_access_list_is_used_as_systemd_makes_it(
    shared: Path,
) -> None:
    needs(None if shutil.which("setfacl") else "setfacl is not installed")
    path = users.file(shared / "key", text_of(KEY), ROOT, 0o400)
    subprocess.run(["setfacl", "-m", f"u:{US}:r", str(path)], check=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o440
    assert as_user(US, lambda: judged(path)) == "used"
    assert as_user(THEM, lambda: judged(path)) == DENIED


@requires("os.fork")
def test_a_file_of_ours_that_an_access_list_opens_to_another_user_is_not_used(
    shared: Path,
) -> None:
    needs(None if shutil.which("setfacl") else "setfacl is not installed")
    path = users.file(shared / "key", text_of(KEY), US, 0o600)
    subprocess.run(["setfacl", "-m", f"u:{THEM}:r", str(path)], check=True)
    assert as_user(US, lambda: judged(path)) == READS


#: What a container sees.  Arguments: a directory, the mode of its mount, then the program.
MOUNTED = """
    mount --bind "$1" "$1"
    mount -o "remount,bind,$2" "$1"
    shift 2
    exec "$@"
"""


def judged_through_a_mount(directory: Path, mode: str, user: int, name: str = "key") -> str:
    """The judgement of a user in a mount namespace of its own.

    :param mode: "ro" or "rw".
    """
    needs(None if os.geteuid() == 0 else "only root can mount")
    mounts = ["unshare", "--mount", "sh", "-ec", MOUNTED, "sh", str(directory), mode]
    needs(None if not subprocess.run([*mounts, "true"]).returncode else "mounts are forbidden")
    code = """
        import sys
        from pathlib import Path
        from tests.support.users import become
        from tests.test_key_files import judged
        become(int(sys.argv[1]))
        print(judged(Path(sys.argv[2])))
        """
    command, environment = [*mounts, sys.executable], {"PYTHONPATH": str(PROJECT)}
    path = str(directory / name)
    return python(code, str(user), path, command=command, environment=environment).stdout.strip()


@requires("os.fork")
@pytest.mark.parametrize("user", [ROOT, US])
def test_a_secret_of_docker_is_readable_for_all_and_mounted_read_only(
    shared: Path, user: int
) -> None:
    users.file(shared / "key", text_of(KEY), ROOT, 0o444)
    assert judged_through_a_mount(shared, "ro", user) == "used"
    assert judged_through_a_mount(shared, "rw", user) == READS


@requires("os.fork")
def test_what_others_may_write_is_refused_on_a_mount_that_is_read_only(shared: Path) -> None:
    users.file(shared / "key", text_of(KEY), ROOT, 0o666)
    assert judged_through_a_mount(shared, "ro", US) == WRITES
    users.file(shared / "of another", text_of(KEY), THEM, 0o444)
    assert judged_through_a_mount(shared, "ro", US, "of another") == OWNS


def kubernetes(volume: Path, mode: int) -> None:
    """A volume of Kubernetes with one secret: `key` -> `..data/key`, `..data` -> `..<time>`."""
    users.directory(volume / "..2026_11_30", ROOT, 0o755)
    users.file(volume / "..2026_11_30" / "key", text_of(KEY), ROOT, mode)
    (volume / "..data").symlink_to("..2026_11_30")
    (volume / "key").symlink_to("..data/key")


@requires("os.fork")
@pytest.mark.parametrize("user", [ROOT, US])
@pytest.mark.parametrize("mode", [0o644, 0o444])
def test_a_secret_of_kubernetes_is_reached_through_its_links(
    shared: Path, user: int, mode: int
) -> None:
    kubernetes(shared, mode)
    assert judged_through_a_mount(shared, "ro", user) == "used"


@requires(SYMBOLIC_LINKS)
def test_a_secret_that_kubernetes_has_replaced_is_read_at_the_next_look(tmp_path: Path) -> None:
    write_key(tmp_path / "..1" / "key", KEY)
    write_key(tmp_path / "..2" / "key", OTHER, KEY)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "key").symlink_to("..data/key")
    key = KeyFile(tmp_path / "key")
    assert keys_in(key) == [KEY]
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    assert keys_in(key) == [OTHER, KEY]


# ---- beside the cache ---------------------------------------------------------------------


def protection(cache: Path, key: Path) -> tuple[Protection, bool]:
    persistence = EncryptedFilePersistence(cache, KeyFile(key))
    assert persistence.is_encrypted == (persistence.protection is not Protection.BESIDE)
    return persistence.protection, persistence.is_encrypted


def test_a_key_beside_the_cache_does_not_count_as_encryption(tmp_path: Path) -> None:
    write_key(tmp_path / "key", KEY)
    assert protection(tmp_path / "cache", tmp_path / "key") == (Protection.BESIDE, False)
    assert protection(tmp_path / "a" / "cache", tmp_path / "key") == (Protection.KEY_FILE, True)
    write_key(tmp_path / "keys" / "key", KEY)
    assert protection(tmp_path / "cache", tmp_path / "keys" / "key")[1]


@requires(SYMBOLIC_LINKS)
def test_a_key_that_a_link_leads_to_lies_where_the_file_is(tmp_path: Path) -> None:
    write_key(tmp_path / "elsewhere" / "key", KEY)
    write_key(tmp_path / "caches" / "key", KEY)
    (tmp_path / "caches" / "link").symlink_to(tmp_path / "elsewhere" / "key")
    (tmp_path / "link").symlink_to(tmp_path / "caches")
    cache = tmp_path / "caches" / "cache"
    assert protection(cache, tmp_path / "caches" / "link")[0] is Protection.KEY_FILE
    assert protection(cache, tmp_path / "link" / "key")[0] is Protection.BESIDE
    assert protection(tmp_path / "link" / "cache", tmp_path / "caches" / "key")[1] is False
    (tmp_path / "elsewhere" / "cache").symlink_to(cache)
    assert protection(tmp_path / "elsewhere" / "cache", tmp_path / "caches" / "key")[1] is False


# ---- a new key in the file ----------------------------------------------------------------


def test_a_new_key_before_the_old_one_opens_what_there_is_and_encrypts_the_next_save(
    tmp_path: Path,
) -> None:
    cache, path = tmp_path / "cache", write_key(tmp_path / "keys" / "key", KEY)

    def opened() -> EncryptedFilePersistence:
        return EncryptedFilePersistence(cache, KeyFile(path))

    running = opened()
    running.save("first")
    write_key(path, OTHER, KEY)
    assert opened().load() == "first"
    opened().save("second")
    assert running.load() == "second"  # it has read the key file again
    running.save("third")
    write_key(path, OTHER)
    assert opened().load() == "third"


def test_a_program_that_runs_for_long_finds_the_new_key_and_needs_the_old_file_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, path = tmp_path / "cache", write_key(tmp_path / "keys" / "key", KEY)
    running = EncryptedFilePersistence(cache, KeyFile(path))
    running.save("first")
    write_key(path, OTHER, KEY)
    assert 0 < KeyFile.refresh_after <= 3600
    monkeypatch.setattr(KeyFile, "refresh_after", 0.0)  # as if that time were over
    running.save("second")
    assert EncryptedFilePersistence(cache, OTHER).load() == "second"
    path.unlink()  # for a moment, while somebody changes it
    running.save("third")
    assert running.load() == "third"
    write_key(path, OTHER)
    assert EncryptedFilePersistence(cache, KeyFile(path)).load() == "third"


# ---- credentials of systemd ---------------------------------------------------------------


@pytest.mark.parametrize("directory", [None, ""])
def test_without_the_variable_there_are_no_credentials(
    tmp_path: Path, own_keys: None, monkeypatch: pytest.MonkeyPatch, directory: str | None
) -> None:
    write_key(tmp_path / "msal-extensions-key", KEY)
    monkeypatch.chdir(tmp_path)  # an empty variable is not this directory
    if directory is not None:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", directory)
    with pytest.raises(KeyUnavailable, match="LoadCredentialEncrypted=msal-extensions-key"):
        EncryptedFilePersistence(tmp_path / "cache", CredentialKey())


def test_a_service_with_other_credentials_is_told_which_file_is_missing(
    tmp_path: Path, own_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(KeyUnavailable) as caught:
        EncryptedFilePersistence(tmp_path / "cache", CredentialKey())
    assert caught.value.location == str(tmp_path / "msal-extensions-key")


def test_a_credential_has_the_name_that_the_program_gives(
    tmp_path: Path, own_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_key(tmp_path / "mine", KEY)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    persistence = EncryptedFilePersistence(tmp_path / "cache", CredentialKey("mine"))
    assert keys_in(CredentialKey("mine")) == [KEY]
    assert persistence.protection is Protection.CREDENTIAL
    with pytest.raises(PersistenceNotFound):
        persistence.load()


@pytest.mark.parametrize("name", ["", ".", "..", "../key", "a/b", "/etc/key"])
def test_a_credential_is_a_name_and_no_path(name: str) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        CredentialKey(name)


@requires("os.fork")
def test_a_credential_of_root_for_the_group_of_the_service_is_used(
    shared: Path, own_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.file(shared / "msal-extensions-key", text_of(KEY), ROOT, 0o440, GROUP)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(shared))
    assert as_user(US, lambda: keys_in(CredentialKey()), [GROUP]) == [KEY]
