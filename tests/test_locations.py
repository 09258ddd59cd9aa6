"""A location that cannot be used gives an early error in words; nothing is half done."""

from __future__ import annotations

import errno
import ntpath
import os
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from msal_extensions import (
    FilePersistence,
    FilePersistenceWithDataProtection,
    KeychainPersistence,
    LibsecretPersistence,
    PersistedTokenCache,
    PersistenceDenied,
    PersistenceError,
    _paths,
    errors,
    libsecret,
    persistence,
)
from msal_extensions._native import files
from tests.support.capability import FILE_MODES, SYMBOLIC_LINKS, needs, requires
from tests.support.library import lib, library_that_answers
from tests.support.processes import crowd, python

STORES = [
    FilePersistence,
    FilePersistenceWithDataProtection,
    KeychainPersistence,
    LibsecretPersistence,
]


def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has only a number: HOME is not set, and passwd has no line for
    it."""
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- ~ ----


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("location", ["~/.app/cache", "~", Path("~/cache")], ids=str)
def test_a_user_without_a_home_is_told_what_to_set(
    store: Callable[[object], object],
    location: object,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_home(monkeypatch)
    with pytest.raises(PersistenceError) as caught:
        store(location)
    assert isinstance(caught.value, FileNotFoundError)
    assert "HOME" in str(caught.value)
    assert caught.value.location == str(location)
    assert os.listdir(here) == []


@pytest.mark.parametrize("location", ["~/.app/lock", Path("~/lock")], ids=str)
def test_a_lock_in_no_home_is_refused_as_well(
    location: object, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = FilePersistence("cache")
    no_home(monkeypatch)
    with pytest.raises(PersistenceError, match="HOME") as caught:
        PersistedTokenCache(stored, location)  # type: ignore[arg-type]
    assert isinstance(caught.value, FileNotFoundError)
    assert os.listdir(here) == []


@requires("pwd")
def test_the_home_of_a_user_that_is_not_there_is_refused(here: Path) -> None:
    with pytest.raises(PersistenceError) as caught:
        FilePersistence("~no-such-user/cache")
    assert "no user named no-such-user" in str(caught.value)
    assert "./~no-such-user/cache" in str(caught.value)
    FilePersistence("./~no-such-user/cache").save("x")
    assert os.listdir(here) == ["~no-such-user"]


@requires("pwd", "os.setuid")
def test_a_user_that_is_only_a_number_is_refused_in_a_process_of_its_own(here: Path) -> None:
    needs(None if os.geteuid() == 0 else "only root can become a user that is only a number")
    here.chmod(0o777)
    output = python(
        """
        import os, sys
        from msal_extensions import FilePersistence
        os.chdir(sys.argv[1])
        os.setgid(12001)
        os.setuid(12001)
        os.environ.pop("HOME")
        try:
            FilePersistence("~/.app/cache").save("x")
        except FileNotFoundError as error:
            print("HOME" in str(error), os.listdir())
        """,
        str(here),
        environment={"HOME": "/"},
    )
    assert output.stdout == "True []\n"


# ---- directories ----


@pytest.mark.parametrize("directory", ["Q:\\", "Q:\\x\\y", "\\\\server\\share\\x"])
def test_a_drive_that_is_not_there_is_an_error_and_no_endless_recursion(directory: str) -> None:
    """With Windows' rules for paths, on every system: nothing is above a drive."""
    with (
        mock.patch.object(os, "path", ntpath),
        mock.patch.object(ntpath, "exists", return_value=False),
        mock.patch.object(ntpath, "isdir", return_value=False),
        pytest.raises(FileNotFoundError) as caught,
    ):
        persistence._mkdir_p(directory)
    assert isinstance(caught.value, errors.PersistenceDirectoryNotFound)
    assert "no such drive or share" in str(caught.value)
    assert "Choose a location" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "long"),
    [
        ("C:\\Users\\me", "\\\\?\\C:\\Users\\me"),
        ("\\\\server\\share\\me", "\\\\?\\UNC\\server\\share\\me"),
        ("\\\\?\\C:\\Users\\me", "\\\\?\\C:\\Users\\me"),
        ("\\\\.\\C:\\Users\\me", "\\\\.\\C:\\Users\\me"),
    ],
)
def test_a_long_path_of_windows_gets_the_prefix_that_lifts_the_limit(given: str, long: str) -> None:
    """With Windows' rules for paths, on every system."""
    with mock.patch.object(os, "path", ntpath), mock.patch.object(sys, "platform", "win32"):
        for length in (247, 248, 300):
            path, longer = (text + "\\" + "x" * (length - len(given) - 1) for text in (given, long))
            assert len(path) == length
            assert _paths.for_python(path) == (path if length <= 247 else longer)


def test_directories_are_made_however_many(here: Path) -> None:
    output = python(
        """
        import sys
        from msal_extensions import FilePersistence
        sys.setrecursionlimit(150)
        location = "d/" * 300 + "cache"
        FilePersistence(location).save("x")
        print(FilePersistence(location).load())
        """
    )
    assert output.stdout == "x\n"


@requires(FILE_MODES)
def test_processes_that_make_the_same_directories_all_get_them(tmp_path: Path) -> None:
    code = """
        from msal_extensions import FilePersistence
        ready()
        for number in range(50):
            FilePersistence(f"{sys.argv[2]}/{number}/a/b/c/cache")
        print("made")
    """
    assert crowd(code, 4, str(tmp_path)) == ["made\n"] * 4
    for directory in tmp_path.rglob("*"):
        assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_directory_that_may_not_be_made_is_denied(code: int, here: Path) -> None:
    """As a save on a read-only file system is denied."""
    stored = FilePersistence("cache")
    for build in (
        lambda: FilePersistence("new/cache"),
        lambda: PersistedTokenCache(stored, "new/lock"),
    ):
        with (
            library_that_answers(lib.MSALEX_DENIED, code, "msalex_directory_make"),
            pytest.raises(PersistenceDenied) as caught,
        ):
            build()
        assert isinstance(caught.value, PermissionError)
        assert caught.value.errno == code
        assert "may write to" in str(caught.value)


@requires(SYMBOLIC_LINKS)
def test_a_path_through_what_is_made_on_the_way_and_through_links_is_made(here: Path) -> None:
    (here / "real").mkdir()
    (here / "link").symlink_to("real")
    for directory in ("new/../other/./x", "link/a/b", str(here / "new" / "..") + "//y/"):
        persistence._mkdir_p(directory)
        assert os.path.isdir(directory)
    (here / "nowhere").symlink_to("missing")
    with pytest.raises(PersistenceError) as caught:
        persistence._mkdir_p("nowhere")
    assert isinstance(caught.value, FileExistsError)


# ---- objects that were not made by our constructor ----


def test_a_subclass_that_does_not_call_our_constructor_saves(tmp_path: Path) -> None:
    class Own(FilePersistence):
        def __init__(self, location: Path) -> None:
            self._location = str(location)

    Own(tmp_path / "cache").save("x")
    assert Own(tmp_path / "cache").load() == "x"


def test_what_1_3_1_pickled_saves(tmp_path: Path) -> None:
    restored = FilePersistence.__new__(FilePersistence)
    restored.__dict__.update({"_location": str(tmp_path / "cache")})
    restored.save("x")
    assert restored.load() == "x"


# ---- the signal file of a keyring ----


class Agent:
    """Takes the place of the Secret Service."""

    def __init__(self, schema: str, attributes: object, **options: object) -> None:
        self.saved: list[str] = []
        self.stores = True
        self.meanwhile: Callable[[], None] = lambda: None

    def connect(self) -> None:
        pass

    def save(self, data: str) -> bool:
        self.meanwhile()
        self.saved.append(data)
        return self.stores


@pytest.fixture
def keyring(tmp_path: Path) -> LibsecretPersistence:
    with mock.patch.object(libsecret, "LibSecretAgent", Agent):
        return LibsecretPersistence(tmp_path / "directory" / "signal")


def agent_of(keyring: LibsecretPersistence) -> Agent:
    return keyring._agent  # type: ignore[return-value]


def replace_by_a_directory(signal: Path) -> None:
    signal.mkdir()


def remove_the_directory(signal: Path) -> None:
    signal.parent.rmdir()


def make_the_directory_a_file(signal: Path) -> None:
    signal.parent.rmdir()
    signal.parent.touch()


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (replace_by_a_directory, IsADirectoryError),
        (remove_the_directory, FileNotFoundError),
        (make_the_directory_a_file, NotADirectoryError),
    ],
)
def test_no_secret_is_stored_when_others_could_not_be_told(
    keyring: LibsecretPersistence,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    kind: type[Exception],
) -> None:
    spoil(tmp_path / "directory" / "signal")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PersistenceError) as caught:
        keyring.save("x")
    if os.name == "posix":
        assert isinstance(caught.value, kind)
    assert agent_of(keyring).saved == []
    assert sorted(tmp_path.rglob("*")) == before


@requires(FILE_MODES, "os.setuid")
@pytest.mark.parametrize("exists", [True, False])
def test_no_secret_is_stored_by_a_user_that_may_not_write_the_signal_file(
    tmp_path: Path, exists: bool
) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    if exists:
        (directory / "signal").touch()
        (directory / "signal").chmod(0o444)
    directory.chmod(0o555)
    tmp_path.chmod(0o755)
    output = python(
        """
        import os, sys
        from unittest import mock
        from msal_extensions import LibsecretPersistence, libsecret
        class Agent:
            def __init__(self, *_, **__): pass
            def connect(self): pass
            def save(self, data):
                print("stored")
                return True
        os.chdir(sys.argv[1])
        if os.geteuid() == 0:
            os.setgid(12001)
            os.setuid(12001)
        with mock.patch.object(libsecret, "LibSecretAgent", Agent):
            persistence = LibsecretPersistence("signal")
        try:
            persistence.save("x")
        except PermissionError:
            print("denied", os.listdir())
        """,
        str(directory),
    )
    directory.chmod(0o755)
    assert output.stdout == f"denied {['signal'] if exists else []}\n"


def test_a_signal_file_that_is_anothers_is_tried_before_the_secret_is_stored(
    keyring: LibsecretPersistence, tmp_path: Path
) -> None:
    """Only touch() itself finds out whether the file can be trusted."""
    signal = tmp_path / "directory" / "signal"
    signal.touch()
    refused = errors.PersistenceNotTrusted(errno.EACCES, "of user 12001", str(signal))
    with (
        mock.patch.object(os, "geteuid", return_value=12002, create=True),
        mock.patch.object(files, "touch", side_effect=refused),
        pytest.raises(errors.PersistenceNotTrusted),
    ):
        keyring.save("x")
    assert agent_of(keyring).saved == []


@pytest.mark.parametrize("exists", [True, False])
def test_others_see_the_time_move_after_the_secret_is_stored_and_only_then(
    keyring: LibsecretPersistence, tmp_path: Path, exists: bool
) -> None:
    signal = tmp_path / "directory" / "signal"
    if exists:
        signal.touch()
        os.utime(signal, (1, 1))
    seen: list[object] = []

    def look() -> None:
        seen.append(signal.stat().st_mtime if signal.exists() else None)
        seen.append(os.listdir(signal.parent) == (["signal"] if exists else []))

    agent_of(keyring).meanwhile = look
    keyring.save("x")
    assert seen == [1.0 if exists else None, True]
    assert signal.stat().st_mtime > 1e9
    assert os.listdir(signal.parent) == ["signal"]


def test_others_see_no_change_when_an_agent_cannot_tell_whether_it_stored_the_secret(
    keyring: LibsecretPersistence, tmp_path: Path
) -> None:
    """1.3.1 asks what its agent returns, and programs have agents of their own."""
    signal = tmp_path / "directory" / "signal"
    signal.touch()
    os.utime(signal, (1, 1))
    agent_of(keyring).stores = False
    keyring.save("x")
    assert agent_of(keyring).saved == ["x"]
    assert signal.stat().st_mtime == 1
