"""A Secret Service in memory, on the bus of argv[1]: it behaves, or goes wrong as it is told.

    python fake_service.py ADDRESS FILE '{"locked": true, "prompt": "dismissed"}'

It does what https://specifications.freedesktop.org/secret-service/ says, with one collection, the
default one.  What it lacks: encrypted sessions (the answer is NotSupported, as the specification
allows) and the signals about collections and items.  :class:`Settings` has what can go wrong.

FILE gets a line for each call that arrives, before it is answered: "SearchItems /org/...".
:class:`tests.support.keyring.Fake` starts this program and reads that file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageFlag,
    MessageType,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

NAME = "org.freedesktop.secrets"
ROOT = "/org/freedesktop/secrets"
SECRET = "org.freedesktop.Secret"
DBUS_ERROR = "org.freedesktop.DBus.Error"
PROPERTIES = "org.freedesktop.DBus.Properties"

#: The signature and the body of an answer.
Answer = tuple[str, tuple[Any, ...]]
#: The result of a prompt that was dismissed, by its type: KWallet sends "ao", KeePassXC "s".
RESULTS: dict[str, Any] = {"ao": [], "o": "/", "s": "", "b": False}


@dataclasses.dataclass
class Settings:
    """What is in the service, and what goes wrong.  As it is here, nothing does."""

    #: The default collection is locked; Unlock asks by a prompt.
    locked: bool = False
    #: There is no collection; CreateCollection asks by a prompt.
    empty: bool = False
    #: A search that finds nothing gets an item with the attributes that it looks for.
    stocked: bool = False
    #: These methods ask by a prompt, besides: CreateItem, Delete.
    asks: list[str] = dataclasses.field(default_factory=list)
    #: What becomes of a prompt that is shown.  "completed": a person says yes.  "dismissed": a
    #: person says no.  "never": nobody is there, until the program says Dismiss.  "spoofed": as
    #: "never", but another connection says that it was completed.  "garbage": as "never", but a
    #: Completed without its arguments comes.  "vanishes": the service ends.
    prompt: str = "completed"
    #: The type of the result of a dismissed prompt.
    result: str = "s"
    #: Seconds between an answer and the call; calls do not wait for each other.
    late: float = 0.0
    #: It answers nothing at all.
    silent: bool = False
    #: It does not answer these methods.
    ignores: list[str] = dataclasses.field(default_factory=list)
    #: It ends when one of these methods is called.
    dies_at: list[str] = dataclasses.field(default_factory=list)
    #: It answers these methods with a string, whatever the specification says.
    wrong: list[str] = dataclasses.field(default_factory=list)
    #: {method: [the error that it gets, how often]}; -1 is for ever.
    errors: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    #: The error of an object that does not exist.
    unknown: str = f"{SECRET}.Error.NoSuchObject"
    #: It is on the bus, but never takes the service's name.
    nameless: bool = False


class Refusal(Exception):
    """An error reply with this name."""


@dataclasses.dataclass
class Item:
    label: str
    attributes: dict[str, str]
    secret: bytes
    type: str = "text/plain"
    modified: int = dataclasses.field(default_factory=lambda: int(time.time()))


@dataclasses.dataclass
class Collection:
    label: str
    locked: bool = False
    items: dict[str, Item] = dataclasses.field(default_factory=dict)


class Service:
    """The objects, and what their methods do."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}
        self.sessions: set[str] = set()
        #: What is done when a person says yes; it returns the result.
        self.prompts: dict[str, Callable[[], tuple[str, Any]]] = {}
        self._count = 0
        if not settings.empty:
            path = f"{ROOT}/collection/login"
            self.collections[path] = Collection("Login", settings.locked)
            self.aliases["default"] = path
        self.methods: dict[tuple[str, str], Callable[..., Answer]] = {
            ("Service", "OpenSession"): self._open_session,
            ("Service", "CreateCollection"): self._create_collection,
            ("Service", "SearchItems"): self._search_items,
            ("Service", "Unlock"): self._unlock,
            ("Service", "Lock"): self._lock,
            ("Service", "GetSecrets"): self._get_secrets,
            ("Service", "ReadAlias"): self._read_alias,
            ("Service", "SetAlias"): self._set_alias,
            ("Collection", "SearchItems"): self._search_collection,
            ("Collection", "CreateItem"): self._create_item,
            ("Collection", "Delete"): self._delete_collection,
            ("Item", "GetSecret"): self._get_secret,
            ("Item", "SetSecret"): self._set_secret,
            ("Item", "Delete"): self._delete_item,
            ("Session", "Close"): self._close,
        }

    # ---- objects ----

    def _new_path(self, parent: str) -> str:
        self._count += 1
        return f"{parent}/{self._count}"

    def _ask(self, action: Callable[[], tuple[str, Any]]) -> str:
        path = self._new_path(f"{ROOT}/prompt")
        self.prompts[path] = action
        return path

    def _path(self, path: str) -> str:
        """The collection that an alias stands for."""
        return self.aliases.get(path.removeprefix(f"{ROOT}/aliases/"), path)

    def _collection(self, path: str) -> Collection:
        found = self.collections.get(self._path(path))
        if found is None:
            raise Refusal(self.settings.unknown)
        return found

    def _item(self, path: str) -> tuple[Collection, Item]:
        for collection in self.collections.values():
            if path in collection.items:
                return collection, collection.items[path]
        raise Refusal(self.settings.unknown)

    def _open_item(self, path: str, session: str) -> Item:
        collection, item = self._item(path)
        if session not in self.sessions:
            raise Refusal(f"{SECRET}.Error.NoSession")
        if collection.locked:
            raise Refusal(f"{SECRET}.Error.IsLocked")
        return item

    def _found(self, collection: Collection, wanted: Mapping[str, str]) -> list[str]:
        return [
            path
            for path, item in collection.items.items()
            if wanted.items() <= item.attributes.items()
        ]

    # ---- org.freedesktop.Secret.Service ----

    def _open_session(self, _: str, algorithm: str, __: Any) -> Answer:
        if algorithm != "plain":
            raise Refusal(f"{DBUS_ERROR}.NotSupported")
        session = self._new_path(f"{ROOT}/session")
        self.sessions.add(session)
        return "vo", (("s", ""), session)

    def _close(self, path: str) -> Answer:
        self.sessions.discard(path)
        return "", ()

    def _create_collection(self, _: str, properties: Mapping[str, Any], alias: str) -> Answer:
        def create() -> tuple[str, Any]:
            path = self._new_path(f"{ROOT}/collection")
            label = properties.get(f"{SECRET}.Collection.Label", ("s", ""))[1]
            self.collections[path] = Collection(label)
            if alias:
                self.aliases[alias] = path
            return "o", path

        return "oo", ("/", self._ask(create))

    def _search_items(self, _: str, wanted: dict[str, str]) -> Answer:
        found: dict[bool, list[str]] = {False: [], True: []}
        for path, collection in self.collections.items():
            paths = self._found(collection, wanted)
            if not paths and self.settings.stocked:
                paths = [self._new_path(path)]
                collection.items[paths[0]] = Item("stocked", wanted, b"stocked")
            found[collection.locked] += paths
        return "aoao", (found[False], found[True])

    def _unlock(self, _: str, paths: list[str]) -> Answer:
        """An item is unlocked with its collection."""

        def collection_of(path: str) -> Collection | None:
            with_item = [it for it in self.collections.values() if path in it.items]
            return with_item[0] if with_item else self.collections.get(self._path(path))

        locked = {path: it for path in paths if (it := collection_of(path)) and it.locked}
        open_paths = [path for path in paths if path not in locked and collection_of(path)]

        def unlock() -> tuple[str, Any]:
            for collection in locked.values():
                collection.locked = False
            return "ao", [*locked]

        return "aoo", (open_paths, self._ask(unlock) if locked else "/")

    def _lock(self, _: str, paths: list[str]) -> Answer:
        for path in paths:
            self._collection(path).locked = True
        return "aoo", (paths, "/")

    def _get_secrets(self, _: str, paths: list[str], session: str) -> Answer:
        found = {path: self._get_secret(path, session)[1][0] for path in paths}
        return "a{o(oayays)}", (found,)

    def _read_alias(self, _: str, name: str) -> Answer:
        return "o", (self.aliases.get(name, "/"),)

    def _set_alias(self, _: str, name: str, path: str) -> Answer:
        self.aliases[name] = path
        return "", ()

    # ---- org.freedesktop.Secret.Collection ----

    def _search_collection(self, path: str, wanted: dict[str, str]) -> Answer:
        return "ao", (self._found(self._collection(path), wanted),)

    def _create_item(
        self, path: str, properties: Mapping[str, Any], secret: tuple[Any, ...], replace: bool
    ) -> Answer:
        collection = self._collection(path)
        attributes = properties.get(f"{SECRET}.Item.Attributes", ("a{ss}", {}))[1]
        label = properties.get(f"{SECRET}.Item.Label", ("s", ""))[1]
        session, _, value, kind = secret
        if session not in self.sessions:
            raise Refusal(f"{SECRET}.Error.NoSession")
        if collection.locked:
            raise Refusal(f"{SECRET}.Error.IsLocked")

        def create() -> tuple[str, Any]:
            equal = [p for p, it in collection.items.items() if it.attributes == attributes]
            made = equal[0] if equal and replace else self._new_path(self._path(path))
            collection.items[made] = Item(label, attributes, bytes(value), kind)
            return "o", made

        if "CreateItem" in self.settings.asks:
            return "oo", ("/", self._ask(create))
        return "oo", (create()[1], "/")

    def _delete_collection(self, path: str) -> Answer:
        self._collection(path)

        def delete() -> tuple[str, Any]:
            del self.collections[self._path(path)]
            self.aliases = {k: v for k, v in self.aliases.items() if v in self.collections}
            return "s", ""

        return "o", (self._done_or_asked(delete),)

    def _done_or_asked(self, delete: Callable[[], tuple[str, Any]]) -> str:
        if "Delete" in self.settings.asks:
            return self._ask(delete)
        delete()
        return "/"

    # ---- org.freedesktop.Secret.Item ----

    def _get_secret(self, path: str, session: str) -> Answer:
        item = self._open_item(path, session)
        return "(oayays)", ((session, b"", item.secret, item.type),)

    def _set_secret(self, path: str, secret: tuple[Any, ...]) -> Answer:
        session, _, value, kind = secret
        item = self._open_item(path, session)
        item.secret, item.type, item.modified = bytes(value), kind, int(time.time())
        return "", ()

    def _delete_item(self, path: str) -> Answer:
        collection, _ = self._item(path)
        if collection.locked:
            raise Refusal(f"{SECRET}.Error.IsLocked")

        def delete() -> tuple[str, Any]:
            del collection.items[path]
            return "s", ""

        return "o", (self._done_or_asked(delete),)

    # ---- org.freedesktop.DBus.Properties ----

    def _properties(self, path: str, interface: str) -> dict[str, tuple[str, Any]]:
        if interface == f"{SECRET}.Service" and path == ROOT:
            return {"Collections": ("ao", [*self.collections])}
        if interface == f"{SECRET}.Collection":
            collection = self._collection(path)
            return {
                "Items": ("ao", [*collection.items]),
                "Label": ("s", collection.label),
                "Locked": ("b", collection.locked),
                "Created": ("t", 0),
                "Modified": ("t", 0),
            }
        if interface == f"{SECRET}.Item":
            collection, item = self._item(path)
            return {
                "Locked": ("b", collection.locked),
                "Attributes": ("a{ss}", item.attributes),
                "Label": ("s", item.label),
                "Type": ("s", item.type),
                "Created": ("t", 0),
                "Modified": ("t", item.modified),
            }
        raise Refusal(f"{DBUS_ERROR}.UnknownInterface")

    def _property(self, path: str, member: str, body: tuple[Any, ...]) -> Answer:
        found = self._properties(path, body[0])
        if member == "GetAll":
            return "a{sv}", (found,)
        if body[1] not in found:
            raise Refusal(f"{DBUS_ERROR}.UnknownProperty")
        if member == "Get":
            return "v", (found[body[1]],)
        target = self._collection(path) if body[0].endswith("Collection") else self._item(path)[1]
        if body[1] not in ("Label", "Attributes"):
            raise Refusal(f"{DBUS_ERROR}.PropertyReadOnly")
        setattr(target, body[1].lower(), body[2][1])
        return "", ()

    def call(self, path: str, interface: str, member: str, body: tuple[Any, ...]) -> Answer:
        """Carries out a call of a method.

        :raises Refusal: the error reply.
        """
        if interface == "org.freedesktop.DBus.Peer" and member == "Ping":
            return "", ()
        if interface == PROPERTIES and member in ("Get", "GetAll", "Set"):
            return self._property(path, member, body)
        method = self.methods.get((interface.removeprefix(f"{SECRET}."), member))
        if method is None:
            raise Refusal(f"{DBUS_ERROR}.UnknownMethod")
        return method(path, *body)


class Server:
    """Answers calls on the bus, when and as the settings say."""

    def __init__(self, address: str, calls: str, settings: Settings) -> None:
        self._address = address
        self._calls = open(calls, "a", buffering=1)  # noqa: SIM115 (it is open to the end)
        self._settings = settings
        self._service = Service(settings)
        self._connection = open_dbus_connection(bus=address)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        if not settings.nameless:
            self._connection.send_and_get_reply(message_bus.RequestName(NAME))

    def run(self) -> None:
        while True:
            while self._due and self._due[0][0] <= time.monotonic():
                heapq.heappop(self._due)[2]()
            patience = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            try:
                message = self._connection.receive(timeout=patience)
            except TimeoutError:
                continue
            if message.header.message_type is MessageType.method_call:
                self._receive(message)

    def _later(self, action: Callable[[], None]) -> None:
        """Does it when an answer to a call of this moment is due, after what was due before."""
        self._number += 1
        heapq.heappush(self._due, (time.monotonic() + self._settings.late, self._number, action))

    def _receive(self, message: Message) -> None:
        fields, settings = message.header.fields, self._settings
        path, member = fields[HeaderFields.path], fields[HeaderFields.member]
        interface = fields.get(HeaderFields.interface, "")
        print(member, path, file=self._calls)
        if member in settings.dies_at:
            os._exit(1)
        if settings.silent or member in settings.ignores:
            return
        error, times = settings.errors.get(member, ("", 0))
        if times != 0:
            settings.errors[member] = [error, times - 1]
            self._refuse(message, error)
        elif member in settings.wrong:
            self._reply(message, "s", ("nonsense",))
        elif interface == f"{SECRET}.Prompt":
            self._prompt(message, path, member)
        else:
            try:
                self._reply(message, *self._service.call(path, interface, member, message.body))
            except Refusal as refusal:
                self._refuse(message, str(refusal))
            except (TypeError, ValueError, LookupError):
                self._refuse(message, f"{DBUS_ERROR}.InvalidArgs")

    def _reply(self, message: Message, signature: str, body: tuple[Any, ...]) -> None:
        if not message.header.flags & MessageFlag.no_reply_expected:
            answer = new_method_return(message, signature or None, body)
            self._later(lambda: self._connection.send(answer))

    def _refuse(self, message: Message, error: str) -> None:
        if not message.header.flags & MessageFlag.no_reply_expected:
            answer = new_error(message, error, "s", ("the fake service says so",))
            self._later(lambda: self._connection.send(answer))

    # ---- org.freedesktop.Secret.Prompt ----

    def _prompt(self, message: Message, path: str, member: str) -> None:
        action = self._service.prompts.get(path)
        if action is None:
            self._refuse(message, self._settings.unknown)
            return
        self._reply(message, "", ())
        mode = self._settings.prompt
        if member == "Dismiss" or mode == "dismissed":
            del self._service.prompts[path]
            kind = self._settings.result
            self._later(lambda: self._complete(path, True, (kind, RESULTS[kind])))
        elif mode == "completed":
            del self._service.prompts[path]
            result = action()
            self._later(lambda: self._complete(path, False, result))
        elif mode == "garbage":
            self._later(lambda: self._connection.send(self._signal(path, "s", ("garbage",))))
        elif mode == "vanishes":
            self._later(lambda: os._exit(1))
        elif mode == "spoofed":
            receiver = message.header.fields[HeaderFields.sender]
            self._later(lambda: self._spoof(path, receiver))

    def _signal(self, path: str, signature: str, body: tuple[Any, ...]) -> Message:
        emitter = DBusAddress(path, interface=f"{SECRET}.Prompt")
        return new_signal(emitter, "Completed", signature, body)

    def _complete(self, path: str, dismissed: bool, result: tuple[str, Any]) -> None:
        self._connection.send(self._signal(path, "bv", (dismissed, result)))

    def _spoof(self, path: str, receiver: str) -> None:
        """Says from another connection that the prompt was completed, to all and to the program."""
        result = ("ao", [*self._service.collections])
        with open_dbus_connection(bus=self._address) as stranger:
            for destination in (None, receiver):
                signal = self._signal(path, "bv", (False, result))
                if destination:
                    signal.header.fields[HeaderFields.destination] = destination
                stranger.send(signal)
            stranger.send_and_get_reply(message_bus.GetId())  # the bus has both


def main() -> None:
    address, calls, settings = sys.argv[1:]
    with contextlib.suppress(ConnectionError, EOFError):  # when the bus ends
        Server(address, calls, Settings(**json.loads(settings))).run()


if __name__ == "__main__":
    main()
