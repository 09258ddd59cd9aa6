"""wheels.yml is a valid pipeline, and builds exactly the wheels that we publish.

Each is built where it is tried; what is not tried is named here, with the reason.
"""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import runpy
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from csrc import ffi_build
from tests.support.capability import cannot_exist_here, needs

ROOT = Path(__file__).resolve().parents[1]
CPYTHONS = ("cp310", "cp314t", "cp315t")
LINUX_X86_64 = {
    *(f"{python}-{libc}linux_x86_64" for python in CPYTHONS for libc in ("many", "musl")),
    "pp311-manylinux_x86_64",
}
SELECTED = {
    ("linux", "x86_64"): LINUX_X86_64,
    ("linux", "aarch64"): {name.replace("x86_64", "aarch64") for name in LINUX_X86_64},
    ("macos", "x86_64"): {f"{p}-macosx_x86_64" for p in (*CPYTHONS, "pp311")},
    ("macos", "arm64"): {f"{p}-macosx_arm64" for p in (*CPYTHONS, "pp311")},
    ("windows", "AMD64"): {f"{p}-win_amd64" for p in (*CPYTHONS, "pp311")},
    ("windows", "x86"): {f"{p}-win32" for p in CPYTHONS},
    ("windows", "ARM64"): {f"{p}-win_arm64" for p in CPYTHONS},
}


#: Wheels that nobody tries before they are published: no pool of Azure has such a Windows.
UNTRIED = set(SELECTED["windows", "ARM64"])
#: The processor of each machine in wheels.yml, and others whose programs it runs.
RUN_BY = {
    "linux": {"x86_64", "aarch64"},  # aarch64 by QEMU
    "windows": {"AMD64", "x86"},
    "macos_arm64": {"arm64"},
    "macos_x86_64": {"x86_64"},
}
WINDOWS_AND_LINUX = ("linux", "windows")
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
    return {job["job"]: job for job in pipeline()["jobs"]}


def scripts(job: dict[str, Any]) -> list[str]:
    return [step["script"] for step in job["steps"] if "script" in step]


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


def without_a_wheel(selectors: Sequence[str], identifiers: Iterable[str]) -> list[str]:
    """Those that match no identifier: cibuildwheel is content with them."""
    names = list(identifiers)
    return [one for one in selectors if not any(fnmatch.fnmatchcase(n, one) for n in names)]


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


def test_each_selector_selects_a_wheel() -> None:
    chosen, all_of_them = configuration(), set().union(*SELECTED.values())
    assert without_a_wheel(chosen["build"], all_of_them) == []
    assert without_a_wheel(chosen["test-skip"], all_of_them) == []
    assert without_a_wheel(["cp399-*", "cp310-*"], all_of_them) == ["cp399-*"]


def test_each_wheel_is_tried_by_a_processor_that_runs_it() -> None:
    """Or it is one of those that are named here."""
    chosen = configuration()
    skipped = {
        name
        for name in set().union(*SELECTED.values())
        if any(fnmatch.fnmatchcase(name, one) for one in chosen["test-skip"])
    }
    assert skipped == UNTRIED
    machines = [*jobs()["wheels"]["strategy"]["matrix"], *(n for n in jobs() if "macos" in n)]
    assert set(machines) == set(RUN_BY)
    run = {(machine.split("_")[0], one) for machine in machines for one in RUN_BY[machine]}
    tried = set().union(*(SELECTED[one] for one in run))
    assert tried == set().union(*SELECTED.values()) - UNTRIED
    for system in WINDOWS_AND_LINUX:
        archs = chosen[system]["archs"]
        built = set().union(*(SELECTED[system, one] for one in archs))
        assert built - UNTRIED == set().union(*(SELECTED[system, one] for one in RUN_BY[system]))


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


@pytest.mark.parametrize(("free_threaded", "tag"), [(0, {"py_limited_api": "cp310"}), (1, {})])
def test_each_free_threaded_python_gets_a_wheel_of_its_own(
    free_threaded: int, tag: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setitem(sys.modules, "setuptools", SimpleNamespace(setup=told.update))
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": free_threaded}.get)
    runpy.run_path(str(ROOT / "setup.py"))
    assert told["options"] == {"bdist_wheel": tag}


@pytest.mark.parametrize(
    ("python", "visual_studio", "options"),
    [
        ("win-amd64", None, ["/guard:cf", "/Brepro", "/CETCOMPAT"]),
        ("win-amd64", "x64", ["/guard:cf", "/Brepro", "/CETCOMPAT"]),
        ("win32", None, ["/guard:cf", "/Brepro", "/CETCOMPAT"]),
        ("win-amd64", "x86", ["/guard:cf", "/Brepro", "/CETCOMPAT"]),
        ("win-arm64", None, ["/guard:cf", "/Brepro"]),
        ("win-amd64", "arm64", ["/guard:cf", "/Brepro"]),  # as cibuildwheel builds for ARM64
    ],
)
def test_the_linker_of_windows_gets_what_it_takes_for_that_processor(
    python: str, visual_studio: str | None, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_platform", lambda: python)
    monkeypatch.delenv("VSCMD_ARG_TGT_ARCH", raising=False)
    if visual_studio:
        monkeypatch.setenv("VSCMD_ARG_TGT_ARCH", visual_studio)
    _, _, _, settings = ffi_build.builder("win32")._assigned_source  # type: ignore[attr-defined]
    assert settings["extra_link_args"] == options
