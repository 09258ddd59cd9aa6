"""No form of the command ever shows a secret, and nothing in a file can command a terminal."""

from __future__ import annotations

import base64
import json
import logging
import shlex
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import configuration, given, settings
from hypothesis import strategies as some

from msal_extensions import EncryptedFilePersistence, KeyFile
from msal_extensions._command import contents, words
from tests.support import command
from tests.support.capability import FILE_MODES, requires
from tests.support.command import cache_text

CANARY = "canary-7c1f9a52e0b34d68"
#: 32 bytes, so that they are a key as well.
KEY = b"key-" + CANARY.encode() + b"\x80\x81\x82\x83\x84"


@pytest.fixture(autouse=True, scope="module")
def _home_of_hypothesis(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hypothesis keeps its files there, and not in the working directory."""
    configuration.set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))


def forms_of(secret: bytes) -> Iterator[str]:
    """As text; as hexadecimal digits; and its inner part in Base64, wherever it begins there."""
    yield secret.decode("latin-1")
    yield secret.hex()
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + secret).decode()
        yield encoded[4 : 4 * (len(secret) // 3) - 4]


FORMS = [*forms_of(CANARY.encode())]


def shown(output: str) -> list[str]:
    plain = output.replace("-_", "+/").lower()
    return [form for form in FORMS if form.lower() in plain]


def test_the_search_finds_each_form() -> None:
    for text in (CANARY, CANARY.encode().hex().upper(), base64.b64encode(KEY).decode()):
        assert shown(f"some {text} text")
    for offset in range(3):
        inside = b"x" * offset + CANARY.encode() + b"y"
        assert shown(base64.urlsafe_b64encode(inside).decode())
    assert len(KEY) == 32
    assert not shown("nothing")


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o600)
    return path


def strange_cache() -> str:
    """Secrets where nobody expects them."""
    cache: dict[str, Any] = json.loads(cache_text(CANARY))
    [*_, entry] = cache["RefreshToken"].values()
    entry["client_info"] = entry["assertion"] = CANARY
    cache["AccessToken"][CANARY] = {"secret": CANARY, "expires_on": CANARY, "target": [CANARY]}
    cache["Account"]["two"] = {"username": {"is": CANARY}, "home_account_id": CANARY}
    cache[f"Kind-{CANARY}"] = {"x": {"secret": CANARY}}
    return json.dumps(cache)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with secrets in everything that may hold one."""
    home = tmp_path / "home"
    azure, identity = home / ".azure", home / ".IdentityService"
    write(azure / "msal_token_cache.json", strange_cache())
    principals = [{"client_id": "c", "client_secret": CANARY}, CANARY]
    write(azure / "service_principal_entries.json", json.dumps(principals))
    write(azure / "msal_token_cache.json.damaged-20260101T000000Z-0123456789abcdef", CANARY)
    write(azure / ".msal_token_cache.json.swp", CANARY)
    write(identity / "msal.cache.nocae", CANARY)
    write(identity / "torn.nocae", cache_text(CANARY)[:-30])
    write(identity / "deep.nocae", f'{{"secret": "{CANARY}", "a": ' + "[" * 100_000)
    write(identity / "digits.nocae", f'["{CANARY}", {"9" * 5000}]')
    write(identity / "bytes.nocae", CANARY.encode() + b"\xff\xfe")
    write(identity / "sealed.cae.enc", f"msalex-enc/{CANARY}\n{CANARY}")
    write(identity / "plain.cae.enc", cache_text(CANARY))
    write(identity / "msal.cache.nocae.lost", CANARY)
    write(identity / "msal.cache.nocae.lockfile", "1 a program")
    key = write(tmp_path / "keys" / "key", KEY)
    EncryptedFilePersistence(str(home / "good.bin"), KeyFile(key)).save(cache_text(CANARY))
    damaged = write(home / "damaged.bin", (home / "good.bin").read_bytes())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    write(home / "note.txt", f"my password: {CANARY}")
    return home


IDENTITY = [f"identity:{name}.nocae" for name in ("torn", "deep", "digits", "bytes")]
IDENTITY += ["identity", "identity:sealed.cae", "identity:plain.cae"]
FILES = ["good.bin", "damaged.bin", "note.txt", "encrypted:note.txt", "dpapi:note.txt"]
ALL = ["az", "az:principals", *IDENTITY, *FILES]
KEY_GIVEN = ["--key-file", "../keys/key"]
WITH_YES = ["--yes", *KEY_GIVEN]
#: What people and attackers may type.
FORMS_OF_THE_COMMAND = {
    "status": ["status"],
    "status of all": ["status", *ALL, *KEY_GIVEN],
    "status with another key": ["status", "good.bin", "--key-file", "note.txt"],
    "status with a key as a path": ["status", "good.bin", "--key-file", CANARY],
    "doctor": ["doctor"],
    "doctor of all": ["doctor", *ALL, *KEY_GIVEN],
    "clear": ["clear", *ALL, *WITH_YES],
    "migrate": ["migrate", "az", "encrypted:new.bin", *WITH_YES],
    "migrate into another": ["migrate", "az", "good.bin", *WITH_YES],
    "migrate damaged": ["migrate", "identity:torn.nocae", "encrypted:new.bin", *WITH_YES],
    "migrate a note": ["migrate", "note.txt", "encrypted:new.bin", *WITH_YES],
    "migrate unasked": ["migrate", "az", "encrypted:new.bin", *KEY_GIVEN],
    "prune": ["prune", *ALL, "--older-than", "0", *WITH_YES],
    "rekey": ["rekey", "good.bin", *KEY_GIVEN],
    "rekey with a note": ["rekey", "good.bin", *KEY_GIVEN, "--new-key-file", "note.txt"],
    "explain": ["explain", "MSX-56"],
}


@requires(FILE_MODES)
@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS_OF_THE_COMMAND)
def test_no_form_of_the_command_shows_a_secret(form: str, home: Path, tmp_path: Path) -> None:
    for number, more in enumerate(([], ["-v"], ["--json"], ["--json", "-v"])):
        copy = tmp_path / str(number) / "home"
        shutil.copytree(home, copy)
        shutil.copytree(tmp_path / "keys", copy.parent / "keys")
        variables = {"MSAL_EXTENSIONS_WITHOUT_KEYRING": "encrypted_file", "COLUMNS": "1000"}
        environment = command.session(copy, variables)
        said = command.run(*FORMS_OF_THE_COMMAND[form], *more, environment=environment, cwd=copy)
        assert shown(said.everything) == []
        assert "Traceback" not in said.everything
        if "--json" in more:
            assert said.json["command"] == FORMS_OF_THE_COMMAND[form][0]


@requires(FILE_MODES)
def test_a_key_in_an_environment_variable_for_its_path_is_not_shown(home: Path) -> None:
    key = base64.b64encode(KEY).decode().replace("/", "_")
    environment = command.session(home, {"MSAL_EXTENSIONS_KEY_FILE": key})
    for arguments in (["status", "good.bin"], ["status", "good.bin", "-v", "--json"]):
        said = command.run(*arguments, environment=environment, cwd=home)
        assert said.status == command.PROBLEMS
        assert shown(said.everything) == []


tried = settings(max_examples=200, deadline=None, derandomize=True, database=None)
_json = some.recursive(
    some.none() | some.booleans() | some.floats() | some.integers() | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
    max_leaves=20,
)
_fields = ("secret", "username", "realm", "environment", "client_id", "target", "expires_on")
_entries = some.dictionaries(some.sampled_from(_fields), _json)
_kinds = ("AccessToken", "RefreshToken", "IdToken", "Account", "AppMetadata", "Other")
_sections = some.dictionaries(some.text(max_size=3), _entries | _json, max_size=4) | _json
_caches = some.dictionaries(some.sampled_from(_kinds), _sections)


@tried
@given(_caches | _json)
def test_any_json_can_be_looked_at(secret: Any) -> None:
    found = contents.parse(json.dumps(secret), 1.0)
    assert found.state in ("stored", "damaged", "other")
    for account in found.accounts:
        assert words.clean(account.username) == account.username


@tried
@given(some.text())
def test_any_text_can_be_looked_at(text: str) -> None:
    assert contents.parse(text, 1.0).state in ("nothing", "stored", "damaged", "other")


def test_a_parser_that_fails_raises_nothing_that_holds_the_text() -> None:
    """Tools that report the local variables of a traceback get none."""
    for text in (f'{{"{CANARY}"', "[" * 100_000, f"[{'9' * 5000}]"):
        assert contents.parse(text, 1.0).state in ("damaged", "other")


# ---- terminals ----

#: A title, colours, "erase the screen", a C1 control, a new line that looks like ours, text that
#: runs backwards, an invisible character, half of a pair.
EVIL = "\x1b]0;title\x07\x1b[31m\x1b[2J\x9b1m\r\nGood to go.\n\u202efdp\u200b\u2028\ud800"
_HARMFUL = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def is_harmless(output: str) -> bool:
    return not any(unicodedata.category(it) in _HARMFUL for it in output.replace("\n", ""))


@tried
@given(some.text(), some.integers(3, 50))
def test_cleaned_text_is_one_short_line_that_a_terminal_shows_as_it_is(
    text: str, limit: int
) -> None:
    cleaned = words.clean(text, limit)
    assert len(cleaned) <= limit
    assert is_harmless(cleaned)
    assert "\n" not in cleaned
    assert words.clean(cleaned, limit) == cleaned


@requires(FILE_MODES)
@pytest.mark.parametrize("form", [["status"], ["status", "-v"], ["status", "--json", "-v"]])
def test_nothing_in_names_and_files_can_command_a_terminal(form: list[str], tmp_path: Path) -> None:
    name = EVIL.replace("\ud800", "\udcff")
    home = tmp_path / "home"
    cache = write(home / f"cache {name}", cache_text(username=EVIL))
    cache.chmod(0o644)
    write(Path(f"{cache}.lockfile"), f"4711 {EVIL}".encode("utf-8", "surrogatepass"))
    write(Path(f"{cache}.lost"), "")
    write(home / ".IdentityService" / f"{name}.nocae", cache_text(username=EVIL))
    environment = command.session(home, {"MSAL_EXTENSIONS_WITHOUT_KEYRING": EVIL[:20]})
    for places in ([], [cache.name], [f"plain:{cache.name}", f"no {EVIL[:-1]}"]):
        said = command.run(*form, *places, environment=environment, cwd=home)
        assert is_harmless(said.everything), ascii(said.everything)
        assert "\nGood to go." not in said.text
        assert "Traceback" not in said.everything
        if "--json" in form:
            assert said.json["schema_version"] == 1


def test_the_log_of_verbose_cannot_command_a_terminal_either() -> None:
    from msal_extensions.__main__ import _Clean

    record = logging.LogRecord("name", logging.DEBUG, "", 1, "%s", (EVIL,), None)
    line = _Clean().format(record)
    assert is_harmless(line)
    assert "\n" not in line


@requires(FILE_MODES)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_names_that_the_output_cannot_show_are_no_error(encoding: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    write(home / ".azure" / "msal_token_cache.json", cache_text(username="Zo\u00eb \u4e2d"))
    environment = command.session(home, {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    said = command.run("status", "-v", environment=environment)
    assert said.status == command.WARNINGS
    assert "account: Zo" in said.text


@tried
@given(some.lists(some.text(some.characters(exclude_characters="\0", codec="utf-8")), min_size=1))
def test_a_shell_reads_a_command_line_as_the_names_that_it_was_made_of(names: list[str]) -> None:
    if sys.platform != "win32":  # there the rules of list2cmdline hold
        assert shlex.split(words.command_line(*names)) == names
