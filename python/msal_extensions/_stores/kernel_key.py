"""The key in the memory of the Linux kernel, and the choice among the sources that need no word of
the program."""

from __future__ import annotations

import os
from collections.abc import Sequence
from secrets import token_bytes

from .._native import kernelkey
from .._native.kernelkey import Missing
from .._references import KEY_UNAVAILABLE
from ..errors import (
    KeyExpired,
    KeyInOtherNamespace,
    KeyLost,
    KeyLostAtReboot,
    KeyUnavailable,
    KeyWrong,
    PersistenceError,
    with_remedy,
)
from .envelope import KEY_BYTES, Header, id_of
from .key_file import CredentialKey, KeyFile
from .keys import ORIGINS, KeySource, Protection, Ring

#: The environment variable that names a key file.
KEY_FILE_VARIABLE = "MSAL_EXTENSIONS_KEY_FILE"

_PLACE = "kernel keyring"
_HOW_TO_GIVE_A_KEY = f"""\
Where there is no kernel keyring, give this program a key; `openssl rand -base64 32` makes one:
- Docker: docker run -v /path/to/key:/run/secrets/key:ro -e {KEY_FILE_VARIABLE}=/run/secrets/key
  ... (the key file has to belong to the user that the program is in the container)
- Kubernetes: mount a Secret as a volume, and set {KEY_FILE_VARIABLE} to the path of its file.
- systemd: LoadCredentialEncrypted=msal-extensions-key:/path/to/key.cred in the unit's [Service]."""
#: Of a key that only a program, or a command, can give.
_SAME_KEY = KEY_UNAVAILABLE.saying(
    "Use a program that has this key. If the key is lost, remove the file and sign in again."
)
#: What a programmer can do about a lost key.
_SIGN_IN_AGAIN = (
    'Call delete() and sign in again; or use on_lost_key="quarantine". A key file or a credential'
    " of systemd survives that."
)


class KernelKey(KeySource):
    """A key that the Linux kernel keeps in memory, for all processes of this user.

    It is made by the first save.  It is lost at a reboot, and after three days without use.
    Containers have their own, or (by seccomp) none.  See persistent-keyring(7).

    :raises KeyUnavailable: where there is no kernel keyring.
    """

    word = "kernel"
    protection = Protection.UNTIL_REBOOT
    refresh_after = 3600.0  # the kernel counts the days from the last look

    #: Whether the kernel said of a key, at the last look, that it is expired.
    _some_expired = False

    #: There are so many numbers.  A key never changes its number, and a number never its key.
    NUMBERS = 16

    def ring(self) -> Ring:
        # The one with the highest number is the newest.
        return {id_of(secret): secret for _, secret in reversed(self._found())}

    def _found(self) -> list[tuple[int, bytes]]:
        """The keys that are there, and their numbers, in the order of these."""
        numbers = range(1, self.NUMBERS + 1)
        try:
            secret = [(number, kernelkey.find(number)) for number in numbers]
        except PersistenceError as error:
            raise with_remedy(
                KeyUnavailable,
                error.errno,
                f"{error.strerror}\n",
                _PLACE,
                advice=_HOW_TO_GIVE_A_KEY,
            ) from error
        self._some_expired = any(found is Missing.EXPIRED for _, found in secret)
        return [
            (number, found)
            for number, found in secret
            if isinstance(found, bytes) and len(found) == KEY_BYTES
        ]

    def hints(self) -> dict[str, str]:
        return {"boot": kernelkey.boot_id(), "userns": kernelkey.user_namespace()}

    def make(self, known: Sequence[str]) -> None:
        # At the number after the first known key, and at no other.  If another process has made
        # that one since, the kernel keeps it: then both processes have the same new key.
        numbers = {id_of(secret): number for number, secret in self._found()}
        self._add(numbers.get(known[0], 0) + 1 if known else 1, token_bytes(KEY_BYTES))

    def put_back(self, secret: bytes) -> bool:
        self._add(max((number for number, _ in self._found()), default=0) + 1, secret)
        return True

    def _add(self, number: int, secret: bytes) -> None:
        if number > self.NUMBERS:
            cause = KEY_UNAVAILABLE.saying("Remove old ones: see `keyctl show`.")
            words = f"There are {self.NUMBERS} keys already."
            raise with_remedy(KeyUnavailable, None, words, _PLACE, cause)
        kernelkey.add(number, secret)

    def lost(self, header: Header, age: float, location: str) -> KeyLost:
        if header.source != self.word:
            return super().lost(header, age, location)
        here, hints, key_id = self.hints(), header.hints, header.key_id
        kind: type[KeyLost] = KeyWrong
        words = f"Its key {key_id} is not in the kernel keyring of this user. Was it saved by"
        words += " another user, or was the key removed?"
        advice = "Run the program as that user; or call delete() and sign in again."
        days = kernelkey.expires_after() / 86400
        if _differ(hints["boot"], here["boot"]):
            kind, advice = KeyLostAtReboot, _SIGN_IN_AGAIN
            words = "Its key was in the memory of the kernel, and this machine was started anew"
            words += " since."
        elif _differ(hints["userns"], here["userns"]):
            kind = KeyInOtherNamespace
            words = "Its key is in the kernel keyring of another user namespace, for example"
            words += " outside of this container."
            advice = "Run the program there; or call delete() and sign in again."
        elif self._some_expired or age > kernelkey.expires_after():
            kind, advice = KeyExpired, _SIGN_IN_AGAIN
            words = f"The kernel has removed its key, because it was not used for {days:g} days."
        return with_remedy(kind, None, words, location, None, key_id, advice=advice)


def _differ(one: str, other: str) -> bool:
    """For certain: an empty one could not be read."""
    return bool(one and other) and one != other


def default_source(word: str | None, location: str) -> KeySource:
    """The source where the program names none.

    That is the file that MSAL_EXTENSIONS_KEY_FILE names, else the systemd credential
    msal-extensions-key, else the kernel keyring.  A file that exists stays with its source.

    :param word: The source of the file that exists; None: there is no file.
    :raises KeyUnavailable: when that source is not here.
    """
    path, credential = os.environ.get(KEY_FILE_VARIABLE), CredentialKey()
    if word == "file" or (word is None and path):
        if path:
            return KeyFile(path)
        words = "It is encrypted with the key of a key file:"
        cause = KEY_UNAVAILABLE.saying(f"Set {KEY_FILE_VARIABLE} to its path.")
        advice = f"set {KEY_FILE_VARIABLE} to its path."
        raise with_remedy(KeyUnavailable, None, words, location, cause, advice=advice)
    if word == "credential" or (word is None and credential.is_there()):
        return credential
    if word in (None, "kernel"):
        return KernelKey()
    words = f"It is encrypted with a key that came from {ORIGINS[word]}:"
    advice = "pass the same key=."
    raise with_remedy(KeyUnavailable, None, words, location, _SAME_KEY, advice=advice)
