"""KeePassXC, a password manager that is also a Secret Service.

It offers the items of one group of a database.  Which group that is, is written in the database, so
the database is made from a file of XML.
"""

from __future__ import annotations

import base64
import os
import subprocess
import uuid
from collections.abc import Mapping
from typing import ClassVar

from tests.support.keyring import COLLECTION, PASSWORD, Keyring, wait

#: Attributes that each item has.
OWN_ATTRIBUTES = ("Notes", "Path", "Title", "URL", "UserName", "Uuid")
_GROUP = uuid.UUID("12345678-1234-5678-1234-567812345678")
_DATABASE = f"""<?xml version="1.0" encoding="UTF-8"?>
<KeePassFile>
  <Meta>
    <RecycleBinEnabled>False</RecycleBinEnabled>
    <CustomData>
      <Item><Key>FDO_SECRETS_EXPOSED_GROUP</Key><Value>{{{_GROUP}}}</Value></Item>
    </CustomData>
  </Meta>
  <Root>
    <Group><UUID>{base64.b64encode(_GROUP.bytes).decode()}</UUID><Name>Root</Name></Group>
  </Root>
</KeePassFile>
"""
# After every change it would save in a thread, and crash if it is changed meanwhile (2.7.4: a
# segmentation fault in a pooled thread, with 8 programs at once).  It saves when it ends.
_CONFIGURATION = """[General]
SingleInstance=false
AutoSaveAfterEveryChange=false
UpdateCheckMessageShown=true
[GUI]
CheckForUpdates=false
[FdoSecrets]
Enabled=true
ShowNotification=false
ConfirmDeleteItem=false
ConfirmAccessItem={confirm}
"""
#: The interface by which KeePassXC is told to open a database.
_WINDOW = "org.keepassxc.KeePassXC.MainWindow"


class KeePassXC(Keyring):
    """It shows its dialogs on ``display``, if there is one; else they are where nobody sees.

    :param confirm: A person must allow each program each item, which is KeePassXC's default.
    """

    programs: ClassVar = {"keepassxc": "keepassxc", "keepassxc-cli": "keepassxc"}
    end_s = 2.0  # told to end while a dialog is open, it only locks itself

    def __init__(
        self, directory: str | os.PathLike[str], confirm: bool = False, display: str = ""
    ) -> None:
        super().__init__(directory)
        self._confirm = confirm
        self.service_variables["QT_QPA_PLATFORM"] = "xcb" if display else "minimal"
        self.service_variables["DISPLAY"] = display
        self.service_variables["TMPDIR"] = str(self._sockets)
        self._database = self.home / "passwords.kdbx"

    def start_service(self) -> None:
        if not self._database.exists():
            self._make_database()
        files = {"config": self.home / "keepassxc.ini", "localconfig": self.home / "local.ini"}
        confirm = str(self._confirm).lower()
        files["config"].write_text(_CONFIGURATION.format(confirm=confirm))
        options = [f"--{name}={file}" for name, file in files.items()]
        self._service = self.spawn(["keepassxc", *options])
        wait(self._is_running, "KeePassXC is not on the bus")
        self.unlock_collection()  # its option --pw-stdin crashes version 2.7.10

    def unlock_collection(self) -> None:
        with self.client() as client:
            where = ("/keepassxc", _WINDOW, "openDatabase", "ss")
            client.call(*where, str(self._database), PASSWORD.decode(), to=_WINDOW)
        wait(self._is_unlocked, "the database was not unlocked")

    def _is_running(self) -> bool:
        with self.client() as client:
            return client.has(_WINDOW)

    def _make_database(self) -> None:
        xml = self.home / "database.xml"
        xml.write_text(_DATABASE)
        subprocess.run(
            ["keepassxc-cli", "import", "--set-password", str(xml), str(self._database)],
            input=(PASSWORD + b"\n") * 2,
            env={**self.environment, **self.service_variables},
            capture_output=True,
            check=True,
            timeout=60,
        )

    def _is_unlocked(self) -> bool:
        with self.client() as client:
            return not client.get(self.collection(client), COLLECTION, "Locked")

    def _given(self, attributes: Mapping[str, str]) -> Mapping[str, str]:
        return {name: it for name, it in attributes.items() if name not in OWN_ATTRIBUTES}
