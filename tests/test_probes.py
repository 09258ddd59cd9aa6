"""Probes of verify() and copies of a quarantine never replace a file, and a probe is removed."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from msal_extensions import (
    FilePersistence,
    LibsecretPersistence,
    PersistedTokenCache,
    PersistenceDamaged,
    PersistenceError,
    _reloading,
    libsecret,
)
from msal_extensions._native import files
from msal_extensions._native import libsecret as native_libsecret
from tests.support.capability import SYMBOLIC_LINKS, requires
from tests.support.tokens import ACCESS_TOKEN

PROBE = re.compile(r"\.msalex-([0-9a-f]{16})\.tmp")
EVIDENCE = re.compile(r"cache\.damaged-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{16}")
KNOWN = "0123456789abcdef"


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reloading, "_REREAD_AFTER", (0.0,))


@pytest.fixture
def guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user has guessed the coming random digits."""
    monkeypatch.setattr(secrets, "token_hex", lambda size: KNOWN[: 2 * size])


def made_by(work: Callable[[], object]) -> list[str]:
    """The names of the new files that the work makes."""
    names = []
    create = files.create

    def creating(path: str, secret: bytes) -> None:
        names.append(os.path.basename(path))
        create(path, secret)

    with mock.patch.object(files, "create", creating):
        work()
    return names


def test_names_have_64_random_bits(location: Path, no_patience: None) -> None:
    persistence = FilePersistence(location)
    probes = [made_by(persistence.verify) for _ in range(20)]
    assert all(PROBE.fullmatch(name) for (name,) in probes)
    evidence = []
    for _ in range(20):
        location.write_bytes(b"[]")
        cache = PersistedTokenCache(persistence, on_unreadable="quarantine")
        evidence.append(made_by(lambda cache=cache: cache.search(ACCESS_TOKEN)))  # type: ignore[misc]
    assert all(EVIDENCE.fullmatch(name) for (name,) in evidence)
    digits = {name.removesuffix(".tmp")[-16:] for (name,) in probes + evidence}
    assert len(digits) == 40


def a_file(path: Path, victim: Path) -> None:
    path.write_bytes(b"theirs")


def a_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def a_link_to_nothing(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("new"))


def a_hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


planted = pytest.mark.parametrize("plant", [a_file, a_link, a_link_to_nothing, a_hard_link])


@requires(SYMBOLIC_LINKS)
@planted
def test_what_was_planted_where_a_probe_would_be_is_an_error_and_stays(
    location: Path, guessed: None, plant: Callable[[Path, Path], None]
) -> None:
    victim = location.with_name("victim")
    victim.write_bytes(b"the victim's")
    plant(location.with_name(f".msalex-{KNOWN}.tmp"), victim)
    before = sorted(os.listdir(location.parent))
    with pytest.raises(PersistenceError) as caught:
        FilePersistence(location).verify()
    assert isinstance(caught.value, FileExistsError)
    assert sorted(os.listdir(location.parent)) == before
    assert victim.read_bytes() == b"the victim's"


@requires(SYMBOLIC_LINKS)
@planted
def test_what_was_planted_where_evidence_would_be_stays_and_so_does_the_damage(
    location: Path,
    guessed: None,
    no_patience: None,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[Path, Path], None],
) -> None:
    monkeypatch.setattr("time.strftime", lambda *_: "20261124T000000Z")
    victim = location.with_name("victim")
    victim.write_bytes(b"the victim's")
    location.write_bytes(b"[damaged")
    plant(location.with_name(f"cache.damaged-20261124T000000Z-{KNOWN}"), victim)
    before = sorted(os.listdir(location.parent))
    cache = PersistedTokenCache(FilePersistence(location), on_unreadable="quarantine")
    with pytest.raises(PersistenceError) as caught:
        cache.search(ACCESS_TOKEN)
    assert isinstance(caught.value, FileExistsError)
    assert location.read_bytes() == b"[damaged"
    assert victim.read_bytes() == b"the victim's"
    assert sorted(os.listdir(location.parent)) == before


@pytest.mark.parametrize("error", [OSError(5, "broken"), KeyboardInterrupt(), None])
@pytest.mark.parametrize("method", ["save", "load", "create"])
def test_a_probe_goes_whatever_happens(
    location: Path, method: str, error: BaseException | None
) -> None:
    owner: Any = files if method == "create" else FilePersistence
    original = getattr(owner, method)

    def failing(*arguments: Any) -> object:
        result = original(*arguments)
        if error is not None:
            raise error
        return "something else" if method == "load" else result

    expected = type(error) if error else PersistenceDamaged
    with mock.patch.object(owner, method, failing):
        if error is None and method != "load":
            FilePersistence(location).verify()
        else:
            with pytest.raises(expected):
                FilePersistence(location).verify()
    assert os.listdir(location.parent) == []


def test_the_first_error_is_told_even_if_the_probe_cannot_go(location: Path) -> None:
    with (
        mock.patch.object(FilePersistence, "load", side_effect=PersistenceDamaged(None, "first")),
        mock.patch.object(FilePersistence, "delete", side_effect=PersistenceError(5, "second")),
        pytest.raises(PersistenceDamaged, match="first"),
    ):
        FilePersistence(location).verify()


def test_a_probe_in_a_keyring_has_a_random_name_too(location: Path) -> None:
    schemas = []

    class Agent:
        timeout = 1.0

        def __init__(self, schema: str, attributes: Any, **_: Any) -> None:
            self.item = native_libsecret.Item(schema, attributes, "", {}, None)
            self.content: str | None = None
            schemas.append(schema)

        def connect(self) -> None:
            pass

        def save(self, data: str) -> bool:
            self.content = data
            return True

        def load(self) -> str | None:
            return self.content

        def clear(self) -> None:
            self.content = None

    with mock.patch.object(libsecret, "LibSecretAgent", Agent):
        persistence = LibsecretPersistence(location, "cache")
        names = made_by(persistence.verify)
    (name,) = names
    found = PROBE.fullmatch(name)
    assert found is not None
    assert schemas[1] == f"cache.verify-{found[1]}"
    assert os.listdir(location.parent) == []
