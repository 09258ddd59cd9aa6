"""Real file systems for one program, which end with it: tmpfs, overlayfs, bindfs (FUSE).

    needs(missing("bindfs"))
    command = on("bindfs", directory, [sys.executable, "-m", ...])      # sees it at directory/here

Root mounts them in a mount namespace that only the program and its children see.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = "here"
#: The commands that the shell runs in the directory before the program.  "disk" is the file system
#: that the directory is on.
MOUNT = {
    "disk": ": ",
    "tmpfs": "mount -t tmpfs none here",
    "overlayfs": (
        "mkdir layers; mount -t tmpfs none layers; mkdir layers/lower layers/upper layers/work;"
        " mount -t overlay -o lowerdir=layers/lower,upperdir=layers/upper,workdir=layers/work"
        " none here"
    ),
    "bindfs": "mkdir -p below; bindfs below here",
}


def on(file_system: str, directory: Path, program: Sequence[str], cwd: Path) -> list[str]:
    """The command that runs the program with the file system at ``directory/here``."""
    # The daemon of a FUSE file system ends when its last mount ends.
    unmount = "umount here; exit $code" if file_system == "bindfs" else "exit $code"
    script = (
        f'cd "$0"; mkdir -p {HERE}; {MOUNT[file_system]}; cd "$1"; shift; set +e; "$@"; code=$?;'
        f' cd "$OLDPWD"; {unmount}'
    )
    shell = ["sh", "-ec", script, str(directory), str(cwd), *program]
    return shell if file_system == "disk" else ["unshare", "--mount", *shell]


def missing(file_system: str) -> str | None:
    """The reason why this file system cannot be mounted here, or None."""
    if file_system == "disk":
        return None
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return "only root mounts file systems, in a namespace that unshare makes"
    if file_system == "bindfs" and shutil.which("bindfs") is None:
        return "bindfs is not installed"
    with tempfile.TemporaryDirectory() as directory:
        command = on(file_system, Path(directory), ["true"], Path(directory))
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return f"{file_system} cannot be mounted here: {done.stderr}" if done.returncode else None
