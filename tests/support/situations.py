"""What a program meets where there is no desktop: SSH, cron, containers, sandboxes, sudo.

    with silent_socket(directory) as situation:
        subprocess.run(situation.command([sys.executable, ...]), env=situation.environment)

Each is real: real buses and real sockets, real users, real mounts that only the program sees.
Only the service is a fake one, where its faults are what is wanted (:class:`keyring.Fake`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tests.support import keyring
from tests.support.capability import needs

#: A user of this machine, made up.
SOMEBODY = 12345


@dataclasses.dataclass
class Situation:
    """How to start a program in it."""

    environment: dict[str, str]
    #: What the program's command begins with.
    prefix: Sequence[str] = ()
    #: The uid that the program takes, and that owns its files.
    user: int | None = None
    #: The fake service, if there is one.
    service: keyring.Fake | None = None

    def command(self, program: Sequence[str]) -> list[str]:
        return [*self.prefix, *program]


Enter = Callable[[Path], AbstractContextManager[Situation]]


def need_root() -> None:
    needs(None if os.geteuid() == 0 else "only root becomes other users, and mounts")


# ---- no bus, or one that is of no use ----------------------------------------------------


@contextmanager
def no_variables(directory: Path) -> Iterator[Situation]:
    """Outside of any session."""
    yield Situation(keyring.no_bus(directory))


def address(text: str) -> Enter:
    """DBUS_SESSION_BUS_ADDRESS is this."""

    @contextmanager
    def enter(directory: Path) -> Iterator[Situation]:
        variables = {"DBUS_SESSION_BUS_ADDRESS": text, "DISPLAY": "", "HOME": str(directory)}
        yield Situation({**os.environ, **variables, "XDG_RUNTIME_DIR": str(directory)})

    return enter


@contextmanager
def dead_socket(directory: Path) -> Iterator[Situation]:
    """The bus has died and left its socket."""
    with keyring.dead_socket(directory) as environment:
        yield Situation(environment)


@contextmanager
def silent_socket(_: Path) -> Iterator[Situation]:
    """Something accepts connections, and never says a word."""
    sockets = tempfile.mkdtemp(prefix="kr", dir="/tmp")
    path = os.path.join(sockets, "bus")
    accepted: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):  # the listener was shut down
            while True:
                accepted.append(listener.accept()[0])

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    thread = threading.Thread(target=accept)
    thread.start()
    try:
        variables = {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={path}", "DISPLAY": ""}
        yield Situation({**os.environ, **variables})
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for one in (listener, *accepted):
            one.close()
        shutil.rmtree(sockets)


# ---- a bus of one's own ------------------------------------------------------------------


def _configured(bus: keyring.Keyring, lines: str) -> None:
    """Adds lines to the configuration of a bus that has not been started."""
    text = bus._configuration.read_text()
    bus._configuration.write_text(text.replace("</busconfig>", f"{lines}\n</busconfig>"))


@contextmanager
def no_service(directory: Path) -> Iterator[Situation]:
    """A bus on which nothing has the name."""
    with keyring.bus_only(directory) as bus:
        yield Situation(bus.environment)


def activated(program: str) -> Enter:
    """The bus starts this program for the service; "never": one that does not take the name."""

    @contextmanager
    def enter(directory: Path) -> Iterator[Situation]:
        bus = keyring.bus_only(directory)
        services = bus._sockets / "services"
        services.mkdir()
        command = program
        if program == "never":  # it ends with the bus, unlike `sleep`
            fake = Path(keyring.__file__).with_name("fake_service.py")
            script = services / "program"
            nameless = '{"nameless": true}'
            script.write_text(
                f"#!/bin/sh\nexec '{sys.executable}' '{fake}' '{bus.address}' /dev/null"
                f" '{nameless}'\n"
            )
            script.chmod(0o755)
            command = str(script)
        file = services / f"{keyring.NAME}.service"
        file.write_text(f"[D-BUS Service]\nName={keyring.NAME}\nExec={command}\n")
        _configured(bus, f"  <servicedir>{services}</servicedir>")
        with bus:
            yield Situation(bus.environment)

    return enter


def fake(desktop: bool = False, **settings: Any) -> Enter:
    """A bus with a fake service.

    :param desktop: There is a display, so a program may hope that a person answers.
    """

    @contextmanager
    def enter(directory: Path) -> Iterator[Situation]:
        bus = keyring.Fake(directory, **settings)
        # As many as on a desktop; the bus would allow 128.  A service that is silent owes replies.
        _configured(bus, '  <limit name="max_replies_per_connection">50000</limit>')
        with bus as service:
            display = {"DISPLAY": ":99" if desktop else ""}
            yield Situation({**service.environment, **display}, service=service)

    return enter


# ---- other users -------------------------------------------------------------------------


@contextmanager
def unreachable_bus(directory: Path) -> Iterator[Situation]:
    """`su` with root's environment: the socket is in a directory that only root can enter."""
    need_root()
    with keyring.bus_only(directory) as bus:
        yield Situation(bus.environment, user=SOMEBODY)


@contextmanager
def refusing_bus(directory: Path) -> Iterator[Situation]:
    """The same, but the socket can be reached: the bus closes the connection."""
    need_root()
    with keyring.bus_only(directory) as bus:
        bus._sockets.chmod(0o755)
        yield Situation(bus.environment, user=SOMEBODY)


class _BusOfSomebody(keyring.Keyring):
    def start(self) -> None:
        os.chown(self._sockets, SOMEBODY, SOMEBODY)
        # It ends with this process, even when that is killed.
        become = [
            f"--reuid={SOMEBODY}",
            f"--regid={SOMEBODY}",
            "--clear-groups",
            "--pdeathsig=TERM",
        ]
        bus = ["dbus-daemon", f"--config-file={self._configuration}", "--nofork"]
        self.spawn(["setpriv", *become, *bus])
        # Root cannot ask whether it answers: it refuses root.
        keyring.wait((self._sockets / "bus").exists, "the bus did not appear")


@contextmanager
def bus_of_somebody(directory: Path) -> Iterator[Situation]:
    """`sudo` that kept the environment: root uses the bus of the user."""
    need_root()
    needs(None if shutil.which("setpriv") else "setpriv is not installed")
    with _BusOfSomebody(directory) as bus:
        yield Situation(bus.environment)


# ---- libraries ---------------------------------------------------------------------------


def _library(name: str) -> Path:
    """Where the loader finds a library."""
    ldconfig = shutil.which("ldconfig") or "/sbin/ldconfig"
    needs(None if os.path.exists(ldconfig) else "ldconfig is not installed")
    known = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=True).stdout
    found = [line.split(" => ")[1] for line in known.splitlines() if line.split()[:1] == [name]]
    needs(None if found else f"{name} is not installed")
    return Path(found[0])


def cut(name: str) -> Enter:
    """The library has no bytes, as after a full disk."""

    @contextmanager
    def enter(directory: Path) -> Iterator[Situation]:
        _library(name)
        libraries = directory / "libraries"
        libraries.mkdir()
        (libraries / name).touch()
        with keyring.bus_only(directory) as bus:
            yield Situation({**bus.environment, "LD_LIBRARY_PATH": str(libraries)})

    return enter


#: Makes another root of the file system on $1, with all of this one in it.
_ROOT = """
root=$1; shift
mount -t tmpfs none "$root"
for entry in /*; do
  if [ -L "$entry" ]; then cp -P "$entry" "$root/"
  elif [ -d "$entry" ]; then mkdir "$root$entry"; mount --rbind "$entry" "$root$entry"
  else cp "$entry" "$root/"; fi
done
"""
#: In that root, shows the directory $1 without the files that begin with $2.
_HIDE = """
libraries=$1; hidden=$2; shift 2
mkdir "$root/.libraries"; mount --bind "$root$libraries" "$root/.libraries"
mount -t tmpfs none "$root$libraries"
ln -s $(ls "$root/.libraries" | grep -v "^$hidden" | sed "s|^|/.libraries/|") "$root$libraries/"
"""
_FLATPAK = 'echo "[Application]" > "$root/.flatpak-info"\n'
_ENTER = 'exec chroot "$root" "$@"\n'


def _in_another_root(directory: Path, script: str, *arguments: str) -> list[str]:
    """The beginning of a command that runs after this script, in that root; nobody else sees it."""
    need_root()
    needs(None if shutil.which("unshare") else "unshare is not installed")
    root = directory / "root"
    root.mkdir()
    shell = ["sh", "-ec", _ROOT + script + _ENTER, "sh", str(root), *arguments]
    return ["unshare", "--mount", *shell]


def without(name: str) -> Enter:
    """The library is not installed."""

    @contextmanager
    def enter(directory: Path) -> Iterator[Situation]:
        libraries = _library(name).parent.resolve()
        prefix = _in_another_root(directory, _HIDE, str(libraries), name)
        with keyring.bus_only(directory) as bus:
            yield Situation(bus.environment, prefix)

    return enter


# ---- sandboxes ---------------------------------------------------------------------------


@contextmanager
def flatpak(directory: Path) -> Iterator[Situation]:
    """In a Flatpak without the permission: its bus knows no such service."""
    prefix = _in_another_root(directory, _FLATPAK)
    with keyring.bus_only(directory) as bus:
        yield Situation(bus.environment, prefix)


@contextmanager
def snap(directory: Path) -> Iterator[Situation]:
    """In a Snap whose plug is not connected: the bus forbids it to talk to the service."""
    service = keyring.Fake(directory)
    inside = {"SNAP": "/snap/example/1", "SNAP_NAME": "example"}
    deny = f'<deny send_destination="{keyring.NAME}"/>'
    _configured(service, f'  <policy context="mandatory">{deny}</policy>')
    with service:
        yield Situation({**service.environment, **inside}, service=service)
