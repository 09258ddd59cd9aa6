"""Is the installed package complete?  Any Python that has it can run this; it prints one line.

It imports, saves, loads, locks, and signs in through PersistedTokenCache. A free-threaded Python
has to stay free-threaded. tests/test_wheel.py uses it, and so do cibuildwheel and wheels.yml on
each system for which a wheel is built. It needs nothing but the package.
"""

from __future__ import annotations

import platform
import sys
import sysconfig
import tempfile
from pathlib import Path

import msal_extensions
from msal_extensions import CrossPlatLock, FilePersistence, PersistedTokenCache
from msal_extensions.persistence import PersistenceNotFound


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        persistence = FilePersistence(str(Path(directory, "cache.bin")))
        try:
            persistence.load()
        except PersistenceNotFound:
            pass
        else:
            raise AssertionError("something was there before anything was saved")
        persistence.save("{}")
        assert persistence.load() == "{}"

        lock_file = Path(directory, "lockfile")
        with CrossPlatLock(str(lock_file)):
            assert lock_file.exists()
        assert not lock_file.exists()

        cache = PersistedTokenCache(persistence)
        cache.add(
            {
                "client_id": "client",
                "scope": ["scope"],
                "token_endpoint": "https://login.example/tenant/v2.0/token",
                "response": {"access_token": "secret", "expires_in": 3600},
            }
        )
        again = PersistedTokenCache(FilePersistence(persistence.get_location()))
        found = list(again.search(cache.CredentialType.ACCESS_TOKEN, target=["scope"]))
        assert [item["secret"] for item in found] == ["secret"], found
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        # A library that does not say that it works without the GIL switches it on for all.
        assert not getattr(sys, "_is_gil_enabled")(), "importing this switched the GIL on"  # noqa: B009
    where = f"{platform.python_version()} {sys.platform} {platform.machine()}"
    print(f"{msal_extensions.__version__} works on {where}")


if __name__ == "__main__":
    main()
