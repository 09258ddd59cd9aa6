"""A real gnome-keyring on a D-Bus of its own, for tests.

    with keyring.running(tmp_path) as service:
        subprocess.run(..., env=service.environment)
        service.lock_collection()

Everything lives in one directory (HOME, sockets, the keyring's files).  Only processes that were
started here are ended.  :func:`missing` says what the machine lacks.  :func:`bus_only`,
:func:`dead_socket` and :func:`silent` make what goes wrong on real machines: a bus without the
service, the socket of a dead bus, and a service that never answers or whose user says no.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

PASSWORD = b"not a secret"
NAME = "org.freedesktop.secrets"
ROOT = "/org/freedesktop/secrets"
DEFAULT = ROOT + "/aliases/default"
SERVICE = "org.freedesktop.Secret.Service"
COLLECTION = "org.freedesktop.Secret.Collection"
ITEM = "org.freedesktop.Secret.Item"
GNOME = "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface"

_CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
  <limit name="max_message_size">1000000000</limit>
  <limit name="max_incoming_bytes">1000000000</limit>
  <limit name="max_outgoing_bytes">1000000000</limit>
</busconfig>
"""


def missing() -> str | None:
    """A sentence that says what this machine lacks for :class:`Keyring`, or None."""
    if not sys.platform.startswith("linux"):
        return "The Secret Service exists on Linux only."
    for program, package in (("dbus-daemon", "dbus"), ("gnome-keyring-daemon", "gnome-keyring")):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian package {package})."
    if importlib.util.find_spec("jeepney") is None:
        return "The Python package jeepney is not installed (it speaks D-Bus for the tests)."
    return None


def _wait(condition: Any, what: str, seconds: float = 20.0) -> Any:
    """Asks until the answer is true, because the daemons do not announce that they are ready."""
    end = time.monotonic() + seconds
    while True:
        with suppress(OSError, RuntimeError):
            if answer := condition():
                return answer
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.01)


class _Client:
    """The few D-Bus calls that the tests need, on a connection of its own."""

    def __init__(self, address: str) -> None:
        from jeepney.io.blocking import open_dbus_connection

        self._connection = open_dbus_connection(bus=address)

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def call(self, path: str, interface: str, method: str, signature: str, *body: Any) -> Any:
        """The body of the reply.  An error reply raises a RuntimeError."""
        from jeepney import DBusAddress, MessageType, new_method_call

        name = "org.freedesktop.DBus" if interface == "org.freedesktop.DBus" else NAME
        message = new_method_call(DBusAddress(path, name, interface), method, signature, body)
        reply = self._connection.send_and_get_reply(message, timeout=20)
        if reply.header.message_type is MessageType.error:
            raise RuntimeError(f"{method}: {reply.body}")
        return reply.body

    def get(self, path: str, interface: str, name: str) -> Any:
        properties = "org.freedesktop.DBus.Properties"
        return self.call(path, properties, "Get", "ss", interface, name)[0][1]

    def session(self) -> str:
        """A session that sends secrets unencrypted, because this bus is only ours."""
        return str(self.call(ROOT, SERVICE, "OpenSession", "sv", "plain", ("s", ""))[1])


class Keyring:
    """The daemons.  ``environment`` points a program at them; give it to a subprocess."""

    def __init__(self, directory: str | os.PathLike[str], service: bool = True) -> None:
        self.directory = Path(directory)
        # A socket's path may have 107 bytes, and pytest's directories can be longer.
        self._sockets = Path(tempfile.mkdtemp(prefix="kr", dir="/tmp"))
        self._service = service
        self._running: list[subprocess.Popen[bytes]] = []
        runtime, home = self._sockets / "run", self.directory / "home"
        for path in (runtime, home, home / "data"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.address = f"unix:path={self._sockets / 'bus'}"
        self.variables: dict[str, str] = {
            "DBUS_SESSION_BUS_ADDRESS": self.address,
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_CONFIG_HOME": str(home / "config"),
            # No person can answer a prompt of this keyring, even when this machine has a display.
            "DISPLAY": "",
            "WAYLAND_DISPLAY": "",
            "GNOME_KEYRING_CONTROL": "",
        }
        self._configuration = self._sockets / "bus.conf"
        self._configuration.write_text(_CONFIGURATION.format(socket=self._sockets / "bus"))

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a program that uses this keyring."""
        return {**os.environ, **self.variables}

    def __enter__(self) -> Keyring:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self._sockets, ignore_errors=True)

    # ---- the daemons ----

    def start(self) -> None:
        """Starts the bus and the service, and waits until they answer."""
        self._spawn(["dbus-daemon", f"--config-file={self._configuration}", "--nofork"])
        _wait(self._bus_answers, "the bus did not answer")
        if self._service:
            self.start_service()

    def start_service(self) -> None:
        """Starts the service on the running bus, unlocked."""
        command = ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"]
        daemon = self._spawn(command, stdin=subprocess.PIPE)
        assert daemon.stdin is not None
        daemon.stdin.write(PASSWORD)
        daemon.stdin.close()
        _wait(self._collection_is_there, "the keyring did not appear")

    def stop_service(self) -> None:
        """Ends the service, but not the bus."""
        self._end(self._running.pop())

    def stop_bus(self) -> None:
        """Ends the bus and the service, as at the end of a desktop session."""
        self.stop()

    def stop(self) -> None:
        """Ends every process that was started here."""
        while self._running:
            self._end(self._running.pop())

    def restart(self) -> None:
        """Ends both and starts them again, with the same address and the same items."""
        self.stop()
        (self._sockets / "bus").unlink(missing_ok=True)
        self.start()

    # ---- what is in the keyring ----

    def lock_collection(self) -> None:
        """Locks the default collection; no person is there to unlock it at a prompt."""
        with self._client() as client:
            client.call(ROOT, SERVICE, "Lock", "ao", [self._collection(client)])
            assert client.get(DEFAULT, COLLECTION, "Locked") is True

    def unlock_collection(self) -> None:
        """Unlocks it with the password, through an interface that gnome-keyring has for its own
        tests."""
        with self._client() as client:
            secret = (client.session(), b"", PASSWORD, "text/plain")
            path = self._collection(client)
            client.call(ROOT, GNOME, "UnlockWithMasterPassword", "o(oayays)", path, secret)
            assert client.get(DEFAULT, COLLECTION, "Locked") is False

    def items(self) -> list[tuple[str, Mapping[str, str]]]:
        """Label and attributes of each item in the default collection."""
        with self._client() as client:
            paths = client.get(DEFAULT, COLLECTION, "Items")
            return [
                (client.get(path, ITEM, "Label"), client.get(path, ITEM, "Attributes"))
                for path in paths
            ]

    def secrets(self) -> list[bytes]:
        """The secret of each item in the default collection."""
        with self._client() as client:
            session = client.session()
            paths = client.get(DEFAULT, COLLECTION, "Items")
            return [
                bytes(client.call(path, ITEM, "GetSecret", "o", session)[0][2]) for path in paths
            ]

    # ---- inside ----

    def _client(self) -> _Client:
        return _Client(self.address)

    @staticmethod
    def _collection(client: _Client) -> str:
        return str(client.call(ROOT, SERVICE, "ReadAlias", "s", "default")[0])

    def _collection_is_there(self) -> bool:
        with self._client() as client:
            return self._collection(client) != "/"

    def _bus_answers(self) -> bool:
        with self._client():
            return True

    def _spawn(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        log = open(self.directory / f"{Path(command[0]).name}.log", "ab")  # noqa: SIM115 (Popen copies it)
        with log:
            process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, **options
            )
        self._running.append(process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def running(directory: str | os.PathLike[str]) -> Keyring:
    """A bus with the service; the keyring is unlocked and empty."""
    return Keyring(directory)


def bus_only(directory: str | os.PathLike[str]) -> Keyring:
    """A bus without the Secret Service."""
    return Keyring(directory, service=False)


@contextmanager
def dead_socket(directory: str | os.PathLike[str]) -> Iterator[dict[str, str]]:
    """The environment of a session whose bus has died and left its socket."""
    sockets = tempfile.mkdtemp(prefix="kr", dir="/tmp")
    path = os.path.join(sockets, "bus")
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
        yield {**os.environ, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={path}", "DISPLAY": ""}
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


def no_bus(directory: str | os.PathLike[str]) -> dict[str, str]:
    """The environment of a program outside of any session: SSH, cron, a container."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(directory), "HOME": str(directory)}
    for name in ("DBUS_SESSION_BUS_ADDRESS", "WAYLAND_DISPLAY"):
        environment.pop(name, None)
    # With a display GIO would start a bus of its own; this test shows that it does not.
    return {**environment, "DISPLAY": ":99"}


@contextmanager
def silent(directory: str | os.PathLike[str], mode: str = "silent") -> Iterator[Keyring]:
    """A bus with a service that does not help; tests/support/silent_service.py has the modes."""
    with Keyring(directory, service=False) as bus:
        script = Path(__file__).with_name("silent_service.py")
        bus._spawn([sys.executable, str(script), bus.address, mode])

        def owned() -> bool:
            with bus._client() as client:
                reply = client.call(
                    "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner", "s", NAME
                )
                return bool(reply[0])

        _wait(owned, "the silent service did not appear")
        yield bus
