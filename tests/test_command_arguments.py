"""The command line of ``python -m msal_extensions``: its options, its commands, ``explain``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from msal_extensions import _references as references
from msal_extensions.__main__ import main

Said = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_caches(fresh_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_CONFIG_DIR", raising=False)
    monkeypatch.setenv("USERPROFILE", str(fresh_home))
    monkeypatch.setenv("LOCALAPPDATA", str(fresh_home))


def report_of(capsys: Said, *arguments: str) -> Any:
    status = main(["--json", *arguments])
    found = json.loads(capsys.readouterr().out)
    assert found["exit_status"] == status
    return found


def test_without_a_command_it_is_status(capsys: Said) -> None:
    assert report_of(capsys)["command"] == "status"


@pytest.mark.parametrize("arguments", [("--json", "status"), ("status", "--json")])
def test_an_option_may_stand_before_the_command_and_after_it(
    arguments: tuple[str, ...], capsys: Said
) -> None:
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["command"] == "status"


@pytest.mark.parametrize("arguments", [("--timeout", "7", "doctor"), ("doctor", "--timeout", "7")])
def test_an_option_with_a_value_keeps_it_wherever_it_stands(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from msal_extensions._command import doctor

    seen: list[float] = []
    monkeypatch.setattr(doctor, "check", lambda _, __, options: seen.append(options.timeout))
    main(arguments)
    assert seen == [7.0]


@pytest.mark.parametrize("text", ["msx-7", "MSX-07", "7", "07", "msx07"])
def test_a_reference_is_found_however_it_is_written(text: str, capsys: Said) -> None:
    explained = report_of(capsys, "explain", text)["explained"]
    assert [each["code"] for each in explained] == ["MSX-07"]


def test_explain_shows_title_cause_and_remedy_as_the_table_has_them(capsys: Said) -> None:
    assert main(["explain", "MSX-07"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    entry = references.KEYRING_LOCKED
    for text in (entry.code, entry.title, entry.cause, entry.remedy, entry.page):
        assert text in words


def test_explain_without_a_reference_lists_all(capsys: Said) -> None:
    explained = report_of(capsys, "explain")["explained"]
    assert [each["code"] for each in explained] == list(references.REFERENCES)


@pytest.mark.parametrize("text", ["MSX-99", "MSX", "", "x\x1b[31m", "0"])
def test_an_unknown_reference_is_a_problem_and_says_how_to_list_them(
    text: str, capsys: Said
) -> None:
    found = report_of(capsys, "explain", text)
    assert found["exit_status"] == 2
    assert [each["reference"] for each in found["findings"]] == ["MSX-83"]
    assert "\x1b" not in found["findings"][0]["words"]


@pytest.mark.parametrize("command", ["status", "doctor", "clear", "prune", "rekey"])
def test_a_place_with_a_wrong_name_is_a_problem_and_nothing_is_touched(
    command: str, tmp_path: Path, capsys: Said
) -> None:
    found = report_of(capsys, command, "nonsense:x")
    assert "MSX-82" in [each["reference"] for each in found["findings"]]
    assert found["caches"] == found["done"] == []


def test_one_wrong_name_among_right_ones_stops_clear(tmp_path: Path, capsys: Said) -> None:
    kept = tmp_path / "cache.json"
    kept.write_text("{}")
    found = report_of(capsys, "clear", "--yes", f"plain:{kept}", "nonsense:x")
    assert found["exit_status"] == 2
    assert kept.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--timeout", "-1"),
        ("--timeout", "nan"),
        ("--timeout", "inf"),
        ("--attribute", "without equals"),
        ("prune", "az", "--older-than", "-3"),
        ("migrate", "az"),
        ("clear",),
        ("nonsense",),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_is_done(
    arguments: tuple[str, ...], capsys: Said
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert "usage: python -m msal_extensions" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    "command", ["", "status", "doctor", "clear", "migrate", "prune", "rekey", "explain"]
)
def test_each_command_has_a_help_that_fits_a_terminal(
    command: str, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"] if command else ["--help"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert "usage: python -m msal_extensions" in lines[0]
    assert max(map(len, lines)) <= 80


def test_looking_makes_no_directory_and_no_file(fresh_home: Path, capsys: Said) -> None:
    report_of(capsys)
    report_of(capsys, "doctor")
    report_of(capsys, "status", f"plain:{fresh_home / 'new' / 'cache.json'}")
    assert os.listdir(fresh_home) == []
