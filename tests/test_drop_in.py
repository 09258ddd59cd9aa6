"""Ours replaces 1.3.1: the same names, signatures and errors, on the same files.

The real 1.3.1 is installed beside ours for comparison.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import msal_extensions
from tests.support.processes import crowd, python
from tests.support.reference import reference_python

#: The names that other packages import.
EXPORTS = {
    "msal_extensions": (
        "__version__ PersistedTokenCache FilePersistence FilePersistenceWithDataProtection"
        " KeychainPersistence LibsecretPersistence build_encrypted_persistence CrossPlatLock"
        " LockError"
    ),
    "msal_extensions.persistence": (
        "BasePersistence FilePersistence FilePersistenceWithDataProtection KeychainPersistence"
        " LibsecretPersistence build_encrypted_persistence PersistenceError PersistenceNotFound"
        " PersistenceEncryptionError PersistenceDecryptionError ABC _mkdir_p _auto_hash"
    ),
    "msal_extensions.token_cache": (
        "PersistedTokenCache CrossPlatLock LockError PersistenceNotFound"
    ),
    "msal_extensions.filelock": "CrossPlatLock LockError",
    "msal_extensions.cache_lock": "CrossPlatLock LockError",
    "msal_extensions.libsecret": "LibSecretAgent trial_run",
    "msal_extensions.windows": "WindowsDataProtectionAgent",
    "msal_extensions.osx": "Keychain KeychainError",
}


@pytest.mark.parametrize("module", EXPORTS)
def test_everything_that_others_import_is_there(module: str) -> None:
    ours = importlib.import_module(module)
    missing = [name for name in EXPORTS[module].split() if not hasattr(ours, name)]
    assert missing == []


DESCRIBE = """
    import inspect, json, sys
    from msal_extensions import persistence, token_cache, filelock
    def parameters(function):
        return [
            (name, parameter.kind.name, repr(parameter.default))
            for name, parameter in inspect.signature(function).parameters.items()
        ]
    described = {}
    for module in (persistence, token_cache, filelock):
        for name, kind in vars(module).items():
            if not inspect.isclass(kind) or not kind.__module__.startswith("msal_extensions"):
                continue
            described[name] = {
                "bases": [base.__name__ for base in kind.__mro__],
                "methods": {
                    method: parameters(function)
                    for method, function in vars(kind).items()
                    if inspect.isfunction(function)
                    and (not method.startswith("_") or method == "__init__")
                },
            }
    described["build_encrypted_persistence"] = {
        "bases": [], "methods": {"": parameters(persistence.build_encrypted_persistence)}}
    print(json.dumps(described))
"""


def describe(**how: Any) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(python(DESCRIBE, **how).stdout)
    return result


def accepts(ours: list[list[str]], theirs: list[list[str]]) -> bool:
    """Does each call that fits their signature fit ours too, with the same meaning?"""
    for position, (name, kind, default) in enumerate(theirs):
        if kind in ("VAR_KEYWORD", "VAR_POSITIONAL"):
            if not any(parameter[1] == kind for parameter in ours):
                return False
        elif position >= len(ours) or ours[position][0] != name:
            # Our *args or **kwargs take what goes on to MSAL.
            return any(parameter[1] == "VAR_POSITIONAL" for parameter in ours)
        elif default != "<class 'inspect._empty'>" and ours[position][2] != default:
            return False
    extra = ours[len(theirs) :]
    return all(
        kind.startswith("VAR") or default != "<class 'inspect._empty'>"
        for _, kind, default in extra
    )


def test_signatures_and_base_classes_accept_whatever_1_3_1_accepted() -> None:
    command, environment = reference_python(portalocker=False)
    theirs = describe(command=command, environment=environment)
    ours = describe()
    assert "PersistedTokenCache" in theirs
    for name, kind in theirs.items():
        assert set(kind["bases"]) <= set(ours[name]["bases"]), name
        inherited: dict[str, Any] = {}
        for base in reversed(ours[name]["bases"]):
            inherited.update(ours.get(base, {}).get("methods", {}))
        inherited.update(ours[name]["methods"])
        for method, signature in kind["methods"].items():
            assert accepts(inherited[method], signature), (name, method, inherited[method])


def test_a_star_import_of_persistence_brings_the_same_names() -> None:
    names = "from msal_extensions.persistence import *; print(sorted(globals()))"
    command, environment = reference_python(portalocker=False)
    theirs = eval(python(names, command=command, environment=environment).stdout)
    ours = eval(python(names).stdout)
    wanted = {name for name in theirs if name.startswith("Persist") or name.endswith("Persistence")}
    assert wanted | {"ABC", "build_encrypted_persistence"} <= set(ours)


WRITE = """
    import sys
    from msal_extensions import FilePersistence, PersistedTokenCache
    cache = PersistedTokenCache(FilePersistence(sys.argv[1]))
    entry = {"home_account_id": sys.argv[2], "environment": "e", "client_id": "c"}
    cache.modify("RefreshToken", entry, {"secret": "é" + sys.argv[2]})
"""
READ = """
    import sys
    from msal_extensions import FilePersistence, PersistedTokenCache
    cache = PersistedTokenCache(FilePersistence(sys.argv[1]))
    print(sorted(entry["home_account_id"] for entry in cache.search("RefreshToken")))
"""


@pytest.mark.parametrize("portalocker", [False, True])
def test_a_cache_made_by_one_is_used_by_the_other(tmp_path: Path, portalocker: bool) -> None:
    location = str(tmp_path / "cache.bin")
    command, environment = reference_python(portalocker=portalocker)
    python(WRITE, location, "theirs", command=command, environment=environment)
    python(WRITE, location, "ours")
    for how in ({}, {"command": command, "environment": environment}):
        assert python(READ, location, **how).stdout == "['ours', 'theirs']\n"  # type: ignore[arg-type]
    python(WRITE, location, "later", command=command, environment=environment)
    assert python(READ, location).stdout == "['later', 'ours', 'theirs']\n"


HOLD = """
    import sys
    from msal_extensions import CrossPlatLock
    with CrossPlatLock(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.read()
"""


@pytest.mark.parametrize("portalocker", [False, True])
def test_a_lock_held_by_one_keeps_the_other_out(tmp_path: Path, portalocker: bool) -> None:
    import subprocess
    import textwrap

    path = str(tmp_path / "lock")
    command, environment = reference_python(portalocker=portalocker)
    both = [
        ([sys.executable], {}, command, environment),
        (command, environment, [sys.executable], {}),
    ]
    for holder, holders_environment, waiter, waiters_environment in both:
        with subprocess.Popen(
            [*holder, "-c", textwrap.dedent(HOLD), path],
            env={**os.environ, **holders_environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == "held\n"
            # Any exception: with portalocker 1.3.1 raises an exception of that package.
            blocked = python(
                """
                import sys
                from msal_extensions import CrossPlatLock
                try:
                    with CrossPlatLock(sys.argv[1]):
                        print("in")
                except Exception:
                    print("out")
                """,
                path,
                command=waiter,
                environment=waiters_environment,
            )
            process.stdin.close()
        assert blocked.stdout == "out\n"
        assert not os.path.exists(path)


@pytest.mark.parametrize("portalocker", [False, True])
def test_side_by_side_nobody_enters_while_the_other_is_inside(
    tmp_path: Path, portalocker: bool
) -> None:
    """So few that 1.3.1 stays below 5 s, after which it gives up (or enters anyway)."""
    import threading

    command, environment = reference_python(portalocker=portalocker)
    work = """
        import os, time
        from msal_extensions import CrossPlatLock
        overlaps = 0
        ready()
        for _ in range(10):
            with CrossPlatLock(sys.argv[2] + ".lockfile"):
                try:
                    os.close(os.open(sys.argv[2], os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    overlaps += 1
                else:
                    time.sleep(0.005)
                    os.unlink(sys.argv[2])
            time.sleep(0.05)
        print(overlaps)
    """
    outputs: list[str] = []
    section = str(tmp_path / "inside")

    def run(how: dict[str, Any]) -> None:
        outputs.extend(crowd(work, 2, section, **how))

    crowds = [
        threading.Thread(target=run, args=(how,))
        for how in ({}, {"command": command, "environment": environment})
    ]
    for one in crowds:
        one.start()
    for one in crowds:
        one.join()
    assert outputs == ["0\n"] * 4


def test_deprecated_and_private_names_keep_their_meaning(tmp_path: Path) -> None:
    persistence = msal_extensions.FilePersistence("~/cache.bin")
    assert persistence._location == os.path.expanduser("~/cache.bin")
    cache = msal_extensions.PersistedTokenCache(
        msal_extensions.FilePersistence(tmp_path / "cache.bin")
    )
    assert cache._lock_location == str(tmp_path / "cache.bin.lockfile")
    assert cache._last_sync == 0
    assert cache.is_encrypted is False
    assert cache.has_state_changed is False
    assert "_lock" in vars(cache)
    assert inspect.signature(cache.modify).parameters.keys() == {
        "credential_type",
        "old_entry",
        "new_key_value_pairs",
    }


def test_the_stores_of_other_systems_fail_with_what_callers_catch(tmp_path: Path) -> None:
    """azure-identity and others try one store and catch any of these."""
    stores: dict[str, Callable[[Path], object]] = {
        "darwin": msal_extensions.KeychainPersistence,
        "win32": msal_extensions.FilePersistenceWithDataProtection,
    }
    stores.pop(sys.platform, None)
    for build in stores.values():
        with pytest.raises(msal_extensions.PersistenceError) as caught:
            build(tmp_path / "cache")
        assert isinstance(caught.value, RuntimeError)
    assert os.listdir(tmp_path) == []
