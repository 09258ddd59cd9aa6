"""A command `security` that does nothing, for machines that are no Mac."""

from __future__ import annotations

import os
from pathlib import Path

#: Writes what it is told into $LOG.  It fails where $LOCKED and $NO_DEFAULT say so.
COMMAND = """#!/bin/sh
echo "$@" >> "$LOG"
case "$*" in
  "list-keychains -d user") echo '    "/former/login.keychain-db"'; echo '    "/former/b c"' ;;
  "default-keychain -d user") test -n "$NO_DEFAULT" || echo '    "/former/login.keychain-db"'
                              test -z "$NO_DEFAULT" ;;
  unlock-keychain*) test -z "$LOCKED" ;;
esac
"""


def install(directory: Path) -> dict[str, str]:
    """The command in that directory: the environment in which it is found."""
    command = directory / "security"
    command.write_text(COMMAND)
    command.chmod(0o700)
    return {
        "PATH": f"{directory}:{os.environ['PATH']}",
        "LOG": str(directory / "log"),
        "LOCKED": "",
        "NO_DEFAULT": "",
    }


def put_back(directory: Path, default: str = " /former/login.keychain-db") -> list[str]:
    """What it must be told last, when a keychain in that directory was made."""
    return [
        f"default-keychain -d user -s{default}",
        "list-keychains -d user -s /former/login.keychain-db /former/b c",
        f"delete-keychain {directory / 'throw-away.keychain-db'}",
    ]
