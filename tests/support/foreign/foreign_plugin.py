"""A pytest plugin for the suites of other packages; see tests/support/foreign_suites.py.

It runs in the process of such a suite, whose directory is MSALEX_FOREIGN_TESTS, and writes the
results into the file MSALEX_FOREIGN_REPORT.

When MSALEX_FOREIGN_CACHES names a directory, each cache that MSAL or one of its tests makes is a
PersistedTokenCache over a file of its own in that directory.  No connection leaves this machine:
tests that want Microsoft's servers fail at once, on every machine.

A source distribution has the tests, but not the helper modules that they import.  This plugin
replaces the helpers that many tests need, with no more than the tests use.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import types
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

REPORT = Path(os.environ["MSALEX_FOREIGN_REPORT"])
CACHES = os.environ.get("MSALEX_FOREIGN_CACHES")
LOCAL = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "", None)

_outcomes: dict[str, str] = {}
_reasons: dict[str, str] = {}
_numbers = itertools.count(1)


# ---- no network --------------------------------------------------------------------------


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo" and arguments[0] not in LOCAL:
        raise socket.gaierror(socket.EAI_NONAME, "tests use this machine only")
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and address[0] not in LOCAL:
            raise ConnectionRefusedError("tests use this machine only")


# ---- the helper modules that a source distribution lacks ---------------------------------


class Response:
    """The part of an HTTP client's response that MSAL uses."""

    def __init__(
        self,
        requests_resp: Any = None,
        status_code: int | None = None,
        text: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._original = requests_resp
        self.status_code = requests_resp.status_code if status_code is None else status_code
        self.text = requests_resp.text if text is None else text
        self.headers = headers or {}

    def raise_for_status(self) -> None:
        if self._original is not None:
            self._original.raise_for_status()


class Client:
    """The part of an HTTP client that MSAL uses; it reaches this machine only."""

    def __init__(self, **options: Any) -> None:
        import requests

        self.session = requests.Session()

    def get(self, url: str, **options: Any) -> Response:
        return Response(self.session.get(url, **options))

    def post(self, url: str, **options: Any) -> Response:
        return Response(self.session.post(url, **options))

    def close(self) -> None:
        self.session.close()


def _stand_in(name: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
    return module


def _same(function: Any) -> Any:
    return function


def _stand_in_for_msal(tests: Path) -> None:
    package = _stand_in("tests", unittest=unittest, Oauth2TestCase=unittest.TestCase)
    package.__path__ = [str(tests)]
    _stand_in("tests.http_client", MinimalHttpClient=Client, MinimalResponse=Response)
    _stand_in("tests.broker_util", is_pymsalruntime_installed=lambda: False)


def _stand_in_for_azure() -> None:
    @pytest.fixture(scope="session")
    def test_proxy() -> None:
        pass

    names = ("body_key_sanitizer", "header_regex_sanitizer", "general_regex_sanitizer")
    more = ("remove_header_sanitizer", "general_string_sanitizer", "uri_regex_sanitizer")
    nothing = {f"add_{name}": lambda *_, **__: None for name in (*names, *more)}
    _stand_in(
        "devtools_testutils",
        test_proxy=test_proxy,
        is_live=lambda: False,
        recorded_by_proxy=_same,
        set_custom_default_matcher=lambda *_, **__: None,
        AzureRecordedTestCase=object,
        __path__=[],
        **nothing,
    )
    _stand_in("devtools_testutils.aio", recorded_by_proxy_async=_same)


@pytest.fixture(scope="session")
def environment_variables() -> mock.Mock:
    """One of azure-identity's helpers, too."""
    return mock.Mock()


# ---- our cache in place of MSAL's --------------------------------------------------------


def _replace_caches(directory: Path) -> None:
    """From now on MSAL's own classes make our caches, in any module that calls them, under any
    name.

    Our class inherits from both of them, so isinstance() gives the same answers as before.
    """
    import msal

    from msal_extensions import FilePersistence, PersistedTokenCache

    stat = os.stat

    class Replacement(PersistedTokenCache):
        def __init__(self) -> None:
            # In a real program the cache is made before a test mocks os.stat.
            with mock.patch.object(os, "stat", stat):
                super().__init__(FilePersistence(str(directory / f"{next(_numbers)}.json")))

    def new(kind: type, *_: Any, **__: Any) -> Any:
        replaced = kind in (msal.TokenCache, msal.SerializableTokenCache)
        return object.__new__(Replacement if replaced else kind)

    msal.TokenCache.__new__ = new


# ---- hooks -------------------------------------------------------------------------------


# Now, because pytest loads the conftest.py of a suite before it calls pytest_configure().
_stand_in_for_msal(Path(os.environ["MSALEX_FOREIGN_TESTS"]))
_stand_in_for_azure()


def pytest_configure() -> None:
    sys.addaudithook(_refuse)
    if CACHES:
        _replace_caches(Path(CACHES))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test passes when its call and each of its subtests pass, and nothing else fails."""
    if report.failed:
        _outcomes[report.nodeid] = "failed"
        _reasons[report.nodeid] = report.longreprtext[-1500:]
    elif report.skipped:
        _outcomes.setdefault(report.nodeid, "skipped")
    elif report.when == "call":
        _outcomes.setdefault(report.nodeid, "passed")


def pytest_sessionfinish() -> None:
    import msal

    import msal_extensions

    stored = Path(CACHES).glob("*.json") if CACHES else ()
    found = {
        "msal": msal.__version__,
        "msal_extensions": msal_extensions.__version__,
        "made": next(_numbers) - 1,
        "stored": sum(1 for file in stored if file.stat().st_size > len("{}")),
        "outcomes": _outcomes,
        "reasons": _reasons,
    }
    REPORT.write_text(json.dumps(found))
