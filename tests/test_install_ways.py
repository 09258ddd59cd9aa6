"""docs/install.md tells what each way to install gives, and what brings the pure package back.

Each row of its tables is a test here, and each block of its code is run as it stands there, with
another address.  The installers and the packages are the real ones; they see an index on loopback
and nothing else.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
import venv
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest
from packaging.requirements import Requirement

from tests.support import package_index
from tests.support.capability import requires
from tests.support.headless import blocks
from tests.support.package_index import AZ, OURS, PURE, Installers
from tools.release import index

pytestmark = [pytest.mark.slow, requires("fcntl", "venv")]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "install.md"
#: The address on the page that stands for wherever the wheels are.
ANY = "https://packages.example.com/native"
LATER = "1.3.2"
Test = TypeVar("Test", bound=Callable[..., None])
#: The blocks of the page, in their order.
SH = dict(
    zip(
        (
            *("pip", "pip and the index", "an environment that exists", "all that comes later"),
            *("hashes", "uv pip", "az", "pipx", "doctor", "version", "mend", "back"),
        ),
        blocks("sh", PAGE),
        strict=True,
    )
)
TOML = dict(zip(("uv", "uv and an address", "poetry"), blocks("toml", PAGE), strict=True))


class Row(NamedTuple):
    """A row of the tables of the page, and the test that tries it."""

    tool: str
    written: str
    given: str


ROWS: list[Row] = []


def row(tool: str, written: str, given: str) -> Callable[[Test], Test]:
    """Marks the test of a row."""
    ROWS.append(Row(tool, written, given))
    return lambda test: test


class World(NamedTuple):
    """The indexes, and who installs from them."""

    native: str  #: the address of ours
    later: Mapping[str, str]  #: variables of a day on which a pure 1.3.2 is out
    constraints: str  #: the text of constraints.txt
    installers: Installers


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("index")
    site, public = directory / "site", package_index.public_wheels()
    index.write_simple(public, site / "public")
    index.write_simple([*public, package_index.published_later(directory, LATER)], site / "later")
    with package_index.serving(site) as url:
        native = f"{url}/native"
        ours = package_index.our_wheel(directory)
        index.write([ours, *neighbors(ours)], site / "native", native)
        later = dict.fromkeys(("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), f"{url}/later/simple/")
        constraints = (site / "native" / "constraints.txt").read_text()
        installers = Installers(directory, f"{url}/public")
        yield World(native, later, constraints, installers)


def neighbors(wheel: Path) -> Iterator[Path]:
    """Wheels of the same release for other Pythons and systems, as far as an installer sees them.

    Each is ours under another name: to install it would be an error of the installer.
    """
    name, version, _, _, platform_tag = wheel.stem.split("-")
    musl = re.sub(r"^[a-z0-9]*linux(_\d+_\d+)?", "musllinux_1_2", platform_tag.split(".")[0])
    for tags in (
        "cp310-abi3-win_amd64",
        "cp310-abi3-macosx_11_0_arm64",
        f"cp310-abi3-{musl}",
        f"cp315-abi3.abi3t-{platform_tag}",
        f"pp311-pypy311_pp73-{platform_tag}",
    ):
        if not wheel.stem.endswith(tags):
            yield Path(shutil.copy(wheel, wheel.with_name(f"{name}-{version}-{tags}.whl")))


class Project:
    """A directory with a virtual environment, in which a person types what the page says."""

    def __init__(self, directory: Path, world: World) -> None:
        self.directory, self.world = directory, world
        directory.mkdir(exist_ok=True)
        venv.create(directory / ".venv")

    def fails(self, script: str, variables: Mapping[str, str] | None = None) -> str:
        """Runs lines that end with an error; returns what they print."""
        done = self.world.installers.run(self.here(script), self.directory, variables)
        assert done.returncode != 0, done.stdout
        return done.stdout

    def run(self, script: str, variables: Mapping[str, str] | None = None) -> str:
        done = self.world.installers.run(self.here(script), self.directory, variables)
        assert done.returncode == 0, done.stdout
        return done.stdout

    @property
    def site_packages(self) -> Path:
        [found] = self.directory.glob(".venv/lib/python*/site-packages")
        return found

    def unpack(self, wheel: Path) -> None:
        """Puts the files of a wheel over what is there, as a tool does that knows of no other."""
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                # uv has the same file in its cache: write another one.
                (self.site_packages / name).unlink(missing_ok=True)
                archive.extract(name, self.site_packages)

    def here(self, text: str) -> str:
        return text.replace(ANY, self.world.native)

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(self.here(text))

    @property
    def active(self) -> str:
        """The version of what a program imports, by the line that the page has for that."""
        return self.run(SH["version"]).strip()

    def is_ours(self) -> bool:
        """Whether ours runs, and doctor has nothing to say against the installation."""
        if self.active != OURS:
            return False
        done = self.world.installers.run(
            "python -m msal_extensions doctor --json", self.directory, {"HOME": str(self.directory)}
        )
        told = json.loads(done.stdout)
        references = {finding["reference"] for finding in told["findings"]}
        assert not references & {"MSX-70", "MSX-71", "MSX-72"}, done.stdout
        return bool(told["installation"]["is_native"])

    def is_pure(self, version: str = PURE) -> bool:
        """Whether the pure one runs.  There is nothing that says so but the lack of our command."""
        if self.active != version:
            return False
        assert "No module named msal_extensions.__main__" in self.fails(SH["doctor"])
        return True


@pytest.fixture
def project(tmp_path: Path, world: World) -> Project:
    return Project(tmp_path / "project", world)


@pytest.fixture
def with_ours(project: Project) -> Project:
    """A project that has ours and azure-identity."""
    project.run(SH["uv pip"])
    assert project.active == OURS
    return project


def lines_of(world: World, digest: str | None = None) -> list[str]:
    """The lines of constraints.txt that have an address; with another hash if one is given."""
    text = re.sub(r"(?<=sha256=)\w+", digest or r"\g<0>", world.constraints)
    found = [line for line in text.splitlines() if " @ " in line and line[0] != "#"]
    assert len(found) > 2
    return found


def line_of(world: World, digest: str | None = None) -> str:
    """The one for this platform."""
    markers = {line: Requirement(line).marker for line in lines_of(world, digest)}
    [line] = [line for line, marker in markers.items() if marker and marker.evaluate()]
    return line


def without(text: str, part: str, instead: str = "") -> str:
    """The text with a part replaced that has to be there."""
    assert part in text
    return text.replace(part, instead)


# ---- pip ----


@row("pip", "`-c constraints.txt`", "ours, hash checked")
def test_pip_with_the_constraints_takes_ours(project: Project) -> None:
    install, doctor = SH["pip"].splitlines()
    assert f"azure-identity\n{doctor}" in SH["pip"]
    # azure-cli-core asks for ==1.3.1, which is harder than what azure-identity asks for.
    project.run(f"{install} {AZ}")
    said = project.world.installers.run(doctor, project.directory).stdout
    assert said.startswith(f"msal-extensions {OURS} (native)")
    assert project.is_ours()


@row("pip", "the same, where 1.3.1 is installed already", "ours, hash checked")
def test_pip_with_the_constraints_replaces_the_pure_one(project: Project) -> None:
    project.run(f"uv pip install {AZ}")
    assert project.is_pure()
    project.run(SH["an environment that exists"])
    assert project.is_ours()


@row("pip", "the same, and the wheel has another hash", "an error")
def test_pip_refuses_a_wheel_with_another_hash(project: Project) -> None:
    right = line_of(project.world)
    project.write("constraints.txt", line_of(project.world, "0" * 64))
    said = project.fails("pip install -c constraints.txt azure-identity")
    assert "DO NOT MATCH THE HASHES" in said
    project.write("constraints.txt", right)  # it was the hash
    project.run("pip install --no-deps -c constraints.txt msal-extensions")


@row("pip", "the same, on a platform without a line there", "an error")
def test_pip_takes_nothing_where_no_line_fits(project: Project) -> None:
    other = without(project.world.constraints, "platform_machine == '", "platform_machine == 'no")
    project.write("constraints.txt", other)
    said = project.fails("pip install -c constraints.txt azure-identity")
    assert f"(constraint) msal-extensions=={OURS}" in said
    # It is the line without a marker that prevents the pure one.
    project.write("constraints.txt", without(other, f"\nmsal-extensions=={OURS}\n", "\n"))
    project.run("pip install --no-deps -c constraints.txt msal-extensions")
    assert project.run("pip list").count(PURE) == project.run("pip list").count(f"{PURE}\n") == 1


EXTRA = f"--extra-index-url {ANY}/simple/"


@row("pip", "`--extra-index-url`", "ours")
def test_pip_with_both_indexes_takes_ours(project: Project) -> None:
    assert EXTRA in SH["pip and the index"]
    project.run(f"pip install {EXTRA} {AZ}")
    assert project.is_ours()


@row("pip", "the same, when 1.3.2 is out", "**pure**")
def test_pip_with_both_indexes_takes_a_later_pure_one(project: Project) -> None:
    project.run(f"pip install {EXTRA} azure-identity", project.world.later)
    assert project.is_pure(LATER)


@row("pip", "`--extra-index-url` and `-c` with `==1.3.1+native1`", "ours, also when 1.3.2 is out")
def test_pip_with_both_indexes_and_our_version_takes_ours(project: Project) -> None:
    project.run(SH["pip and the index"], project.world.later)
    assert project.is_ours()


@row("pip", "requirements with hashes", "ours, hash checked")
def test_pip_with_hashed_requirements_takes_ours(project: Project) -> None:
    project.run(SH["hashes"])
    assert project.is_ours()
    [right] = re.findall(r"sha256=(\w+)", line_of(project.world))
    requirements = (project.directory / "requirements.txt").read_text()
    project.write("requirements.txt", without(requirements, right, "0" * 64))
    again = "pip install --require-hashes --no-deps --force-reinstall -r requirements.txt"
    assert "DO NOT MATCH THE HASHES" in project.fails(again)


# ---- pip, later ----

UPGRADES = (
    "pip install -U azure-identity",
    "pip install -U msal-extensions",
    "pip install -U --upgrade-strategy eager azure-identity",
    "pip install --force-reinstall --no-deps msal-extensions",
)


@row("pip", "`install -U azure-identity`", "ours stays")
def test_an_upgrade_of_what_needs_it_leaves_ours(with_ours: Project) -> None:
    with_ours.run(UPGRADES[0])
    with_ours.run(UPGRADES[0], with_ours.world.later)
    assert with_ours.is_ours()


@row(
    "pip",
    "`install -U msal-extensions`",
    "ours stays, until 1.3.2 is out: then **pure**",
)
def test_an_upgrade_brings_a_later_pure_one(with_ours: Project) -> None:
    with_ours.run(UPGRADES[1])
    assert with_ours.is_ours()
    with_ours.run(UPGRADES[1], with_ours.world.later)
    assert with_ours.is_pure(LATER)


@row(
    "pip",
    "`install -U --upgrade-strategy eager azure-identity`",
    "the same: **pure** when 1.3.2 is out",
)
def test_an_upgrade_of_everything_brings_a_later_pure_one(with_ours: Project) -> None:
    with_ours.run(UPGRADES[2])
    assert with_ours.is_ours()
    with_ours.run(UPGRADES[2], with_ours.world.later)
    assert with_ours.is_pure(LATER)


@row("pip", "`install --force-reinstall` of it", "**pure**")
def test_to_install_it_again_brings_the_pure_one(with_ours: Project) -> None:
    with_ours.run(UPGRADES[3])
    assert with_ours.is_pure()


@row("pip", "any of these four with `PIP_CONSTRAINT` set", "ours stays")
def test_with_the_constraint_in_the_environment_ours_stays(with_ours: Project) -> None:
    export, upgrade = SH["all that comes later"].splitlines()
    assert upgrade == UPGRADES[0]
    for command in UPGRADES:
        with_ours.run(f"{export}\n{command}", with_ours.world.later)
        assert with_ours.active == OURS
    assert with_ours.is_ours()


@row(
    "pip",
    "a package of another name with the same files",
    "**pure**; to remove either breaks both",
)
def test_a_package_of_another_name_overwrites_ours(with_ours: Project) -> None:
    wheel = package_index.under_another_name(with_ours.directory, "msal-extensions-pure")
    with_ours.run(f"pip install --no-deps {wheel}")
    assert with_ours.active == PURE
    said = with_ours.fails(SH["doctor"])  # ours is still there
    assert "[MSX-71]" in said
    assert "msal-extensions-pure" in said
    with_ours.run("pip uninstall -y msal-extensions-pure")
    with_ours.fails(SH["version"])
    with_ours.run(SH["mend"])
    assert with_ours.is_ours()


@row("pip", '`install "msal-extensions===1.3.1"`', "pure, as you asked")
def test_three_equals_signs_bring_the_pure_one_back(with_ours: Project) -> None:
    with_ours.run('pip install "msal-extensions==1.3.1"')
    assert with_ours.is_ours()
    with_ours.run(SH["back"])
    assert with_ours.is_pure()


# ---- uv ----


def uv_project(project: Project, text: str) -> None:
    """Writes a project of the page, for this platform alone: the index has no wheels of others."""
    version = ".".join(map(str, sys.version_info[:2]))
    here = [
        f"sys_platform == '{sys.platform}' and platform_machine == '{platform.machine()}'",
        f"python_version == '{version}'",
        f"platform_python_implementation == '{platform.python_implementation()}'",
    ]
    only = f'environments = ["{" and ".join(here)}"]'
    text = without(text, 'dependencies = ["azure-identity"', f'dependencies = ["{AZ}"')
    project.write("pyproject.toml", without(text, "[tool.uv]\n", f"[tool.uv]\n{only}\n"))


CONSTRAINT = 'constraint-dependencies = ["msal-extensions==1.3.1+native1"]\n'


@row("uv", "explicit index and `sources`", "**pure**")
def test_uv_sources_do_not_reach_what_others_ask_for(project: Project) -> None:
    uv_project(project, without(TOML["uv"], CONSTRAINT))
    project.run("uv sync")
    assert project.is_pure()


UV_WAYS: dict[str, Callable[[str], str]] = {
    "and `constraint-dependencies`": lambda text: text,
    "and `msal-extensions` in `dependencies`": lambda text: without(
        without(text, CONSTRAINT), '-identity"]', f'-identity", "msal-extensions=={OURS}"]'
    ),
    "and `override-dependencies`": lambda text: without(text, "constraint-dep", "override-dep"),
}
OURS_LATER = "ours, also when 1.3.2 is out"


@row("uv", "the same and `constraint-dependencies`", OURS_LATER)
@row("uv", "the same and `msal-extensions` in `dependencies`", OURS_LATER)
@row("uv", "the same and `override-dependencies`", OURS_LATER)
@pytest.mark.parametrize("way", UV_WAYS)
def test_uv_takes_ours_from_the_index(way: str, project: Project) -> None:
    uv_project(project, UV_WAYS[way](TOML["uv"]))
    project.run("uv sync")
    assert project.is_ours()
    project.run("uv sync -U", project.world.later)
    assert project.active == OURS


@row("uv", "`override-dependencies` with an address", "ours, hash checked")
def test_uv_takes_ours_from_an_address(project: Project) -> None:
    [shown] = re.findall(r'^ +"(msal-extensions @ .*)",$', TOML["uv and an address"], re.MULTILINE)
    text = TOML["uv and an address"]
    uv_project(project, without(text, shown, line_of(project.world, "0" * 64)))
    assert "Hash mismatch" in project.fails("uv sync")
    every = '",\n    "'.join(lines_of(project.world))
    for lines in (every, line_of(project.world)):
        (project.directory / "uv.lock").unlink(missing_ok=True)
        uv_project(project, without(text, shown, lines))
        project.run("uv sync")
    assert project.is_ours()


@row("uv", "an index that is not explicit", OURS_LATER)
def test_uv_takes_ours_from_an_index_that_comes_first(project: Project) -> None:
    sources = '[tool.uv.sources]\nmsal-extensions = { index = "native" }\n'
    text = without(without(TOML["uv"], sources), "explicit = true\n")
    uv_project(project, without(text, CONSTRAINT))
    project.run("uv sync")
    assert project.is_ours()
    project.run("uv sync -U", project.world.later)
    assert project.active == OURS


@row("uv", "`uv pip install -c constraints.txt`", "ours, hash checked")
def test_uv_pip_with_the_constraints_takes_ours(project: Project) -> None:
    project.write("constraints.txt", line_of(project.world, "0" * 64))
    said = project.fails("uv pip install -c constraints.txt azure-identity")
    assert "Hash mismatch" in said
    project.run(f"{SH['uv pip'].rstrip()} {AZ}")
    assert project.is_ours()


@row("uv", "`uv pip install --index`", OURS_LATER)
def test_uv_pip_with_our_index_takes_ours(project: Project) -> None:
    project.run(f"uv pip install --index {ANY}/simple/ azure-identity", project.world.later)
    assert project.is_ours()


# ---- Poetry ----


def poetry_project(project: Project, text: str) -> None:
    """Writes a project of the page; the index of the test is in the place of the usual one, and has
    no packages for other Pythons."""
    public = project.world.installers.environment["PIP_INDEX_URL"]
    source = f'[[tool.poetry.source]]\nname = "public"\nurl = "{public}"\npriority = "primary"\n'
    minor = sys.version_info.minor
    text = without(text, '">=3.10"', f'">=3.{minor},<3.{minor + 1}"')
    project.write("pyproject.toml", f"{text}\n{source}")


NAMED = f', "msal-extensions=={OURS}"'
SOURCE = 'msal-extensions = { source = "native" }'


@row("Poetry", "explicit source, named in `tool.poetry.dependencies` only", "**pure**")
def test_poetry_takes_the_pure_one_if_only_the_source_is_given(project: Project) -> None:
    text = without(TOML["poetry"], SOURCE, f'{SOURCE[:-1]}, version = "{OURS}" }}')
    poetry_project(project, without(text, NAMED))
    project.run("poetry install")
    assert project.is_pure()


@row("Poetry", "the same, named in `project.dependencies` as well", "ours")
def test_poetry_takes_ours_if_it_is_named_and_the_source_given(project: Project) -> None:
    poetry_project(project, TOML["poetry"])
    project.run("poetry install")
    assert project.is_ours()
    [digest] = re.findall(r"sha256=(\w+)", line_of(project.world))
    assert digest in (project.directory / "poetry.lock").read_text()


@row("Poetry", "source that is supplemental", "**pure**")
def test_poetry_does_not_look_at_a_supplemental_source(project: Project) -> None:
    text = without(TOML["poetry"], f"[tool.poetry.dependencies]\n{SOURCE}\n")
    text = without(without(text, NAMED), '"explicit"', '"supplemental"')
    poetry_project(project, text)
    project.run("poetry install")
    assert project.is_pure()


@row("Poetry", "an address", "ours")
def test_poetry_takes_ours_from_an_address(project: Project) -> None:
    text = without(TOML["poetry"], f"[tool.poetry.dependencies]\n{SOURCE}\n")
    address = line_of(project.world).partition(" ; ")[0]
    poetry_project(project, without(text, f"msal-extensions=={OURS}", address))
    project.run("poetry install")
    assert project.is_ours()


# ---- az and pipx ----


@row("pipx", "`runpip` with `-c constraints.txt`", "ours, hash checked")
def test_pipx_takes_ours_into_the_environment_of_a_program(project: Project) -> None:
    # az itself, azure-cli, has a hundred requirements.  These are the places where it has its own.
    home = str(project.directory / "pipx")
    variables = {"PIPX_HOME": home, "PIPX_BIN_DIR": str(project.directory / "bin")}
    project.run(f"pipx install --include-deps {AZ}", variables)
    (project.directory / ".venv").rename(project.directory / "another")
    (project.directory / ".venv").symlink_to(f"{home}/venvs/azure-cli-core")
    assert project.is_pure()
    project.run(without(SH["pipx"], " azure-cli ", " azure-cli-core "), variables)
    assert project.is_ours()


def test_the_python_of_az_takes_ours_also_after_an_update_of_az(project: Project) -> None:
    project.run(f"uv pip install {AZ} pip")
    lines = without(SH["az"], "/opt/az/bin/python3", "python")
    install, doctor = lines.removesuffix("\n").rsplit("\n", 1)
    assert project.is_pure()
    project.run(install)
    assert project.is_ours()
    project.unpack(package_index.pure_wheel())
    assert project.active == PURE
    assert "[MSX-71]" in project.fails(doctor)
    project.run(install)
    assert project.is_ours()


def test_files_of_the_pure_package_over_ours_are_told_and_mended(with_ours: Project) -> None:
    with_ours.unpack(package_index.pure_wheel())
    # pip believes that nothing has to be done.
    with_ours.run(SH["an environment that exists"])
    assert with_ours.active == PURE
    assert "[MSX-71]" in with_ours.fails(SH["doctor"])
    with_ours.run(SH["mend"])
    assert with_ours.is_ours()


def test_pip_with_target_says_that_ours_is_there_and_leaves_the_pure_one(project: Project) -> None:
    project.run("uv pip install azure-identity")
    target = f"pip install --no-deps --target {project.site_packages}"
    constraint, name = SH["an environment that exists"].split()[2:4], "msal-extensions"
    said = project.run(f"{target} {' '.join(constraint)} {name}")
    assert f"Successfully installed msal-extensions-{OURS}" in said
    assert project.is_pure()
    project.run(f"{target} --upgrade {' '.join(constraint)} {name}")
    assert project.active == OURS


# ---- the page ----


def test_the_tables_of_the_page_have_the_rows_that_are_tried_here() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [[it.strip() for it in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    tools = {each.tool for each in ROWS}
    told = [Row(*it) for it in cells if it[0] in tools]
    assert sorted(told) == sorted(ROWS)


def test_each_block_of_the_page_is_run() -> None:
    code = Path(__file__).read_text(encoding="utf-8").replace("'", '"')
    assert [name for name in SH if f'SH["{name}"]' not in code] == []
    assert [name for name in TOML if f'TOML["{name}"]' not in code] == []


def test_the_page_speaks_of_the_installers_that_are_tried() -> None:
    text = PAGE.read_text(encoding="utf-8").lower()
    for installer in (package_index.PIP, package_index.UV, package_index.POETRY):
        assert installer.replace("==", " ") in text
