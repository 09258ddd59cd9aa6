"""dev.py: which commands install system packages, what is set up again when, and what fix does.

Nothing is really installed: apt-get and dpkg-query are fakes in a PATH that holds nothing else, and
the environments are only asked which commands would make them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import dev
from tests.support.capability import needs

INSTALLING = ("quickstart", "test", "setup")
OTHERS = ("lint", "fix", "bench", "compare", "versus", "prove", "wheels", "docs")
ADMINISTRATOR, USER = 0, 1000

# dev.py, for which the user has the given id, whatever the id is.
AS_USER = """
import os, runpy, sys
user = int(sys.argv[1])
os.geteuid = lambda: user
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# Notes its arguments, and what dev.py has said before.
APT_GET = """#!/bin/sh
PATH=/usr/bin:/bin
echo "$*" >> "$STAGE/calls"
cat "$STAGE/said" >> "$STAGE/said_before"
echo "the network is down"
[ -n "$APT_WORKS" ] || exit 100
case "$*" in *" install "*)
    for program in gcc git node npm curl; do ln -s "$APT_WORKS" "$STAGE/bin/$program"; done
    touch "$STAGE/installed"
esac
"""
DPKG_QUERY = """#!/bin/sh
[ -e "$STAGE/installed" ] || exit 1
for name; do echo "$name installed"; done
"""


class Result(NamedTuple):
    status: int
    said: str
    calls: list[str]  # of apt-get, since the machine was made
    said_before: str  # before these


class Machine:
    """A Debian without a compiler and without what the tests need."""

    def __init__(self, stage: Path) -> None:
        self.stage = stage
        (stage / "bin").mkdir()
        for name in ("calls", "said_before"):
            (stage / name).touch()
        for name, script in (("apt-get", APT_GET), ("dpkg-query", DPKG_QUERY)):
            (stage / "bin" / name).write_text(script)
            (stage / "bin" / name).chmod(0o755)

    def dev(self, command: str, user: int = ADMINISTRATOR, **variables: str) -> Result:
        environment = {
            **{name: value for name, value in os.environ.items() if name not in ("CC", "CI")},
            **{"PATH": str(self.stage / "bin"), "STAGE": str(self.stage)},
            **variables,
        }
        with (self.stage / "said").open("w") as said:
            status = subprocess.run(
                [sys.executable, "-c", AS_USER, str(user), str(dev.ROOT / "dev.py"), command],
                env=environment,
                stdout=said,
                stderr=said,
                timeout=120,
            ).returncode
        texts = {name: (self.stage / name).read_text() for name in ("said", "calls", "said_before")}
        return Result(status, texts["said"], texts["calls"].splitlines(), texts["said_before"])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def real_compiler() -> str:
    path = shutil.which("gcc")
    needs(None if path else "gcc is not installed")
    return path or ""


# ---- system packages ---------------------------------------------------------------------


@pytest.mark.parametrize("command", INSTALLING)
def test_what_will_be_installed_and_how_to_prevent_it_is_said_before(
    machine: Machine, command: str
) -> None:
    result = machine.dev(command)
    assert [call.split()[5] for call in result.calls] == ["update", "install"]
    first = result.said_before.splitlines()[0]
    packages = result.calls[1].partition(" --no-install-recommends ")[2]
    assert packages.startswith("gcc ")
    assert first == f"dev.py: apt-get installs {packages} (MSALEX_NO_APT=1 prevents this)"


@pytest.mark.parametrize("command", OTHERS)
def test_other_commands_install_nothing_and_point_to_setup(machine: Machine, command: str) -> None:
    result = machine.dev(command)
    assert (result.status, result.calls) == (1, [])
    assert result.said.endswith(" missing; run python3 dev.py setup\n")
    assert "gcc" in result.said


@pytest.mark.parametrize("command", INSTALLING)
def test_nothing_is_installed_against_the_will_of_the_administrator(
    machine: Machine, command: str
) -> None:
    result = machine.dev(command, MSALEX_NO_APT="1")
    assert (result.status, result.calls) == (1, [])
    assert result.said.endswith("; run python3 dev.py setup without MSALEX_NO_APT\n")


@pytest.mark.parametrize("command", [*INSTALLING, *OTHERS])
def test_a_user_who_cannot_install_is_told_the_command(machine: Machine, command: str) -> None:
    result = machine.dev(command, USER)
    assert (result.status, result.calls) == (1, [])
    assert "; run this once: sudo apt-get install gcc " in result.said


def test_setup_installs_what_is_missing_once(machine: Machine) -> None:
    result = machine.dev("setup", APT_WORKS=real_compiler())
    assert result.status == 0
    assert result.said.endswith("dev.py: all system packages are here\n")
    assert machine.dev("setup") == (0, "dev.py: all system packages are here\n", *result[2:])


def test_setup_is_not_done_while_a_package_of_the_tests_is_missing(machine: Machine) -> None:
    (machine.stage / "bin" / "gcc").symlink_to(real_compiler())
    result = machine.dev("setup", USER)
    assert (result.status, result.calls) == (1, [])
    assert "dev.py: the tests that need git nodejs npm curl dbus " in result.said
    assert "; run this once: sudo apt-get install git nodejs npm curl dbus " in result.said


def test_words_of_an_apt_get_that_fails_are_shown(machine: Machine) -> None:
    result = machine.dev("setup")
    assert result.status == 1
    assert "\nthe network is down\n" in result.said
    assert "missing; installing system packages failed with status 100: apt-get " in result.said


# ---- environments ------------------------------------------------------------------------

Prepare = Callable[..., list[str]]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that is built from one C file."""
    for name, text in (("pyproject.toml", ""), ("dev.py", ""), ("csrc/one.c", "int one;\n")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def prepare(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """What dev.prepare() runs: "venv", "pip", "group" and the files of the package."""

    def prepare(fails: bool = False, **arguments: bool) -> list[str]:
        done: list[str] = []

        def run(command: Sequence[str], *_: object) -> None:
            what = command[-1]
            if "venv" in command:
                Path(what).mkdir(parents=True, exist_ok=True)
                done.append("venv")
            elif "--group" in command:
                done.append("group")
            elif Path(what).is_dir():
                names = [path.name for path in Path(what).rglob("*") if path.is_file()]
                done.append(" ".join(sorted(names)))
                if fails:
                    raise dev.Failure("it does not compile")
            else:
                done.append("pip")

        monkeypatch.setattr(dev, "run", run)
        try:
            dev.prepare("test", "test", **arguments)
        except dev.Failure:
            done.append("failed")
        return done

    return prepare


def test_a_second_start_installs_nothing(prepare: Prepare) -> None:
    assert prepare() == ["venv", "pip", "group", "one.c pyproject.toml"]
    assert prepare() == []


def test_changed_sources_install_the_package_again(prepare: Prepare, tree: Path) -> None:
    prepare()
    (tree / "csrc" / "two.c").touch()
    assert prepare() == ["one.c pyproject.toml two.c"]
    (tree / "csrc" / "two.c").rename(tree / "csrc" / "three.c")
    assert prepare() == ["one.c pyproject.toml three.c"]
    (tree / "csrc" / "three.c").unlink()
    assert prepare() == ["one.c pyproject.toml"]


@pytest.mark.parametrize("name", ["pyproject.toml", "dev.py"])
def test_changed_tools_make_the_environment_anew(prepare: Prepare, tree: Path, name: str) -> None:
    prepare()
    (tree / name).write_text("# changed\n")
    assert prepare() == ["venv", "pip", "group", "one.c pyproject.toml"]


def test_what_a_build_or_an_editor_left_is_not_built(prepare: Prepare, tree: Path) -> None:
    prepare()
    (tree / "csrc" / "__pycache__").mkdir()
    for name in ("__pycache__/a.pyc", "one.o", "one.so", ".one.c.swp"):
        (tree / "csrc" / name).touch()
    assert prepare() == []


def test_a_package_that_does_not_compile_keeps_the_tools(prepare: Prepare) -> None:
    assert prepare(fails=True)[-1] == "failed"
    assert prepare() == ["one.c pyproject.toml"]


def test_tools_alone_do_not_need_a_package_that_compiles(prepare: Prepare, tree: Path) -> None:
    assert prepare(with_package=False) == ["venv", "pip", "group"]
    assert prepare(with_package=False) == []
    assert prepare() == ["one.c pyproject.toml"]
    (tree / "csrc" / "one.c").write_text("int = one\n")
    assert prepare(with_package=False) == []
    assert prepare() == ["one.c pyproject.toml"]


# ---- formatting --------------------------------------------------------------------------


def test_fix_formats_python_and_c_and_leaves_the_rest_to_people(tree: Path) -> None:
    for name in (".clang-format", "pyproject.toml"):
        shutil.copy(Path(__file__).parents[1] / name, tree)
    (tree / "csrc" / "one.c").write_text("int f(void){return 1;}\n")
    (tree / "module.py").write_text("import sys\nx = ('a')\n")
    dev.fix(Path(sys.executable))
    assert (tree / "csrc" / "one.c").read_text() == "int f(void) {\n    return 1;\n}\n"
    assert (tree / "module.py").read_text() == 'x = "a"\n'

    (tree / "csrc" / "one.c").write_text("int  f;\n")
    (tree / "module.py").write_text("def f():\n    return undefined\n")
    with pytest.raises(dev.Failure, match="ruff check failed"):
        dev.fix(Path(sys.executable))
    assert (tree / "csrc" / "one.c").read_text() == "int f;\n"


def test_lint_points_to_fix_for_c_that_is_not_formatted(tree: Path) -> None:
    for name in (".clang-format", "pyproject.toml"):
        shutil.copy(Path(__file__).parents[1] / name, tree)
    (tree / "csrc" / "one.c").write_text("int  f;\n")
    with pytest.raises(dev.Failure, match=r"clang-format failed .*: run python3 dev.py fix"):
        dev.lint(Path(sys.executable))
    assert (tree / "csrc" / "one.c").read_text() == "int  f;\n"


def test_no_c_file_of_the_tree_is_left_out() -> None:
    folders = {path for path in dev.ROOT.glob("[!.]*") if path.is_dir()}
    own = {path for path in folders if not (path / "pyvenv.cfg").exists()}
    with_c = {path.name for path in own if next(path.rglob("*.[ch]"), None) is not None}
    assert with_c - {"build", "dist"} <= set(dev.C_FOLDERS)
