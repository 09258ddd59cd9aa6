"""The command as a person sees it: on a real terminal, in a pipe, in another language.

`pytest -s` prints five broken machines as they look on 80 columns.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import EncryptedFilePersistence, KeyFile
from tests.support import command, keyring
from tests.support.capability import needs, requires
from tests.support.key_sources import new_key, write_key

pytestmark = requires("fcntl", "pty", "termios")

PROGRAM = [sys.executable, "-m", "msal_extensions"]
CONTENT = '{"AccessToken": {"k": {"secret": "s", "expires_on": "1700000000"}}}'
LONG_AGO = time.time() - 3 * 86400


@pytest.fixture
def home() -> Iterator[Path]:
    """It has a short name: a command to copy is never broken, so it must fit on one line."""
    made = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    yield made
    shutil.rmtree(made)


def plain(home: Path, name: str = "msal_token_cache.json", text: str = CONTENT) -> Path:
    path = home / ".azure" / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch(0o600)
    path.write_text(text)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


# ---- five broken machines ----


def plain_text(home: Path) -> dict[str, str]:
    plain(home)
    return {}


def damaged(home: Path) -> dict[str, str]:
    plain(home, text='{"AccessToken": {')
    return {}


def without_a_keyring(home: Path) -> dict[str, str]:
    (home / ".IdentityService").mkdir(mode=0o700)
    signal = home / ".IdentityService" / "msal.cache.nocae"
    signal.touch(0o600)
    os.utime(signal, (LONG_AGO, LONG_AGO))
    return {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}


def another_key(home: Path) -> dict[str, str]:
    key = new_key(home / "key")
    without_a_keyring(home)
    sealed = home / ".IdentityService" / "msal.cache.nocae.enc"
    EncryptedFilePersistence(sealed, KeyFile(key)).save(CONTENT)
    os.utime(sealed, (LONG_AGO, LONG_AGO))
    write_key(key, bytes(32))
    return {"MSAL_EXTENSIONS_KEY_FILE": str(key)}


def wrong_setting(home: Path) -> dict[str, str]:
    plain(home).chmod(0o644)
    return {"MSAL_EXTENSIONS_WITHOUT_KEYRING": "plain_file"}


MACHINES: list[Callable[[Path], dict[str, str]]] = [
    plain_text,
    damaged,
    without_a_keyring,
    another_key,
    wrong_setting,
]


def words_of(text: str) -> list[str]:
    """Its words, without the free space of the disk, which changes all the time.

    Commands are on one line with && between them where that fits, and else on a line each.
    """
    return re.sub(r"\d+ [kMGT]?B\s+free", "free", text).replace(" && ", " ").split()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_line_is_broken_by_the_terminal_and_nothing_is_lost(
    home: Path, machine: Callable[[Path], dict[str, str]], columns: int
) -> None:
    from tests.support.terminal import Terminal

    environment = {**command.session(home), **machine(home)}
    piped = command.run("doctor", environment=environment)
    with Terminal(columns, [*PROGRAM, "doctor"], environment) as terminal:
        assert terminal.end() == piped.status > command.FINE
    assert b"\x1b" not in terminal.raw
    printed = terminal.printed()
    assert words_of("\n".join(printed)) == words_of(piped.text)
    too_long = [line.strip() for line in printed[:-1] if len(line) > columns]
    if columns == 80:
        print(f"\n---- {machine.__name__}, exit status {piped.status}", *terminal.shown(), sep="\n")
        assert words_of("\n".join(terminal.shown())) == words_of(piped.text)
    if not too_long and len(printed[-1]) <= columns:
        assert terminal.shown() == printed
    # What is to be copied is never broken, so on a narrow terminal it has a line of its own.
    remedies = [finding["remedy"] for finding in as_json(environment)["findings"]]
    not_remedies = [line for line in too_long if not any(line in each for each in remedies)]
    assert [line for line in not_remedies if " " in line] == []  # a path has no place to break
    assert columns < 80 or not too_long


def as_json(environment: dict[str, str]) -> dict[str, Any]:
    return command.run("doctor", "--json", environment=environment).json


# ---- questions ----


@pytest.mark.parametrize(("answer", "is_gone"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_clear_asks_on_the_terminal_and_takes_the_answer_there(
    home: Path, answer: str, is_gone: bool
) -> None:
    from tests.support.terminal import Terminal

    path = plain(home)
    with Terminal(80, [*PROGRAM, "clear", "az"], command.session(home)) as terminal:
        terminal.wait_for("[y/N]")
        assert path.exists()
        terminal.type(answer)
        status = terminal.end()
    assert path.exists() is not is_gone
    assert status == (command.FINE if is_gone else command.PROBLEMS)


def test_clear_at_the_end_of_the_input_removes_nothing(home: Path) -> None:
    from tests.support.terminal import Terminal

    path = plain(home)
    with Terminal(80, [*PROGRAM, "clear", "az"], command.session(home)) as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("\x04")  # Ctrl-D
        assert terminal.end() == command.PROBLEMS
    assert path.exists()


# ---- pipes and signals ----


@pytest.mark.parametrize("arguments", [["explain"], ["status"], ["doctor", "--json"]])
def test_a_reader_that_has_gone_is_no_error(home: Path, arguments: list[str]) -> None:
    """As in `... | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*PROGRAM, *arguments],
        env=command.session(home),
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 1


def test_head_takes_the_first_line(home: Path) -> None:
    line = f"'{sys.executable}' -m msal_extensions explain | head -2"
    done = subprocess.run(
        ["sh", "-c", line], env=command.session(home), capture_output=True, timeout=60, text=True
    )
    assert "MSX-01" in done.stdout
    assert done.stderr == ""


def test_ctrl_c_ends_the_wait_for_a_keyring_without_a_word(home: Path) -> None:
    from tests.support.terminal import Terminal

    needs(keyring.Fake.missing())
    without_a_keyring(home)
    (home / "keyring").mkdir()
    with keyring.silent(home / "keyring") as service:
        environment = command.session(home, service.variables)
        with Terminal(80, [*PROGRAM, "doctor", "--timeout=600"], environment) as terminal:
            keyring.wait(service.calls, "the command did not ask the keyring")
            terminal.type("\x03")
            assert terminal.end() == 130
    assert terminal.shown() in ([""], ["^C"])


# ---- terminals and languages ----


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}])
def test_a_simple_terminal_gets_the_same_text(home: Path, variables: dict[str, str]) -> None:
    from tests.support.terminal import Terminal

    plain(home)
    environment = command.session(home)
    piped = command.run("status", environment=environment)
    with Terminal(80, [*PROGRAM, "status"], {**environment, **variables}) as terminal:
        assert terminal.end() == piped.status
    assert b"\x1b" not in terminal.raw
    assert terminal.shown() == piped.text.rstrip().split("\n")


@pytest.mark.parametrize("arguments", [["status", "-v"], ["doctor"], ["doctor", "--json"]])
def test_a_name_that_the_terminal_cannot_show_stops_nothing(
    home: Path, arguments: list[str]
) -> None:
    entry = '{"Account": {"k": {"username": "jörg@example.com", "environment": "e"}}}'
    user = home / "Jörg"
    user.mkdir()
    plain(user, text=entry)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = {**command.session(user), **ascii_only}
    said = command.run(*arguments, environment=environment)
    assert said.status < command.PROBLEMS
    assert said.errors == ""
    assert said.text.isascii()
    assert "az" in said.text
