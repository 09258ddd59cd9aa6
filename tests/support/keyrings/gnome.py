"""gnome-keyring, the Secret Service of GNOME and of most other desktops."""

from __future__ import annotations

import subprocess
from typing import ClassVar

from tests.support.keyring import PASSWORD, ROOT, Keyring, wait

#: gnome-keyring has it for its own tests.
INTERNAL = "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface"


class GnomeKeyring(Keyring):
    """It has no program for prompts here, so one that is locked stays locked."""

    programs: ClassVar = {"gnome-keyring-daemon": "gnome-keyring"}

    def start_service(self) -> None:
        command = ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"]
        self._service = self.spawn(command, stdin=subprocess.PIPE)
        assert self._service.stdin is not None
        self._service.stdin.write(PASSWORD)
        self._service.stdin.close()
        wait(self.collection_is_there, "the keyring did not appear")

    def unlock_collection(self) -> None:
        with self.client() as client:
            secret = (client.session(), b"", PASSWORD, "text/plain")
            path = self.collection(client)
            client.call(ROOT, INTERNAL, "UnlockWithMasterPassword", "o(oayays)", path, secret)
        assert not self.is_locked()
