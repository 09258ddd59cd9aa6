"""Rules for every test: the installed package, no skip on CI, no real keyring."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import keyring
from tests.support.capability import needs
from tests.support.capability import (
    pytest_make_collect_report as pytest_make_collect_report,
)
from tests.support.capability import (
    pytest_runtest_makereport as pytest_runtest_makereport,
)
from tests.support.tally import pytest_runtest_setup as pytest_runtest_setup
from tests.support.tally import pytest_runtest_teardown as pytest_runtest_teardown
from tests.support.windows.starting import start_again_under_wine

ROOT = Path(__file__).resolve().parents[1]
SESSION_VARIABLES = (
    "DBUS_SESSION_BUS_ADDRESS",
    "XDG_RUNTIME_DIR",
    "GNOME_KEYRING_CONTROL",
    "DISPLAY",
    "WAYLAND_DISPLAY",
)

# A shell ignores SIGINT for programs that it starts in the background, and children inherit that.
# Then a test that sends Ctrl-C to a child would wait for ever.  A handler, on the other hand, ends
# at exec.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform == "win32":
    start_again_under_wine()


def pytest_configure() -> None:
    """Detach from the developer's session, so that no test meets the developer's keyring by
    accident."""
    for name in SESSION_VARIABLES:
        os.environ.pop(name, None)
    # Without an address GLib would look for a bus in other places.
    os.environ["DBUS_SESSION_BUS_ADDRESS"] = "disabled:"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the longest test begin first where others run beside it; MSALEX_SHARE="0/2" leaves every
    other file to another run."""
    if hasattr(config, "workerinput"):  # this is a process of pytest-xdist
        items.sort(key=lambda item: item.get_closest_marker("first") is None)
    number, _, count = os.environ.get("MSALEX_SHARE", "0/1").partition("/")
    mine = set(list(dict.fromkeys(item.path for item in items))[int(number) :: int(count)])
    config.hook.pytest_deselected(items=[item for item in items if item.path not in mine])
    items[:] = [item for item in items if item.path in mine]


def pytest_sessionstart() -> None:
    """Refuse to test anything but the installed package."""
    try:
        import msal_extensions
        from msal_extensions import _msalex  # noqa: F401
    except ImportError as error:
        pytest.exit(f"the package is not installed ({error}): run python3 dev.py test", 3)
    if Path(msal_extensions.__file__).is_relative_to(ROOT / "python"):
        pytest.exit("this is the source, not the installed package: run python3 dev.py test", 3)
    if importlib.metadata.version("msal-extensions") != msal_extensions.__version__:
        pytest.exit("another msal-extensions is installed: run python3 dev.py test", 3)


@pytest.fixture(scope="session")
def keyring_of(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], keyring.Keyring]]:
    """The keyring of this name, which all tests share.  It begins when a test first asks for it.

    It is for other processes: GLib keeps the first bus for as long as a process lives.
    """
    with contextlib.ExitStack() as stack:

        @functools.cache
        def running(provider: str) -> keyring.Keyring:
            needs(keyring.missing(provider))
            directory = tmp_path_factory.mktemp(provider)
            return stack.enter_context(keyring.running(directory, provider))

        yield running


@pytest.fixture
def keyring_session(keyring_of: Callable[[str], keyring.Keyring]) -> keyring.Keyring:
    """The one keyring of this process; tests/test_keyrings.py says which."""
    return keyring_of(os.environ.get("MSALEX_KEYRING", "gnome-keyring"))


@pytest.fixture
def fresh_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a new user, for this process and its children."""
    home = tmp_path / "home"
    runtime = tmp_path / "runtime"
    for directory in (home, runtime):
        directory.mkdir(mode=0o700)
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    return home
