"""wheels.yml is a valid pipeline, and builds exactly the wheels that we publish.

Which those are, and what tries each, is in tools/release/selection.py.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.support import smoke
from tests.support.capability import FILE_MODES, cannot_exist_here, needs, requires
from tools.release.selection import ALL, BY_QEMU, DOCKER, IN_A_DISTRIBUTION, SELECTED, UNTRIED

needs_posix = requires(FILE_MODES)
ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "tools" / "release" / "requirements"
#: cibuildwheel as on a machine with the processor that comes next.
CIBUILDWHEEL_ON = (
    "import platform, runpy, sys; platform.machine = lambda machine=sys.argv.pop(1): machine;"
    "runpy.run_module('cibuildwheel', run_name='__main__')"
)


def configuration() -> dict[str, Any]:
    if sys.version_info < (3, 11):
        cannot_exist_here("tomllib in Python 3.10")
    tomllib = importlib.import_module("tomllib")
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    chosen: dict[str, Any] = told["tool"]["cibuildwheel"]
    return chosen


def pipeline() -> dict[str, Any]:
    needs(None if importlib.util.find_spec("ruamel") else "ruamel.yaml is not installed")
    from ruamel.yaml import YAML

    loaded: dict[str, Any] = YAML(typ="safe").load(ROOT / "wheels.yml")
    return loaded


def jobs() -> dict[str, dict[str, Any]]:
    """The jobs by name; a job that is there under a condition only has the condition, too."""
    found = {}
    for entry in pipeline()["jobs"]:
        [(condition, inner)] = entry.items() if len(entry) == 1 else [("", [entry])]
        for job in inner:
            found[job.get("job") or job["deployment"]] = {**job, "if": condition}
    return found


def steps_of(job: dict[str, Any]) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]]
    steps = job["strategy"]["runOnce"]["deploy"]["steps"] if "deployment" in job else job["steps"]
    return steps


def scripts(job: dict[str, Any]) -> list[str]:
    found = []
    for step in steps_of(job):
        inputs = step.get("inputs", {})
        found += [text for text in (step.get("script"), step.get("bash")) if text]
        found += [inputs["inlineScript"]] if "inlineScript" in inputs else []
    return found


def selected(platform: str, machine: str, *options: str) -> set[str]:
    """What cibuildwheel would build on a machine with that processor."""
    if sys.version_info < (3, 11):
        cannot_exist_here("cibuildwheel 4 on Python 3.10")
    needs(None if importlib.util.find_spec("cibuildwheel") else "cibuildwheel is not installed")
    done = subprocess.run(
        [
            *(sys.executable, "-c", CIBUILDWHEEL_ON, machine, "--print-build-identifiers"),
            *("--platform", platform, *options, ROOT),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def fits(selector: str, identifier: str) -> bool:
    """Does cibuildwheel find that this selector means this wheel?"""
    from cibuildwheel.selector import selector_matches

    return bool(selector_matches(selector, identifier))


def those(selectors: Iterable[str]) -> set[str]:
    """The wheels that these select."""
    return {name for name in ALL if any(fits(one, name) for one in selectors)}


def test_pipeline_is_one_that_the_service_accepts() -> None:
    needs(
        None
        if importlib.util.find_spec("check_jsonschema")
        else "check-jsonschema is not installed"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema", ROOT / "wheels.yml"),
            *("--builtin-schema", "vendor.azure-pipelines"),
            *("--data-transform", "azure-pipelines", "--regex-variant", "nonunicode"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("platform", "architecture"), SELECTED)
def test_configuration_selects_the_wheels_we_mean(platform: str, architecture: str) -> None:
    machine = architecture if platform == "macos" else "x86_64"
    built = selected(platform, machine, "--archs", architecture)
    assert built == SELECTED[platform, architecture]


@pytest.mark.parametrize("machine", ["arm64", "x86_64"])
def test_a_mac_builds_only_for_the_processor_that_it_has(machine: str) -> None:
    assert selected("macos", machine) == SELECTED["macos", machine]


def test_each_selector_means_a_wheel() -> None:
    """cibuildwheel is content with one that means none."""
    chosen = configuration()
    needs(None if importlib.util.find_spec("cibuildwheel") else "cibuildwheel is not installed")
    overridden = [one for each in chosen["overrides"] for one in each["select"]]
    for selector in (*chosen["build"], *chosen["test-skip"], *overridden):
        assert those([selector]), selector
    assert not those(chosen["skip"])
    assert not those(["cp399-*"])


def test_cibuildwheel_tries_all_wheels_but_those_that_another_tries_or_nobody_can() -> None:
    chosen = configuration()
    needs(None if importlib.util.find_spec("cibuildwheel") else "cibuildwheel is not installed")
    assert those(chosen["test-skip"]) == UNTRIED | IN_A_DISTRIBUTION
    assert not UNTRIED & IN_A_DISTRIBUTION


def test_only_a_machine_that_takes_no_hours_runs_more_than_the_smoke_test() -> None:
    """musl, free-threaded and PyPy: what no other test of this repository runs on."""
    chosen = configuration()
    needs(None if importlib.util.find_spec("cibuildwheel") else "cibuildwheel is not installed")
    [more] = [each for each in chosen["overrides"] if "test-command" in each]
    selected_ = those(more["select"])
    x86_64 = SELECTED["linux", "x86_64"]
    assert x86_64 - selected_ == {"cp310-manylinux_x86_64"}  # the suite itself runs on that
    assert selected_ - x86_64 == {"cp314t-win_amd64", "cp315t-win_amd64"}
    first, tests = more["test-command"]
    assert first == chosen["test-command"]
    files = re.findall(r"\{project\}/(\S+\.py)", tests)
    assert len(files) == 8
    assert [name for name in files if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("enabled", [False, True])
def test_a_free_threaded_python_that_loses_its_freedom_by_us_fails_the_smoke_test(
    enabled: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": 1}.get)
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: enabled, raising=False)
    if enabled:
        with pytest.raises(AssertionError, match="switched the GIL on"):
            smoke.main()
    else:
        smoke.main()
    assert ("works on" in capsys.readouterr().out) == (not enabled)


def test_each_leg_of_linux_builds_for_one_processor_and_all_are_built() -> None:
    legs = jobs()["linux"]["strategy"]["matrix"]
    assert {leg["architecture"] for leg in legs.values()} == set(configuration()["linux"]["archs"])
    assert {("linux", leg["architecture"]) for leg in legs.values()} == {
        key for key in SELECTED if key[0] == "linux"
    }
    assert len(legs) == 7


def test_qemu_stands_in_for_the_processors_that_the_pool_does_not_have() -> None:
    legs = jobs()["linux"]["strategy"]["matrix"].values()
    assert {leg["architecture"] for leg in legs if leg.get("emulated") == "true"} == BY_QEMU


def test_what_cibuildwheel_cannot_try_on_linux_is_tried_in_a_distribution() -> None:
    legs = jobs()["linux"]["strategy"]["matrix"].values()
    by_docker = {
        leg["architecture"]: leg["dockerPlatform"] for leg in legs if "dockerPlatform" in leg
    }
    assert by_docker == DOCKER
    built = set().union(*(SELECTED["linux", machine] for machine in by_docker))
    of_most = {name for name in built if name.startswith("cp310-")}  # what the script takes
    assert of_most >= IN_A_DISTRIBUTION
    assert built - of_most == {f"{python}-manylinux_ppc64le" for python in ("cp314t", "cp315t")}


def test_windows_builds_and_tries_for_the_processors_that_it_runs() -> None:
    archs = configuration()["windows"]["archs"]
    built = set().union(*(SELECTED["windows", one] for one in archs))
    assert built == {name for name in ALL if "-win" in name}
    assert built & UNTRIED == SELECTED["windows", "ARM64"]


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_the_wheels_of_a_mac_are_published_only_by_the_script_that_tried_them(
    architecture: str,
) -> None:
    job = jobs()[f"macos_{architecture}"]
    told = (
        f'python3 tests/macos/wheels_on_a_mac.py {architecture} "$(Build.ArtifactStagingDirectory)"'
    )
    assert scripts(job) == [told]
    published = {step["artifact"]: step for step in job["steps"] if "publish" in step}
    assert set(published) == {
        f"wheels-macos-{architecture}",
        f"not-to-be-published-macos-{architecture}",
    }
    # Without a condition a step runs only after the success of those before it.
    assert "condition" not in published[f"wheels-macos-{architecture}"]


# ---- the release -------------------------------------------------------------------------


def test_a_release_waits_for_every_other_job() -> None:
    found = jobs()
    assert set(found["release"]["dependsOn"]) == found.keys() - {"release", "publish"}
    assert found["release"].get("condition") is None  # so all have to succeed


def test_only_a_tag_is_published_and_only_after_a_person_approved() -> None:
    """The approval belongs to the environment: the service asks for it, and no file can drop it."""
    publish = jobs()["publish"]
    assert publish["dependsOn"] == "release"
    assert publish["environment"] == "msal-extensions-index"
    only = "and(succeeded(), startsWith(variables['Build.SourceBranch'], 'refs/tags/v'))"
    assert publish["condition"] == only
    assert "serviceConnection" in publish["if"]
    [script] = [text for text in scripts(publish) if "az storage" in text]
    assert '--tag "$BUILD_SOURCEBRANCHNAME"' in script
    assert script.index('upload "msal_extensions-*"') < script.index('upload "simple/*"')


def test_files_that_failed_somewhere_are_not_taken_for_a_release() -> None:
    patterns = [
        step["inputs"]["itemPattern"].split()
        for step in steps_of(jobs()["release"])
        if "itemPattern" in step.get("inputs", {})
    ]
    assert patterns == [["wheels-*/*.whl", "sdist/*.tar.gz"]]
    artifacts = [
        (step["artifact"], step.get("condition"))
        for job in jobs().values()
        for step in steps_of(job)
        if "publish" in step
    ]
    for name, condition in artifacts:
        assert name.startswith("not-to-be-published") == (condition == "failed()"), name


# ---- what it installs --------------------------------------------------------------------


def test_the_pipeline_installs_nothing_without_a_hash() -> None:
    commands = [
        line
        for job in jobs().values()
        for script in scripts(job)
        for line in script.splitlines()
        if "pip install" in line
    ]
    assert len(commands) >= 6
    for line in commands:
        own_wheel = line.endswith('pip install --no-deps "%%w" || exit /b 1')
        assert own_wheel or "--require-hashes" in line, line


def pinned(name: str) -> list[tuple[Requirement, list[str]]]:
    """Each requirement of a list, with its hashes."""
    text = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        requirement, *hashes = line.split("--hash=sha256:")
        found.append((Requirement(requirement.strip()), [h.strip() for h in hashes]))
    return found


def asked(name: str) -> list[Requirement]:
    """What a list has to hold at least."""
    lines = (REQUIREMENTS / f"{name}.in").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and line[0] != "#"]


LISTS = ["wheels", "files", "mac", "build", "msal"]


@pytest.mark.parametrize("name", LISTS)
def test_each_list_of_requirements_has_a_hash_for_each_version_that_it_names(name: str) -> None:
    versions: dict[str, list[str]] = {}
    for requirement, hashes in pinned(name):
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes), requirement
        versions.setdefault(requirement.name, []).append(str(requirement.specifier)[2:])
    for wanted in asked(name):
        assert any(wanted.specifier.contains(one) for one in versions[wanted.name]), wanted


def test_there_is_no_other_list_and_each_is_made_from_one_beside_it() -> None:
    assert {path.name for path in REQUIREMENTS.iterdir()} == {
        f"{name}.{ending}" for name in LISTS for ending in ("in", "txt")
    }


def test_what_compiles_the_wheels_is_pinned_by_hash_on_each_system() -> None:
    chosen = configuration()
    assert chosen["build-frontend"] == "pip"  # the frontend that knows the variable
    told = chosen["linux"]["environment"]["PIP_BUILD_CONSTRAINT"]
    assert ROOT / told.removeprefix("/project/") == REQUIREMENTS / "build.txt"
    [windows] = [text for text in scripts(jobs()["windows"]) if "cibuildwheel --platform" in text]
    assert "export PIP_BUILD_CONSTRAINT=" in windows
    assert "tools/release/requirements/build.txt" in windows
    [sdist] = [text for text in scripts(jobs()["sdist"]) if "-m build" in text]
    assert "--dependency-constraints-txt tools/release/requirements/build.txt" in sdist


def test_the_lists_hold_what_pyproject_asks_for() -> None:
    if sys.version_info < (3, 11):
        cannot_exist_here("tomllib in Python 3.10")
    project = importlib.import_module("tomllib").loads((ROOT / "pyproject.toml").read_text("utf-8"))
    build = {requirement.name: str(requirement.specifier)[2:] for requirement, _ in pinned("build")}
    for line in project["build-system"]["requires"]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(build[wanted.name]), line
    mac = {requirement.name: str(requirement.specifier)[2:] for requirement, _ in pinned("mac")}
    for line in (*project["project"]["dependencies"], *project["dependency-groups"]["mac"]):
        wanted = Requirement(line)
        assert wanted.specifier.contains(mac[wanted.name]), line
    assert {one.name for one in asked("wheels")} <= {
        Requirement(line).name for line in project["dependency-groups"]["wheels"]
    }


def test_the_scripts_of_the_pipeline_are_ones_that_bash_can_read(tmp_path: Path) -> None:
    needs(None if shutil.which("bash") else "bash is not installed")
    found = [
        step.get("bash") or step["inputs"]["inlineScript"]
        for job in jobs().values()
        for step in steps_of(job)
        if "bash" in step or "inlineScript" in step.get("inputs", {})
    ]
    assert len(found) == 7
    for text in found:
        assert text.startswith("set -euo pipefail\n")
        done = subprocess.run(
            ["bash", "-n"], input=text, text=True, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr


# ---- its scripts, run with other programs in place of the real ones ---------------------

#: Writes down how it was called.
RECORDER = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
"""


class Stage:
    """Runs scripts of the pipeline; the programs in it write down how they were called."""

    def __init__(self, directory: Path, **programs: str) -> None:
        needs(None if shutil.which("bash") else "bash is not installed")
        self.directory = directory
        self.calls = directory / "calls"
        (directory / "bin").mkdir()
        for name, does in programs.items():
            path = directory / "bin" / name
            path.write_text(RECORDER + does, encoding="utf-8")
            path.chmod(0o700)

    def run(self, script: str, **variables: str) -> tuple[int, list[str]]:
        self.calls.write_text("", encoding="utf-8")
        path = f"{self.directory / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        env = {**os.environ, "PATH": path, "CALLS": str(self.calls), **variables}
        command = ["bash", "--noprofile", "--norc", "-c", script]
        done = subprocess.run(
            command, cwd=self.directory, env=env, capture_output=True, text=True, timeout=60
        )
        return done.returncode, self.calls.read_text(encoding="utf-8").splitlines()


def script_with(job: str, words: str) -> str:
    [found] = [script for script in scripts(jobs()[job]) if words in script]
    return found


@needs_posix
def test_each_wheel_is_tried_in_the_distribution_with_its_c_library(tmp_path: Path) -> None:
    stage = Stage(tmp_path, docker="")
    dist = tmp_path / "dist"
    dist.mkdir()
    for platform in ("manylinux_2_28_s390x", "musllinux_1_2_s390x"):
        (dist / f"x-1-cp310-abi3-{platform}.whl").touch()
    variables = {
        "BUILD_ARTIFACTSTAGINGDIRECTORY": str(dist),
        "DOCKERPLATFORM": DOCKER["s390x"],
    }
    script = script_with("linux", "docker run")
    status, calls = stage.run(script, **variables)
    assert status == 0
    for call, image, platform in zip(
        calls, ("debian:", "alpine:"), ("manylinux_2_28", "musllinux_1_2"), strict=True
    ):
        assert call.startswith("docker run --rm --platform linux/s390x ")
        assert f" {image}" in call
        assert call.endswith(f" /dist/x-1-cp310-abi3-{platform}_s390x.whl")
    (dist / "x-1-cp314-cp314t-manylinux_2_28_s390x.whl").touch()  # no distribution has this Python
    assert stage.run(script, **variables)[1] == calls
    (dist / "x-1-cp310-abi3-linux_s390x.whl").touch()
    assert stage.run(script, **variables)[0] == 1


@needs_posix
def test_a_wheel_that_does_not_work_in_a_distribution_ends_the_leg(tmp_path: Path) -> None:
    stage = Stage(tmp_path, docker="exit 3")
    (tmp_path / "x-1-cp310-abi3-manylinux_2_28_s390x.whl").touch()
    (tmp_path / "x-1-cp310-abi3-musllinux_1_2_s390x.whl").touch()
    status, calls = stage.run(
        script_with("linux", "docker run"),
        BUILD_ARTIFACTSTAGINGDIRECTORY=str(tmp_path),
        DOCKERPLATFORM=DOCKER["s390x"],
    )
    assert (status, len(calls)) == (3, 1)


def publication(tmp_path: Path, approved: str) -> tuple[int, list[str]]:
    """Runs what publishes, where the approved release has a file with this content."""
    needs(None if shutil.which("sha256sum") else "sha256sum is not installed")
    stage = Stage(tmp_path, az="", git="echo 1767225600", python="")
    (tmp_path / "approved").mkdir()
    (tmp_path / "approved" / "a.whl").write_text(approved, encoding="utf-8")
    digest = hashlib.sha256(b"as it was tried").hexdigest()
    (tmp_path / "approved" / "SHA256SUMS").write_text(f"{digest}  a.whl\n", encoding="utf-8")
    return stage.run(
        script_with("publish", "az storage"),
        PIPELINE_WORKSPACE=str(tmp_path),
        ACCOUNT="account",
        DIRECTORY="native",
        URL="https://packages.example.com/native",
        BUILD_SOURCEBRANCHNAME="v1.3.1+native1",
    )


@needs_posix
def test_what_was_approved_is_published_after_it_was_checked_against_earlier_versions(
    tmp_path: Path,
) -> None:
    status, calls = publication(tmp_path, "as it was tried")
    assert status == 0
    told = [call.split() for call in calls if not call.startswith("git ")]
    assert [words[:4] for words in told] == [
        ["az", "storage", "blob", "download-batch"],
        ["python", "-m", "tools.release", f"{tmp_path}/approved"],
        *[["az", "storage", "blob", "upload-batch"]] * 4,
    ]
    made = told[1]
    assert made[made.index("--tag") + 1] == "v1.3.1+native1"
    assert made[made.index("--earlier") + 1] == f"{tmp_path}/earlier"
    for words in told[2:]:
        assert words[words.index("--destination") + 1] == "$web/native"
    first, *_, last = [words[-1] for words in told[2:]]
    assert (first, last) == ("msal_extensions-*", "SHA256SUMS")


@needs_posix
def test_what_changed_after_the_approval_is_not_published(tmp_path: Path) -> None:
    status, calls = publication(tmp_path, "something else")
    assert status != 0
    assert [call for call in calls if not call.startswith("git ")] == []
