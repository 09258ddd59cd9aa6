"""Tests of MSAL and azure-identity that pass without our caches pass with them."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import msal_extensions
from tests.support import foreign_suites, reference
from tests.support.foreign_suites import OLDEST_MSAL

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
NEWEST_MSAL = importlib.metadata.version("msal")
# These need a laboratory or a registry, measure time, need helpers that the source distribution
# does not have, or sleep for seconds and make no cache.
LEFT_OUT = (
    *("e2e", "cryptography", "benchmark", "recording_http_client"),
    *("authcode", "individual_cache", "throttled_http_client", "obtain_token_by_browser"),
)
# Less than the number that passes without a network, so that a later MSAL may drop tests.
FLOORS = {OLDEST_MSAL: (60, 20), NEWEST_MSAL: (250, 60)}
AZURE_FLOOR = (150, 40)
OF_OURS = ("token_cache", "drop_in", "stamps", "single_flight")
# These take long, and are about locks only; or the suite runs them with the newest MSAL, which
# shows more.
LONG = ("test_a_lock_held_by_one", "test_threads_that_add", "test_a_program_that_keeps_deleting")


@pytest.mark.parametrize("version", [OLDEST_MSAL, NEWEST_MSAL])
def test_what_passes_with_msals_own_cache_passes_with_ours(version: str, tmp_path: Path) -> None:
    suite = foreign_suites.msal_suite(version)
    options = [f"--ignore-glob=*{name}*.py" for name in LEFT_OUT]
    with ThreadPoolExecutor() as pool:
        plain = pool.submit(foreign_suites.run, suite, tmp_path / "plain", options)
        ours = pool.submit(foreign_suites.run, suite, tmp_path / "ours", options, replace=True)
    own, replaced = plain.result(), ours.result()
    assert own.msal == replaced.msal == version
    assert replaced.msal_extensions == msal_extensions.__version__
    passes, stored = FLOORS[version]
    assert len(own.passed) >= passes
    assert replaced.made >= replaced.stored >= stored > own.made == 0
    missing = own.passed - replaced.passed
    assert not missing, replaced.say(missing)


def test_what_passes_in_azure_identity_with_1_3_1_passes_with_ours(tmp_path: Path) -> None:
    suite = foreign_suites.azure_identity_suite()
    before = [reference.reference_site_packages(portalocker=True)]
    # This file is about proxies, and slow.
    options = ["-k", "cache", "--ignore-glob=*token_binding_transport.py"]
    # Its tests make MSAL's caches and mock the persistent ones, so ours takes the place of MSAL's.
    with ThreadPoolExecutor() as pool:
        old = pool.submit(
            lambda: foreign_suites.run(
                suite, tmp_path / "old", options, replace=True, before=before
            )
        )
        new = pool.submit(foreign_suites.run, suite, tmp_path / "new", options, replace=True)
    theirs, ours = old.result(), new.result()
    assert theirs.msal_extensions == reference.VERSION
    assert ours.msal_extensions == msal_extensions.__version__
    assert theirs.msal == ours.msal == NEWEST_MSAL
    passes, stored = AZURE_FLOOR
    assert len(theirs.passed) >= passes
    assert ours.made >= ours.stored >= stored
    missing = theirs.passed - ours.passed
    assert not missing, ours.say(missing)


def test_our_own_tests_of_the_cache_pass_with_the_oldest_msal_too() -> None:
    site = foreign_suites.msal_suite(OLDEST_MSAL) / "site"
    # Without CI, because a test of a feature that an old MSAL lacks skips.  The suite that runs
    # this one runs the same tests with the newest MSAL, and there no test may skip.
    env = {**os.environ, "PYTHONPATH": str(site), "CI": ""}
    found = subprocess.run(
        [sys.executable, "-c", "import msal; print(msal.__version__)"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.stdout.strip() == OLDEST_MSAL
    files = [str(ROOT / "tests" / f"test_{name}.py") for name in OF_OURS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", f"not ({' or '.join(LONG)})", *files],
        env=env,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=foreign_suites.SUITE_S,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
