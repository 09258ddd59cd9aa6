"""`python3 dev.py prove`: its table is true, what is lost is told, and a run can be repeated."""

from __future__ import annotations

import ast
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

pytest.importorskip("fcntl")

import dev
from tests import prove
from tests.prove import FORMS, ROOT, Form
from tests.support import debian, keeper
from tests.support.capability import needs, requires
from tests.support.processes import GENEROUS, eventually

#: What tests read besides: where things are, and what they tell each other.
NO_FORM = re.compile(
    r"MSALEX_(CACHE|SHARE|KEYRING|CHROOT|DEBIAN_MIRROR|SEED|PEER_LOCK|BUILT"
    r"|FOREIGN_\w+|REFERENCE_\w*|BENCH_\w+)"
)
#: A fake test, and what makes its file one of this project's.
CONFTEST = """
from tests.support.tally import pytest_runtest_setup as pytest_runtest_setup
from tests.support.tally import pytest_runtest_teardown as pytest_runtest_teardown
"""
HEAD = "import os\nimport pytest\nfrom tests.support import tally\n"


def read_settings(file: Path) -> set[str]:
    """The names that a file of Python looks up in the environment."""
    looks: list[ast.AST] = []
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Call(func=place, args=[name, *_]):
                pass
            case ast.Subscript(value=place, slice=name):
                pass
            case ast.Compare(left=name, comparators=[place]):
                pass
            case _:
                continue
        if ast.unparse(place) in ("os.environ", "os.environ.get"):
            looks += ast.walk(name)
    words = [look.value for look in looks if isinstance(look, ast.Constant)]
    return {word for word in words if isinstance(word, str) and word.startswith("MSALEX_")}


FakeForm = Callable[[str], Form]


@pytest.fixture
def fake(tmp_path: Path) -> FakeForm:
    """A form of a test with this body, which counts saves."""
    (tmp_path / "conftest.py").write_text(CONFTEST)

    def make(body: str) -> Form:
        file = tmp_path / "test_fake.py"
        file.write_text(HEAD + "def test_it():\n" + textwrap.indent(textwrap.dedent(body), "    "))
        return Form("fake", "Fakes.", "saves", 0, str(file))

    return make


def row(said: str) -> list[str]:
    """The cells of the form in the last table."""
    return [line for line in said.splitlines() if line.startswith("fake ")][-1].split()


# ---- the table ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_the_tests_of_a_form_exist_and_read_its_setting(form: Form) -> None:
    assert (ROOT / form.file).exists()
    if not form.debian:
        tree = ast.parse((ROOT / form.file).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert set(form.tests) <= functions
        read = [read_settings(ROOT / file) for file in form.readers]
        assert form.setting.keys() <= set().union(*read)
        assert all(settings & form.setting.keys() for settings in read)
        assert form.setting


def test_every_file_that_a_setting_makes_longer_has_a_form() -> None:
    found = {
        (file.relative_to(ROOT).as_posix(), name)
        for file in (ROOT / "tests").rglob("*.py")
        for name in read_settings(file)
        if not NO_FORM.fullmatch(name)
    }
    assert found == {
        (file, name)
        for form in FORMS
        if not form.debian
        for file in form.readers
        for name in form.setting.keys() & read_settings(ROOT / file)
    }


def test_the_names_of_forms_are_different() -> None:
    assert len({form.name for form in FORMS}) == len(FORMS)


def test_the_list_names_each_form_its_setting_and_what_it_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert prove.main(["--list"]) == 0
    said = capsys.readouterr().out
    for form in FORMS:
        line = rf"{form.name} +{form.minutes:g} min  {re.escape(form.says)}"
        assert re.search(f"^{line}$", said, re.MULTILINE)
        assert all(f"{name}={value} " in said for name, value in form.setting.items())
        assert form.file in said


def test_a_form_that_does_not_exist_is_refused_with_the_names_of_those_that_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        prove.main(["model", "modle"])
    assert ended.value.code == 2
    assert "no such form: modle; there are model saves" in capsys.readouterr().err


# ---- what it says ------------------------------------------------------------------------


def test_what_was_tried_is_told_in_the_unit_of_the_form(
    fake: FakeForm, capsys: pytest.CaptureFixture[str]
) -> None:
    form = fake("tally.tried(40)\ntally.tried()")
    assert prove.main([], [form]) == 0
    assert row(capsys.readouterr().out)[:5] == ["fake", "saves", "41", "41", "0"]


@pytest.mark.parametrize(
    ("body", "cells"),
    [
        ("tally.tried(9)\ntally.lost(2)\nassert False", ["9", "7", "2"]),
        ("tally.tried(9)\ntally.lost(2)", ["9", "7", "2"]),
        ("tally.tried(9)\nassert False", ["9", "8", "1"]),
        ("assert False", ["1", "0", "1"]),
        ("os._exit(0)", ["0", "0", "0"]),  # pytest wrote no report
        ("os.kill(os.getpid(), 9)", ["1", "0", "1"]),
        ("pytest.skip('no luck')", ["0", "0", "0"]),
        ("pass", ["0", "0", "0"]),
    ],
)
def test_a_form_that_loses_something_or_tries_nothing_ends_with_status_1(
    fake: FakeForm, body: str, cells: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert prove.main(["fake"], [fake(body)]) == 1
    assert row(capfd.readouterr().out)[2:5] == cells


def test_the_tests_that_lost_something_and_the_reasons_of_skips_are_told(
    fake: FakeForm, capsys: pytest.CaptureFixture[str]
) -> None:
    prove.main([], [fake("raise ValueError('lost one')")])
    said = capsys.readouterr().out
    assert re.search("^fake: lost: .*::test_it: ValueError: lost one$", said, re.MULTILINE)
    prove.main([], [fake("pytest.skip('no luck')")])
    assert "fake: 1 skipped: no luck" in capsys.readouterr().out


# ---- the same again ----------------------------------------------------------------------


def command_of(said: str) -> list[str]:
    """The command that repeats the run, as it was printed."""
    [*_, told] = re.findall(r"to run the same again: (python3 dev\.py prove .*)", said)
    return shlex.split(told)


@pytest.mark.parametrize("arguments", [[], ["fake"], ["--seed", "7", "--examples", "20"]])
def test_the_command_that_is_printed_repeats_the_seed_and_the_number_of_examples(
    arguments: list[str],
    fake: FakeForm,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    form = fake(f"""
        tally.tried()
        with open({str(tmp_path / "seen")!r}, "a") as file:
            print(os.environ["MSALEX_SEED"], os.environ["MSALEX_EXAMPLES"], file=file)
    """)._replace(setting={"MSALEX_EXAMPLES": "30"})
    assert prove.main(arguments, [form]) == 0
    command = command_of(capsys.readouterr().out)
    # What dev.py makes of it.
    started: list[list[str]] = []

    def become(program: list[str]) -> NoReturn:
        started.append(program)
        raise SystemExit

    monkeypatch.setattr(dev, "prepare", lambda *_: Path("python"))
    monkeypatch.setattr(dev, "system_packages", lambda *_, **__: None)
    monkeypatch.setattr(dev, "become", become)
    with pytest.raises(SystemExit):
        dev.main(command[2:])
    [[_, *module, rest]] = [[*program[:3], program[3:]] for program in started]
    assert module == ["-m", "tests.prove"]
    assert prove.main(rest, [form]) == 0
    first, second = (tmp_path / "seen").read_text().splitlines()
    assert first == second
    assert first.split()[1] == ("20" if "--examples" in arguments else "30")
    assert command_of(capsys.readouterr().out) == command


def test_two_runs_have_different_seeds(fake: FakeForm, capsys: pytest.CaptureFixture[str]) -> None:
    form = fake("tally.tried()")
    commands = []
    for _ in range(2):
        prove.main([], [form])
        commands.append(command_of(capsys.readouterr().out))
    assert commands[0] != commands[1]


@requires("os.fork")
def test_ctrl_c_ends_a_form_which_tells_what_tests_that_had_ended_have_tried(
    fake: FakeForm,
) -> None:
    form = fake("tally.tried(5)")
    with open(form.file, "a") as file:
        file.write("\ndef test_long():\n print('\\ntrying')\n import time\n time.sleep(600)\n")
    code = f"""
        import sys
        from tests import prove
        sys.exit(prove.main([], [prove.Form(*{tuple(form[:5])!r})]))
    """
    command = [sys.executable, "-u", "-c", textwrap.dedent(code)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert any(line == "trying\n" for line in process.stdout)
        os.killpg(process.pid, signal.SIGINT)
        said = process.stdout.read()
    assert process.returncode == 130
    assert row(said)[2:5] == ["5", "5", "0"]
    assert "fake: interrupted" in said


# ---- another Debian ----------------------------------------------------------------------


def marked(mark: str) -> list[int]:
    """The processes that have this word on their command lines."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (directory / "cmdline").read_bytes().split(b"\0"):
                found.append(int(directory.name))
        except OSError:
            continue
    return found


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[str]:
    """A word for the command lines of processes; none of them is left."""
    word = f"mark-{os.getpid()}-{tmp_path.name}"
    yield word
    left = marked(word)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


#: Starts an orphan in a session of its own, says so, and stays.
ORPHAN = 'setsid sh -c "sleep 600; :" "$0" & disown 2>/dev/null; echo started; '


@requires("os.fork")
def test_a_keeper_ends_orphans_when_the_program_ends_and_has_its_status(mark: str) -> None:
    program = keeper.command(["sh", "-c", ORPHAN + "exit 3", mark])
    done = subprocess.run(program, capture_output=True, text=True, timeout=GENEROUS)
    assert (done.returncode, done.stdout) == (3, "started\n")
    assert marked(mark) == []


@requires("os.fork")
def test_a_keeper_ends_everything_when_the_one_that_started_it_is_killed(mark: str) -> None:
    code = f"""
        import subprocess
        from tests.support import keeper
        subprocess.run(keeper.command(["sh", "-c", {ORPHAN + "sleep 600"!r}, {mark!r}]))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        assert len(marked(mark)) >= 2
        process.kill()
    assert eventually(lambda: marked(mark) == [])


@pytest.fixture
def copy_of_here(tmp_path: Path) -> list[str]:
    """The beginning of a command for which this system is also in a directory, its argument."""
    needs(None if os.geteuid() == 0 else "only root mounts file systems")
    needs(None if shutil.which("unshare") else "unshare is not installed")
    directory = tmp_path / "root"
    directory.mkdir()
    script = 'mount --bind / "$0"; exec "$@"'
    return ["unshare", "--mount", "sh", "-ec", script, str(directory)]


def test_a_program_inside_has_mounts_and_user_namespaces_of_which_nothing_is_left(
    copy_of_here: list[str],
) -> None:
    directory = Path(copy_of_here[-1])
    before = Path("/proc/self/mountinfo").read_text()
    look = ["sh", "-c", "cat /proc/self/mountinfo; unshare --user echo namespace"]
    told = keeper.command([*copy_of_here, *debian.entering(directory, look, "/usr")])
    done = subprocess.run(told, capture_output=True, text=True, timeout=GENEROUS)
    assert done.returncode == 0, done.stderr
    *mounts, last = done.stdout.splitlines()
    assert last == "namespace"
    places = {line.split()[4] for line in mounts}
    assert {"/", "/proc", "/dev", "/run"} <= places
    assert not any(str(directory) in place for place in places)
    assert Path("/proc/self/mountinfo").read_text() == before


def test_the_mirror_is_that_of_the_machines_own_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt = tmp_path / "apt-get"
    lines = "mirror/debian old|mirror/debian old-updates|mirror/security old-security|other odd"
    apt.write_text(f"#!/bin/sh\necho '{lines}' | tr '|' '\\n'\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv(debian.MIRROR, raising=False)
    release = {"ID": "debian", "VERSION_CODENAME": "old"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    assert debian.sources("new") == [
        ("mirror/debian", "new"),
        ("mirror/debian", "new-updates"),
        ("mirror/security", "new-security"),
    ]
    release["ID"] = "other"
    with pytest.raises(debian.CannotMake, match=debian.MIRROR):
        debian.sources("new")
    monkeypatch.setenv(debian.MIRROR, "mine")
    assert debian.sources("new") == [("mine", "new")]


def test_another_debian_that_cannot_be_made_is_lost_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(debian, "missing", lambda: "a moon is missing")
    assert prove.main(["debian13"]) == 1
    assert "debian13: lost: a moon is missing" in capsys.readouterr().out


def test_all_forms_but_those_in_another_debian_run_when_none_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []

    def run(form: Form, settings: object) -> prove.Result:
        ran.append(form.name)
        return prove.Result(form, 1, 0, 0, [])

    monkeypatch.setattr(prove, "run", run)
    assert prove.main([]) == 0
    assert ran == [form.name for form in FORMS if not form.debian]
    assert "debian13" not in ran


def test_a_checkout_is_copied_as_it_is_without_what_git_ignores(tmp_path: Path) -> None:
    needs(None if shutil.which("git") else "git is not installed")
    if subprocess.run(["git", "-C", str(ROOT), "rev-parse"], capture_output=True).returncode:
        pytest.skip("cannot exist here: the checkout's own repository")
    (tmp_path / ".venv").mkdir()
    (tmp_path / "stale.py").touch()
    prove.copy_checkout(tmp_path)
    assert (tmp_path / "dev.py").read_bytes() == (ROOT / "dev.py").read_bytes()
    assert (tmp_path / "tests" / "test_prove.py").exists()
    assert (tmp_path / ".venv").exists()
    assert not (tmp_path / "stale.py").exists()
    assert not list(tmp_path.rglob("__pycache__"))
