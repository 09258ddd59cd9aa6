"""Another Debian, installed into a directory: its own C library, Python and programs.

    make("trixie", directory)                    # debootstrap, and apt's sources; once
    with running(directory, ["python3", "--version"]) as process: ...
    subprocess.run(laid_over(directory, ["wine", "--version"]))

Needs root.  A program runs there in a mount namespace of its own, with the network of this machine.
When it ends, or when the process that started it is killed, all that it started is ended
(tests/support/keeper.py); with its last process the kernel removes the namespace and its mounts.

Where packages come from is not written here: apt of this machine knows.  MSALEX_DEBIAN_MIRROR names
a mirror for machines whose own packages are not Debian's.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from tests.support import keeper

MIRROR = "MSALEX_DEBIAN_MIRROR"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
#: debootstrap gives up when a mirror does not answer once; apt, too, tries three times here.
DOWNLOADS = 3
#: Where the other Debian has the certificates that this machine trusts.
TRUSTED = "/etc/ssl/outside.crt"
#: Variables that say how to reach package registries.
NETWORK = ("PIP_", "NPM_CONFIG_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
#: Of those, what is about directories of this machine.
NOT_THERE = ("PIP_CACHE_DIR", "PIP_FIND_LINKS", "PIP_CONFIG_FILE", "PIP_TARGET")

#: Arguments: the directory, where to work in it, and the program.  After pivot_root user namespaces
#: can be made, which the kernel forbids after a mere chroot.
ENTER = """
set -e
mount --rbind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
pivot_root . .
umount -l .
cd "$2"
shift 2
exec "$@"
"""

#: Arguments: the directory, and the program.  /usr comes last, because mount is in it.
LAY_OVER = """
set -e
for name in etc usr; do mount --rbind "$1/$name" "/$name"; done
shift
exec "$@"
"""


def from_here() -> dict[str, str]:
    """What this machine knows of the network, and where it stands in the other Debian."""
    trusted = os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt"
    return {"/etc/resolv.conf": "/etc/resolv.conf", trusted: TRUSTED}


class CannotMake(Exception):
    """Why this Debian cannot be installed or run here, in one sentence."""


def missing() -> str | None:
    """What this machine lacks, as a sentence, or None."""
    if os.geteuid() != 0:
        return "only root can install another Debian and run programs in it"
    for program in ("debootstrap", "unshare", "pivot_root"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None if KEYRING.exists() else f"there is no {KEYRING} (Debian: debian-archive-keyring)"


def sources(release: str) -> list[tuple[str, str]]:
    """The archives of a release, each with a suite: those of this machine's own release."""
    if mirror := os.environ.get(MIRROR):
        return [(mirror, release)]
    here = platform.freedesktop_os_release()
    codename = here.get("VERSION_CODENAME", "")
    if here["ID"] != "debian" or not codename:
        raise CannotMake(f"this machine's packages are not Debian's: set {MIRROR} to a mirror")
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)"]
    filters = ["Created-By: Packages", "Component: main"]
    told = subprocess.run([*command, *filters], capture_output=True, text=True, timeout=60)
    pairs = dict.fromkeys(tuple(line.split()) for line in told.stdout.splitlines())
    found = [
        (uri, suite.replace(codename, release))
        for uri, suite in pairs
        if suite in (codename, f"{codename}-updates", f"{codename}-security")
    ]
    if release not in [suite for _, suite in found]:
        raise CannotMake(f"apt has no mirror of {codename} here: set {MIRROR} to one")
    return sorted(found, key=lambda pair: len(pair[1]))  # the release itself comes first


def entering(directory: Path, command: Sequence[str], cwd: str = "/") -> list[str]:
    """The command that runs one inside."""
    return ["unshare", "--mount", "sh", "-c", ENTER, "sh", str(directory), cwd, *command]


def laid_over(directory: Path, command: Sequence[str]) -> list[str]:
    """The command that runs one of its programs among the files of this machine: everything but
    /usr and /etc is ours.  It is the process of the program itself."""
    return ["unshare", "--mount", "sh", "-c", LAY_OVER, "sh", str(directory), *command]


def environment(directory: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The environment of programs inside: of ours only what leads to the network."""
    kept = {k: v for k, v in os.environ.items() if k.upper().startswith(NETWORK)}
    kept = {k: v for k, v in kept.items() if k not in (*NOT_THERE, *CERTIFICATES)}
    if (directory / TRUSTED.lstrip("/")).exists():
        kept.update(dict.fromkeys(CERTIFICATES, TRUSTED))
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**kept, "PATH": path, "HOME": "/root", "LANG": "C.UTF-8", **more}


@contextlib.contextmanager
def kept(
    command: Sequence[str], env: Mapping[str, str] | None = None
) -> Generator[subprocess.Popen[bytes]]:
    """A program that is ended when this is over, with all that it started."""
    told = keeper.command(command)
    with subprocess.Popen(told, env=env, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


def running(
    directory: Path, command: Sequence[str], cwd: str = "/", more: Mapping[str, str] | None = None
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A program inside; it is ended when this is over, with all that it started."""
    return kept(entering(directory, command, cwd), environment(directory, more or {}))


def make(release: str, directory: Path) -> None:
    """Installs the release, unless it is there; the directory appears complete or not at all."""
    if reason := missing():
        raise CannotMake(reason)
    archives = sources(release)
    if not directory.exists():
        partial = directory.with_name(f"{directory.name}.partial")
        options = ["--variant=minbase", f"--keyring={KEYRING}", "--include=python3"]
        command = ["debootstrap", *options, release, str(partial), archives[0][0]]
        for _ in range(DOWNLOADS):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            with kept(["unshare", "--mount", *command]) as process:  # because it mounts, too
                if process.wait() == 0:
                    break
        else:
            raise CannotMake(f"debootstrap could not install {release} into {partial}")
        # No service starts there when its package is installed.
        no_services = partial / "usr/sbin/policy-rc.d"
        no_services.write_text("#!/bin/sh\nexit 101\n")
        no_services.chmod(0o755)
        partial.rename(directory)
    lines = [f"deb [signed-by={KEYRING}] {uri} {suite} main\n" for uri, suite in archives]
    (directory / "etc/apt/sources.list").write_text("".join(lines))
    for here, there in from_here().items():
        if Path(here).exists():
            copy = directory / there.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.unlink(missing_ok=True)
            shutil.copyfile(here, copy)
