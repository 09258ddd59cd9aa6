"""Encryption by the Windows Data Protection API, beside 1.3.1 and by its own promises."""

from __future__ import annotations

from pathlib import Path

import pytest

import msal_extensions.windows
from msal_extensions import (
    FilePersistence,
    FilePersistenceWithDataProtection,
    PersistenceDecryptionError,
    PersistenceNotFound,
    build_encrypted_persistence,
)
from msal_extensions.persistence import DataProtectionScope
from msal_extensions.windows import WindowsDataProtectionAgent
from tests.support.processes import python
from tests.support.reference import reference_python

TEXT = '{"AccessToken": {"é漢字🔑": "a secret"}}'
SAVE = """
import sys
from msal_extensions import FilePersistenceWithDataProtection
FilePersistenceWithDataProtection(sys.argv[1], entropy=sys.argv[2]).save(sys.argv[3])
"""
LOAD = """
import sys
from msal_extensions import FilePersistenceWithDataProtection
text = FilePersistenceWithDataProtection(sys.argv[1], entropy=sys.argv[2]).load()
print(text == sys.argv[3])
"""


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin"


@pytest.mark.parametrize("entropy", ["", "häßlich"])
def test_the_reference_decrypts_ours_and_we_decrypt_the_references(
    entropy: str, location: Path
) -> None:
    command, environment = reference_python(portalocker=False)
    FilePersistenceWithDataProtection(location, entropy).save(TEXT)
    arguments = (str(location), entropy, TEXT)
    assert python(LOAD, *arguments, command=command, environment=environment).stdout == "True\n"
    python(SAVE, *arguments, command=command, environment=environment)
    assert FilePersistenceWithDataProtection(location, entropy).load() == TEXT


@pytest.mark.parametrize("scope", list(DataProtectionScope))
def test_the_file_holds_the_description_and_not_the_text(
    scope: DataProtectionScope, location: Path
) -> None:
    persistence = FilePersistenceWithDataProtection(location, scope=scope)
    persistence.save(TEXT)
    content = location.read_bytes()
    assert b"AccessToken" not in content
    assert "python_data".encode("utf-16-le") in content
    persistence.save(TEXT)
    assert location.read_bytes() != content  # a fresh key each time
    assert FilePersistenceWithDataProtection(location).load() == TEXT


def test_another_entropy_does_not_decrypt(location: Path) -> None:
    FilePersistenceWithDataProtection(location, "one").save(TEXT)
    for other in ("", "two"):
        with pytest.raises(PersistenceDecryptionError, match="another entropy") as caught:
            FilePersistenceWithDataProtection(location, other).load()
        assert caught.value.winerror == caught.value.errno == 13
        assert caught.value.location == str(location)
        assert "secret" not in str(caught.value)


def test_a_plain_file_is_told_apart_from_a_damaged_one(location: Path) -> None:
    FilePersistence(location).save(TEXT)
    with pytest.raises(PersistenceDecryptionError, match="plain text") as caught:
        FilePersistenceWithDataProtection(location).load()
    assert "secret" not in str(caught.value)
    location.write_bytes(b"\x00\x01\x02")
    with pytest.raises(PersistenceDecryptionError, match="damaged"):
        FilePersistenceWithDataProtection(location).load()


def test_an_empty_file_is_nothing_stored(location: Path) -> None:
    location.touch()
    with pytest.raises(PersistenceNotFound):
        FilePersistenceWithDataProtection(location).load()


def test_the_agent_of_1_3_1_takes_text_and_gives_bytes() -> None:
    agent = msal_extensions.windows.WindowsDataProtectionAgent(entropy="salt")
    for text in ("", TEXT, "x" * 1_000_000):
        sealed = agent.protect(text)
        assert isinstance(sealed, bytes)
        assert agent.unprotect(sealed) == text
    with pytest.raises(OSError, match="WinError 13"):
        WindowsDataProtectionAgent().unprotect(sealed)


def test_windows_chooses_data_protection(location: Path) -> None:
    persistence = build_encrypted_persistence(str(location))
    assert isinstance(persistence, FilePersistenceWithDataProtection)
    assert persistence.is_encrypted
    persistence.verify()
    assert not location.exists()
