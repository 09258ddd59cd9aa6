"""Programs that were written for 1.3.1 print the same with ours.

Each entry of the table is a program. One process runs all of them with 1.3.1, and one with ours,
each in a new directory. The output must be equal. When a program does not catch an error, another
program that catches the classes of 1.3.1 must catch it with ours as well.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import python
from tests.support.reference import reference_python

RUN = """
    import contextlib, io, json, os, sys, tempfile
    prelude, programs = json.load(open(sys.argv[1], encoding="utf-8"))
    found = {}
    for name, program in programs.items():
        os.chdir(tempfile.mkdtemp(dir=sys.argv[2]))
        printed, raised = io.StringIO(), []
        with contextlib.redirect_stdout(printed):
            try:
                exec(prelude + program, {"__name__": "__main__"})
            except Exception as error:
                raised = [kind.__name__ for kind in type(error).__mro__]
                printed.write("raised")
        found[name] = printed.getvalue().replace(os.getcwd(), "<here>"), raised
    print(json.dumps(found))
"""

#: The beginning of each program.
PRELUDE = """
import dataclasses, json, os, sys, threading, time
from collections import namedtuple
from unittest import mock
import msal
from msal_extensions import *
from msal_extensions.persistence import BasePersistence, PersistenceNotFound
AT, RT = "AccessToken", "RefreshToken"
SIGN_IN = {"client_id": "c", "scope": ["s"], "token_endpoint": "https://e/t/oauth2/v2.0/token",
    "response": {"access_token": "a", "refresh_token": "r", "expires_in": 3600}}
def rt(n, **more):
    entry = {"environment": "e", "client_id": "c", "target": "t", "home_account_id": f"h{n}"}
    return {**entry, "secret": f"s{n}", "credential_type": RT, **more}
def add(cache, n):
    cache.modify(RT, rt(n), rt(n))
def names(cache, kind=RT):
    return sorted(entry["secret"] for entry in cache.find(kind))
def stored():
    return sorted(entry["secret"] for entry in json.load(open("x")).get(RT, {}).values())
def made():
    return PersistedTokenCache(FilePersistence("x"))
class Own:
    path, is_encrypted = "x", False
    def save(self, content):
        open(self.path, "w").write(content)
    def load(self):
        try:
            return open(self.path).read()
        except FileNotFoundError:
            raise PersistenceNotFound
    def time_last_modified(self):
        self.load()
        return os.path.getmtime(self.path)
    def get_location(self):
        return self.path
"""

PROGRAMS = {
    "persistences of all kinds": """
@dataclasses.dataclass(frozen=True, slots=True)
class Data(Own, BasePersistence):
    path: str
class Tuple(namedtuple("Tuple", "path"), Own, BasePersistence):
    pass
class Property(FilePersistence):
    def __init__(self, path):
        self.path = path
    _location = property(lambda self: self.path)
for kind in Data, Tuple, Property, lambda path: mock.Mock(wraps=FilePersistence(path)):
    cache = PersistedTokenCache(kind(path="y"))
    add(cache, 1)
    add(cache, 2)
    print(names(cache), names(PersistedTokenCache(kind(path="y"))))
    os.remove("y")
""",
    "save() looks up, in this and in another thread": """
class Looking(Own):
    def save(self, content):
        print(names(self.cache))
        super().save(content)
        other = threading.Thread(target=lambda: print(names(self.cache)))
        other.start()
        other.join(3)
        print(other.is_alive())
persistence = Looking()
persistence.cache = PersistedTokenCache(persistence)
add(persistence.cache, 1)
""",
    "modify() as 1.3.1 has it, in a subclass": """
class Locking(PersistedTokenCache):
    def modify(self, credential_type, old_entry, new_key_value_pairs=None):
        with CrossPlatLock(self._lock_location):
            self._reload_if_necessary()
            super(PersistedTokenCache, self).modify(
                credential_type, old_entry, new_key_value_pairs=new_key_value_pairs)
            self._persistence.save(self.serialize())
            self._last_sync = time.time()
for persistence in FilePersistence("x"), Own():
    one, other = Locking(persistence), Locking(persistence)
    one.add(SIGN_IN)
    time.sleep(0.02)  # 1.3.1 sees no change in the same tick of a file system's clock
    add(other, 1)
    print(names(one), names(other, AT), os.listdir("."))
""",
    "a program's own logout, and changes in memory alone": """
cache = made()
cache.add(SIGN_IN)
with CrossPlatLock(cache._lock_location):
    cache._persistence.save("{}")
cache.deserialize("{}")
print(names(cache), names(cache, AT), open("x").read())
msal.SerializableTokenCache.modify(cache, RT, rt(2), rt(2))
cache._cache["Mine"] = {1: {"a": 1}, None: {"b": 2}}
print(names(cache), stored(), cache.has_state_changed)
add(cache, 3)
print(names(cache), stored(), json.load(open("x"))["Mine"])
""",
    "a persistence that keeps less than it is given": """
class NoAccessTokens(Own):
    def save(self, content):
        super().save(json.dumps({**json.loads(content), AT: {}}))
class Later(Own):
    def save(self, content):
        self.content = content
for kind in NoAccessTokens, Later:
    Own().save("{}")
    persistence = kind()
    cache = PersistedTokenCache(persistence, "l")
    cache.add(SIGN_IN)
    time.sleep(0.1)
    add(cache, 1)
    print(names(cache), names(cache, AT))
Own().save(persistence.content)
print(stored())
""",
    "a mock that answers the same always": """
persistence = mock.Mock(**{"load.return_value": "{}", "time_last_modified.return_value": 1})
cache = PersistedTokenCache(persistence, "l")
add(cache, 1)
add(cache, 2)
print(names(cache))
""",
    "a reload of what was stored before memory was changed": """
cache = made()
add(cache, 1)
cache.deserialize("{}")
os.utime("x", (time.time() + 1,) * 2)
print(names(cache))
""",
    "a load that fails twice": """
add(made(), 1)
persistence = mock.Mock(wraps=FilePersistence("x"))
persistence.load.side_effect = [PermissionError] * 2 + [open("x").read()] * 9
print(names(PersistedTokenCache(persistence, "l")))
""",
    "modify() with a lock of another library": """
class Exclusive(PersistedTokenCache):
    def modify(self, *entry):
        os.close(os.open(self._lock_location, os.O_CREAT | os.O_EXCL))
        msal.SerializableTokenCache.modify(self, *entry)
        self._persistence.save(self.serialize())
        os.remove(self._lock_location)
Exclusive(FilePersistence("x")).add(SIGN_IN)
print(stored())
""",
    "a clock in the place of the cache's": """
with mock.patch("msal_extensions.token_cache.time") as clock:
    clock.time.return_value = 1234.5
    cache = made()
    add(cache, 1)
print(cache._last_sync)
""",
    "a modify() in the place of MSAL's": """
with mock.patch.object(msal.SerializableTokenCache, "modify") as modify:
    add(made(), 1)
print(list(modify.call_args.kwargs))
""",
    "names of 1.3.1's modules": """
from msal_extensions.token_cache import _mkdir_p, logger
from msal_extensions.persistence import _open, logger, Path
print(_open.__name__)
""",
    "directories made by a mock": """
with mock.patch("msal_extensions.persistence._mkdir_p") as make:
    FilePersistence("d/x")
print(make.call_args, os.listdir("."))
""",
    "an agent of one's own for DPAPI": """
fake = mock.Mock()
fake.WindowsDataProtectionAgent().protect.side_effect = OSError(13, "bad")
with mock.patch.dict(sys.modules, {"msal_extensions.windows": fake}):
    p = FilePersistenceWithDataProtection("x")
print(fake.WindowsDataProtectionAgent.call_args)
p.save("{}")
""",
    "time_last_modified() is os.path.getmtime()": """
open("x", "w").close()
for n in range(99):
    os.utime("x", ns=(0, 1700000000123456789 + n * 987654321))
    print(FilePersistence("x").time_last_modified() == os.path.getmtime("x"))
""",
    "a lock location of bytes": "PersistedTokenCache(Own(), b'd/l').add(SIGN_IN); print(stored())",
    "the end of a lock that was not entered": "print(CrossPlatLock('l').__exit__(*[None] * 3))",
    "a lone surrogate": "print('raises'); FilePersistence('x').save('\\ud800')",
}


def found(programs: dict[str, str], directory: Path, **how: Any) -> dict[str, Any]:
    (directory / "programs").write_text(json.dumps([PRELUDE, programs]), encoding="utf-8")
    run = python(RUN, str(directory / "programs"), str(directory), **how)
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


@functools.cache
def both(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    command, environment = reference_python(portalocker=False)
    how = {"command": command, "environment": environment}
    return found(PROGRAMS, directory, **how), found(PROGRAMS, directory)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_prints_what_it_prints_with_1_3_1(program: str, directory: Path) -> None:
    theirs, ours = both(directory)
    printed, raised = theirs[program]
    assert printed
    assert ours[program][0] == printed, ours[program]
    assert set(raised) <= set(ours[program][1])
