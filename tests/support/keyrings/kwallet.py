"""KWallet, the Secret Service of KDE, in each state in which a program can meet it.

A wallet is made and opened as pam_kwallet does it at login: the method pamOpen takes the key that
is derived from the user's password and from a file with salt beside the wallet.  It makes a wallet
if there is none.  The Secret Service sees a new wallet only after a restart, and calls one that was
opened at login "locked" until a program calls Unlock.  That asks nobody.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import ClassVar

from tests.support.keyring import (
    PASSWORD,
    PROMPT,
    ROOT,
    SERVICE,
    Keyring,
    wait,
)

#: What a program may meet.
OPEN = "open"
AT_LOGIN = "opened at login"  #: and called locked, although nobody needs to type anything
CLOSED = "closed"  #: a person must type the password
NO_WALLET = "no wallet"  #: as after the installation

WALLET = "kdewallet"
#: The daemon of KDE 5, and that of the first versions of KDE 6.
_DAEMON = "kwalletd5" if shutil.which("kwalletd5") else "kwalletd6"
_PACKAGE = {"kwalletd5": "libkf5wallet-bin", "kwalletd6": "kwallet6"}[_DAEMON]
_SALT = bytes(range(56))
_CONFIGURATION = f"""[Wallet]
Enabled=true
First Use=false
Default Wallet={WALLET}
[org.freedesktop.secrets]
apiEnabled=true
"""


class KWallet(Keyring):
    """It shows its dialogs on ``display``, if there is one; else they are where nobody sees."""

    programs: ClassVar = {_DAEMON: _PACKAGE}

    def __init__(
        self, directory: str | os.PathLike[str], state: str = OPEN, display: str = ""
    ) -> None:
        super().__init__(directory)
        self.state = state
        self.service_variables["QT_QPA_PLATFORM"] = "xcb" if display else "offscreen"
        self.service_variables["DISPLAY"] = display
        self._wallets = self.home / "data" / "kwalletd"
        if state != NO_WALLET:
            self._wallets.mkdir()
            (self._wallets / f"{WALLET}.salt").write_bytes(_SALT)
            (self.home / "config" / "kwalletrc").write_text(_CONFIGURATION)

    def start_service(self) -> None:
        file = self._wallets / f"{WALLET}.kwl"
        if self.state != NO_WALLET and not file.exists():
            self._start()
            self.open_as_at_login()
            wait(lambda: file.stat().st_size >= 60, "no wallet was made")
            self.stop_service()
        self._start()
        if self.state in (OPEN, AT_LOGIN):
            self.open_as_at_login()
        if self.state == OPEN:
            self._unlock()

    def _start(self) -> None:
        self._service = self.spawn([_DAEMON])
        wait(self.has_name, "KWallet did not appear")

    def open_as_at_login(self) -> None:
        """Opens the wallet as pam_kwallet does, and makes it if there is none."""
        key = hashlib.pbkdf2_hmac("sha512", PASSWORD, _SALT, 50_000, 56)
        self._kwallet("pamOpen", "sayi", WALLET, key, 0)
        wait(self.is_open, "the wallet was not opened")

    def is_open(self) -> bool:
        """What KDE's own programs are told."""
        return bool(self._kwallet("isOpen", "s", WALLET)[0])

    def unlock_collection(self) -> None:
        self.open_as_at_login()
        self._unlock()

    def _unlock(self) -> None:
        with self.client() as client:
            _, prompt = client.call(ROOT, SERVICE, "Unlock", "ao", [self.collection(client)])
            if prompt != "/":
                client.call(prompt, PROMPT, "Prompt", "s", "")
        wait(lambda: not self.is_locked(), "the wallet was not unlocked")

    def _kwallet(self, method: str, signature: str, *body: object) -> tuple[object, ...]:
        with self.client() as client:
            where = (f"/modules/{_DAEMON}", "org.kde.KWallet", method, signature)
            answer: tuple[object, ...] = client.call(*where, *body, to=f"org.kde.{_DAEMON}")
            return answer
