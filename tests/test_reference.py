"""The 1.3.1 with which the other tests compare is the real one."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support import reference
from tests.support.capability import requires

LOAD = (
    "import sys, msal_extensions; from msal_extensions.persistence import FilePersistence;"
    "print(msal_extensions.CrossPlatLock.__module__, FilePersistence(sys.argv[1]).load())"
)


@pytest.mark.parametrize(
    ("portalocker", "engine"), [(True, "cache_lock"), (False, "filelock")], ids=["with", "bare"]
)
def test_reference_has_the_lock_engine_asked_for(
    portalocker: bool, engine: str, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("stored")
    command, env = reference.reference_python(portalocker)
    done = subprocess.run(
        [*command, "-c", LOAD, tmp_path / "cache"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [f"msal_extensions.{engine}", "stored"]


@requires("fcntl")
def test_two_at_once_install_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def install(target: Path, portalocker: bool, python: str, msal: str) -> None:
        made.append(target)
        target.mkdir()

    monkeypatch.setenv("MSALEX_CACHE", str(tmp_path))
    monkeypatch.setattr(reference, "_install", install)
    monkeypatch.setattr(reference, "_verify", lambda *_: None)
    uncached = reference._site_packages.__wrapped__
    asking = [
        threading.Thread(target=uncached, args=(True, sys.executable, "1.29")) for _ in range(4)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(60)
    assert len(made) == 1


@requires("fcntl")
def test_a_python_with_pygobject_runs_the_reference_too(tmp_path: Path) -> None:
    python = reference.python_with_gi()
    (tmp_path / "cache").write_text("stored")
    command, env = reference.reference_python(True, python)
    snippet = "import gi;" + LOAD
    done = subprocess.run(
        [*command, "-c", snippet, tmp_path / "cache"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split()[1] == "stored"
