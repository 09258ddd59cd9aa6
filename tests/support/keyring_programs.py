"""Programs that keep something in a keyring, for tests: snippets of Python.

GLib keeps some things for a whole process (the bus, the session), so each scenario is a process of
its own.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.support.processes import python

SECRET = "s3cr3t-ä€𝄞"
#: Seconds.  The promise is 100 ms, and the test prints the time; this limit only shows that nothing
#: waited.
AT_ONCE = 2.0
#: What azure-identity 1.x passes.
AZURE = {
    "schema_name": "msal.cache.nocae",
    "attributes": {"MsalClientID": "Microsoft.Developer.IdentityService"},
    "label": "MSALCache",
}
#: For each snippet: `make(**kw)` makes a persistence on sys.argv[1].  `outcome(f)` prints seconds,
#: then "ok ..." or a base class of the error and its words.  `kind(f)` prints "ok ..." or the class
#: of the error, whether that is a RuntimeError, and its words.
PRELUDE = """
import os, sys, time
from msal_extensions import LibsecretPersistence
from msal_extensions.persistence import PersistenceError, PersistenceNotFound

def make(**kw):
    return LibsecretPersistence(sys.argv[1], **kw)

def outcome(function, *arguments):
    begin = time.monotonic()
    try:
        result = function(*arguments)
    except PersistenceError as error:
        kinds = [k for k in (PersistenceNotFound, RuntimeError) if isinstance(error, k)]
        names = "+".join(k.__name__ for k in kinds) or "PersistenceError"
        result = f"{names}: {error}".replace("\\n", " ")
    else:
        result = f"ok {result}"
    print(f"{time.monotonic() - begin:.3f} {result}", flush=True)

def kind(function, *arguments):
    try:
        print("ok", function(*arguments), flush=True)
    except PersistenceError as error:
        print(type(error).__name__, isinstance(error, RuntimeError), error, flush=True)
"""


def run(code: str, environment: dict[str, str], *arguments: str) -> list[str]:
    """The lines that a snippet prints."""
    return python(PRELUDE + code, *arguments, environment=environment).stdout.splitlines()


@contextlib.contextmanager
def living(code: str, environment: dict[str, str], *arguments: str) -> Iterator[Any]:
    """A snippet that goes on when it is told to; a function that lets it go on, and returns its
    next line."""
    steps = "def step():\n    if not sys.stdin.readline(): sys.exit()\n"
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + steps + code, *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        told, says = process.stdin, process.stdout
        assert told is not None
        assert says is not None

        def proceed() -> str:
            told.write("\n")
            told.flush()
            return says.readline().strip()

        try:
            yield proceed
        finally:
            process.kill()  # it may wait for an answer
