"""One directory seen through several mounts, as if from several hosts: FUSE file systems.

    with mounted("sshfs", source, tmp_path / "one") as one, mounted(...) as other:
        ...

A mount does not learn of a change behind it, in the source, until it asks; it is the same with a
file server.  sshfs talks to its server through a pipe here, without a network.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Generator
from pathlib import Path

from tests.support.capability import needs
from tests.support.processes import GENEROUS, eventually

SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
)


def _missing(kind: str) -> str | None:
    if shutil.which(kind) is None:
        return f"{kind} is not installed"
    if _unmounting() is None:
        return "fusermount is not installed"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened"
    if kind == "sshfs" and _sftp_server() is None:
        return "there is no sftp-server (Debian: openssh-sftp-server)"
    return None


def _sftp_server() -> str | None:
    return next((path for path in SFTP_SERVERS if os.access(path, os.X_OK)), None)


def _unmounting() -> str | None:
    return shutil.which("fusermount3") or shutil.which("fusermount")


def _daemon(kind: str, source: Path, at: Path) -> list[str]:
    """The command for the process of the file system, which stays in the foreground."""
    if kind == "bindfs":
        return ["bindfs", "-f", str(source), str(at)]
    connect = at.with_name(at.name + ".connect")
    connect.write_text(f"#!/bin/sh\nexec {_sftp_server()}\n")
    connect.chmod(stat.S_IRWXU)
    return ["sshfs", "-f", "-o", f"ssh_command={connect}", f"here:{source}", str(at)]


@contextlib.contextmanager
def mounted(kind: str, source: Path, at: Path) -> Generator[Path]:
    """The directory through a mount of that kind; the mount ends with the block."""
    needs(_missing(kind))
    at.mkdir()
    daemon = subprocess.Popen(
        _daemon(kind, source, at),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert eventually(lambda: os.path.ismount(at) or daemon.poll() is not None)
        if daemon.poll() is not None:
            needs(f"{kind} cannot mount here: {daemon.communicate()[1]}")
        yield at
    finally:
        unmount = [str(_unmounting()), "-u", "-z", str(at)]  # -z: even when a file is still open
        subprocess.run(unmount, capture_output=True, timeout=GENEROUS)
        try:
            daemon.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.communicate()
