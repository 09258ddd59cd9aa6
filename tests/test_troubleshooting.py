"""docs/troubleshooting.md: each message in it is one that programs really say, with its reference.

A heading of the page is a message, or a part of one; "..." in it stands for anything.  A line that
begins with "Also:" has further ones.  SAID says how to get each, and the test gets it: it provokes
the error, or asks 1.3.1, MSAL and the provider.  When an error of ours carries a reference, the
entry must link that one.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msal
import pytest

from msal_extensions import (
    CrossPlatLock,
    EncryptedFilePersistence,
    FilePersistence,
    FilePersistenceWithDataProtection,
    KeychainPersistence,
    KeyFile,
    LibsecretPersistence,
    PersistedTokenCache,
    _import_errors,
    _msalex,
    errors,
)
from msal_extensions._native import keychain
from msal_extensions._references import REFERENCES
from samples.local_identity_provider import LocalIdentityProvider
from tests.support import keyring, situations
from tests.support.capability import needs, requires
from tests.support.kernel_in_memory import Kernel
from tests.support.kernel_in_memory import kernel_fixture as kernel_fixture
from tests.support.library import lib, library_that_answers
from tests.support.processes import finished, python
from tests.support.provider import provider_fixture as provider_fixture
from tests.support.reference import reference_python, reference_site_packages
from tests.support.sign_in import USER_SCOPES, public_app, sign_in
from tests.support.tokens import REFRESH_TOKEN, token
from tests.support.users import THEM, US, as_user, file, link
from tests.support.users import shared as shared

pytestmark = requires("fcntl", "os.fork")

DOCS = Path(__file__).resolve().parents[1] / "docs"
KEY, OTHER_KEY = bytes(32), bytes(range(32))
CODE_SPAN = re.compile(r"`([^`]+)`")


class Entry(NamedTuple):
    """A heading of the page, and what stands below it."""

    section: str
    messages: list[str]
    links: set[str]


def _entries() -> Iterator[Entry]:
    section = ""
    for part in re.split(r"^(?=##)", (DOCS / "troubleshooting.md").read_text("utf-8"), flags=re.M):
        title, _, body = part.partition("\n")
        if title.startswith("### "):
            also = body.partition("\n\n")[0] if body.startswith("Also: ") else ""
            messages = CODE_SPAN.findall(f"{title}\n{also}")
            links = re.findall(r"\[MSX-\d\d\]\(errors\.md#(msx-\d\d)\)", body)
            yield Entry(section, messages, {link.upper() for link in links})
        else:
            section = title.removeprefix("## ")


ENTRIES = list(_entries())


class World(NamedTuple):
    """What a message may need in order to come."""

    here: Path  # an empty directory, and the working directory
    request: pytest.FixtureRequest

    def fixture(self, name: str) -> Any:
        return self.request.getfixturevalue(name)


Says = Callable[[World], str]


def said(work: Callable[[], object]) -> str:
    """The text of the exception that this raises."""
    try:
        work()
    except Exception as error:
        return str(error)
    pytest.fail("there was no exception")


# ---- the token cache and its lock ----


def cache_of(content: bytes, world: World) -> str:
    (world.here / "cache").write_bytes(content)
    return said(lambda: list(PersistedTokenCache(FilePersistence("cache")).search(REFRESH_TOKEN)))


def quarantine(world: World) -> str:
    Path("cache").write_text("[1]")
    caplog: pytest.LogCaptureFixture = world.fixture("caplog")
    with caplog.at_level(logging.WARNING, "msal_extensions"):
        cache = PersistedTokenCache(FilePersistence("cache"), on_unreadable="quarantine")
        assert list(cache.search(REFRESH_TOKEN)) == []
    [kept] = Path().glob("cache.damaged-*")
    [message] = [record.getMessage() for record in caplog.records]
    assert message.endswith(kept.name)
    return message


def busy(world: World) -> str:
    with CrossPlatLock("lock"):
        done = python(
            "from msal_extensions import CrossPlatLock, LockError\n"
            "try: CrossPlatLock('lock', timeout=0.1).acquire()\n"
            "except LockError as error: print(error)"
        )
    assert str(os.getpid()) in done.stdout
    return done.stdout


def entered_twice(world: World) -> str:
    with CrossPlatLock("lock"):
        return said(CrossPlatLock("lock").acquire)


def two_tasks(world: World) -> str:
    cache = PersistedTokenCache(FilePersistence("cache"))

    async def enter() -> None:
        with cache.single_flight():
            pass

    async def both() -> None:
        with cache.single_flight():
            await asyncio.create_task(enter())

    return said(lambda: asyncio.run(both()))


def flight_inside(world: World) -> str:
    cache = PersistedTokenCache(FilePersistence("cache"))
    with cache.transaction():
        return said(cache.single_flight().__enter__)


def lost(world: World) -> str:
    cache, other = (PersistedTokenCache(FilePersistence("cache")) for _ in range(2))

    def change() -> None:
        with cache.transaction():
            os.remove("cache.lockfile")
            other.modify(REFRESH_TOKEN, {**token(1), "secret": "theirs"}, {"secret": "theirs"})
            cache.modify(REFRESH_TOKEN, {**token(1), "secret": "ours"}, {"secret": "ours"})

    return said(change)


def released_in_a_child(world: World) -> str:
    done = python(
        """
        import os
        from msal_extensions import CrossPlatLock, LockError
        lock = CrossPlatLock("lock").acquire()
        child = os.fork()
        if child == 0:
            try:
                lock.release()
            except LockError as error:
                print(error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        """
    )
    return done.stdout


# ---- keyrings ----

#: Prints each error of a program that loads.
LOADS = """
import os, sys
from msal_extensions import LibsecretPersistence, PersistenceError
try:
    persistence = LibsecretPersistence("cache", "schema", {}, timeout=1)
    print(persistence.load())
    if sys.argv[1:]:
        child = os.fork()
        if child:
            sys.exit(os.waitpid(child, 0)[1])
        print(persistence.load())
except PersistenceError as error:
    print(error, flush=True)
"""


def loading(enter: situations.Enter, *arguments: str) -> Says:
    """What a program says in this situation."""

    def says(world: World) -> str:
        needs(keyring.missing())
        with enter(world.here) as situation:
            command = situation.command([sys.executable, "-c", LOADS, *arguments])
            return finished(command, world.here, situation.environment)

    return says


def osstatus(world: World, code: int = 0) -> str:
    """The text for a code of macOS, whose class stands in docs/keychain.md."""
    page = (DOCS / "keychain.md").read_text("utf-8")
    [kind] = re.findall(rf"^\| .*{code}\b.*\| .* \| `(\w+)` \|$", page, re.M)
    status = next(it for it, each in keychain._KINDS.items() if each is getattr(errors, kind))
    error = _msalex.ffi.new("msalex_error *")
    error.code = code
    item = keychain.Item("service", "account")
    return said(lambda: keychain._raise(status, error, lib.MSALEX_KEYCHAIN_LOAD, item))


def dpapi(world: World, code: int = 0, call: str = "unprotect") -> str:
    """The text for an error code of Windows, which the C library is made to return."""
    Path("cache").write_bytes(b"sealed")
    names = ("msalex_dpapi_available", f"msalex_dpapi_{call}")
    with library_that_answers([lib.MSALEX_OK, lib.MSALEX_OS_ERROR], code, *names) as answers:
        persistence = FilePersistenceWithDataProtection("cache")
        work = persistence.load if call == "unprotect" else partial(persistence.save, "{}")
        text = said(work)
    assert answers.calls == 2
    return text


# ---- files ----


def of_the_system(code: int) -> Says:
    """The system's words for an errno, in a save."""

    def says(world: World) -> str:
        with library_that_answers(lib.MSALEX_OS_ERROR, code, "msalex_file_replace"):
            text = said(lambda: FilePersistence("cache").save("{}"))
        return text.replace("the words of the system", os.strerror(code))

    return says


def denied(world: World) -> str:
    home: Path = world.fixture("shared")
    secret = file(home / "cache", "{}", THEM, 0o600)
    return said(lambda: as_user(US, FilePersistence(secret).load))


def planted(make: Callable[..., Path], *more: Any) -> Says:
    def says(world: World) -> str:
        home: Path = world.fixture("shared")
        home.chmod(0o1777)
        found = make(home / "cache", *more)
        return said(lambda: as_user(US, partial(FilePersistence(found).save, "{}")))

    return says


def dangling(world: World) -> str:
    os.symlink("nowhere/cache", "cache")
    return said(lambda: FilePersistence("cache").save("{}"))


def no_home(world: World) -> str:
    patch: pytest.MonkeyPatch = world.fixture("monkeypatch")
    patch.setattr(os.path, "expanduser", lambda path: path)  # as where there is none
    return said(lambda: FilePersistence("~/cache"))


def large(world: World) -> str:
    with Path("cache").open("wb") as made:
        made.truncate(257 << 20)
    return said(FilePersistence("cache").load)


# ---- encrypted files ----


def sealed(content: Callable[[bytes], bytes], key: bytes = KEY, name: str = "cache") -> Says:
    """What a load says of an encrypted file that was changed."""

    def says(world: World) -> str:
        EncryptedFilePersistence("cache", KEY).save("{}")
        Path("cache").write_bytes(content(Path("cache").read_bytes()))
        return said(EncryptedFilePersistence("cache", key, name=name).load)

    return says


def same(content: bytes) -> bytes:
    return content


def lost_key(**changes: str) -> Says:
    """What a load says when the kernel has no keys any more, and these attributes are others."""

    def says(world: World) -> str:
        kernel: Kernel = world.fixture("kernel")
        EncryptedFilePersistence("cache").save("{}")
        kernel.keys.clear()
        vars(kernel).update(changes)
        os.utime("cache", (0, 0))  # so it was not used for long
        return said(EncryptedFilePersistence("cache").load)

    return says


def key_file(content: bytes, mode: int) -> Says:
    def says(world: World) -> str:
        Path("key").write_bytes(content)
        Path("key").chmod(mode)
        return said(lambda: EncryptedFilePersistence("cache", KeyFile("key")))

    return says


def no_key_given(world: World) -> str:
    EncryptedFilePersistence("cache", KEY).save("{}")
    return said(lambda: EncryptedFilePersistence("cache"))


# ---- installation and sign-in ----


def of_1_3_1(module: str, portalocker: bool = False) -> Says:
    """The source of that module of 1.3.1."""

    def says(world: World) -> str:
        source = reference_site_packages(portalocker) / "msal_extensions" / f"{module}.py"
        return source.read_text("utf-8")

    return says


def with_1_3_1(statement: str) -> Says:
    """What Python with 1.3.1 says of a statement that fails."""

    def says(world: World) -> str:
        [command], environment = reference_python(portalocker=False)
        done = python(
            f"import runpy; {statement}", command=[command], environment=environment, check=False
        )
        assert done.returncode
        return done.stderr

    return says


def variable(world: World) -> str:
    world.fixture("monkeypatch").setenv("MSAL_EXTENSIONS_WITHOUT_KEYRING", "yes")
    return said(lambda: LibsecretPersistence("cache"))


def refused(revoke: Callable[[LocalIdentityProvider], None], forget: bool) -> Says:
    """What MSAL returns when the provider does not renew a token."""

    def says(world: World) -> str:
        provider: LocalIdentityProvider = world.fixture("provider")
        cache = msal.SerializableTokenCache()
        sign_in(provider, cache)
        if forget:  # a refresh token that the provider has never made
            [entry] = list(cache.search(REFRESH_TOKEN))
            cache.modify(REFRESH_TOKEN, entry, {"secret": "made up"})
        revoke(provider)
        app = public_app(provider, cache)
        [account] = app.get_accounts()
        result = app.acquire_token_silent_with_error(USER_SCOPES, account, force_refresh=True)
        assert "access_token" not in result
        return str(result["error_description"])

    return says


SAID: dict[str, Says] = {
    "The token cache is damaged.": partial(cache_of, b'{"AccessToken": {}}{'),
    "Extra data: line 1 column": partial(cache_of, b'{"AccessToken": {}}{'),
    "Expecting value: line 1 column 1 (char 0)": partial(cache_of, bytes(99)),
    "The content is not UTF-8 text": partial(cache_of, b"\xff\xfe"),
    "The token cache was damaged and is empty now; it is kept in ...": quarantine,
    "Persistence not initialized. You can recover by calling a save() first.": lambda world: said(
        FilePersistence("cache").load
    ),
    "Unable to obtain the lock ... within ... second(s); it is held by: ...": busy,
    "Unable to obtain lock, despite trying for ... second(s).": of_1_3_1("filelock"),
    "failed to create lock file": of_1_3_1("cache_lock", portalocker=True),
    "This thread already holds the lock ...": entered_twice,
    "Another asyncio task of this thread is inside": two_tasks,
    "single_flight() while the cache is locked would keep everybody out": flight_inside,
    "was changed meanwhile, by a program that removed the lock file": lost,
    "The lock ... is not held": lambda world: said(CrossPlatLock("lock").release),
    "is held by the process that made this one by fork": released_in_a_child,
    "no session bus: DBUS_SESSION_BUS_ADDRESS is not set": loading(situations.no_variables),
    "The name org.freedesktop.secrets was not provided by any .service files": loading(
        situations.no_service
    ),
    "libsecret-1.so.0: cannot open shared object file": loading(
        situations.without("libsecret-1.so.0")
    ),
    "Unable to import module 'gi'": of_1_3_1("libsecret"),
    "libsecret did not perform properly.": of_1_3_1("libsecret"),
    "the keyring is locked, and without a desktop nobody can be": loading(
        situations.fake(locked=True, stocked=True)
    ),
    "the prompt was dismissed, so the keyring stays locked": loading(
        situations.fake(desktop=True, locked=True, stocked=True, prompt="dismissed")
    ),
    "the Secret Service did not answer in time": loading(
        situations.fake(ignores=["SearchItems"], stocked=True)
    ),
    "nobody answered the prompt of the Secret Service in time": loading(
        situations.fake(desktop=True, locked=True, stocked=True, prompt="never")
    ),
    "the Secret Service has no default keyring": loading(situations.fake(empty=True)),
    "libsecret was used before this process was forked off": loading(
        situations.fake(stocked=True), "fork"
    ),
    "[OSStatus -25308]": partial(osstatus, code=-25308),
    "[OSStatus -25293]": partial(osstatus, code=-25293),
    "[OSStatus -25307]": partial(osstatus, code=-25307),
    "[WinError -2146893813] Decryption failed": partial(dpapi, code=-2146893813),
    "Key not valid for use in specified state.": of_1_3_1("windows"),
    "App developer may consider this guidance": of_1_3_1("persistence"),
    "[WinError 13] Decryption failed": partial(dpapi, code=13),
    "The data is invalid.": of_1_3_1("windows"),
    "[WinError -2146892987] Encryption failed": partial(dpapi, code=-2146892987, call="protect"),
    "Consider disable encryption.": of_1_3_1("persistence"),
    "the Data Protection API exists on Windows only": lambda world: said(
        lambda: FilePersistenceWithDataProtection("cache")
    ),
    "the keychain exists on macOS only": lambda world: said(lambda: KeychainPersistence("cache")),
    "[Errno 13] Permission denied": denied,
    'The symbolic link "..." belongs to user': planted(link, "nowhere", THEM),
    'The file "..." belongs to user': planted(file, "{}", THEM, 0o666),
    "a symbolic link that leads nowhere": dangling,
    "[Errno 2] No such file or directory (open directory)": lambda world: said(
        CrossPlatLock("nowhere/lock").acquire
    ),
    "[Errno 21] Is a directory": lambda world: said(FilePersistence(world.here).load),
    "This user has no home directory.": no_home,
    "There is no user named ... with a home directory.": lambda world: said(
        lambda: FilePersistence("~nobody-of-that-name/cache")
    ),
    "[Errno 28] No space left on device": of_the_system(errno.ENOSPC),
    "[Errno 30] Read-only file system": of_the_system(errno.EROFS),
    "larger than 256 MiB, which no token cache is": large,
    "Its key was in the memory of the kernel, and this machine was started anew": lost_key(
        boot="boot-2"
    ),
    "The kernel has removed its key, because it was not used for ... days.": lost_key(),
    "Its key is in the kernel keyring of another user namespace": lost_key(userns="2"),
    "It is encrypted with the key ..., which came from ...": sealed(same, OTHER_KEY),
    "The file was encrypted with another key, or under another name": sealed(same, name="other"),
    "The encrypted file is damaged, or somebody has changed it": sealed(
        lambda content: content[:-1] + bytes([content[-1] ^ 1])
    ),
    "A newer version has made the encrypted file.": sealed(
        lambda content: content.replace(b"msalex-enc/1", b"msalex-enc/2")
    ),
    "An encrypted file belongs here, but there is plain text": sealed(lambda content: b"{}"),
    "Other users may read this key file.": key_file(KEY, 0o644),
    "Other users may write to this key file.": key_file(KEY, 0o622),
    "There is no key: it has to be 32 bytes, or the Base64 of 32 bytes in each line.": key_file(
        b"a password\n", 0o600
    ),
    "It is encrypted with a key that came from the program: pass the same key=": no_key_given,
    "No module named msal_extensions.__main__": with_1_3_1(
        "runpy.run_module('msal_extensions', run_name='__main__')"
    ),
    "cannot import name 'EncryptedFilePersistence' from 'msal_extensions'": with_1_3_1(
        "from msal_extensions import EncryptedFilePersistence"
    ),
    "msal_extensions cannot be used:": lambda world: str(
        _import_errors.explained(ImportError("words", name="msal_extensions._msalex"))
    ),
    "MSAL_EXTENSIONS_WITHOUT_KEYRING must be raise or encrypted_file": variable,
    "AADSTS50173": refused(LocalIdentityProvider.revoke_refresh_tokens, forget=False),
    "AADSTS70000": refused(lambda provider: None, forget=True),
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> World:
    for name in ("MSAL_EXTENSIONS_KEY_FILE", "MSAL_EXTENSIONS_WITHOUT_KEYRING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return World(tmp_path, request)


@pytest.mark.parametrize("message", SAID)
def test_programs_say_this_message_and_the_page_links_its_reference(
    message: str, world: World
) -> None:
    [entry] = [each for each in ENTRIES if message in each.messages]
    text = SAID[message](world)
    assert re.search(".+".join(map(re.escape, message.split("..."))), text, re.DOTALL), text
    references = set(re.findall(r"\[(MSX-\d\d)\]", text))
    assert references <= entry.links


def test_each_message_of_the_page_is_tried_and_stands_in_one_entry() -> None:
    messages = [message for entry in ENTRIES for message in entry.messages]
    assert sorted(messages) == sorted(SAID)


def test_each_entry_links_a_reference_that_exists_except_those_about_the_provider() -> None:
    page = (DOCS / "errors.md").read_text("utf-8")
    for entry in ENTRIES:
        assert bool(entry.links) == (entry.section != "The sign-in"), entry
        assert entry.links <= REFERENCES.keys()
        assert all(f"\n### {code}\n" in page for code in entry.links)
