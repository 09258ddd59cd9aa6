"""One keychain item, used by the pure-Python msal-extensions 1.3.1 and by this package in turn.

Run by on_a_mac.py with a keychain to throw away. Both are run by the same Python binary, as the
keychain asks a person when another one comes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from msal_extensions import KeychainPersistence, PersistenceNotFound
from tests.support.processes import python
from tests.support.reference import reference_python

THEIRS = """
    import sys
    from msal_extensions import KeychainPersistence
    from msal_extensions.osx import KeychainError
    persistence = KeychainPersistence(sys.argv[1])
    if len(sys.argv) > 2:
        persistence.save(sys.argv[2])
    print(ascii(persistence.load()))
"""


def theirs(location: Path, *content: str) -> str:
    command, environment = reference_python(portalocker=False)
    said: str = python(
        THEIRS, str(location), *content, command=command, environment=environment
    ).stdout
    return said.strip()


@pytest.fixture
def ours(tmp_path: Path) -> KeychainPersistence:
    return KeychainPersistence(str(tmp_path / "signal"))


def test_what_1_3_1_wrote_is_read_changed_and_read_back_by_it(
    ours: KeychainPersistence, tmp_path: Path
) -> None:
    with pytest.raises(PersistenceNotFound):
        ours.load()
    theirs(tmp_path / "signal", "écrit par 1.3.1 🔑")
    assert ours.load() == "écrit par 1.3.1 🔑"
    ours.save("ours ✓")
    assert theirs(tmp_path / "signal") == ascii("ours ✓")
    theirs(tmp_path / "signal", "again")
    assert ours.load() == "again"
    ours.delete()


def test_what_we_wrote_first_is_read_and_changed_by_1_3_1(
    ours: KeychainPersistence, tmp_path: Path
) -> None:
    ours.save("x" * 20_000)
    assert theirs(tmp_path / "signal") == ascii("x" * 20_000)
    theirs(tmp_path / "signal", "changed")
    assert ours.load() == "changed"
    ours.delete()
    with pytest.raises(PersistenceNotFound):
        ours.load()
