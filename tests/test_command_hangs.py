"""The command ends in time also where a file system does not answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support import command, file_systems
from tests.support.capability import needs, requires
from tests.support.command import PROBLEMS, Said, cache_text

pytestmark = [pytest.mark.slow, requires("fcntl")]

#: Runs a program beside a FUSE file system whose daemon is stopped as soon as it is mounted.
STOPPED = """
cd "$0"; bindfs -f below here & daemon=$!
trap 'kill -KILL $daemon' EXIT
for _ in $(seq 200); do mountpoint -q here && break; sleep 0.05; done
kill -STOP $daemon
"$@"
"""


def beside_a_hanging_home(
    tmp_path: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Said:
    needs(file_systems.missing("bindfs"))
    home = tmp_path / "here"
    azure = tmp_path / "below" / ".azure"
    azure.mkdir(parents=True)
    home.mkdir()
    (azure / "msal_token_cache.json").write_text(cache_text())
    around = ["unshare", "--mount", "sh", "-c", STOPPED, str(tmp_path)]
    session = command.session(home)
    begin = time.monotonic()
    said = command.run(
        *arguments, "--timeout", "2", environment=session, cwd=tmp_path, around=around
    )
    print(said.text, said.errors, f"{time.monotonic() - begin:.1f} s")
    return said


@pytest.mark.parametrize("name", ["status", "doctor"])
def test_a_home_that_does_not_answer_is_a_problem_and_not_a_hang(name: str, tmp_path: Path) -> None:
    said = beside_a_hanging_home(tmp_path, name, "--json")
    assert said.status == PROBLEMS
    assert said.references == ["MSX-33"]


def test_a_place_that_does_not_answer_is_unreadable_and_the_others_are_shown(
    tmp_path: Path,
) -> None:
    other = tmp_path / "other.json"
    other.write_text(cache_text())
    other.chmod(0o600)
    hanging = tmp_path / "here" / ".azure" / "msal_token_cache.json"
    said = beside_a_hanging_home(tmp_path, "status", "--json", f"plain:{hanging}", f"plain:{other}")
    assert said.status == PROBLEMS
    states = [cache["state"] for cache in said.json["caches"]]
    assert states == ["unreadable", "stored"]
    assert said.references == ["MSX-33", "MSX-21"]


def test_what_cannot_be_looked_at_is_not_cleared_and_the_command_ends(tmp_path: Path) -> None:
    hanging = tmp_path / "here" / ".azure" / "msal_token_cache.json"
    said = beside_a_hanging_home(tmp_path, "clear", "--yes", "--json", f"plain:{hanging}")
    assert said.status == PROBLEMS
    assert said.json["done"] == []
