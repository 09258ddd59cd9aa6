"""A key in a file: of the user, of Docker or Kubernetes, or of systemd."""

from __future__ import annotations

import os
import stat
import sys

from .._references import ARGUMENT, KEY_UNAVAILABLE
from ..errors import KeyFileNotTrusted, KeyUnavailable, PersistenceError, with_remedy
from .keys import MAKE_ONE, SIZE_MAX, KeySource, Protection, Ring, has_keys, ring_in

_PUT_INTO_FILE = KEY_UNAVAILABLE.saying(
    "Put it into a file that only you can read, and give the path of that file."
)
_GIVE_PATH = KEY_UNAVAILABLE.saying(
    f"Give the path of a key file that this user may read. {MAKE_ONE.remedy}"
)


class KeyFile(KeySource):
    """A key in a file: a secret of Docker or Kubernetes, or a file that only you can read.

    Such a file is read and never made.

    :param path: The file.  It has 32 bytes, or lines of text: each is the Base64 of 32 bytes.  The
        first one encrypts, the others open what was encrypted before.
    :raises KeyUnavailable: when this is a key itself, as it happens with environment variables.
    """

    word = "file"
    refresh_after = 60.0  # so that a program that runs for long finds a new key

    def __init__(self, path: str | os.PathLike[str]) -> None:
        secret, path = os.fsdecode(path), ""
        self.path = os.path.abspath(os.path.expanduser(secret))
        if not os.path.lexists(self.path) and has_keys(secret):
            self.path = "(a key)"  # no message may show it
            words = "This is a key, and not the path of a key file."
            raise with_remedy(KeyUnavailable, None, words, self.path, _PUT_INTO_FILE)

    def ring(self) -> Ring:
        return ring_in(_read_secret(self.path), self.path)

    def protects(self, location: str) -> Protection:
        key, cache = (os.path.dirname(os.path.realpath(each)) for each in (self.path, location))
        return Protection.BESIDE if key == cache else Protection.KEY_FILE


def _read_secret(path: str) -> bytes:
    try:
        secret = _read_trusted(path)
    except PersistenceError:
        raise
    except OSError as error:
        words = f"{error.strerror}."
        raise with_remedy(KeyUnavailable, error.errno, words, path, _GIVE_PATH) from None
    if len(secret) <= SIZE_MAX:
        return secret
    words = f"This is no key file: it has more than {SIZE_MAX} bytes."
    raise with_remedy(KeyUnavailable, None, words, path, MAKE_ONE)


def _read_trusted(path: str) -> bytes:
    """:raises OSError: when the system refuses any of the calls."""
    # A pipe that nobody writes to must not hold us.
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check_rights(file, path)
        return os.read(file, SIZE_MAX + 1)
    finally:
        os.close(file)


def _check_rights(file: int, path: str) -> None:
    """A user who may read a key file can decrypt; one who may change it can plant a known key.

    The containers of Docker and Kubernetes have their secrets on mounts that are read-only, where
    everybody in the container may read them.  A group that root has chosen may read (systemd).

    :raises KeyFileNotTrusted: when others have rights.
    """
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        words = "This is a directory, a pipe or a device, and no key file."
        raise with_remedy(KeyUnavailable, None, words, path, MAKE_ONE)
    if sys.platform == "win32":  # the access list there is the administrator's business
        return
    me = os.geteuid()
    if found.st_uid not in (0, me):
        raise with_remedy(KeyFileNotTrusted, None, "Another user owns this key file.", path)
    if found.st_mode & 0o022:
        raise with_remedy(KeyFileNotTrusted, None, "Other users may write to this key file.", path)
    by_choice_of_root = found.st_uid == 0 != me and not found.st_mode & 0o004
    is_read_only = os.fstatvfs(file).f_flag & os.ST_RDONLY
    if found.st_mode & 0o044 and not by_choice_of_root and not is_read_only:
        raise with_remedy(KeyFileNotTrusted, None, "Other users may read this key file.", path)


class CredentialKey(KeyFile):
    """A key that systemd gives to a service: LoadCredentialEncrypted= or LoadCredential=.

    https://systemd.io/CREDENTIALS/

    :param name: Of the credential.
    """

    word = "credential"

    def __init__(self, name: str = "msal-extensions-key") -> None:
        if os.path.basename(name) != name or name in ("", ".", ".."):
            raise ValueError(ARGUMENT.after("The name of a credential is a plain file name"))
        self._name = name

    @property
    def path(self) -> str:  # type: ignore[override]
        """The variable belongs to the process that asks."""
        return os.path.join(os.environ.get("CREDENTIALS_DIRECTORY", ""), self._name)

    def is_there(self) -> bool:
        return bool(os.environ.get("CREDENTIALS_DIRECTORY")) and os.path.exists(self.path)

    def ring(self) -> Ring:
        if os.environ.get("CREDENTIALS_DIRECTORY"):
            return super().ring()
        words = "This process has no credentials of systemd (CREDENTIALS_DIRECTORY is not set)."
        remedy = f"Run it as a service with LoadCredentialEncrypted={self._name}:..."
        raise with_remedy(KeyUnavailable, None, words, self._name, KEY_UNAVAILABLE.saying(remedy))

    def protects(self, location: str) -> Protection:
        return Protection.CREDENTIAL
