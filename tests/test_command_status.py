"""``status`` says where tokens are, whether they are encrypted, what is wrong, and what to do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import CrossPlatLock, EncryptedFilePersistence, FilePersistence, KeyFile
from msal_extensions._command import look
from msal_extensions._command.installation import look as look_at_installation
from msal_extensions._command.places import Kind, Options, Place, named, well_known
from msal_extensions._command.report import Report
from tests.support import command
from tests.support.capability import FILE_MODES, requires
from tests.support.command import FINE, PROBLEMS, WARNINGS, Said, cache_text
from tests.support.processes import saying
from tests.support.users import US, as_user
from tests.support.users import shared as shared

pytestmark = requires(FILE_MODES)
KEY = bytes(range(32))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "home"
    directory.mkdir(mode=0o700)
    return directory


def status(home: Path, *arguments: str, **variables: str) -> Said:
    environment = {**command.session(home), **variables}
    return command.run("status", "--json", *arguments, environment=environment, cwd=home)


def text(home: Path, *arguments: str, **variables: str) -> str:
    environment = {**command.session(home), **variables}
    return command.run("status", *arguments, environment=environment, cwd=home).text


def write(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def az(home: Path) -> Path:
    return write(home / ".azure" / "msal_token_cache.json", cache_text())


def key_file(directory: Path) -> Path:
    return write(directory / "key", KEY)


def finding(said: Said, reference: str) -> dict[str, Any]:
    [found] = [each for each in said.json["findings"] if each["reference"] == reference]
    return dict(found)


# ---- what is there ----


def test_where_nothing_is_stored_it_says_where_it_looked(home: Path) -> None:
    said = status(home)
    assert (said.status, said.json["caches"], said.references) == (FINE, [], [])
    shown = text(home)
    assert "~/.azure" in shown
    assert "~/.IdentityService" in shown
    assert shown.splitlines()[-1] == "Good to go."
    assert list(home.iterdir()) == []


def test_it_tells_accounts_tokens_and_times_of_a_cache(home: Path) -> None:
    file = az(home)
    cache = status(home).cache
    assert (cache["name"], cache["location"], cache["kind"]) == ("az", str(file), "plain")
    assert (cache["state"], cache["is_encrypted"]) == ("stored", False)
    assert (cache["mode"], cache["size"]) == ("0600", file.stat().st_size)
    account = {"username": "alice@example.com", "tenant": "tenant"}
    assert cache["accounts"] == [{**account, "environment": "login.example.com"}]
    expiry = cache["tokens"].pop("next_expiry")
    assert cache["tokens"] == {"access": 2, "expired": 1, "refresh": 1, "id": 1, "other": 0}
    in_an_hour = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 3600))
    assert expiry[:13] <= in_an_hour
    assert [entry["kind"] for entry in cache["entries"]] == ["access", "access", "refresh", "id"]
    assert cache["lock"] == {
        "location": f"{file}.lockfile", "state": "free", "holder": "", "since": None,
    }  # fmt: skip


def test_a_file_of_service_principals_is_no_token_cache_and_its_secrets_count(home: Path) -> None:
    secrets = [{"client_id": "a", "client_secret": "b"}] * 3
    write(home / ".azure" / "service_principal_entries.json", json.dumps(secrets))
    said = status(home)
    assert (said.cache["name"], said.cache["state"]) == ("az:principals", "other")
    assert said.cache["tokens"]["other"] == 3
    assert said.references == ["MSX-21"]
    assert "It has 3 entries." in text(home)


@pytest.mark.parametrize(
    "content", ["{", "{}x", "[" * 100_000, '{"AccessToken": []}', '{"Account": {"a": 1}}', "[1]"]
)
def test_a_damaged_cache_is_a_problem_and_is_not_nothing(home: Path, content: str) -> None:
    write(home / ".azure" / "msal_token_cache.json", content)
    said = status(home)
    assert (said.status, said.cache["state"], said.references) == (PROBLEMS, "damaged", ["MSX-41"])
    assert finding(said, "MSX-41")["remedy"] == "python -m msal_extensions clear az"
    write(home / ".azure" / "msal_token_cache.json", b"\xff\xfe\x00")
    assert finding(status(home), "MSX-40")["remedy"] == "python -m msal_extensions clear az"


@pytest.mark.parametrize("content", ["#!/bin/sh", "{}}", '{"name": "x"}', b"\x7fELF\xff", "[1]"])
def test_nobody_is_told_to_change_or_remove_a_file_that_is_no_cache(
    home: Path, content: str | bytes
) -> None:
    write(home / "azure-notes", content, 0o666)
    said = status(home, "azure-notes")
    assert (said.status, said.cache["state"], said.references) == (FINE, "other", [])
    assert "no token cache" in text(home, "azure-notes")
    write(home / "torn", cache_text()[:-9])
    assert status(home, "torn").references == ["MSX-41"]


@requires("os.mkfifo")
def test_what_is_no_file_is_a_problem_and_nothing_waits_for_it(home: Path) -> None:
    os.mkfifo(home / "fifo", 0o666)
    said = status(home, "fifo", "/dev/zero", str(home))
    assert {cache["state"] for cache in said.json["caches"]} == {"unreadable"}
    assert len(said.references) == 3
    assert "MSX-34" not in said.references
    (home / ".azure").mkdir()
    os.mkfifo(home / ".azure" / "msal_token_cache.json")
    (home / ".azure" / "msal_token_cache.json").chmod(0o666)
    assert len(status(home).references) == 1  # nobody is told to change its mode


def test_an_empty_cache_is_no_reason_to_warn(home: Path) -> None:
    for content, state in (("", "nothing"), ("{}", "stored")):
        write(home / ".azure" / "msal_token_cache.json", content)
        said = status(home)
        assert (said.status, said.cache["state"]) == (FINE, state)


# ---- plain text ----


def test_the_warning_about_plain_text_has_the_line_after_which_az_finds_the_tokens(
    home: Path,
) -> None:
    az(home)
    said = status(home, MSAL_EXTENSIONS_WITHOUT_KEYRING="encrypted_file")
    assert said.status == WARNINGS
    move = "python -m msal_extensions migrate az az:encrypted"
    switch = "az config set core.encrypt_token_cache=true"
    assert finding(said, "MSX-21")["remedy"] == f"{move} && {switch}"
    # Without the variable az would find no keyring, and would not look for the encrypted file.
    export = "export MSAL_EXTENSIONS_WITHOUT_KEYRING=encrypted_file"
    assert finding(status(home), "MSX-21")["remedy"] == f"{export} && {move} && {switch}"
    write(home / ".azure" / "service_principal_entries.json", "[{}]")  # the switch is for both
    other = "python -m msal_extensions migrate az:principals az:principals-encrypted"
    remedies = {each["remedy"] for each in status(home).json["findings"]}
    assert remedies == {f"{export} && {move} && {other} && {switch}"}


def test_commands_that_mend_two_places_are_shown_once(home: Path) -> None:
    az(home)
    write(
        home / ".azure" / "service_principal_entries.json",
        json.dumps([{"client_id": "a", "client_secret": "b"}]),
    )
    lines = text(home).splitlines()
    assert sum("migrate az az:encrypted" in line for line in lines) == 1
    assert "    fix: the same as for az" in lines
    findings = status(home).json["findings"]
    assert all("migrate az az:encrypted" in each["remedy"] for each in findings)


def test_the_line_for_azure_identity_and_for_a_file_name_places_that_exist(home: Path) -> None:
    write(home / ".IdentityService" / "own.nocae", cache_text())
    write(home / "my cache.json", cache_text())
    said = status(
        home,
        "identity:own.nocae",
        "my cache.json",
        MSAL_EXTENSIONS_WITHOUT_KEYRING="encrypted_file",
    )
    remedies = [each["remedy"] for each in said.json["findings"]]
    assert remedies == [
        "python -m msal_extensions migrate identity:own.nocae identity:own.nocae:encrypted",
        "python -m msal_extensions migrate 'plain:my cache.json' 'keyring:my cache.json'",
    ]
    assert named("identity:own.nocae:encrypted", Options()).kind is Kind.KEYRING


# ---- rights ----


@pytest.mark.parametrize(
    ("mode", "directory", "expected"),
    [
        (0o600, 0o755, []),
        (0o640, 0o700, [("warning", "MSX-34")]),
        (0o644, 0o700, [("warning", "MSX-34")]),
        (0o666, 0o700, [("problem", "MSX-34")]),
        (0o600, 0o777, [("problem", "MSX-34")]),
        (0o600, 0o1777, []),
    ],
)
def test_rights_of_others_are_found(
    mode: int, directory: int, expected: list[tuple[str, str]], home: Path
) -> None:
    file = az(home)
    file.chmod(mode)
    file.parent.chmod(directory)
    said = status(home)
    found = [(each["severity"], each["reference"]) for each in said.json["findings"]]
    assert [each for each in found if each[1] != "MSX-21"] == expected
    for each in said.json["findings"]:
        if each["reference"] == "MSX-34":
            subprocess.run(each["remedy"], shell=True, check=True)
    assert "MSX-34" not in status(home).references


def test_copies_that_hold_tokens_are_named_and_the_remedy_removes_them(home: Path) -> None:
    file = az(home)
    write(Path(f"{file}.damaged-20260101T000000Z-0123456789abcdef"), "x")
    old, new = (write(file.parent / f".msalex-{n:016x}.tmp", "x") for n in (1, 2))
    os.utime(old, (time.time() - 120,) * 2)
    write(file.parent / "another.lost", "x")
    write(file.parent / "odd name'; rm -rf x.json", "x")
    said = status(home)
    found = finding(said, "MSX-35")
    assert found["severity"] == "warning"
    assert old.name in found["words"]
    assert new.name not in found["words"]
    assert "another" not in found["words"]
    subprocess.run(found["remedy"], shell=True, check=True)
    assert "MSX-35" not in status(home).references
    assert new.exists()
    assert len(list(file.parent.iterdir())) == 4


def test_a_copy_with_an_odd_name_is_the_only_file_that_the_remedy_removes(home: Path) -> None:
    cache = write(home / "it's; my $cache", cache_text())
    lost, other = write(Path(f"{cache}.lost"), "x"), write(home / "my", "x")
    found = finding(status(home, cache.name), "MSX-35")
    subprocess.run(found["remedy"], shell=True, check=True, cwd=home)
    assert not lost.exists()
    assert cache.exists()
    assert other.exists()


# ---- encrypted files ----


def test_an_encrypted_file_tells_its_protection_and_how_often_it_was_saved(
    home: Path, tmp_path: Path
) -> None:
    key, file = key_file(tmp_path), home / "cache.bin"
    persistence = EncryptedFilePersistence(str(file), KeyFile(key))
    for _ in range(3):
        persistence.save(cache_text())
    said = status(home, "cache.bin", MSAL_EXTENSIONS_KEY_FILE=str(key))
    assert (said.status, said.references) == (FINE, [])
    cache = said.cache
    assert (cache["kind"], cache["state"], cache["generation"]) == ("encrypted", "stored", 3)
    assert cache["protection"] == persistence.protection.value
    assert cache["is_encrypted"] is True
    assert len(cache["accounts"]) == 1
    assert status(home, "cache.bin", "--key-file", str(key)).cache == cache


@pytest.mark.parametrize(
    ("reference", "state"),
    [
        ("MSX-50", "unreadable"),
        ("MSX-55", "unreadable"),
        ("MSX-56", "damaged"),
        ("MSX-58", "other"),
    ],
)
def test_an_encrypted_file_that_cannot_be_opened_is_not_nothing(
    reference: str, state: str, home: Path, tmp_path: Path
) -> None:
    key, file = key_file(tmp_path), home / "cache.bin"
    EncryptedFilePersistence(str(file), KeyFile(key)).save(cache_text())
    if reference == "MSX-50":
        key.unlink()
    elif reference == "MSX-55":
        key.write_bytes(bytes(32))
    else:
        content = file.read_bytes()
        write(file, content[:-1] + b"x" if reference == "MSX-56" else cache_text())
    said = status(home, f"encrypted:{file}", "--key-file", str(key))
    assert (said.status, said.references) == (PROBLEMS, [reference])
    assert said.cache["state"] == state
    assert said.cache["is_encrypted"] is (reference != "MSX-58")


def test_a_key_beside_its_file_is_a_warning(home: Path) -> None:
    key = key_file(home)
    EncryptedFilePersistence(str(home / "cache.bin"), KeyFile(key)).save("{}")
    said = status(home, "cache.bin", "--key-file", str(key))
    assert (said.status, said.references) == (WARNINGS, ["MSX-59"])
    assert said.cache["is_encrypted"] is False


def test_a_key_in_the_place_of_the_path_of_a_key_file_is_not_shown(home: Path) -> None:
    EncryptedFilePersistence(str(home / "cache.bin"), KeyFile(key_file(home))).save("{}")
    said = command.run(
        "-v", "status", "cache.bin", "--key-file", "c2VjcmV0", environment=command.session(home),
        cwd=home,
    )  # fmt: skip
    assert said.status == PROBLEMS
    assert "c2VjcmV0" not in said.everything


# ---- the lock ----


@requires("fcntl")
@pytest.mark.parametrize("how", ["ours", "flock"])
def test_it_tells_who_holds_the_lock_and_since_when(how: str, home: Path) -> None:
    file = az(home)
    lock = f"{file}.lockfile"
    by_flock = "import fcntl; f = open(lock, 'w'); fcntl.flock(f, 2); f.write(f'{os.getpid()} it');"
    ours = "import msal_extensions as m; it = m.CrossPlatLock(lock); it.__enter__();"
    code = f"import os, sys; lock = sys.argv[1]; {ours if how == 'ours' else by_flock}"
    code += f"{'' if how == 'ours' else 'f.flush();'} print('held', flush=True); sys.stdin.read()"
    with saying("held", [sys.executable, "-c", code, lock]) as holder:
        found = status(home).cache["lock"]
        assert (found["state"], found["holder"].split()[0]) == ("held", str(holder.pid))
        os.utime(lock, (time.time() - 600,) * 2)
        late = finding(status(home), "MSX-60")
        assert late["severity"] == "warning"
        assert "for 10 minutes" in late["words"]
        assert str(holder.pid) in late["words"]
        holder.kill()
        holder.wait()
    said = status(home)
    assert said.cache["lock"]["state"] == "left"
    assert said.references == ["MSX-21"]  # nothing has to be done about it
    assert "[MSX-66]" in text(home)


def test_it_does_not_wait_for_the_lock_and_does_not_take_it(home: Path) -> None:
    file = az(home)
    with CrossPlatLock(f"{file}.lockfile"):
        assert status(home).cache["state"] == "stored"


# ---- nothing is changed, nothing is raised ----


def tree(directory: Path) -> Mapping[str, tuple[int, int, bytes]]:
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns, content)
        for path in sorted(directory.rglob("*"))
        for content in [path.read_bytes() if path.is_file() else b""]
    }


def test_it_makes_and_changes_nothing(home: Path, tmp_path: Path) -> None:
    az(home)
    key = key_file(tmp_path)
    EncryptedFilePersistence(str(home / "c"), KeyFile(key)).save("{}")
    before = tree(home)
    nowhere = str(home / "no" / "such" / "file")
    names = [f"{kind.value}:{nowhere}" for kind in Kind]
    said = status(home, *names, "az", "az:encrypted", "identity", nowhere, "c")
    assert len(said.json["caches"]) == 9
    status(home)
    assert tree(home) == before


@pytest.mark.parametrize("error", [UnicodeError, RecursionError, ImportError, KeyError, ValueError])
def test_no_exception_passes_and_its_text_is_not_shown(
    error: type[Exception], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error("CANARY")

    monkeypatch.setattr(Place, "open", fail)
    report = Report("status", look_at_installation())
    FilePersistence(str(home / "c")).save("{}")
    look.examine(report, named(f"plain:{home / 'c'}", Options()))
    [found] = report.findings
    assert found.reference.code == "MSX-03"
    assert error.__name__ in found.words
    assert "CANARY" not in repr(report)
    assert report.caches[0].state == "unreadable"


@requires("os.setuid")
def test_what_this_user_may_not_look_at_is_a_problem_and_is_not_nothing(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    az(shared)
    monkeypatch.setenv("HOME", str(shared))

    def look_at_all() -> list[tuple[str, list[str], list[str]]]:
        found = []
        for place in well_known(Options()):
            report = Report("status", look_at_installation())
            cache = look.examine(report, place)
            codes = [each.reference.code for each in report.findings]
            first = [each.words.partition(".")[0] for each in report.findings]
            found.append((cache.state, codes, first))
        return found

    # Plain words first, and then those of the system.
    words = ["The permissions forbid it"]
    assert as_user(US, look_at_all)[0] == ("unreadable", ["MSX-25"], words)


# ---- how it looks ----


@pytest.mark.parametrize("width", [30, 40, 80, 200])
def test_it_fits_into_the_terminal_except_for_commands_which_stay_whole(
    width: int, home: Path
) -> None:
    file = az(home)
    file.chmod(0o644)
    write(home / ".IdentityService" / "msal.cache.nocae.enc", "msalex-enc/")
    shown = text(home, "-v", COLUMNS=str(width))
    assert shown.isascii()
    command_lines = re.compile(r" +(fix: )?(chmod|python -m|export|az) ")
    *lines, last = shown.splitlines()
    for line in lines:
        words = max(map(len, line.split()), default=0)
        assert len(line) <= max(width, 30) or command_lines.match(line) or words > width - 10, line
    assert f"chmod go-rwx {file}\n" in shown
    assert "python -m msal_extensions migrate az az:encrypted" in shown
    assert last == "1 problem, 2 warnings. Not good to go: MSX-56."


def test_verbose_tells_accounts_clients_scopes_and_causes(home: Path) -> None:
    az(home)
    shown = text(home, "-v", COLUMNS="200")
    assert "account: alice@example.com, tenant tenant, login.example.com" in shown
    assert "access token: client client, for scope, expires in 59 minutes" in shown
    assert "The file is not encrypted." in shown
    assert "alice" not in text(home)


def test_the_schema_is_closed_and_every_field_is_always_there() -> None:
    schema = json.loads(command.SCHEMA.read_text(encoding="utf-8"))
    for name, part in schema["$defs"].items():
        if part.get("type") == "object":
            assert part["additionalProperties"] is False, name
            assert part["required"] == list(part["properties"]), name
    assert command.complaints({"schema_version": 1}) != []


def test_explain_is_described_by_the_schema_too(home: Path) -> None:
    said = command.run("explain", "--json", environment=command.session(home))
    assert len(said.json["explained"]) > 40
    assert said.json["caches"] == []
    shown = command.run("explain", "MSX-07", environment=command.session(home)).text
    assert shown.startswith("MSX-07  The keyring is locked\n")
    assert "\n    fix: " in shown
