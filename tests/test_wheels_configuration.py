"""wheels.yml is a valid pipeline, and builds exactly the wheels that we publish."""

from __future__ import annotations

import importlib.util
import runpy
import subprocess
import sys
import sysconfig
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
    ("macos", "arm64"): {f"{p}-macosx_arm64" for p in CPYTHONS},
    ("windows", "AMD64"): {f"{p}-win_amd64" for p in (*CPYTHONS, "pp311")},
    ("windows", "x86"): {f"{p}-win32" for p in CPYTHONS},
    ("windows", "ARM64"): {f"{p}-win_arm64" for p in CPYTHONS},
}


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
    if sys.version_info < (3, 11):
        cannot_exist_here("cibuildwheel 4 on Python 3.10")
    needs(None if importlib.util.find_spec("cibuildwheel") else "cibuildwheel is not installed")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "cibuildwheel", "--print-build-identifiers"),
            *("--platform", platform, "--archs", architecture, ROOT),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    built = set(done.stdout.split())
    if platform == "macos":
        built.discard("pp311-macosx_arm64")  # cibuildwheel offers it only on an Apple machine
    assert built == SELECTED[platform, architecture]


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
