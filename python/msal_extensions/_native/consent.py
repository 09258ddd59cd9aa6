"""Folders of a Mac that a program may use only when a person has allowed it.

There the kernel answers EPERM, whatever the modes of the files are.  The folders are those of
https://support.apple.com/guide/mac-help/mchld5a35146/mac: Desktop, Documents, Downloads, iCloud
Drive and the folders of other clouds, and volumes that are removable or on a network.
"""

from __future__ import annotations

import errno
import os
import sys

_IN_HOME = ("Desktop", "Documents", "Downloads", "Library/Mobile Documents", "Library/CloudStorage")
_VOLUMES = "/Volumes"
_REMEDY = (
    "macOS keeps programs out of this folder until a person allows it: see System Settings >"
    " Privacy & Security > Files and Folders (or Full Disk Access), for the application that"
    " started this program, such as Terminal. Or choose a location elsewhere, such as"
    " ~/Library/Application Support."
)
_is_macos = sys.platform == "darwin"


def consent_remedy(code: int, location: str) -> str:
    """What a person can do about that errno at that location; "" when it is no such case."""
    if not _is_macos or code != errno.EPERM:
        return ""
    folders = [_VOLUMES, *(os.path.join(os.path.expanduser("~"), name) for name in _IN_HOME)]
    path = _comparable(location)
    return (
        _REMEDY if any(path.startswith(_comparable(folder) + os.sep) for folder in folders) else ""
    )


def _comparable(path: str) -> str:
    """Letter case makes no difference on most Macs."""
    return os.path.realpath(path).casefold()
