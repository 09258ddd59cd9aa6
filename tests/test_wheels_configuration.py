"""wheels.yml is a valid pipeline, and builds exactly the wheels that we publish."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

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
