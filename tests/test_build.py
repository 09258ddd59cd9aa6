"""What the build table says for each Python and processor."""

from __future__ import annotations

import sysconfig
from types import SimpleNamespace

import pytest

from csrc import ffi_build

# ---- tags ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "free_threaded", "oldest"),
    [
        ((3, 10), 0, "cp310"),
        ((3, 15), 0, "cp310"),
        ((3, 14), 1, None),  # its headers refuse the limited API
        ((3, 15), 1, "cp315"),
        ((3, 16), 1, "cp315"),
    ],
)
def test_a_wheel_is_for_all_later_pythons_where_they_have_one_limited_api(
    version: tuple[int, int],
    free_threaded: int,
    oldest: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": free_threaded}.get)
    monkeypatch.setattr(ffi_build, "sys", SimpleNamespace(version_info=version))
    assert ffi_build.stable_abi() == oldest
    _, _, _, settings = ffi_build.builder("linux")._assigned_source  # type: ignore[attr-defined]
    assert settings["py_limited_api"] is (oldest is not None)


# ---- what each target's compiler and linker get ----------------------------------------------


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
