"""Real keyrings on a D-Bus of their own, for tests: gnome-keyring, KWallet, KeePassXC.

    needs(keyring.missing("kwallet"))
    with keyring.running(tmp_path, "kwallet") as service:
        subprocess.run(..., env=service.environment)
        service.lock_collection()

This file has the bus, a client for it, and what all keyrings have in common; each of them has a
file in tests/support/keyrings.  Everything of one lives in one directory (HOME, sockets, its
files).  Only processes that were started here are ended.  :func:`missing` says what the machine
lacks.  :func:`bus_only`, :func:`dead_socket` and :func:`silent` make what goes wrong on real
machines: a bus without the service, the socket of a dead bus, and a service that never answers or
whose user says no.  :class:`Fake` is a service that goes wrong in any other way.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

PASSWORD = b"not a secret"
NAME = "org.freedesktop.secrets"
ROOT = "/org/freedesktop/secrets"
SERVICE = "org.freedesktop.Secret.Service"
COLLECTION = "org.freedesktop.Secret.Collection"
ITEM = "org.freedesktop.Secret.Item"
PROMPT = "org.freedesktop.Secret.Prompt"

#: The keyrings by name, and their classes.
_CLASSES = {
    "gnome-keyring": "tests.support.keyrings.gnome:GnomeKeyring",
    "kwallet": "tests.support.keyrings.kwallet:KWallet",
    "keepassxc": "tests.support.keyrings.keepassxc:KeePassXC",
}
PROVIDERS = tuple(_CLASSES)
Process = subprocess.Popen[bytes]

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


def wait(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Asks until the answer is true, because the daemons do not announce that they are ready."""
    end = time.monotonic() + seconds
    while True:
        with suppress(OSError, RuntimeError):
            if answer := condition():
                return answer
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.01)


class Client:
    """The few D-Bus calls that the tests need, on a connection of its own."""

    def __init__(self, address: str) -> None:
        from jeepney.io.blocking import open_dbus_connection

        self._connection = open_dbus_connection(bus=address)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def call(
        self,
        path: str,
        interface: str,
        method: str,
        signature: str,
        *body: Any,
        to: str = NAME,
    ) -> Any:
        """The body of the reply.  An error reply raises a RuntimeError."""
        from jeepney import DBusAddress, MessageType, new_method_call

        message = new_method_call(DBusAddress(path, to, interface), method, signature, body)
        reply = self._connection.send_and_get_reply(message, timeout=60)
        if reply.header.message_type is MessageType.error:
            raise RuntimeError(f"{method}: {reply.body}")
        return reply.body

    def has(self, name: str) -> bool:
        """Is there a program of this name on the bus?"""
        bus = "org.freedesktop.DBus"
        return bool(self.call("/org/freedesktop/DBus", bus, "NameHasOwner", "s", name, to=bus)[0])

    def get(self, path: str, interface: str, name: str) -> Any:
        properties = "org.freedesktop.DBus.Properties"
        return self.call(path, properties, "Get", "ss", interface, name)[0][1]

    def session(self) -> str:
        """A session that sends secrets unencrypted, because this bus is only ours."""
        return str(self.call(ROOT, SERVICE, "OpenSession", "sv", "plain", ("s", ""))[1])


class Keyring:
    """A bus and, in the subclasses, a keyring on it.

    ``environment`` points a program at them; give it to a subprocess.
    """

    #: Programs without which it does not run, and their packages in Debian.
    programs: ClassVar[Mapping[str, str]] = {"dbus-daemon": "dbus"}
    end_s = 5.0  #: seconds in which the service may end by itself

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        # A socket's path may have 107 bytes, and pytest's directories can be longer.
        self._sockets = Path(tempfile.mkdtemp(prefix="kr", dir="/tmp"))
        self._bus: Process | None = None
        self._service: Process | None = None
        self.home = self.directory / "home"
        runtime = self._sockets / "run"
        for path in (runtime, self.home, self.home / "data", self.home / "config"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.address = f"unix:path={self._sockets / 'bus'}"
        self.variables: dict[str, str] = {
            "DBUS_SESSION_BUS_ADDRESS": self.address,
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_DATA_HOME": str(self.home / "data"),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            # No person can answer a prompt of this keyring, even when this machine has a display.
            "DISPLAY": "",
            "WAYLAND_DISPLAY": "",
            "GNOME_KEYRING_CONTROL": "",
        }
        #: What only the service has, such as a display for its dialogs.
        self.service_variables: dict[str, str] = {}
        self._configuration = self._sockets / "bus.conf"
        self._configuration.write_text(_CONFIGURATION.format(socket=self._sockets / "bus"))

    @classmethod
    def missing(cls) -> str | None:
        """A sentence that says what this machine lacks for it, or None."""
        if not sys.platform.startswith("linux"):
            return "The Secret Service exists on Linux only."
        for program, package in {**Keyring.programs, **cls.programs}.items():
            if shutil.which(program) is None:
                return f"{program} is not installed (Debian package {package})."
        if importlib.util.find_spec("jeepney") is None:
            return "The Python package jeepney is not installed (it speaks D-Bus for the tests)."
        return None

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a program that uses this keyring."""
        return {**os.environ, **self.variables}

    def __enter__(self) -> Keyring:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything, and removes what is not in the directory."""
        self.stop()
        shutil.rmtree(self._sockets, ignore_errors=True)

    # ---- the daemons ----

    def start(self) -> None:
        """Starts the bus and the service, and waits until they answer."""
        self._bus = self.spawn(["dbus-daemon", f"--config-file={self._configuration}", "--nofork"])
        wait(self._bus_answers, "the bus did not answer")
        self.start_service()

    def start_service(self) -> None:
        """Starts the service on the running bus, unlocked if that needs no person."""

    def stop_service(self) -> None:
        """Ends the service, but not the bus."""
        if self._service is not None:
            end(self._service, self.end_s)
            if self._bus is not None and self._bus.poll() is None:
                wait(lambda: not self.has_name(), "the service did not leave the bus")
        self._service = None

    def signal_service(self, number: int) -> None:
        """Sends it a signal, such as SIGSTOP."""
        assert self._service is not None
        self._service.send_signal(number)

    def kill_service(self) -> None:
        """The service dies in the middle of what it does."""
        assert self._service is not None
        self._service.kill()
        self.stop_service()

    def stop_bus(self) -> None:
        """Ends the bus and the service, as at the end of a desktop session."""
        self.stop()

    def stop(self) -> None:
        """Ends every process that was started here."""
        self.stop_service()
        if self._bus is not None:
            end(self._bus)
        self._bus = None

    def restart(self) -> None:
        """Ends both and starts them again, with the same address and the same items."""
        self.stop()
        (self._sockets / "bus").unlink(missing_ok=True)
        self.start()

    # ---- what is in the keyring ----

    def lock_collection(self) -> None:
        """Locks the default collection; no person is there to unlock it at a prompt."""
        with self.client() as client:
            path = self.collection(client)
            _, prompt = client.call(ROOT, SERVICE, "Lock", "ao", [path])
            if prompt != "/":  # KeePassXC locks when that is asked for, and asks nobody
                client.call(prompt, PROMPT, "Prompt", "s", "")
            wait(lambda: client.get(path, COLLECTION, "Locked"), "the keyring did not lock itself")

    def unlock_collection(self) -> None:
        """Unlocks it with the password, in a way of its own that needs no person."""
        raise NotImplementedError

    def is_locked(self) -> bool:
        with self.client() as client:
            return bool(client.get(self.collection(client), COLLECTION, "Locked"))

    def items(self) -> list[tuple[str, Mapping[str, str]]]:
        """Label and attributes of each item in the default collection, without the attributes
        that the keyring adds by itself."""
        with self.client() as client:
            return [
                (client.get(path, ITEM, "Label"), self._given(client.get(path, ITEM, "Attributes")))
                for path in self._items(client)
            ]

    def secrets(self) -> list[bytes]:
        """The secret of each item in the default collection."""
        with self.client() as client:
            session = client.session()
            return [
                bytes(client.call(path, ITEM, "GetSecret", "o", session)[0][2])
                for path in self._items(client)
            ]

    def add(self, label: str, attributes: Mapping[str, str], secret: bytes) -> None:
        """Makes one more item, as another program would, whether or not there is one like it."""
        with self.client() as client:
            properties = {
                f"{ITEM}.Label": ("s", label),
                f"{ITEM}.Attributes": ("a{ss}", attributes),
            }
            value = (client.session(), b"", secret, "text/plain")
            path, before = self.collection(client), len(self._items(client))
            made = client.call(
                path, COLLECTION, "CreateItem", "a{sv}(oayays)b", properties, value, False
            )
            if made[1] != "/":  # of KeePassXC, which asks nobody about a new item
                client.call(made[1], PROMPT, "Prompt", "s", "")
            wait(lambda: len(self._items(client)) > before, "no item was made")

    def clear(self) -> None:
        """Deletes all items of the default collection."""
        with self.client() as client:
            for path in self._items(client):
                (prompt,) = client.call(path, ITEM, "Delete", "")
                if prompt != "/":
                    client.call(prompt, PROMPT, "Prompt", "s", "")
            wait(lambda: not self._items(client), "an item was not deleted")

    # ---- for the subclasses ----

    def client(self) -> Client:
        return Client(self.address)

    def collection(self, client: Client) -> str:
        """The path of the default collection; "/" means that there is none."""
        return str(client.call(ROOT, SERVICE, "ReadAlias", "s", "default")[0])

    def collection_is_there(self) -> bool:
        with self.client() as client:
            return self.collection(client) != "/"

    def has_name(self) -> bool:
        with self.client() as client:
            return client.has(NAME)

    def spawn(self, command: Sequence[str], **options: Any) -> Process:
        """Starts a daemon that has a log beside the home."""
        log = open(self.directory / f"{Path(command[0]).name}.log", "ab")  # noqa: SIM115 (Popen copies it)
        with log:
            return subprocess.Popen(
                command,
                env={**self.environment, **self.service_variables},
                stdout=log,
                stderr=log,
                **options,
            )

    def _items(self, client: Client) -> list[str]:
        return list(client.get(self.collection(client), COLLECTION, "Items"))

    def _given(self, attributes: Mapping[str, str]) -> Mapping[str, str]:
        return attributes

    def _bus_answers(self) -> bool:
        with self.client():
            return True


def end(process: Process, seconds: float = 5.0) -> None:
    """Ends one process that was started here; it may do so by itself for some seconds."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _class(provider: str) -> type[Keyring]:
    module, _, name = _CLASSES[provider].partition(":")
    found: type[Keyring] = getattr(importlib.import_module(module), name)
    return found


def missing(provider: str = "gnome-keyring") -> str | None:
    """A sentence that says what this machine lacks for this keyring, or None."""
    return _class(provider).missing()


def running(directory: str | os.PathLike[str], provider: str = "gnome-keyring") -> Keyring:
    """A bus with this keyring, which is unlocked and empty."""
    return _class(provider)(directory)


def bus_only(directory: str | os.PathLike[str]) -> Keyring:
    """A bus without the Secret Service."""
    return Keyring(directory)


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


class Fake(Keyring):
    """A bus with a service that behaves, or goes wrong as it is told.

    :param settings: See ``Settings`` in tests/support/fake_service.py.
    """

    def __init__(self, directory: str | os.PathLike[str], **settings: Any) -> None:
        super().__init__(directory)
        self._settings = settings
        self._calls = self._sockets / "calls"
        self._calls.touch()

    def __enter__(self) -> Fake:
        super().__enter__()
        return self

    def start_service(self) -> None:
        """Starts the service on the running bus; it has forgotten all items."""
        script = Path(__file__).with_name("fake_service.py")
        settings = json.dumps(self._settings)
        command = [sys.executable, str(script), self.address, str(self._calls), settings]
        self._service = self.spawn(command)
        wait(self.has_name, "the fake service did not appear; its log says why")

    def calls(self) -> list[str]:
        """The names of the methods that were called so far, in order."""
        return [line.split()[0] for line in self._calls.read_text().splitlines()]


#: What :func:`silent` can be.
_MODES: dict[str, dict[str, Any]] = {
    "silent": {"silent": True},
    "prompt": {"locked": True, "stocked": True, "prompt": "never"},
    "dismiss": {"locked": True, "stocked": True, "prompt": "dismissed"},
}


def silent(directory: str | os.PathLike[str], mode: str = "silent") -> Fake:
    """A bus with a service that does not help.

    "silent": it answers nothing.  "prompt": it is locked, with one item, and nobody completes its
    prompt, as on a desktop whose user is away.  "dismiss": the same, but the user says no at once.
    """
    return Fake(directory, **_MODES[mode])
